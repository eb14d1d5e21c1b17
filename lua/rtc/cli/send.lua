--- rtc send, unicast, broadcast, batch: sends a message and prints the receipt.

local message = require "rtc.cli.message"
local result = require "rtc.cli.result"
local target = require "rtc.cli.target"

---@param action rtc.api.Action
---@param given table  the command line's options
---@param progress { sending: boolean|nil }  `sending` is set when something may have left from then on
---@return integer exit code
return function(action, given, progress)
  local client = target.client(given)
  local fields = message.fields(action, given)
  progress.sending = true
  return result.print(given, client[action.method](client, fields))
end
