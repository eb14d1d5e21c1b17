--- A scheduler as a user of the module would write it, on LuaSocket's select, by the protocol of lua/rtc/runtime.lua.

local socket = require "socket"

local own_scheduler = {}

local methods = {}
local metatable = { __index = methods }

function methods.current(_)
  local co, main = coroutine.running()
  if main or not co then -- as 5.1 says it
    return nil, "nothing can wait here: this is no task of the spec's scheduler", "Start a task for it."
  end
  return { co = co }
end

function methods:park(waiter, seconds)
  self.parked[waiter] = socket.gettime() + (seconds or math.huge)
  coroutine.yield()
end

function methods:wake(waiter)
  if self.parked[waiter] then
    self.parked[waiter] = nil
    table.insert(self.ready, waiter.co)
  end
end

function methods:start(fn, died)
  table.insert(self.ready, coroutine.create(function()
    local ok, raised = pcall(fn)
    if not ok then
      died("raised: " .. tostring(raised), raised)
    end
  end))
  return true
end

function methods:watch(engine, serve)
  if not self.watched[serve] then
    self.watched[serve] = { getfd = function() return engine:pollfd() end, dirty = function() return false end }
  end
end

function methods:unwatch(_, serve)
  self.watched[serve] = nil
end

local function wake_the_due(self)
  local now, due = socket.gettime(), {}
  for waiter, time in pairs(self.parked) do
    if time <= now then
      due[#due + 1] = waiter
    end
  end
  table.sort(due, function(one, other) return self.parked[one] < self.parked[other] end)
  for _, waiter in ipairs(due) do
    self:wake(waiter)
  end
end

local function wait(self, seconds)
  local watched, by_watched = {}, {}
  for serve, object in pairs(self.watched) do
    watched[#watched + 1], by_watched[object] = object, serve
  end
  for _, object in ipairs((socket.select(watched, nil, seconds))) do
    if not by_watched[object]() then
      self.watched[by_watched[object]] = nil
    end
  end
end

--- Goes on until nothing is left to do, or raises after so many seconds.
---@param seconds number
function methods:run(seconds)
  local deadline = socket.gettime() + seconds
  while self.ready[1] or next(self.parked) or next(self.watched) do
    assert(socket.gettime() < deadline, "the spec's scheduler does not come to its end")
    local soonest = deadline
    for _, time in pairs(self.parked) do
      soonest = math.min(soonest, time)
    end
    wait(self, self.ready[1] and 0 or math.max(0, soonest - socket.gettime()))
    wake_the_due(self)
    local ready = self.ready
    self.ready = {}
    for _, co in ipairs(ready) do
      assert(coroutine.resume(co))
    end
  end
end

function own_scheduler.new()
  return setmetatable({ ready = {}, parked = {}, watched = {} }, metatable)
end

return own_scheduler
