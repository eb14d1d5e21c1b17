--- Signs and sends Volcengine RTC messages.
---
---     local rtc = require "rtc"
---     print(rtc.new "sandbox":send_room_unicast { room_id = "room1", to = "user1", message = "hello" })

local api = require "rtc.api"
local blocking = require "rtc.runtime.blocking"
local client = require "rtc.client"
local core = require("rtc.native").load("rtc.core")
local credential_provider = require "rtc.credential_provider"
local credentials = require "rtc.credentials"
local endpoint = require "rtc.endpoint"
local environment = require "rtc.environment"
local errors = require "rtc.error"
local options = require "rtc.options"
local sandbox = require "rtc.sandbox.defaults"
local signer = require "rtc.signer"
local text = require "rtc.text"

local rtc = { _VERSION = core.version }

---@return rtc.Endpoint|nil
---@return string|nil problem
local function find_endpoint(given)
  local from_environment = not given.endpoint and environment.get("RTC_ENDPOINT")
  local target, problem = endpoint.parse(given.endpoint or from_environment or nil, given.allow_http)
  if not target then
    return nil, (from_environment and "RTC_ENDPOINT " or "endpoint ") .. problem
  end
  return target
end

--- The defaults of the calls: given, or the sandbox's, or the environment's.
---@return table|nil
---@return string|nil problem
local function find_defaults(given, target)
  local defaults = { app_id = given.app_id, from = given.from }
  for name, variable in pairs { app_id = "RTC_APP_ID", from = "RTC_FROM" } do
    if target.sandbox then
      defaults[name] = defaults[name] or sandbox[name]
    elseif not defaults[name] and environment.get(variable) then
      local value, problem = options.one(name, environment.get(variable))
      if not value then
        return nil, ("%s %s"):format(variable, problem)
      end
      defaults[name] = value
    end
  end
  return defaults
end

--- What signs the calls.
---@return rtc.Keys|nil
---@return string|nil problem
local function find_keys(given, target, region)
  local found, problem = credentials.find(given, target)
  if not found then
    return nil, problem
  end
  local function make_signer(keys)
    return signer.new {
      access_key = keys.access_key, secret_key = keys.secret_key, session_token = keys.session_token, region = region,
    }
  end
  if found.provider then
    return credential_provider.renewing(found.provider, make_signer, os.time)
  end
  return credential_provider.static(make_signer(found), text.masked(found.access_key))
end

--- Makes a client, or says why not.
---@return rtc.Client|nil
---@return string|nil problem
local function build(given)
  if given == nil then
    given = {}
  elseif type(given) == "string" then
    given = { endpoint = given }
  elseif type(given) ~= "table" then
    return nil, "options must be a table, or an endpoint as a string, not a " .. type(given)
  end
  local checked, problem = options.check(options.client, given)
  if not checked then
    return nil, problem
  end
  local target, keys, defaults
  target, problem = find_endpoint(checked)
  if not target then
    return nil, problem
  end
  local region = checked.region or target.sandbox and sandbox.region or api.default_region
  keys, problem = find_keys(checked, target, region)
  if not keys then
    return nil, problem
  end
  defaults, problem = find_defaults(checked, target)
  if not defaults then
    return nil, problem
  end
  local made, runtime = pcall(blocking.new, { ca_file = checked.ca_file, ca_path = checked.ca_path })
  if not made then
    return nil, tostring(runtime)
  end
  return client.new {
    endpoint = target, defaults = defaults, region = region, runtime = runtime, keys = keys,
    signer = not checked.credentials and keys:signer() or nil,
    access_key = not checked.credentials and keys:label() or nil,
    version = checked.version or api.default_version,
    timeout = checked.timeout or 10, try_timeout = checked.try_timeout or 5,
    connect_timeout = checked.connect_timeout or 3,
    max_response = checked.max_response or 1048576,
    user_agent = checked.user_agent or "rtc-lua/" .. core.version,
  }
end

--- Makes a client. A string is an endpoint: `rtc.new "sandbox"` is a client of the local sandbox with its
--- ready-made keys. What is not given comes from the environment (VOLC_ACCESSKEY and VOLC_SECRETKEY, or
--- VOLCENGINE_ACCESS_KEY and VOLCENGINE_SECRET_KEY; RTC_APP_ID, RTC_FROM, RTC_ENDPOINT), and keys that are not there
--- from ~/.volc/credentials or ~/.volc/config; but none of it for the sandbox, and keys never from two places. Raises,
--- at the caller's line, for a wrong or unknown option and for missing keys.
---@param given rtc.Options|string|nil
---@return rtc.Client
function rtc.new(given)
  local made, problem = build(given)
  if not made then
    error("rtc.new: " .. problem, 2)
  end
  return made
end

--- Makes a signer. Raises, at the caller's line, for a wrong or unknown option.
---@param given rtc.Signer.Options
---@return rtc.Signer
function rtc.signer(given)
  local made, problem = signer.new(given)
  if not made then
    error("rtc.signer: " .. problem, 2)
  end
  return made
end

local default_client

--- Sends by a client that is made from the environment when first used.
---@param given rtc.SendRoomUnicast
---@return rtc.Receipt|nil receipt
---@return rtc.Error|nil err  `kind` is "config" when no client can be made
function rtc.send_room_unicast(given)
  if not default_client then
    local made, problem = build()
    if not made then
      return nil, errors.config(problem, "SendRoomUnicast")
    end
    default_client = made
  end
  return default_client:send_room_unicast(given)
end

return rtc
