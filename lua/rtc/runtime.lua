--- What a client needs of the program that it runs in: requests that are waited for, time, and tasks. How to wait is
--- said by a scheduler; there is a file of it for each in lua/rtc/runtime/, and docs/runtimes.md shows how to write
--- another.

local core = require("rtc.native").load("rtc.core")
local native = require "rtc.native"
local suggest = require "rtc.suggest"
local tasks = require "rtc.runtime.tasks"
local text = require "rtc.text"

require "rtc.interpreted" ()

local runtime = {}

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
---@field fresh boolean|nil  over a new connection, which is kept like any other

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
---@field advice string|nil  of one that failed: what to do, where its sockets know it

---@class rtc.Scheduler  how to wait
---@field current fun(self): table|nil, string|nil, string|nil  who calls, as `park` and `wake` take it; or nil, why
--- nothing can wait here, and what to do instead. `abandon` and the fields of lua/rtc/runtime.lua are set in it
---@field park fun(self, waiter: table, seconds: number|nil)  the caller waits until somebody wakes it, or for so long;
--- may come back early
---@field wake fun(self, waiter: table)  lets it go on soon; never at once, within whoever calls
---@field is_gone nil|fun(self, waiter: table): boolean  it will never go on: where tasks are ended, and nobody is told
---@field start fun(self, fn: function, died: fun(problem: string, raised: any)): any|nil, string|nil, string|nil  runs
--- `fn` as a task, soon or at once; `died` is called when an error ends it. Or nil, why it can't, and what to do
--- instead
---@field detach nil|fun(self, fn: function, died: fun(problem: string, raised: any)): any|nil, string|nil, string|nil
--- the same, for a task that outlives whoever starts it; where there is none, those of `start` do
---@field watch fun(self, engine: userdata, serve: fun(deadline: number|nil): boolean)  called after each request:
--- `serve` is to be called when the engine's `pollfd()` can be read, until it returns false
---@field unwatch fun(self, engine: userdata, serve: function)  the engine is about to be closed, and `serve` has
--- nothing more to do
---@field drive nil|fun(self, done: fun(): any, time: number)  goes on with everything until `done()` or that time: for
--- whoever is no task and wants to wait all the same
---@field progress nil|fun(self, seconds: number|nil, unsent: fun(): integer)  see lua/rtc/runtime/blocking.lua
---@field runtime nil|fun(self, options: table): rtc.Runtime  makes one by itself, over other sockets than an engine's:
--- see lua/rtc/runtime/resty.lua

--- Who waits, and for what.
---@class rtc.Waiter
---@field id integer|nil  of the request
---@field exchange rtc.Exchange|nil  that came of it
---@field abandon fun(self: rtc.Waiter)|nil  what an error in the middle of the wait calls

---@class rtc.Runtime
---@field request fun(req: rtc.Request): rtc.Exchange|nil, rtc.Exchange|rtc.Error|nil  answered; else nil and the failed
--- one, or the error of a request that the engine does not take
---@field sleep fun(seconds: number)
---@field now fun(): number  monotonic seconds
---@field spawn fun(fn: function, ...): rtc.Future|nil, string|nil, string|nil  runs `fn` as a task; or why it can't,
--- and what to do instead
---@field start fun(fn: function, died: fun(problem: string, raised: any)): any|nil, string|nil, string|nil  the same,
--- for whoever looks after it
---@field detach fun(fn: function, died: fun(problem: string, raised: any)): any|nil, string|nil, string|nil  the same,
--- for a task that outlives whoever starts it: inside nginx, tasks of `start` end with their request
---@field obstacle fun(): string|nil, string|nil  why nothing can wait here, and what to do instead; nil: it can
---@field condition fun(): rtc.Condition
---@field pending fun(): integer  requests and sleeps that are waited for
---@field is_idle fun(): boolean  none is, and everyone whose request is answered has gone on
---@field settle fun(done: (fun(): any), deadline: number): string|nil, string|nil  waits until `done()` is true, which
--- is asked when tasks that were just started have begun, and whenever nothing is pending any more or `notify` was
--- called; gives an obstacle
---@field notify fun()
---@field progress fun(seconds: number|nil)  where nothing goes on by itself: does for the tasks what can be done
--- without waiting; and waits so long for their requests to go out, but not for answers
---@field process fun(): integer  another number in a forked child, where no task of the parent's goes on
---@field close fun()  ends all requests and sleeps, and those that come later at once
---@field ends_abruptly boolean|nil  when the Lua state is closed, nothing can wait, and no function of the program
--- around it may be called: inside nginx
---@field outbox_full "refuse"|"drop_oldest"|nil  the default of the option outbox.full
---@field workers integer|nil  processes that share a rate limit; default 1
---@field quota_store rtc.QuotaStore|nil  that counts for all of them
---@field outbox_turns integer|nil  messages that a task of the outbox sends before another one takes its place: inside
--- nginx, some of the memory that a task uses is free again only when it ends

