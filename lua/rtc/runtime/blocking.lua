--- The runtime that waits by blocking: for a prompt and for scripts that have nothing else to do. What it spawned goes
--- on whenever something waits.

local native = require "rtc.native"
local text = require "rtc.text"

local blocking = {}

---@class rtc.Request  one try, as `rtc.engine` takes it
---@field url string
---@field method string|nil  default "POST"
---@field headers string[][]  { { name, value }, … }
---@field body string|nil  default ""
---@field timeout number|nil  seconds from now on, waiting for a free connection included
---@field try_timeout number|nil  seconds from when it goes out
---@field connect_timeout number|nil  seconds to connect, TLS included
---@field max_response integer|nil  bytes of the answer's body
---@field proxy string|nil  a proxy's URL; "" for none at all; default: the engine's, or what the environment says

---@class rtc.Exchange  what became of a request; answered, it has a `status`, and failed, a `kind`
---@field id integer
---@field sent boolean  the kernel took the request's last byte
---@field reused boolean  it went out on a connection used before
---@field elapsed number  seconds
---@field status integer|nil
---@field headers table<string, string>|nil  of the answer, by names in lower case; repeated ones joined by ", "
---@field body string|nil
---@field kind "network"|"timeout"|"cancelled"|"response"|nil
---@field code string|nil  "ConnectFailed", "Timeout" …
---@field message string|nil
---@field proxy_status integer|nil  of one that failed: what a proxy answered to its CONNECT

---@class rtc.Runtime
---@field request fun(req: rtc.Request): rtc.Exchange|nil, rtc.Exchange|rtc.Error|nil  answered; else nil and the failed
--- one, or the error of a request that the engine does not take
---@field sleep fun(seconds: number)
---@field now fun(): number  monotonic seconds
---@field spawn fun(fn: function, died: fun(problem: string)|nil)  runs `fn` as a task of its own, at once up to where
--- it first waits; `died` is called when an error ends it, else standard error is told
---@field progress fun(seconds: number|nil)  does for the tasks what can be done without waiting; and waits so long for
--- their requests to go out, but not for answers
---@field process fun(): integer  another number in a forked child, where no task of the parent's goes on

--- Rounds of the engine in `progress` without waiting: enough to open a connection to this machine and send a request.
local ROUNDS = 8

--- Makes a runtime with an engine of its own. Raises inside nginx's workers, which must not block.
---@param options table|nil  the engine's options
---@return rtc.Runtime
function blocking.new(options)
  local core = native.load("rtc.engine")
  local engine = core.new(options)
  local tasks -- those spawned and not over, by their coroutine: { waits, died }
  local asleep -- when each of them wakes
  local awaited -- the task that waits for an exchange, by its id; for anybody else `true`
  local arrived -- exchanges for anybody else
  local process

  local function own_process()
    if process ~= core.pid() then
      process = core.pid()
      tasks, asleep, awaited, arrived = {}, {}, {}, {}
    end
  end
  own_process()

  --- The running task; nil outside of them.
  local function running()
    local task = coroutine.running()
    return task and tasks[task] and task
  end

  --- Whether a task goes on at the moment, perhaps with something else within it.
  local function is_within_a_task()
    for co in pairs(tasks) do
      local status = coroutine.status(co)
      if status == "running" or status == "normal" then
        return true
      end
    end
    return false
  end

  local function resume(co, value)
    local task = tasks[co]
    task.waits = false
    local ok, raised = coroutine.resume(co, value)
    local over = coroutine.status(co) == "dead"
    local problem = not ok and "raised: " .. text.raised(raised) or not over and not task.waits
      and "yielded, and nothing of rtc resumes it" or nil
    if over or problem then
      tasks[co] = nil
    end
    if problem and task.died then
      task.died(problem)
    elseif problem then
      io.stderr:write("rtc: a task ", problem, "\n")
    end
  end

  --- For a task: gives way to others, and comes back with the exchange that it waits for, or when its time has come.
  local function wait_in(co)
    tasks[co].waits = true
    return coroutine.yield()
  end

  local function hand_out()
    engine:step()
    local exchange = engine:next()
    while exchange do
      local who = awaited[exchange.id]
      awaited[exchange.id] = nil
      if who == true then
        arrived[exchange.id] = exchange
      elseif tasks[who] then
        resume(who, exchange)
      end
      exchange = engine:next()
    end
  end

  local function wake()
    local now, due = core.now(), {}
    for co, time in pairs(asleep) do
      if time <= now then
        due[#due + 1] = { co = co, time = time }
      end
    end
    table.sort(due, function(one, other) return one.time < other.time end)
    for _, entry in ipairs(due) do
      if asleep[entry.co] == entry.time then -- one that was woken before may have made the runtime go on
        asleep[entry.co] = nil
        if tasks[entry.co] then
          resume(entry.co)
        end
      end
    end
  end

  --- Goes on with everything until `done()` is true, or this time has come.
  local function go_on(done, time)
    while true do
      hand_out()
      wake()
      if done() or core.now() >= time then
        return
      end
      local next_time = time
      for _, other in pairs(asleep) do
        next_time = math.min(next_time, other)
      end
      engine:wait(next_time < math.huge and math.max(0, next_time - core.now()) or nil)
    end
  end

  --- For somebody who is no task. An error in the middle (Ctrl-C at a prompt) takes the request back: else it would go
  --- out at the next call, although its caller was told of an error.
  local function await(id)
    local ok, raised = pcall(go_on, function() return arrived[id] end, math.huge)
    local exchange = arrived[id]
    awaited[id], arrived[id] = nil, nil
    if not ok then
      engine:cancel(id)
      error(raised, 0)
    end
    return exchange
  end

  local runtime = { now = core.now }

  function runtime.request(req)
    own_process()
    local id, err = engine:submit(req)
    if not id then
      return nil, err
    end
    local task, exchange = running(), nil
    awaited[id] = task or true
    if not task then
      exchange = await(id)
    end
    while not (exchange and exchange.id == id) do -- not one for which it could not wait to the end
      exchange = wait_in(task)
    end
    if exchange.status then
      return exchange
    end
    return nil, exchange
  end

  function runtime.sleep(seconds)
    own_process()
    local task, time = running(), core.now() + seconds
    if not task then
      go_on(function() return false end, time)
    end
    while task and core.now() < time do
      asleep[task] = time
      wait_in(task)
    end
  end

  function runtime.spawn(fn, died)
    own_process()
    local co = coroutine.create(fn)
    tasks[co] = { died = died }
    resume(co)
  end

  function runtime.progress(seconds)
    own_process()
    if is_within_a_task() then
      return -- whoever resumed the task goes on with the others, too; a handler that enqueues would lead ever deeper
    end
    local time, rounds = core.now() + (seconds or 0), 0
    while true do
      hand_out()
      wake()
      rounds = rounds + 1
      local left = engine:unsent() > 0 and math.max(0, time - core.now()) or 0
      if left == 0 and rounds >= ROUNDS or not engine:wait(left) then
        return
      end
    end
  end

  function runtime.process()
    return core.pid()
  end

  return runtime
end

return blocking
