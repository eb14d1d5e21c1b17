--- rtc send: sends one message and prints the receipt.

local message = require "rtc.cli.message"
local target = require "rtc.cli.target"
local terminal = require "rtc.cli.terminal"

---@param given table  the command line's options
---@return integer exit code
return function(given)
  local client = target.client(given)
  local receipt, err = client:send_room_unicast(message.fields(given))
  if not receipt then
    terminal.complain(tostring(err))
    return err.outcome == "unknown" and terminal.UNKNOWN or terminal.FAILED
  end
  local printed, ending = pcall(terminal.write, terminal.harmless(tostring(receipt)), "\n")
  if not printed and ending.message then
    -- The exit code is about the message, and that was accepted.
    terminal.complain(ending.message)
  end
  return terminal.DONE
end