--- The names of those that there are, and for the ones that need a module, where it comes from.
local modules = {
  blocking = false, luv = "luv (Debian: lua-luv; LuaRocks: luv)",
  cqueues = "cqueues (Debian: lua-cqueues; LuaRocks: cqueues)", skynet = "skynet, which only its services have",
  resty = "lua-resty-core, and nginx's Lua module around it (Debian: libnginx-mod-http-lua)",
}
runtime.names = { "blocking", "luv", "cqueues", "skynet", "resty" }

--- Seconds after which a task that was started has begun, where it does not begin at once.
local TURN = 0.001

local FUNCTIONS = { "current", "park", "wake", "start", "watch", "unwatch" }

--- The one that the program runs in, where that is certain.
local function certain()
  local cqueues, ngx = package.loaded.cqueues, rawget(_G, "ngx")
  if type(ngx) == "table" and ngx.get_phase and ngx.socket then
    return "resty"
  elseif package.loaded.skynet and package.loaded["skynet.core"] then
    return "skynet"
  elseif cqueues and cqueues.running() then
    return "cqueues"
  end
  return "blocking"
end

--- Checks the option `runtime`: a name, a loop or a scheduler of one's own.
---@param value any
---@return string|rtc.Scheduler|nil
---@return string|nil problem
function runtime.check(value)
  if type(value) == "table" then
    for _, name in ipairs(FUNCTIONS) do
      if type(value[name]) ~= "function" then
        return nil, ("is a table without the function `%s`: give a name, a loop of rtc.loop(), or a scheduler with %s")
          :format(name, table.concat(FUNCTIONS, ", "))
      end
    end
    return value
  elseif type(value) ~= "string" or modules[value] == nil then
    return nil, ("must be a loop of rtc.loop(), a scheduler, or a name, not %s: %s")
      :format(type(value) == "string" and text.quoted(value) or "a " .. type(value), suggest.hint(value, runtime.names))
  end
  return value
end

--- Finds the scheduler.
---@param given string|rtc.Scheduler|nil  checked
---@return rtc.Scheduler|nil
---@return string|nil problem
function runtime.scheduler(given)
  if type(given) == "table" then
    return given
  end
  local name = given or certain()
  local ok, module = pcall(require, "rtc.runtime." .. name)
  if not ok then
    return nil, ("runtime \"%s\" needs the Lua module %s. What Lua said: %s"):format(name, modules[name] or name,
      text.raised(module))
  end
  return module.new()
end

