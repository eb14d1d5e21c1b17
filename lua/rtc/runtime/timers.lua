--- Who waits until when: a list in the order of time. What comes last is mostly due last, so it is put in from the end.

local timers = {}

---@class rtc.Timers
local methods = {}
local metatable = { __index = methods, __name = "rtc.timers" }

---@class rtc.Timer
---@field time number
---@field waiter table|nil  nil: nobody waits any more

--- Of those with the same time the first one added is due first.
---@param time number  monotonic seconds
---@param waiter table
---@return rtc.Timer
function methods:add(time, waiter)
  local timer, at = { time = time, waiter = waiter }, self.last
  while at >= self.first and self[at].time > time do
    self[at + 1] = self[at]
    at = at - 1
  end
  self[at + 1] = timer
  self.last = self.last + 1
  return timer
end

--- The time of the first; math.huge when there is none.
---@return number
function methods:soonest()
  while self.first <= self.last and not self[self.first].waiter do
    self[self.first] = nil
    self.first = self.first + 1
  end
  return self.first <= self.last and self[self.first].time or math.huge
end

--- Takes out the first whose time has come.
---@param now number  monotonic seconds
---@return table|nil waiter
function methods:due(now)
  if self:soonest() > now then
    return nil
  end
  local waiter = self[self.first].waiter
  self[self.first] = nil
  self.first = self.first + 1
  return waiter
end

---@return rtc.Timers
function timers.new()
  return setmetatable({ first = 1, last = 0 }, metatable)
end

return timers
