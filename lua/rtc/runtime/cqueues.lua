--- The runtime for programs on cqueues, lua-http's among them: a call waits like any other within the controller.

local condition = require "cqueues.condition"
local cqueues = require "cqueues"
local protected = require "rtc.runtime.protected"

local adapter = {}

---@class rtc.Cqueues: rtc.Scheduler
---@field pumps table<userdata, userdata>  by controller: what to signal, while there is something to serve
local methods = {}
local metatable = { __index = methods, __name = "rtc.runtime.cqueues" }

local PROBLEM = "nothing can wait here: the client goes by cqueues, and this is no coroutine of a controller"
local ADVICE = "Call it within controller:wrap(function() … end), and run controller:loop()."

function methods:current()
  if cqueues.running() then
    return { woken = condition.new() }
  end
  return nil, PROBLEM, ADVICE
end

function methods:park(waiter, seconds)
  waiter.woken:wait(seconds)
end

function methods:wake(waiter)
  waiter.woken:signal()
end

function methods:start(fn, died)
  local controller = cqueues.running()
  if not controller then
    return nil, PROBLEM, ADVICE
  end
  controller:wrap(protected(fn, died))
  return true
end

--- The engine can be polled as it is: it has pollfd, events and timeout.
function methods:watch(engine, serve)
  local controller = cqueues.running()
  if not controller then
    return
  elseif self.pumps[controller] then
    self.pumps[controller]:signal()
    return
  end
  local poked = condition.new()
  self.pumps[controller] = poked
  controller:wrap(function()
    while serve() do -- first of all: the engine may be closed already
      cqueues.poll(engine, poked)
    end
    self.pumps[controller] = nil
  end)
end

--- A descriptor must not be closed while a controller polls it.
function methods:unwatch(engine)
  cqueues.cancel(engine:pollfd())
  for _, poked in pairs(self.pumps) do
    poked:signal()
  end
end

---@return rtc.Cqueues
function adapter.new()
  return setmetatable({ pumps = setmetatable({}, { __mode = "k" }) }, metatable)
end

return adapter