--- Makes a runtime with an engine of its own, unless the scheduler makes one. An engine raises inside nginx's workers,
--- which must not block.
---@param scheduler rtc.Scheduler
---@param options table|nil  the engine's options
---@return rtc.Runtime
function runtime.new(scheduler, options)
  if scheduler.runtime then
    return scheduler:runtime(options or {})
  end
  local engine = native.load("rtc.engine").new(options)
  local self, changed = tasks(scheduler)
  local awaited -- who waits for an exchange, by its id
  local asleep -- who waits for a time
  local pending -- how many both are
  local woken -- whose exchange has come, until they go on: perhaps to wait again. A scheduler may have dropped them
  local closed, process

  local function forget_all()
    awaited, asleep, pending, woken = {}, {}, 0, setmetatable({}, { __mode = "k" })
  end

  local function own_process()
    if process ~= core.pid() then
      process = core.pid()
      forget_all()
    end
  end
  own_process()

  local function is_idle()
    return pending == 0 and next(woken) == nil
  end

  local function go_on(waiter)
    woken[waiter] = nil
    if is_idle() then
      changed:broadcast()
    end
  end

  --- Gives those what came that wait for it. False: there is nothing more to come.
  local function serve(deadline)
    if closed then
      return false
    end
    own_process()
    engine:step(deadline and deadline < math.huge and math.max(0, deadline - core.now()) or nil)
    local exchange = engine:next()
    while exchange do
      local waiter = awaited[exchange.id]
      if waiter then
        awaited[exchange.id], pending = nil, pending - 1
        waiter.exchange, woken[waiter] = exchange, true
        scheduler:wake(waiter)
      end
      exchange = (not deadline or core.now() < deadline) and engine:next() or nil
    end
    return engine:pending() > 0
  end

  --- Takes a request back whose caller was told of an error: else it would go out later.
  local function take_back(waiter)
    if awaited[waiter.id] == waiter then
      awaited[waiter.id], pending = nil, pending - 1
      engine:cancel(waiter.id)
    end
    go_on(waiter)
  end

  local function wake_up(waiter)
    if asleep[waiter] then
      asleep[waiter], pending = nil, pending - 1
    end
    go_on(waiter)
  end

  function self.request(req)
    if closed then
      return nil, { kind = "cancelled", code = "Cancelled", sent = false, reused = false, elapsed = 0 }
    end
    own_process()
    local waiter = assert(scheduler:current())
    local id, err = engine:submit(req)
    if not id then
      return nil, err
    end
    waiter.id, waiter.exchange, waiter.abandon = id, nil, take_back
    awaited[id], pending = waiter, pending + 1
    scheduler:watch(engine, serve)
    repeat
      scheduler:park(waiter)
    until waiter.exchange
    go_on(waiter)
    local exchange = waiter.exchange
    if exchange.status then
      return exchange
    end
    return nil, exchange
  end

  function self.sleep(seconds)
    if closed then
      return
    end
    own_process()
    local waiter, time = assert(scheduler:current()), core.now() + seconds
    waiter.abandon = wake_up
    asleep[waiter], pending = true, pending + 1
    repeat
      scheduler:park(waiter, time - core.now())
    until core.now() >= time or not asleep[waiter]
    wake_up(waiter)
  end

  function self.pending()
    own_process()
    return pending
  end

  function self.is_idle()
    own_process()
    return is_idle()
  end

  function self.settle(done, deadline)
    if scheduler.drive and not scheduler:current() then
      scheduler:drive(done, deadline)
      return
    end
    local longest = TURN
    repeat
      local left = math.min(longest, deadline - core.now())
      if left <= 0 then
        return
      end
      local waited, problem, advice = changed:wait(left)
      if not waited then
        return problem, advice
      end
      longest = math.huge
    until done()
  end

  function self.progress(seconds)
    if scheduler.progress then
      scheduler:progress(seconds, function() return closed and 0 or engine:unsent() end)
    end
  end

  function self.close()
    own_process()
    for id, waiter in pairs(awaited) do
      waiter.exchange = engine:cancel(id)
      scheduler:wake(waiter)
    end
    for waiter in pairs(asleep) do
      scheduler:wake(waiter)
    end
    forget_all()
    closed = true
    scheduler:unwatch(engine, serve)
    engine:close()
    changed:broadcast()
  end

  return self
end

return runtime
