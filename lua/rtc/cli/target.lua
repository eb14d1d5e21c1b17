--- From the options of the command line to a client or an address.

local endpoint = require "rtc.endpoint"
local terminal = require "rtc.cli.terminal"

local target = {}

local function getenv(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

--- Where to: what --endpoint says, else RTC_ENDPOINT, else `default`.
---@param given { endpoint: string|nil }  the command line's options
---@param default string|nil  default: the service
---@return rtc.Endpoint
function target.endpoint(given, default)
  local found, problem = endpoint.parse(given.endpoint or getenv("RTC_ENDPOINT") or default)
  if not found and given.endpoint then
    terminal.finish(terminal.USAGE, "--endpoint " .. problem)
  elseif not found then
    terminal.finish(terminal.FAILED, "RTC_ENDPOINT " .. problem)
  end
  return found
end

--- The app: what --app says; else RTC_APP_ID, which never meets the sandbox's preset; else nil, the receiver's default.
---@param given { app: string|nil }
---@param at rtc.Endpoint
---@return string|nil
function target.app(given, at)
  return given.app or not at.sandbox and getenv("RTC_APP_ID") or nil
end

--- A client for the options of the command line.
---@param given { endpoint: string|nil }
---@return rtc.Client
---@return string access_key  the one that it signs with
function target.client(given)
  local at = target.endpoint(given)
  if not (given.endpoint or getenv("RTC_ENDPOINT") or getenv("VOLC_ACCESSKEY")) then
    terminal.finish(terminal.FAILED, "nothing is configured. For a first try without an account, run `rtc sandbox` in "
      .. "another terminal, then `rtc --endpoint sandbox send …`. For the service, set VOLC_ACCESSKEY and "
      .. "VOLC_SECRETKEY, and RTC_APP_ID.")
  end
  local made, client = pcall(require("rtc").new, { endpoint = given.endpoint })
  if not made then
    terminal.finish(terminal.FAILED, (tostring(client):gsub("^.-rtc%.new: ", "")))
  end
  return client, require("rtc.credentials").find({}, at, getenv).access_key
end

return target
