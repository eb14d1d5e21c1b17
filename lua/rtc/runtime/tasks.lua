--- What of a runtime is its scheduler's alone, whatever its sockets are: time, tasks and conditions.

local condition = require "rtc.runtime.condition"
local core = require("rtc.native").load("rtc.core")
local future = require "rtc.runtime.future"

--- Begins a runtime.
---@param scheduler rtc.Scheduler
---@return table runtime  to be completed
---@return rtc.Condition changed  what `notify` tells, and `settle` waits for
return function(scheduler)
  local changed = condition.new(scheduler)
  local runtime = { now = core.now, process = core.pid }

  function runtime.spawn(fn, ...)
    return future.spawn(scheduler, fn, ...)
  end

  function runtime.start(fn, died)
    return scheduler:start(fn, died)
  end

  function runtime.detach(fn, died)
    return (scheduler.detach or scheduler.start)(scheduler, fn, died)
  end

  function runtime.obstacle()
    local waiter, problem, advice = scheduler:current()
    if not waiter then
      return problem, advice
    end
  end

  function runtime.condition()
    return condition.new(scheduler)
  end

  function runtime.notify()
    changed:broadcast()
  end

  return runtime, changed
end
