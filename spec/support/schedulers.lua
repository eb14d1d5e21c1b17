--- Every runtime that a client can go by, each with a way to run something in it: so that one spec can be run in all.

local compat = require "spec.support.compat"
local native = require "spec.support.native"
local own_scheduler = require "spec.support.own_scheduler"

local schedulers = {}

local DEADLINE = 30

---@class SpecScheduler
---@field name string
---@field run fun(fn: fun(runtime: any))  runs `fn` as a task until everything is over, and raises what it raised.
--- `runtime` is the option of that name for the clients that `fn` makes
---@field runtime fun(): any  the option for a client that is made outside of all tasks
---@field only_tasks boolean  a call can wait in a task only
---@field starts_anywhere boolean  a task can be made outside of all tasks

--- Runs `fn` and keeps what it raises.
local function kept(fn, ...)
  local result = {}
  local arguments = compat.pack(...)
  return result, function()
    result.ok, result.raised = xpcall(function()
      fn(compat.unpack(arguments, 1, arguments.n))
    end, function(raised)
      return type(raised) == "string" and debug.traceback(raised, 2) or raised
    end)
  end
end

local function tell(result, name)
  if result.ok == nil then
    error("the spec's task did not end under " .. name, 0)
  elseif not result.ok then
    error(result.raised, 0)
  end
end

local function blocking(fn)
  fn "blocking"
end

local function tick(fn)
  local loop = require "rtc".loop()
  local deadline = native.now() + DEADLINE
  local result, task = kept(fn, loop)
  loop:spawn(task)
  while loop:pending() > 0 and native.now() < deadline do
    loop:step(0.002)
    loop:wait(0.1)
  end
  tell(result, "tick")
end

local function luv(fn)
  local uv = require "luv"
  local result, task = kept(fn, "luv")
  local watchdog = uv.new_timer()
  watchdog:start(DEADLINE * 1000, 0, function() uv.stop() end)
  watchdog:unref()
  coroutine.wrap(task)()
  uv.run()
  watchdog:close()
  uv.run "nowait" -- closes it
  tell(result, "luv")
end

local function cqueues(fn)
  local controller = require "cqueues".new()
  local result, task = kept(fn, "cqueues")
  controller:wrap(task)
  assert(controller:loop(DEADLINE))
  tell(result, "cqueues")
end

local function own(fn)
  local scheduler = own_scheduler.new()
  local result, task = kept(fn, scheduler)
  scheduler:start(task, error)
  scheduler:run(DEADLINE)
  tell(result, "a scheduler of one's own")
end

local function resty(fn)
  fn "resty"
end

---@type SpecScheduler[]
schedulers.all = {
  { name = "blocking", run = blocking, runtime = function() return "blocking" end, starts_anywhere = true },
  { name = "tick", run = tick, runtime = function() return require "rtc".loop() end, only_tasks = true,
    starts_anywhere = true },
  { name = "luv", run = luv, runtime = function() return "luv" end, only_tasks = true, starts_anywhere = true },
  { name = "cqueues", run = cqueues, runtime = function() return "cqueues" end, only_tasks = true },
  { name = "own", run = own, runtime = own_scheduler.new, only_tasks = true, starts_anywhere = true },
}
if compat.in_nginx then -- all others would block the worker
  schedulers.all = {
    { name = "resty", run = resty, runtime = function() return "resty" end, starts_anywhere = true },
  }
end

-- What a spec asserts raises, and a task that is protected from that can't wait in PUC 5.1.
if not compat.yields_anywhere then
  schedulers.all = { schedulers.all[1] }
end

--- With RTC_RESTLESS=1 in the environment the collector never rests while something runs: it begins anew as soon as it
--- is through, and does ten times as much with each allocation as it would.
if os.getenv("RTC_RESTLESS") == "1" then
  for _, each in ipairs(schedulers.all) do
    local run = each.run
    each.run = function(fn)
      local pause, multiplier = collectgarbage("setpause", 10), collectgarbage("setstepmul", 1000)
      local ok, raised = pcall(run, fn)
      collectgarbage("setpause", pause)
      collectgarbage("setstepmul", multiplier)
      assert(ok, raised)
    end
  end
end

---@param name string
---@return SpecScheduler
function schedulers.named(name)
  for _, each in ipairs(schedulers.all) do
    if each.name == name then
      return each
    end
  end
  error("no scheduler is named " .. tostring(name), 2)
end

return schedulers
