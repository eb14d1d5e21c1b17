--- A condition variable: tasks wait for it, and whoever made it so wakes them all.

require "rtc.interpreted" ()

local condition = {}

---@class rtc.Condition
---@field scheduler rtc.Scheduler
---@field waiters table<table, true>  not woken yet
---@field waits integer  not over yet: of those, and of those who were woken and have not gone on
local methods = {}
local metatable = { __index = methods, __name = "rtc.condition" }

--- Waits for the next broadcast. May come back early.
---@param seconds number|nil  at most; default: no limit
---@return boolean|nil waited
---@return string|nil problem  nothing can wait here
---@return string|nil advice
function methods:wait(seconds)
  local waiter, problem, advice = self.scheduler:current()
  if not waiter then
    return nil, problem, advice
  end
  self.waiters[waiter], self.waits = true, self.waits + 1
  waiter.abandon = function()
    self.waiters[waiter], self.waits = nil, self.waits - 1
  end
  self.scheduler:park(waiter, seconds)
  waiter:abandon()
  return true
end

--- Whether anybody waits, or was woken and has not gone on yet.
---@return boolean
function methods:is_awaited()
  return self.waits > 0
end

--- Wakes everyone who waits.
function methods:broadcast()
  local waiters = self.waiters
  self.waiters = {}
  for waiter in pairs(waiters) do
    self.scheduler:wake(waiter)
  end
end

---@param scheduler rtc.Scheduler
---@return rtc.Condition
function condition.new(scheduler)
  return setmetatable({ scheduler = scheduler, waiters = {}, waits = 0 }, metatable)
end

return condition
