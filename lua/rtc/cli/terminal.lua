--- What the commands print, and how they end.
---
--- Messages and answers are other people's bytes: none of them may move the cursor of a terminal, or hide a part of a
--- line by writing it from right to left.

local core = require("rtc.native").load("rtc.core")

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

local short = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

local function escaped_byte(char)
  return short[char] or ("\\x%02X"):format(char:byte())
end

local function escaped_character(bytes)
  local code = bytes:byte() % (#bytes == 2 and 32 or 16)
  for i = 2, #bytes do
    code = code * 64 + bytes:byte(i) % 64
  end
  return ("\\u{%X}"):format(code)
end

--- Characters that command a terminal or turn the direction of writing, as UTF-8: C1 controls, U+061C, U+200E and
--- U+200F, U+2028 to U+202E, U+2066 to U+2069, U+FEFF.
local commanding = {
  "\194[\128-\159]", "\216\156", "\226\128[\142\143\168-\174]", "\226\129[\166-\169]", "\239\187\191",
}

local function without_commands(text, controls)
  text = text:gsub(controls, escaped_byte)
  if core.utf8_error(text) then
    return (text:gsub("[\128-\255]", escaped_byte))
  end
  for _, pattern in ipairs(commanding) do
    text = text:gsub(pattern, escaped_character)
  end
  return text
end

--- Somebody else's text on one line, in quotes; from it the bytes can be told exactly.
---@param text string
---@return string
function terminal.quoted(text)
  return '"' .. without_commands(text, '[%c\\"]') .. '"'
end

--- Somebody else's text on one line, as it is but for what commands.
---@param text string
---@return string
function terminal.line(text)
  return without_commands(text, "%c")
end

--- Text of several lines, each harmless.
---@param text string
---@return string
function terminal.harmless(text)
  return (text:gsub("[^\n]+", terminal.line))
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
