--- The message or body of a command: from its argument, a file or standard input; every byte as it comes.

local terminal = require "rtc.cli.terminal"

local message = {}

--- Far beyond what the service takes, and little enough for the memory when somebody pipes a disk into us.
local MOST = 16 * 1024 * 1024

local function read(file, name)
  local bytes, problem = file:read(MOST + 1)
  if not bytes and problem then
    terminal.finish(terminal.FAILED, ("cannot read %s: %s"):format(name, problem))
  elseif bytes and #bytes > MOST then
    terminal.finish(terminal.FAILED, ("%s holds more than %d bytes: too much for a message"):format(name, MOST))
  end
  return bytes or ""
end

local function read_file(path)
  local file, problem = io.open(path, "rb")
  if not file then
    terminal.finish(terminal.FAILED, "cannot read the file: " .. problem)
  end
  local bytes = read(file, path)
  file:close()
  return bytes
end

--- Plain Lua can't ask; every shell can.
local function stdin_is_terminal()
  local ok = os.execute("test -t 0")
  return ok == true or ok == 0
end

--- The bytes that a command was given: as its argument, from a file or on standard input.
---@param given table  the command line's options: `text`, `file`
---@param name string  what they are
---@return string|nil  nothing when none were given
function message.optional(given, name)
  if given.file and given.text then
    terminal.finish(terminal.USAGE, ("give the %s as an argument or with --file, not both"):format(name))
  elseif given.file and given.file ~= "-" then
    return read_file(given.file)
  elseif given.file or given.text == "-" then
    return read(io.stdin, "standard input")
  end
  return given.text
end

--- Without any other sign a message comes on standard input, unless somebody sits there.
local function message_bytes(given)
  local bytes = message.optional(given, "message")
  if bytes then
    return bytes
  elseif stdin_is_terminal() then
    terminal.finish(terminal.USAGE, "there is no message: give it as an argument, with --file, or on standard input")
  end
  bytes = read(io.stdin, "standard input")
  if bytes == "" then -- as from cron: hardly what was meant
    terminal.finish(terminal.USAGE, 'there is no message: standard input is empty; for an empty message give "-"')
  end
  return bytes
end

--- The receivers: each --to may name several, and so does the file.
local function receivers(given)
  local ids = {}
  for _, list in ipairs(given.to or {}) do
    for id in (list .. ","):gmatch("([^,]*),") do
      ids[#ids + 1] = id
    end
  end
  for line in (given.to_file and read_file(given.to_file) or ""):gmatch("[^\r\n]+") do
    ids[#ids + 1] = line
  end
  if #ids == 0 then
    terminal.finish(terminal.USAGE, "missing option '--to'")
  end
  return ids
end

local function receiver(given)
  local ids = receivers(given)
  if #ids > 1 then
    terminal.finish(terminal.USAGE, "--to: this action reaches one receiver, and several are given")
  end
  return ids[1]
end

--- The fields of a call as the command line gives them.
---@param action rtc.api.Action
---@param given table  the command line's options
---@return table
function message.fields(action, given)
  local fields = { version = given.api_version, timeout = given.timeout, split = given.split }
  for _, field in ipairs(action.fields) do
    if field.type == "message" then
      fields[field.name] = message_bytes(given)
    elseif field.type == "ids" then
      fields[field.name] = receivers(given)
    elseif field.name == "to" and type(given.to) == "table" then
      fields[field.name] = receiver(given)
    else
      fields[field.name] = given[field.option:match("^%-%-(.*)$")]
    end
  end
  return fields
end

return message
