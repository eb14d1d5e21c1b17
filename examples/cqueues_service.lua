-- A service on cqueues: other programs POST what their users are to be told, and it goes to all of them at once.
--
--     rtc sandbox >/dev/null                           in one terminal,
--     tools/lua examples/cqueues_service.lua 7080      in another, then
--     curl http://127.0.0.1:7080/notify -d '{ "room": "42", "users": ["alice", "bob"], "message": "your turn" }'
--
-- answers 200 and {"outcomes":["accepted","accepted"]}; 502 when one of them failed, with what is known of each.
local condition = require "cqueues.condition"
local cqueues = require "cqueues"
local headers = require "http.headers"
local http_server = require "http.server"
local json = require "cjson.safe"
local rtc = require "rtc"
local signal = require "cqueues.signal"

local PATIENCE = 10 -- seconds for a request's body to come and for its answer to go
local LONGEST_BODY = 200000 -- bytes
local MOST_USERS = 600

local client = rtc.new { runtime = "cqueues", endpoint = os.getenv("RTC_ENDPOINT") or "sandbox" }

--- What to send; or nil, and what is wrong.
local function parse(body)
  local order = #body <= LONGEST_BODY and json.decode(body)
  if type(order) ~= "table" then
    return nil, "the body must be a JSON object of at most " .. LONGEST_BODY .. " bytes"
  elseif type(order.users) ~= "table" or #order.users == 0 or #order.users > MOST_USERS then
    return nil, "users must be a list of 1 to " .. MOST_USERS
  end
  return order
end

--- Sends to everyone, several at once; rtc checks the fields.
local function notify(order)
  local messages, outcomes, status = {}, {}, 200
  for i, user in ipairs(order.users) do
    messages[i] = { room_id = order.room, to = user, message = order.message }
  end
  for i, receipt, err in client:send_all(messages, { concurrency = 16 }) do
    outcomes[i] = receipt and "accepted" or err.outcome .. ": " .. err.message
    status = receipt and status or 502
  end
  return status, { outcomes = outcomes }
end

local function answer(path, method, stream)
  if path ~= "/notify" then
    return 404, { error = "there is only /notify" }
  elseif method ~= "POST" then
    return 405, { error = "use POST" }
  end
  local order, problem = parse(stream:get_body_chars(LONGEST_BODY + 1, PATIENCE) or "")
  if not order then
    return 400, { error = problem }
  end
  return notify(order)
end

local ending, busy, idle = false, 0, condition.new()

local function serve(_, stream)
  local request = stream:get_headers(PATIENCE)
  if not request then
    return -- the peer went away
  end
  busy = busy + 1
  local ok, status, result = pcall(answer, request:get(":path"), request:get(":method"), stream)
  if not ok then
    io.stderr:write(tostring(status), "\n")
    status, result = 500, { error = "see the service's log" }
  end
  local response = headers.new()
  response:append(":status", tostring(status))
  response:append("content-type", "application/json")
  if ending then
    response:append("connection", "close")
  end
  if stream:write_headers(response, false, PATIENCE) then
    stream:write_body_from_string(json.encode(result) .. "\n", PATIENCE)
  end
  busy = busy - 1
  idle:signal()
end

local controller = cqueues.new()
local server = assert(http_server.listen {
  cq = controller, host = "127.0.0.1", port = tonumber(arg[1] or 7080), tls = false, onstream = serve,
  onerror = function(_, _, where, problem) -- of one connection: the others go on
    io.stderr:write(where, ": ", tostring(problem), "\n")
  end,
})
assert(server:listen())

local function await_answers(seconds)
  local deadline = cqueues.monotime() + seconds
  while busy > 0 and cqueues.monotime() < deadline do
    idle:wait(deadline - cqueues.monotime())
  end
end

--- Takes no more requests, and ends when those that it has are answered.
local function finish()
  ending = true
  server:pause()
  await_answers(5)
  local drained, err = client:drain(1)
  client:close() -- what still waits fails, and is told of
  await_answers(1)
  print(drained and "all sent" or err)
end

-- Blocked, a signal ends nothing by itself, and waits for us.
signal.block(signal.SIGTERM, signal.SIGINT)
local over = false
controller:wrap(function()
  signal.listen(signal.SIGTERM, signal.SIGINT):wait()
  signal.unblock(signal.SIGTERM, signal.SIGINT) -- a second one ends at once
  finish()
  over = true
end)

print("listening on http://127.0.0.1:" .. select(3, server:localname()))
io.stdout:flush()
repeat
  assert(controller:step())
until over
