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
---@field proxy string|nil  a proxy's URL; "" for none at all; default: what the environment says

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
---@field spawn fun(fn: function)  runs `fn` as a task of its own, at once up to where it first waits
---@field progress fun()  does for the tasks what can be done without waiting
---@field process fun(): integer  another number in a forked child, where no task of the parent's goes on

--- Rounds of the engine in `progress`: enough to open a connection to this machine and send a request over it.
local ROUNDS = 8

--- Makes a runtime with an engine of its own. Raises inside nginx's workers, which must not block.
---@param options table|nil  the engine's options
---@return rtc.Runtime
function blocking.new(options)
  local core = native.load("rtc.engine")
  local engine = core.new(options)
  local tasks -- spawned and not over, as a set of coroutines
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

  local function resume(task, value)
    local ok, raised = coroutine.resume(task, value)
    if coroutine.status(task) == "dead" then
      tasks[task] = nil
    end
    if not ok then
      io.stderr:write("rtc: a task raised: ", text.printable(tostring(raised)), "\n")
    end
  end

  local function hand_out()
    engine:step()
    local exchange = engine:next()
    while exchange do
      local who = awaited[exchange.id]
      awaited[exchange.id] = nil
      if who == true then
        arrived[exchange.id] = exchange
      elseif who then
        resume(who, exchange)
      end
      exchange = engine:next()
    end
  end

  local function wake()
    local now, due = core.now(), {}
    for task, time in pairs(asleep) do
      if time <= now then
        due[#due + 1] = task
      end
    end
    for _, task in ipairs(due) do
      if asleep[task] then -- one that was woken may have made the runtime go on
        asleep[task] = nil
        resume(task)
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
    local task = running()
    awaited[id] = task or true
    local exchange = task and coroutine.yield() or await(id)
    if exchange.status then
      return exchange
    end
    return nil, exchange
  end

  function runtime.sleep(seconds)
    own_process()
    local task = running()
    if not task then
      go_on(function() return false end, core.now() + seconds)
    elseif seconds > 0 then
      asleep[task] = core.now() + seconds
      coroutine.yield()
    end
  end

  function runtime.spawn(fn)
    own_process()
    local task = coroutine.create(fn)
    tasks[task] = true
    resume(task)
  end

  function runtime.progress()
    own_process()
    local rounds = 0
    repeat
      hand_out()
      wake()
      rounds = rounds + 1
    until rounds == ROUNDS or not engine:wait(0)
  end

  function runtime.process()
    return core.pid()
  end

  return runtime
end

return blocking
