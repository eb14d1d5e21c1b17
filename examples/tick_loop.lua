-- A game server's loop: 60 frames a second, and 1,000 players at 250 tables. Each second every table's next player is
-- told that it is their turn. No frame waits for a message: what is on its way goes on within the time that a step has.
--
--     rtc sandbox >/dev/null                           in one terminal, then
--     tools/lua examples/tick_loop.lua 10              for ten seconds
local rtc = require "rtc"

local FRAME, STEP = 1 / 60, 0.002 -- seconds
local TURN = 60 -- frames
local TABLES, SEATS = 250, 4

local frames = (tonumber(arg[1]) or 10) * 60
local loop = rtc.loop()
local client = rtc.new {
  runtime = loop, endpoint = os.getenv("RTC_ENDPOINT") or "sandbox",
  timeout = TURN * FRAME, -- a turn that is over need not be told of
}
client:on("failure", function(event) -- of an enqueued message
  print("not told that the game is over: " .. event.fields.room_id, event.err)
end)

--- One message a table, made when it can be sent: no list of them is ever held.
local function turns(round)
  local number = 0
  return function()
    number = number + 1
    if number <= TABLES then
      local seat = round % SEATS + 1
      return { room_id = "table" .. number, to = "player" .. (number - 1) * SEATS + seat, message = "your turn" }
    end
  end
end

local function tell_turns(round)
  local accepted, failed, last = 0, 0, nil
  client:send_all(turns(round), {
    on_result = function(_, receipt, err)
      accepted, failed, last = accepted + (receipt and 1 or 0), failed + (receipt and 0 or 1), err or last
    end,
  })
  print(("round %d: %d players told, %d not"):format(round, accepted, failed), last or "")
end

--- Waits for the next frame, and lets the tasks go on whenever an answer comes meanwhile.
local function rest_until(time)
  local left = time - loop:now()
  while left > 0 do
    if loop:wait(left) then
      loop:step(math.min(left, STEP))
    end
    left = time - loop:now()
  end
end

local telling -- the round's task
local missed, skipped = 0, 0
local next_frame = loop:now()
for frame = 0, frames - 1 do
  if frame % TURN == 0 then
    if not telling or telling:done() then
      telling = loop:spawn(tell_turns, frame / TURN + 1)
    else
      skipped = skipped + 1 -- the service is slow: rounds must not pile up
    end
  end

  -- Here the game does its own work: input, physics, the state of the world …

  loop:step(STEP)
  next_frame = next_frame + FRAME
  while next_frame < loop:now() do -- too late: that frame is left out, and the next one is on time again
    next_frame, missed = next_frame + FRAME, missed + 1
  end
  rest_until(next_frame)
end

while not telling:done() do
  loop:wait()
  loop:step()
end
for number = 1, TABLES do
  assert(client:enqueue { action = "send_broadcast", room_id = "table" .. number, message = "the game is over" })
end
local drained, err = client:drain(5)
client:close()
loop:step() -- what was left is told of
print(("%d frames, %d missed; %d rounds skipped; %s"):format(frames, missed, skipped, drained and "all sent" or err))
