--- The runtime for programs on luv (libuv): a call waits in the coroutine that makes it, while `uv.run()` goes on.

local log = require "rtc.log"
local protected = require "rtc.runtime.protected"
local text = require "rtc.text"
local uv = require "luv"

local adapter = {}

---@class rtc.Luv: rtc.Scheduler
---@field idle userdata|nil  calls `flush` in the next turn of the loop
---@field woken table[]  waiters to go on then
---@field polls table<function, userdata>  what watches the engine for each function that serves one
local methods = {}
local metatable = { __index = methods, __name = "rtc.runtime.luv" }

local PROBLEM = "nothing can wait here: the client goes by luv, and this is no coroutine"
local ADVICE = "Call it within coroutine.wrap(function() … end)(), and run uv.run()."

function methods:current()
  local co, main = coroutine.running()
  if co and not main then
    return { co = co }
  end
  return nil, PROBLEM, ADVICE
end

local function resume(co)
  local ok, raised = coroutine.resume(co)
  if not ok then
    log.write("a coroutine raised: ", text.raised(raised))
  end
end

--- In a turn of the loop of its own: within another coroutine it would lead ever deeper.
local function soon(self)
  if self.idle then
    return
  end
  self.idle = uv.new_idle()
  self.idle:start(function()
    self.idle:close()
    self.idle = nil
    local woken = self.woken
    self.woken = {}
    for _, waiter in ipairs(woken) do
      waiter.queued = false
      if waiter.parked then
        resume(waiter.co)
      end
    end
  end)
end

function methods:park(waiter, seconds)
  local timer
  if seconds and seconds < math.huge then
    timer = uv.new_timer()
    timer:start(math.max(0, math.ceil(seconds * 1000)), 0, function()
      self:wake(waiter)
    end)
  end
  waiter.parked = true
  coroutine.yield()
  waiter.parked = false
  if timer then
    timer:close()
  end
end

function methods:wake(waiter)
  if not waiter.queued then
    waiter.queued = true
    table.insert(self.woken, waiter)
    soon(self)
  end
end

function methods:start(fn, died)
  resume(coroutine.create(protected(fn, died)))
  return true
end

function methods:watch(engine, serve)
  if self.polls[serve] then
    return
  end
  local poll = uv.new_poll(engine:pollfd())
  self.polls[serve] = poll
  poll:start("r", function()
    if not serve() then
      self:unwatch(engine, serve)
    end
  end)
end

function methods:unwatch(_, serve)
  if self.polls[serve] then
    self.polls[serve]:close()
    self.polls[serve] = nil
  end
end

---@return rtc.Luv
function adapter.new()
  return setmetatable({ woken = {}, polls = {} }, metatable)
end

return adapter
