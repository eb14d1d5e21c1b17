--- From the options of the command line to a client or an address.

local credentials = require "rtc.credentials"
local endpoint = require "rtc.endpoint"
local environment = require "rtc.environment"
local terminal = require "rtc.cli.terminal"
local words = require "rtc.cli.words"

local target = {}

--- Where to: what --endpoint says, else RTC_ENDPOINT, else `default`.
---@param given { endpoint: string|nil }  the command line's options
---@param default string|nil  default: the service
---@return rtc.Endpoint
function target.endpoint(given, default)
  local found, problem = endpoint.parse(given.endpoint or environment.get("RTC_ENDPOINT") or default)
  if not found and given.endpoint then
    terminal.finish(terminal.USAGE, "--endpoint " .. words.translate(problem))
  elseif not found then
    terminal.finish(terminal.FAILED, "RTC_ENDPOINT " .. words.translate(problem))
  end
  return found
end

--- The app: what --app says; else RTC_APP_ID, which never meets the sandbox's preset; else nil, the receiver's default.
---@param given { app: string|nil }
---@param at rtc.Endpoint
---@return string|nil
function target.app(given, at)
  return given.app or not at.sandbox and environment.get("RTC_APP_ID") or nil
end

--- Whether there are keys anywhere, or what was meant to be some.
---@param at rtc.Endpoint
---@return boolean
local function has_keys(at)
  for _, source in ipairs(credentials.sources({}, at)) do
    local keys, problem = source.read()
    if keys or problem then
      return true
    end
  end
  return false
end

--- A client for the options of the command line.
---@param given { endpoint: string|nil }
---@return rtc.Client
function target.client(given)
  local at = target.endpoint(given)
  if not (given.endpoint or environment.get("RTC_ENDPOINT") or has_keys(at)) then
    terminal.finish(terminal.FAILED, ("nothing is configured. For a first try without an account, run `%s sandbox` in "
      .. "another terminal, then `%s --endpoint sandbox send …`. For the service, set VOLC_ACCESSKEY and "
      .. "VOLC_SECRETKEY, and RTC_APP_ID."):format(terminal.program(), terminal.program()))
  end
  local made, client = pcall(require("rtc").new, { endpoint = given.endpoint })
  if not made then
    terminal.finish(terminal.FAILED, words.translate((tostring(client):gsub("^.-rtc%.new: ", ""))))
  end
  return client
end

return target
