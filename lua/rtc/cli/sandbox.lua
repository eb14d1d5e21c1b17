--- rtc sandbox: runs the service, small enough for this machine.

local sandbox = require "rtc.sandbox"
local terminal = require "rtc.cli.terminal"

---@param given table  the command line's options
---@return integer exit code
return function(given)
  local ok, problem = sandbox.run { host = given.host, port = given.port, program = terminal.program() }
  if not ok then
    terminal.finish(terminal.FAILED, problem)
  end
  return terminal.DONE
end
