--- A receiver's connection: logs in, joins a room if it is to, and streams what comes for its user as Server-Sent
--- Events.
local cjson = require("cjson").new()
local condition = require("cqueues.condition")
local cqueues = require("cqueues")
local yieldable_pcall = require("http.util").yieldable_pcall
local connection = require("rtc.sandbox.connection")
local id = require("rtc.sandbox.id")
local query = require("rtc.sandbox.query")
local sse = require("rtc.sandbox.sse")

local receive = {}

local known = { app_id = true, room_id = true, user_id = true }

-- What is wrong with the parameters of /listen, or nil.
local function complaint(parameters, apps)
  for name in pairs(parameters) do
    if not known[name] then
      return ("unknown parameter '%s'; there are room_id, user_id and app_id"):format(name)
    end
  end
  if not parameters.user_id then
    return "the parameter user_id is missing; as in /listen?room_id=demo&user_id=alice"
  end
  for _, name in ipairs({ "room_id", "user_id", "app_id" }) do
    if parameters[name] and not id.is_valid(parameters[name]) then
      return ("%s must be 1 to 128 letters, digits, '@', '.', '_' or '-'"):format(name)
    end
  end
  if not apps[parameters.app_id] then
    return ("there is no app_id '%s' in this sandbox"):format(parameters.app_id)
  end
end

-- What the log says of a receiver that comes and goes.
local function words(room_id)
  if not room_id then
    return { came = "logged in", went = "logged out", put_out = "put out" }
  end
  return { came = "joined " .. room_id, went = "left " .. room_id, put_out = "put out of " .. room_id }
end

-- Streams until the receiver goes away, fails or overflows.
local function pump(stream, receiver, wake, keep_alive)
  -- A receiver has nothing more to say: when its socket becomes readable, it has closed (or half closed) it.
  local gone = { pollfd = stream.connection.socket:pollfd(), events = "r" }
  while not receiver.overflowed do
    local events = receiver:take()
    if not events then
      local ready = cqueues.poll(wake, gone, keep_alive)
      if ready == gone then
        return
      elseif ready ~= wake then
        events = sse.keep_alive
      end
    end
    if events and not stream:write_chunk(events, false) then
      return
    end
  end
end

--- Serves `GET /listen`.
---@param stream table lua-http's
---@param request rtc.sandbox.Request
---@param sandbox {rooms: table, apps: table<string, boolean>, app_id: string, log: table, keep_alive: number}
function receive.serve(stream, request, sandbox)
  local place = query.first(query.parse(request.query))
  place.app_id = place.app_id or sandbox.app_id
  local wrong = complaint(place, sandbox.apps)
  if wrong then
    sandbox.log:note("listen refused: %s", wrong)
    local text = require("rtc.sandbox.text").to_utf8(wrong)
    return connection.answer(stream, request, 400, "application/json", cjson.encode({ error = text }) .. "\n")
  end

  local headers = connection.headers(200, "text/event-stream", {
    ["cache-control"] = "no-cache",
    connection = "close",
  })
  if not stream:write_headers(headers, false) then
    return
  end
  local socket, wake = stream.connection.socket, condition.new()
  local receiver = sandbox.rooms:join(place.app_id, place.room_id, place.user_id, function(self)
    if self.overflowed then
      socket:shutdown("rw") -- wakes the write that it does not read
    end
    wake:signal()
  end)
  sandbox.rooms:put(receiver, sse.event("joined", cjson.encode(place)))
  local user_id, log_words = place.user_id, words(place.room_id)
  sandbox.log:note("%s %s", user_id, log_words.came)
  local ok, err = yieldable_pcall(pump, stream, receiver, wake, sandbox.keep_alive)
  sandbox.rooms:leave(receiver)
  if not ok then
    sandbox.log:note("%s %s: %s", user_id, log_words.went, err)
  elseif receiver.overflowed then
    sandbox.log:note("%s %s: it read too slowly", user_id, log_words.put_out)
  else
    sandbox.log:note("%s %s", user_id, log_words.went)
  end
end

return receive
