--- rtc listen: logs in to the sandbox, joins a room if it is to, and prints what that person gets.

local core = require("rtc.native").load("rtc.core")
local json_line = require "rtc.cli.json_line"
local target = require "rtc.cli.target"
local terminal = require "rtc.cli.terminal"
local text = require "rtc.text"

local SHOWN = 16 -- bytes of a binary message on a line

local function hex(bytes)
  local shown = bytes:sub(1, SHOWN):gsub(".", function(char)
    return (" %02x"):format(char:byte())
  end)
  return shown .. (#bytes > SHOWN and " …" or "")
end

local function line(received)
  local content = received.binary and ("%d bytes:%s"):format(#received.message, hex(received.message))
    or text.quoted(received.message)
  return ("%s from %s: %s\n"):format(text.printable(received.callback), text.printable(received.from), content)
end

local function as_json(received)
  return json_line {
    { "callback", received.callback }, { "room_id", received.room_id }, { "from", received.from },
    received.binary and { "message_base64", core.base64(received.message) } or { "message", received.message },
  }
end

--- With --raw the message alone goes to standard output, and the readable line to standard error.
local function show(given, received)
  if given.json then
    terminal.write(as_json(received))
  elseif given.raw then
    io.stderr:write(line(received))
    terminal.write(received.message)
  else
    terminal.write(line(received))
  end
end

local function join(given)
  local at = target.endpoint(given, "sandbox")
  if at.scheme == "https" then
    terminal.finish(terminal.FAILED, ("%s is no sandbox: the service delivers only to apps that logged in by its "
      .. "client SDK"):format(at.url))
  end
  local found, listen = pcall(require, "rtc.sandbox.listen")
  if not found then
    terminal.finish(terminal.FAILED, "rtc listen needs lua-http (Debian: apt-get install lua-http): "
      .. tostring(listen):match("^[^\n]*"))
  end
  local listener, problem = listen.open {
    endpoint = at.url, app_id = target.app(given, at), room_id = given.room, user_id = given.user,
  }
  if not listener then
    terminal.finish(terminal.FAILED, tostring(problem))
  end
  return listener
end

---@param given table  the command line's options
---@return integer exit code
return function(given)
  local listener = join(given)
  local place = given.room and "in room " .. given.room or "logged in"
  terminal.complain(("%s is %s and listens"):format(given.user, place))
  local left = given.count or math.huge
  while left > 0 do
    local received, problem = listener:next()
    if not received then
      terminal.finish(terminal.FAILED, problem == "closed" and "the sandbox is gone" or problem)
    end
    show(given, received)
    left = left - 1
  end
  listener:close()
  return terminal.DONE
end
