--- The runtime for skynet services: a call waits like skynet.call does. skynet can't watch a foreign descriptor, so its
--- timer looks at the engine every hundredth of a second while something is on its way.

local protected = require "rtc.runtime.protected"
local skynet = require "skynet"

local adapter = {}

---@class rtc.Skynet: rtc.Scheduler
---@field pumps table<function, table>  what the coroutine sleeps by that calls this function
local methods = {}
local metatable = { __index = methods, __name = "rtc.runtime.skynet" }

local PROBLEM = "nothing can wait here: the client goes by skynet, and this is none of its coroutines"
local ADVICE = "Call it within skynet.start, a message's handler or skynet.fork."

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
    skynet.wakeup(pump) -- what was submitted just now goes out at once
    return
  end
  pump = {}
  self.pumps[serve] = pump
  skynet.fork(function()
    while serve() do
      skynet.sleep(1, pump)
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
