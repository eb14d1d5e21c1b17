--- rtc send: sends one message and prints the receipt.

local message = require "rtc.cli.message"
local target = require "rtc.cli.target"
local terminal = require "rtc.cli.terminal"
local words = require "rtc.cli.words"

---@param given table  the command line's options
---@param progress { sending: boolean|nil }  `sending` is set when something may have left from then on
---@return integer exit code
return function(given, progress)
  local client = target.client(given)
  local fields = message.fields(given)
  progress.sending = true
  local receipt, err = client:send_room_unicast(fields)
  if not receipt then
    terminal.complain(words.of_error(err))
    return err.outcome == "unknown" and terminal.UNKNOWN or terminal.FAILED
  end
  local printed, ending = pcall(terminal.write, terminal.harmless(tostring(receipt)), "\n")
  if not printed and ending.message then
    -- The exit code is about the message, and that was accepted.
    terminal.complain(ending.message)
  end
  return terminal.DONE
end
