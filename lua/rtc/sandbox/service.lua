--- The service: takes a request to the answer, through the gateway, the flow limit and the fields' checks
--- to the receivers.
local cjson = require("cjson").new()
local actions = require("rtc.sandbox.actions")
local base64 = require("rtc.sandbox.base64")
local envelope = require("rtc.sandbox.envelope")
local gateway = require("rtc.sandbox.gateway")
local id = require("rtc.sandbox.id")
local query = require("rtc.sandbox.query")
local sse = require("rtc.sandbox.sse")
local text = require("rtc.sandbox.text")

local service = {}
service.__index = service

---@class rtc.sandbox.Call one request on its way; the checks fill it in
---@field request rtc.sandbox.Request
---@field request_id string
---@field action string|nil
---@field version string|nil
---@field service string   of the signature's scope, once that is known
---@field region string    likewise
---@field authorization rtc.sandbox.Authorization|nil
---@field verdict rtc.sandbox.Verdict|nil  of a signature that does not match
---@field body table|nil   the decoded body, for the log even when a check failed
---@field size integer|nil of the message, in bytes
---@field delivered integer|nil how many receivers got it
---@field failure rtc.sandbox.Failure|nil

--- A new service.
---@param options {keys: table<string, string>, apps: table<string, boolean>, region: string, rooms: table, flow: table}
function service.new(options)
  return setmetatable(options, service)
end

-- Is the decoded JSON value what actions.lua calls by that name? An empty object passes for an empty list: cjson can't
-- tell them apart.
local function is_a(wanted, value)
  if wanted ~= "list of strings" then
    return type(value) == wanted
  elseif type(value) ~= "table" then
    return false
  end
  local count = 0
  for _, item in pairs(value) do
    if type(item) ~= "string" then
      return false
    end
    count = count + 1
  end
  return count == #value -- which does not count an object's names
end

local function decode(call)
  local body = call.request.body
  local function fail(code, ...)
    return envelope.service(call.version, "InvalidParameter." .. code, ...)
  end
  if not body:find("%S") then
    return fail("BodyIsEmpty")
  end
  -- Strict where the service may not be: a client that sends anything but UTF-8 has a bug.
  if not text.is_utf8(body) then
    return fail("Unmarshal", "it is not UTF-8")
  end
  local ok, value = pcall(cjson.decode, body)
  if not ok or not body:find("^%s*{") then
    return fail("Unmarshal", ok and "it is not a JSON object" or value)
  end
  local decoded = {}
  for field, wanted in pairs(actions[call.action].types) do
    local given = value[field]
    if given == cjson.null then
      given = nil -- as good as missing, like in the service's Go structures
    end
    if given ~= nil and not is_a(wanted, given) then
      return fail("Unmarshal", field .. " is not a " .. wanted)
    end
    decoded[field] = given
  end
  call.body = decoded
end

local function check_app_id(self, call)
  local app_id = call.body.AppId
  if not id.is_valid(app_id) then
    return envelope.service(call.version, "InvalidParameter.IllegalAppId")
  elseif not self.apps[app_id] then
    return envelope.service(call.version, "InvalidParameter.NotExistAppId")
  end
end

local function check_flow(self, call)
  local app_id = call.body.AppId
  -- Only AppIds that exist have a bucket; the others are refused by the check that follows.
  -- Whether the service or the gateway answers here is not documented: the service's code was chosen.
  if self.apps[app_id or ""] and not self.flow:take(app_id) then
    return envelope.service(call.version, "FlowLimitExceeded.QPSOverLimit", tostring(self.flow.rate))
  end
end

-- One ID, or a list of at least one.
local function holds_ids(value)
  if type(value) ~= "table" then
    return id.is_valid(value)
  end
  for _, item in ipairs(value) do
    if not id.is_valid(item) then
      return false
    end
  end
  return #value > 0
end

local function check_ids(_, call)
  for _, rule in ipairs(actions[call.action].ids) do
    if not holds_ids(call.body[rule[1]]) then
      return envelope.service(call.version, rule[2])
    end
  end
end

local function over_limit(call, code, number, limit)
  if number > limit then
    return envelope.service(call.version, "InvalidParameter." .. code, ("%d"):format(number), ("%d"):format(limit))
  end
end

local function check_receivers(_, call)
  local limit = actions[call.action].max_receivers
  return limit and over_limit(call, "UserCountOverLimit", #call.body.To, limit)
end

local function check_message(_, call)
  local body = call.body
  -- Every field is required. The code for these two is not documented: the bare class was chosen.
  for _, field in ipairs({ "Binary", "Message" }) do
    if body[field] == nil then
      return envelope.service(call.version, "InvalidParameter", field)
    end
  end
  -- Whether the limit is on the base64 or on the bytes is not documented: the bytes, like the client SDKs.
  call.size = #body.Message
  if body.Binary then
    call.size = base64.decoded_size(body.Message)
    -- What the service does with invalid base64 is not known: refusing it shows the sender's mistake.
    if not call.size then
      return envelope.service(call.version, "InvalidParameter.Unmarshal", "Message is not base64")
    end
  end
  return over_limit(call, "SizeOverLimit", call.size, actions[call.action].max_message)
end

-- An absent user or room is a success too: the service only says that it accepted the message. Whoever is named
-- twice in a list gets it twice: what the service does then is not known.
local function deliver(self, call)
  local action, body = actions[call.action], call.body
  local data = cjson.encode({
    app_id = body.AppId,
    room_id = body.RoomId,
    uid = body.From,
    message = body.Message,
  })
  local event = sse.event(body.Binary and action.binary or action.text, data)
  call.delivered = 0
  local function deliver_to(user_id)
    call.delivered = call.delivered + self.rooms:deliver(body.AppId, body.RoomId, user_id, event)
  end
  if type(body.To) == "table" then
    for _, user_id in ipairs(body.To) do
      deliver_to(user_id)
    end
  else
    deliver_to(body.To)
  end
end

local function check_gateway(self, call)
  return gateway.check(call, self.keys)
end

local function check_body(_, call)
  return decode(call)
end

local steps = {
  check_gateway,
  check_body,
  check_flow,
  check_app_id,
  check_ids,
  check_receivers,
  check_message,
  deliver,
}

--- Answers one request.
---@param request rtc.sandbox.Request
---@return rtc.sandbox.Call call what the log wants to know; call.failure is nil for a success
---@return integer status HTTP
---@return string json the answer's body
function service:answer(request)
  local parameters = query.first(query.parse(request.query))
  local call = {
    request = request,
    request_id = envelope.request_id(),
    -- An empty parameter counts as missing.
    action = parameters.Action ~= "" and parameters.Action or nil,
    version = parameters.Version ~= "" and parameters.Version or nil,
    service = "rtc",
    region = self.region,
  }
  for _, step in ipairs(steps) do
    call.failure = step(self, call)
    if call.failure then
      break
    end
  end
  return call, call.failure and call.failure.status or 200, envelope.encode(call, call.failure)
end

return service
