--- The runtime for skynet services: a call waits like skynet.call does. skynet can't watch a foreign descriptor, so its
--- timer looks at the engine every hundredth of a second while something is on its way, and at first more often.

local protected = require "rtc.runtime.protected"
local skynet = require "skynet"

local adapter = {}

---@class rtc.Skynet: rtc.Scheduler
---@field pumps table<function, table>  what the coroutine sleeps by that calls this function
local methods = {}
local metatable = { __index = methods, __name = "rtc.runtime.skynet" }

local PROBLEM = "nothing can wait here: the client goes by skynet, and this is none of its coroutines"
local ADVICE = "Call it within skynet.start, a message's handler or skynet.fork."

--- Looks with no rest between them after each request: what a connection needs to go out, and an answer from nearby,
--- come long before the timer's next hundredth.
local QUICK_LOOKS = 32

--- skynet's unit of time is a hundredth of a second.
local function ticks(seconds)
  return math.max(0, math.ceil(math.min(seconds, 1e6) * 100))
end

function methods:current()
  local co, main = coroutine.running()
  if co and not main then
    return {}
  end
  return nil, PROBLEM, ADVICE
end

function methods:park(waiter, seconds)
  if seconds then
    skynet.sleep(ticks(seconds), waiter)
  else
    skynet.wait(waiter)
  end
end

function methods:wake(waiter)
  skynet.wakeup(waiter)
end

function methods:start(fn, died)
  skynet.fork(protected(fn, died))
  return true
end

function methods:watch(_, serve)
  local pump = self.pumps[serve]
  if pump then
    pump.quick = QUICK_LOOKS
    skynet.wakeup(pump) -- what was submitted just now goes out at once
    return
  end
  pump = { quick = QUICK_LOOKS }
  self.pumps[serve] = pump
  skynet.fork(function()
    while serve() do
      pump.quick = pump.quick - 1
      skynet.sleep(pump.quick >= 0 and 0 or 1, pump)
    end
    self.pumps[serve] = nil
  end)
end

function methods:unwatch(_, serve)
  if self.pumps[serve] then
    skynet.wakeup(self.pumps[serve])
  end
end

---@return rtc.Skynet
function adapter.new()
  return setmetatable({ pumps = {} }, metatable)
end

return adapter
