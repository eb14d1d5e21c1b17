--- The runtime for a loop of one's own, such as a game's: its tasks go on when that loop says `loop:step(budget)`.
---
---     local loop = rtc.loop()
---     local client = rtc.new { runtime = loop }
---     loop:spawn(function() print(client:send_room_unicast { … }) end)
---     while true do            -- at 60 frames a second
---       loop:step(0.002)       -- seconds
---       …
---     end

local core = require("rtc.native").load("rtc.core")
local engines = require("rtc.native").load("rtc.engine")
local future = require "rtc.runtime.future"
local text = require "rtc.text"
local timers = require "rtc.runtime.timers"

local tick = {}

---@class rtc.Loop: rtc.Scheduler  several clients can share one
local methods = {}
local metatable = { __index = methods, __name = "rtc.loop" }

---@class rtc.Task  a function that waits, and goes on
---@field co thread
---@field died fun(problem: string, raised: any)
---@field waits boolean  it is in `park`
---@field place integer|nil  in the queue of those that can go on
---@field timer rtc.Timer|nil
---@field outer rtc.Task|nil  the one that was going on when this one did

function metatable:__tostring()
  return ("rtc.loop(%d pending)"):format(self:pending())
end

--- In a forked child no task of the parent's goes on: its messages are the parent's to send.
local function own_process(self)
  if self.process ~= core.pid() then
    self.process = core.pid()
    self.tasks, self.count, self.inner = {}, 0, nil
    self.ready, self.first, self.last = {}, 1, 0
    self.timers, self.served = timers.new(), {}
  end
end

--- Whether a task goes on at the moment, perhaps with something else within it.
---@param self rtc.Loop
---@return boolean
function tick.is_within_a_task(self)
  local task = self.inner
  while task do
    local status = coroutine.status(task.co)
    if status == "running" or status == "normal" then
      return true
    end
    task = task.outer -- an error in the middle (Ctrl-C) left the inner one behind
  end
  return false
end

--- Lets a task go on up to where it waits again, or to its end.
---@param self rtc.Loop
---@param task rtc.Task
function tick.resume(self, task)
  task.waits, task.place = false, nil
  if task.timer then
    task.timer.waiter, task.timer = nil, nil
  end
  self.inner, task.outer = task, self.inner
  local ok, raised = coroutine.resume(task.co)
  own_process(self)
  if self.tasks[task.co] ~= task then
    return -- in a child that was forked meanwhile
  end
  self.inner, task.outer = task.outer, nil
  local over = coroutine.status(task.co) == "dead"
  if task.waits and not over then
    return
  end
  self.tasks[task.co] = nil
  self.count = self.count - 1
  if not ok then
    task.died("raised: " .. text.raised(raised), raised)
  elseif not over then
    task.died "yielded, and nothing of rtc resumes it"
  end
end

local function wake_the_due(self)
  local now = core.now()
  local task = self.timers:due(now)
  while task do
    task.timer = nil
    self:wake(task)
    task = self.timers:due(now)
  end
end

--- Gives the engines their turn; another one begins each time, since the deadline can come before the last.
local function serve(self, deadline)
  local served, i = self.served, 1
  if served[2] then
    table.insert(served, table.remove(served, 1))
  end
  while served[i] do
    local entry = served[i]
    if entry.serve(deadline) then
      i = i + 1
    else
      self:unwatch(entry.engine)
    end
    if core.now() >= deadline then
      return
    end
  end
end

--- Lets those go on that can now. True: there was one.
local function run(self, deadline)
  local last, any = self.last, false
  while self.first <= last and self.ready[self.first] do
    local task, place = self.ready[self.first], self.first
    self.ready[place] = nil
    self.first = place + 1
    if task.place == place then -- or else it has gone on meanwhile
      any = true
      tick.resume(self, task)
    end
    if core.now() >= deadline then
      break
    end
  end
  return any
end

--- A step; a task may be within another.
---@param self rtc.Loop
---@param budget number|nil  seconds
function tick.step(self, budget)
  own_process(self)
  local now = core.now()
  local deadline = budget and now + budget or math.huge
  wake_the_due(self)
  serve(self, budget and now + budget / 2 or math.huge) -- the other half is the tasks'
  local any = run(self, deadline)
  if (any or budget) and core.now() < deadline then
    serve(self, deadline) -- what they sent goes out at once, and they may have left some time
  end
end

--- Waits until there is work, or this time has passed.
---@param self rtc.Loop
---@param seconds number
---@return boolean ready
function tick.wait(self, seconds)
  own_process(self)
  local now, watched = core.now(), {}
  if self.first <= self.last then
    return true
  end
  for i, entry in ipairs(self.served) do
    watched[i] = entry.engine
  end
  local soonest = self.timers:soonest()
  local left = math.min(seconds, math.max(0, soonest - now))
  local ready = engines.wait(watched, left < math.huge and left or nil)
  return ready or soonest <= core.now()
