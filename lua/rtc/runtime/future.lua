--- What a spawned function will return.

local condition = require "rtc.runtime.condition"
local core = require("rtc.native").load("rtc.core")
local errors = require "rtc.error"
local log = require "rtc.log"

local future = {}

---@class rtc.Future
---@field over boolean
---@field results table|nil  with `n`
---@field problem string|nil  why the function came to no end of its own
---@field raised any
---@field ended rtc.Condition
local methods = {}
local metatable = { __index = methods, __name = "rtc.future" }

local unpack = rawget(table, "unpack") or rawget(_G, "unpack") -- 5.1's

local function pack(...)
  return { n = select("#", ...), ... }
end

function metatable:__tostring()
  return ("rtc.future(%s)"):format(not self.over and "pending" or self.problem and "failed" or "done")
end

--- Whether the function is over; never waits.
---@return boolean
function methods:done()
  return self.over
end

--- Waits for the function. Raises what it raised.
---@param seconds number|nil  at most; default: no limit
---@return any ...  what it returned; or nil and an rtc.Error: `code` is "Timeout", or "NoTask" where nothing can wait
function methods:wait(seconds)
  if seconds ~= nil and not (type(seconds) == "number" and seconds == seconds) then
    error("future:wait: seconds must be a number", 2)
  end
  local deadline = core.now() + (seconds or math.huge)
  while not self.over do
    local left = deadline - core.now()
    if left <= 0 then
      return nil, errors.new {
        kind = "timeout", code = "Timeout", retryable = true,
        message = ("after %g seconds the function is not over"):format(seconds),
      }
    end
    local waited, problem, advice = self.ended:wait(left < math.huge and left or nil)
    if not waited then
      return nil, errors.no_task(problem, advice)
    end
  end
  if self.problem then
    error(self.raised == nil and "the task " .. self.problem or self.raised, 0)
  end
  return unpack(self.results, 1, self.results.n)
end

local function settle(self)
  self.over = true
  self.ended:broadcast()
end

--- Runs a function as a task. An error in it that nobody waits for is written to the log (rtc.log).
---@param scheduler rtc.Scheduler
---@param fn function
---@param ... any  its arguments
---@return rtc.Future|nil
---@return string|nil problem  no task can be made here
---@return string|nil advice
function future.spawn(scheduler, fn, ...)
  local self = setmetatable({ over = false, ended = condition.new(scheduler) }, metatable)
  local arguments = pack(...)
  local started, problem, advice = scheduler:start(function()
    self.results = pack(fn(unpack(arguments, 1, arguments.n)))
    settle(self)
  end, function(what, raised)
    self.problem, self.raised = what, raised
    if not self.ended:is_awaited() then
      log.write("a task ", what)
    end
    settle(self)
  end)
  if not started then
    return nil, problem, advice
  end
  return self
end

return future
