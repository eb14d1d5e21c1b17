--- rtc call: calls any action of the service and prints its result.

local message = require "rtc.cli.message"
local result = require "rtc.cli.result"
local target = require "rtc.cli.target"
local terminal = require "rtc.cli.terminal"

local function query(given)
  local parameters = {}
  for _, pair in ipairs(given.query or {}) do
    local name, value = pair:match("^([^=]+)=(.*)$")
    if not name then
      terminal.finish(terminal.USAGE, ("--query: '%s' is not name=value"):format(pair))
    end
    if parameters[name] then
      terminal.finish(terminal.USAGE, ("--query: '%s' is given twice"):format(name))
    end
    parameters[name] = value
  end
  return parameters
end

---@param given table  the command line's options
---@param progress { sending: boolean|nil }  `sending` is set when something may have left from then on
---@return integer exit code
return function(given, progress)
  local client = target.client(given)
  local body = message.optional(given, "body")
  local settings = {
    version = given.api_version, method = given.method, query = query(given), timeout = given.timeout,
  }
  progress.sending = true
  return result.print(given, client:call(given.action, body, settings))
end
