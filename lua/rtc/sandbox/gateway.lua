--- What the OpenAPI gateway checks before a request reaches the service, in its order:
--- parameters, Authorization's shape, time, key, signature, service, action.
local actions = require("rtc.sandbox.actions")
local envelope = require("rtc.sandbox.envelope")
local utc = require("rtc.utc")
local verify = require("rtc.sandbox.verify")

local gateway = {}

local OLDEST = 900 -- seconds; documented (X-Expires' default)
local EARLIEST = 300 -- seconds ahead of our clock; that there is a limit is documented, how much is not

local function check_parameters(call)
  for _, name in ipairs({ "Action", "Version" }) do
    if not call[name:lower()] then
      return envelope.gateway("MissingParameter", name)
    end
  end
end

local function check_authorization(call)
  local header = call.request.headers["authorization"]
  if not header then
    return envelope.gateway("MissingAuthenticationToken")
  end
  local authorization, code = verify.parse(header)
  if not authorization then
    return envelope.gateway(code)
  end
  call.authorization = authorization
  call.service, call.region = authorization.service, authorization.region
end

local function check_time(call)
  local x_date = call.request.headers["x-date"]
  if not x_date or x_date == "" then
    return envelope.gateway("MissingRequestInfo", "X-Date")
  end
  local time = utc.parse_basic(x_date)
  local age = time and os.time() - time
  if not age or age > OLDEST or age < -EARLIEST then
    return envelope.gateway("InvalidTimestamp")
  end
end

local function check_key(call, keys)
  local access_key = call.authorization.access_key
  if not keys[access_key] then
    return envelope.gateway("InvalidAccessKey", access_key)
  end
  -- The sandbox's keys are long-term ones: no session token can belong to them.
  local token = call.request.headers["x-security-token"]
  if token and token ~= "" then
    return envelope.gateway("InvalidSecretToken", "secret token sequence is broken")
  end
end

local function check_signature(call, keys)
  local verdict = verify.check(call.request, call.authorization, keys[call.authorization.access_key])
  if not verdict.ok then
    call.verdict = verdict
    return envelope.gateway("SignatureDoesNotMatch")
  end
end

local function check_service(call)
  if call.service ~= "rtc" then
    return envelope.gateway("ServiceNotFound", call.service)
  end
end

local function check_action(call)
  local action = actions[call.action]
  if not action or not action.versions[call.version] then
    return envelope.gateway("InvalidActionOrVersion", call.action, call.version)
  end
  if call.request.method ~= "POST" then
    return envelope.gateway("MethodNotAllowed", call.request.method, call.action)
  end
end

local steps = {
  check_parameters,
  check_authorization,
  check_time,
  check_key,
  check_signature,
  check_service,
  check_action,
}

--- Runs the checks.
---@param call rtc.sandbox.Call
---@param keys table<string, string> secret keys by access key
---@return rtc.sandbox.Failure|nil failure the first check's that does not pass
function gateway.check(call, keys)
  for _, step in ipairs(steps) do
    local failure = step(call, keys)
    if failure then
      return failure
    end
  end
end

return gateway
