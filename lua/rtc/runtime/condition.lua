--- A condition variable: tasks wait for it, and whoever made it so wakes them all.

require "rtc.interpreted" ()

local condition = {}

---@class rtc.Condition
---@field scheduler rtc.Scheduler
---@field waiters table<table, true>  not woken yet
---@field waits table<table, true>  those, and those who were woken and have not gone on
local methods = {}
local metatable = { __index = methods, __name = "rtc.condition" }

--- Forgets those whom the scheduler ended in the midst of their wait. (Not by `abandon`: what a function has of the
--- locals around it goes when nginx takes the coroutine for something else.)
local function forget_the_gone(self)
  local scheduler = self.scheduler
  for waiter in pairs(scheduler.is_gone and self.waits or {}) do
    if scheduler:is_gone(waiter) then
      self.waiters[waiter], self.waits[waiter] = nil, nil
    end
  end
end

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
  self.waiters[waiter], self.waits[waiter] = true, true
  waiter.abandon = function()
    self.waiters[waiter], self.waits[waiter] = nil, nil
  end
  self.scheduler:park(waiter, seconds)
  waiter:abandon()
  return true
end

--- Whether anybody waits, or was woken and has not gone on yet.
---@return boolean
function methods:is_awaited()
  forget_the_gone(self)
  return next(self.waits) ~= nil
end

--- Wakes everyone who waits.
function methods:broadcast()
  forget_the_gone(self)
  local waiters = self.waiters
  self.waiters = {}
  for waiter in pairs(waiters) do
    self.scheduler:wake(waiter)
  end
end

---@param scheduler rtc.Scheduler
---@return rtc.Condition
function condition.new(scheduler)
  return setmetatable({ scheduler = scheduler, waiters = {}, waits = {} }, metatable)
end

return condition
