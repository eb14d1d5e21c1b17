-- A chat relay on luv: a TCP server of lines. Each line `room user text` becomes a message to that user in that room,
-- and is answered by a line: `accepted` and the request's ID, or `failed`, whether it may have been delivered all the
-- same (not_sent, rejected, unknown), and why.
--
--     rtc sandbox >/dev/null                           in one terminal,
--     tools/lua examples/luv_relay.lua 7000            in another, then
--     echo "42 alice your turn" | nc -q 5 127.0.0.1 7000
local rtc = require "rtc"
local uv = require "luv"

local MOST_PEERS, LONGEST_LINE = 200, 70000

local client = rtc.new { runtime = "luv", endpoint = os.getenv("RTC_ENDPOINT") or "sandbox" }

--- Calls `start` with a callback, and waits in this coroutine for what that is given.
local function await(start)
  local co = coroutine.running()
  local started, problem = start(function(...)
    assert(coroutine.resume(co, ...))
  end)
  if not started then
    return problem
  end
  return coroutine.yield()
end

--- What a peer sends next; nil when it went away. Nothing is read beyond what is asked for, so a peer that sends faster
--- than the service takes it has to wait.
local function read(peer)
  local err, bytes = await(function(done)
    return peer:read_start(function(...)
      peer:read_stop()
      done(...)
    end)
  end)
  return not err and bytes or nil
end

--- Writes a line; false when the peer went away. Waits until it is on its way: a peer that reads nothing gets no more.
local function write(peer, line)
  return not await(function(done)
    return peer:write(line .. "\n", done)
  end)
end

local function relay(line)
  local room, user, text = line:match("^(%S+) (%S+) (.+)$")
  if not room then
    return "failed not_sent: write `room user text`"
  end
  local receipt, err = client:send_room_unicast { room_id = room, to = user, message = text }
  if receipt then
    return "accepted " .. receipt.request_id
  end
  return ("failed %s: %s"):format(err.outcome, (err.message:gsub("%s+", " ")))
end

--- A peer's next line, and what came after it; nil when it went away.
local function read_line(peer, buffered)
  while true do
    local line, rest = buffered:match("^([^\r\n]*)\r?\n(.*)$")
    if line then
      return line, rest
    elseif #buffered > LONGEST_LINE then
      write(peer, "failed not_sent: the line is too long")
      return nil
    end
    local bytes = read(peer)
    if not bytes then
      return nil
    end
    buffered = buffered .. bytes
  end
end

--- One line after the other, until the peer goes away.
local function serve(peer)
  local line, rest = read_line(peer, "")
  while line and write(peer, relay(line)) do
    line, rest = read_line(peer, rest)
  end
end

local server, peers = uv.new_tcp(), 0
assert(server:bind("127.0.0.1", tonumber(arg[1] or 7000)))
assert(server:listen(128, function(err)
  assert(not err, err)
  local peer = uv.new_tcp()
  assert(server:accept(peer))
  if peers == MOST_PEERS then
    peer:close()
    return
  end
  peers = peers + 1
  coroutine.wrap(function()
    serve(peer)
    peer:close()
    peers = peers - 1
  end)()
end))
print("listening on 127.0.0.1:" .. server:getsockname().port)
io.stdout:flush()

local pipe = uv.new_signal()
pipe:start("sigpipe", function() end) -- a peer that went away must not end the program

--- Takes no more peers, and ends when what is on its way is through.
local function finish()
  server:close()
  local drained, err = client:drain(5)
  print(drained and "all sent" or err)
  client:close()
  uv.stop()
end

for _, name in ipairs { "sigint", "sigterm" } do
  local signal = uv.new_signal()
  signal:start(name, function()
    signal:stop() -- a second one ends at once
    coroutine.wrap(finish)()
  end)
end
uv.run()
