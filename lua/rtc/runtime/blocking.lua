--- The runtime that waits by blocking: for a prompt and for scripts that have nothing else to do. Its tasks go on
--- whenever something waits.

local core = require("rtc.native").load("rtc.core")
local tick = require "rtc.runtime.tick"

local blocking = {}

---@class rtc.Blocking: rtc.Scheduler
---@field loop rtc.Loop
local methods = {}
local metatable = { __index = methods, __name = "rtc.runtime.blocking" }

--- Rounds in `progress` without waiting: enough to open a connection to this machine and send a request.
local ROUNDS = 8

function methods:current()
  return self.loop:current() or { outside = true }
end

--- Whoever is no task drives the loop meanwhile. An error in the middle (Ctrl-C at a prompt) ends the wait.
function methods:park(waiter, seconds)
  if not waiter.outside then
    self.loop:park(waiter, seconds)
    return
  end
  local time = core.now() + (seconds or math.huge)
  local ok, raised = pcall(tick.drive, self.loop, function() return waiter.woken end, time)
  waiter.woken = false
  if not ok then
    waiter:abandon()
    error(raised, 0)
  end
end

function methods:wake(waiter)
  if waiter.outside then
    waiter.woken = true
  else
    self.loop:wake(waiter)
  end
end

--- A task begins at once, up to where it first waits.
function methods:start(fn, died)
  tick.resume(self.loop, self.loop:start(fn, died))
  return true
end

function methods:watch(engine, serve)
  self.loop:watch(engine, serve)
end

function methods:unwatch(engine)
  self.loop:unwatch(engine)
end

function methods:drive(done, time)
  tick.drive(self.loop, done, time)
end

--- Does for the tasks what can be done without waiting; and waits for so long while `unsent()` is more than 0.
---@param seconds number|nil  default 0
---@param unsent fun(): integer
function methods:progress(seconds, unsent)
  if tick.is_within_a_task(self.loop) then
    return -- whoever resumed the task goes on with the others, too; a handler that enqueues would lead ever deeper
  end
  local time, rounds = core.now() + (seconds or 0), 0
  while true do
    tick.step(self.loop)
    rounds = rounds + 1
    local left = unsent() > 0 and math.max(0, time - core.now()) or 0
    if left == 0 and rounds >= ROUNDS or not tick.wait(self.loop, left) then
      return
    end
  end
end

---@return rtc.Blocking
function blocking.new()
  return setmetatable({ loop = tick.new() }, metatable)
end

return blocking
