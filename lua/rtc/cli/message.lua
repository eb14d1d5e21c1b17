--- The message of a command: from its argument, a file or standard input; every byte as it comes.

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

--- The fields of a call as the command line gives them.
---@param given table  the command line's options
---@return rtc.SendRoomUnicast
function message.fields(given)
  local bytes = given.text
  if given.file and given.text then
    terminal.finish(terminal.USAGE, "give the message as an argument or with --file, not both")
  elseif given.file and given.file ~= "-" then
    bytes = read_file(given.file)
  elseif given.file or given.text == "-" then
    bytes = read(io.stdin, "standard input")
  elseif not given.text then
    if stdin_is_terminal() then
      terminal.finish(terminal.USAGE, "there is no message: give it as an argument, with --file, or on standard input")
    end
    bytes = read(io.stdin, "standard input")
    if bytes == "" then -- as from cron: hardly what was meant
      terminal.finish(terminal.USAGE, 'there is no message: standard input is empty; for an empty message give "-"')
    end
  end
  return {
    app_id = given.app, room_id = given.room, from = given.from, to = given.to,
    message = bytes, binary = given.binary or nil,
  }
end

return message
