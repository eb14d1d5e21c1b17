--- What the commands print, and how they end.
---
--- Messages and answers are other people's bytes: none of them may move the cursor of a terminal, or hide a part of a
--- line by writing it from right to left.

local text = require "rtc.text"

local terminal = {}

--- Exit codes. `unknown` is the one that asks for care: sending again may deliver twice.
terminal.DONE, terminal.FAILED, terminal.USAGE, terminal.UNKNOWN = 0, 1, 2, 3

local EPIPE = 32

---@class rtc.cli.Ending  raised to end the command; caught by rtc.cli
---@field code integer
---@field message string|nil
local ending_mt = { __name = "rtc.cli.ending" }

--- Ends the command.
---@param code integer
---@param message string|nil  for standard error
function terminal.finish(code, message)
  error(setmetatable({ code = code, message = message }, ending_mt), 0)
end

---@param value any  what was raised
---@return rtc.cli.Ending|nil
function terminal.ending(value)
  return getmetatable(value) == ending_mt and value or nil
end

--- Text of several lines, each harmless.
---@param block string
---@return string
function terminal.harmless(block)
  return (block:gsub("[^\n]+", text.printable))
end

--- How this command was started, for lines to be copied: tools/lua says so in the tree.
---@return string
function terminal.program()
  local tool = os.getenv("RTC_TOOL")
  return tool and arg and tool .. " " .. arg[0] or "rtc"
end

--- Writes to standard output, at once. A reader who has gone ends the command quietly.
---@param ... string
function terminal.write(...)
  local ok, problem, number = io.stdout:write(...)
  if ok then
    ok, problem, number = io.stdout:flush()
  end
  if not ok then
    terminal.finish(number == EPIPE and terminal.DONE or terminal.FAILED,
      number ~= EPIPE and "cannot write to standard output: " .. tostring(problem) or nil)
  end
end

--- Writes a line to standard error.
---@param message string
function terminal.complain(message)
  io.stderr:write("rtc: ", terminal.harmless(message), "\n")
end

return terminal