end

--- Goes on with everything until `done()` is true, or this time has come.
---@param self rtc.Loop
---@param done fun(): any
---@param time number  monotonic seconds
function tick.drive(self, done, time)
  while true do
    tick.step(self)
    if done() or core.now() >= time then
      return
    end
    tick.wait(self, time - core.now())
  end
end

-- ---- as a scheduler: see docs/runtimes.md ----

local PROBLEM = "nothing can wait here: the client goes by a loop of rtc.loop(), and this is no task of that loop"
local ADVICE = "Call it within loop:spawn(function() … end), and let your own loop call loop:step(budget); or queue "
  .. "the message with client:enqueue{…}, which never waits."

function methods:current()
  own_process(self)
  local task = self.tasks[coroutine.running() or false]
  if task then
    return task
  end
  return nil, PROBLEM, ADVICE
end

function methods:park(task, seconds)
  if seconds and seconds <= 0 then
    return
  elseif seconds and seconds < math.huge then
    task.timer = self.timers:add(core.now() + seconds, task)
  end
  task.waits = true
  coroutine.yield()
end

function methods:wake(task)
  if task.waits and not task.place and self.tasks[task.co] == task then
    self.last = self.last + 1
    self.ready[self.last], task.place = task, self.last
  end
end

function methods:start(fn, died)
  own_process(self)
  local task = { co = coroutine.create(fn), died = died, waits = true }
  self.tasks[task.co] = task
  self.count = self.count + 1
  self:wake(task)
  return task
end

function methods:watch(engine, serve_it)
  if not self.served[engine] then
    local entry = { engine = engine, serve = serve_it }
    self.served[engine] = entry
    self.served[#self.served + 1] = entry
  end
end

function methods:unwatch(engine)
  for i, entry in ipairs(self.served) do
    if entry.engine == engine then
      table.remove(self.served, i)
    end
  end
  self.served[engine] = nil
end

function methods:drive(done, time)
  tick.drive(self, done, time)
end

-- ---- for everyone ----

local function is_time(seconds)
  return type(seconds) == "number" and seconds >= 0
end

--- Makes a task of a function: it begins at the next step.
---@param fn function
---@param ... any  its arguments
---@return rtc.Future
function methods:spawn(fn, ...)
  if type(fn) ~= "function" then
    error("loop:spawn: the first argument must be a function, not a " .. type(fn), 2)
  end
  return future.spawn(self, fn, ...)
end

--- Lets the tasks go on, without ever waiting.
---@param budget number|nil  seconds after which what is left is done at the next step; default: none. One piece of
--- work, such as a TLS handshake or a task up to where it waits, is not divided
---@return integer pending  tasks that are not over
function methods:step(budget)
  if budget ~= nil and not is_time(budget) then
    error("loop:step: budget must be seconds, at least 0", 2)
  elseif tick.is_within_a_task(self) then
    error("loop:step: it is for your own loop; a task waits by loop:sleep(seconds)", 2)
  end
  tick.step(self, budget)
  return self.count
end

--- The time that steps, waits and sleeps go by; plain Lua has no clock as fine as frames need it.
---@return number  monotonic seconds
function methods:now()
  return core.now()
end

--- How many tasks are not over.
---@return integer
function methods:pending()
  own_process(self)
  return self.count
end

--- For a loop that has nothing else to do: waits until there is work for `step`, or this time has passed.
---@param seconds number|nil  default: no limit, unless no task is left that anything could come for
---@return boolean ready  there is work
function methods:wait(seconds)
  if seconds ~= nil and not is_time(seconds) then
    error("loop:wait: seconds must be a number, at least 0", 2)
  elseif tick.is_within_a_task(self) then
    error("loop:wait: it is for your own loop; a task waits by loop:sleep(seconds)", 2)
  end
  return tick.wait(self, seconds or self:pending() == 0 and 0 or math.huge)
end

--- For a task: lets others go on, for so long; with 0 until the next step.
---@param seconds number
function methods:sleep(seconds)
  local task, problem = self:current()
  if not is_time(seconds) then
    error("loop:sleep: seconds must be a number, at least 0", 2)
  elseif not task then
    error("loop:sleep: " .. problem, 2)
  end
  local time = core.now() + seconds
  repeat
    self:park(task, math.max(time - core.now(), 1e-9)) -- 0 would not let others go on
  until core.now() >= time
end

--- Makes a loop.
---@return rtc.Loop
function tick.new()
  local self = setmetatable({}, metatable)
  own_process(self)
  return self
end

return tick
