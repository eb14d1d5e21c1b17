--- The runtime for OpenResty and nginx: a call waits as cosockets do, and the worker goes on with other requests.

local core = require("rtc.native").load("rtc.core")
local cosocket = require "rtc.runtime.cosocket"
local protected = require "rtc.runtime.protected"
local route = require "rtc.runtime.route"
local semaphore = require "ngx.semaphore"
local shdict = require "rtc.quota.shdict"
local ssl = require "ngx.ssl"
local tasks = require "rtc.runtime.tasks"

local adapter = {}

---@class rtc.Resty: rtc.Scheduler
local methods = {}
local metatable = { __index = methods, __name = "rtc.runtime.resty" }

--- Where cosockets work, as `ngx.get_phase` names it.
local CAN_WAIT = {
  rewrite = true, server_rewrite = true, access = true, content = true, timer = true, ssl_cert = true,
}
local ADVICE = "Send in a rewrite, access, content or certificate phase, or in a timer (ngx.timer.at(0, …)); "
  .. "client:enqueue{…} takes a message in every phase but init and exit_worker, and sends it on a timer."
local INIT_ADVICE = "Make the client there, and send from init_worker_by_lua on: each worker sends for itself."

--- Where timers don't work, and what to do instead.
local NO_TIMERS = { init = INIT_ADVICE, exit_worker = "Send before: this worker makes no connection any more." }

--- Seconds that nginx's timers can take.
local LONGEST = 1000000
--- Seconds after which who waits comes back, to wait again: so it shows that nginx has not ended it.
local SIGN_OF_LIFE = 1
--- Seconds after its end in which a wait that nobody went on from counts as killed.
local GRACE = 1
--- Seconds between two looks at whether something was killed.
local LOOK = 0.1
--- Seconds after which a timer looks whether nginx dropped another one.
local STRAGGLE = 1

function methods:current()
  local phase = ngx.get_phase()
  if CAN_WAIT[phase] then
    return {}
  end
  return nil, ("nothing can wait in nginx's phase %s"):format(phase), NO_TIMERS[phase] or ADVICE
end

function methods:park(waiter, seconds)
  local limit = math.min(seconds or SIGN_OF_LIFE, SIGN_OF_LIFE)
  waiter.semaphore, waiter.latest = semaphore.new(), core.now() + limit + GRACE
  waiter.semaphore:wait(limit)
end

--- nginx ends requests in the midst of a wait, and tells nobody.
function methods:is_gone(waiter)
  return core.now() > waiter.latest
end

function methods:wake(waiter)
  waiter.semaphore:post()
end

--- A light thread: it ends with the request that it belongs to.
function methods:start(fn, died)
  local waiter, problem, advice = self:current()
  if not waiter then
    return nil, problem, advice
  end
  return ngx.thread.spawn(protected(fn, died))
end

--- What is to be told of tasks that nginx ended.
local ended = {}

--- A function that tells, too, when nginx ends its thread without a word, as it does after ngx.exit: then what only the
--- thread holds is collected. A finalizer can ask nginx for nothing, so that it only notes what is to be told.
local function mourned(fn, died)
  local run, guard, is_over = protected(fn, died), newproxy(true), false
  getmetatable(guard).__gc = function()
    if not is_over then
      ended[#ended + 1] = died
    end
  end
  return function()
    run()
    is_over = guard ~= nil
  end
end

local function tell_of_the_ended()
  while ended[1] do
    table.remove(ended, 1)("was ended by nginx: did a handler call ngx.exit?")
  end
end

--- Tasks of this worker that no timer has begun yet, the oldest first.
local unbegun = {}
--- When the last timer that was made for stragglers is due.
local straggle_due = 0

--- What a timer does: it begins all that wait, for it may be the only one that nginx did not drop.
local function begin_tasks()
  while unbegun[1] do
    ngx.thread.spawn(table.remove(unbegun, 1))
  end
end

--- nginx drops a timer, and tells only its log, when too many run in the moment that it is due. So for what waits there
--- is a later one, too; while the worker exits, that one comes at once.
local function look_for_stragglers()
  local now = core.now()
  if unbegun[1] and now >= straggle_due and not NO_TIMERS[ngx.get_phase()] and ngx.timer.at(STRAGGLE, begin_tasks) then
    straggle_due = now + STRAGGLE
  end
end

--- A timer of its own, which no request ends.
function methods:detach(fn, died)
  local phase = ngx.get_phase()
  if NO_TIMERS[phase] then
    return nil, "nginx has no timers in its phase " .. phase, NO_TIMERS[phase]
  end
  unbegun[#unbegun + 1] = mourned(fn, died)
  local made, problem = ngx.timer.at(0, begin_tasks)
  if not made then
    unbegun[#unbegun] = nil
    return nil, "nginx made no timer: " .. problem, "Allow more by lua_max_pending_timers and lua_max_running_timers."
  end
  look_for_stragglers()
  return true
end

--- What waits, and when that is over at the latest: nginx ends requests in the midst of a call, and tells nobody.
local function new_waits(changed)
  local waits, count, look_at = {}, 0, 0
  local self = {}

  function self.finish(wait)
    if waits[wait] then
      waits[wait], count = nil, count - 1
      if count == 0 then
        changed:broadcast()
      end
    end
  end

  function self.begin(wait, seconds)
    waits[wait], count = core.now() + seconds + GRACE, count + 1
  end

  function self.count()
    local now = core.now()
    if now >= look_at then
      look_at = now + LOOK
      for wait, latest in pairs(waits) do
        if latest < now then
          self.finish(wait)
        end
      end
    end
    return count
  end

  function self.wake_all(scheduler)
    for wait in pairs(waits) do
      if wait.semaphore then
        scheduler:wake(wait)
      end
    end
  end

  return self
end

local function read_file(path)
  local file = assert(io.open(path, "rb"))
  local bytes = assert(file:read("*a"))
  file:close()
  return bytes
end

--- What the client shows to a server that asks for a certificate.
local function read_identity(options)
  if not options.cert_file then
    return nil
  end
  local cert, problem = ssl.parse_pem_cert(read_file(options.cert_file))
  local key
  if cert then
    key, problem = ssl.parse_pem_priv_key(read_file(options.key_file or options.cert_file))
  end
  if not key then
    error("cert_file or key_file can't be used (PEM, and the key not encrypted): " .. tostring(problem), 0)
  end
  return { cert = cert, key = key, name = options.cert_file }
end

--- Raises for options that nginx decides on.
local function refuse_trust(options)
  for _, name in ipairs { "ca_file", "ca_path" } do
    if options[name] then
      error(name .. " can't be set inside nginx: whom its sockets trust is said by lua_ssl_trusted_certificate and "
        .. "lua_ssl_verify_depth in nginx.conf", 0)
    end
  end
end

--- The proxy that the option names; raises when it can't be used here.
local function read_proxy(options)
  if (options.proxy or "") == "" then
    return nil
  end
  local proxy, problem = route.proxy(options.proxy)
  return proxy or error("proxy " .. problem, 0)
end

--- Makes the runtime; its sockets are nginx's, and there is no engine. Raises for an option that nginx decides on.
---@param options table  the engine's
---@return rtc.Runtime
function methods:runtime(options)
  refuse_trust(options)
  local scheduler = self
  local runtime, changed = tasks(scheduler)
  local waits = new_waits(changed)
  local closed
  local sockets = {
    connections = options.connections or 64, idle_timeout = options.idle_timeout or 10,
    proxy = read_proxy(options), identity = read_identity(options),
    in_flight = waits.count, is_closed = function() return closed end,
  }
  runtime.workers, runtime.quota_store = ngx.worker.count(), shdict.find()
  runtime.outbox_full, runtime.outbox_turns, runtime.ends_abruptly = "drop_oldest", 100, true

  function runtime.request(req)
    if closed then
      return nil, { kind = "cancelled", code = "Cancelled", sent = false, reused = false, elapsed = 0 }
    end
    local wait = {}
    waits.begin(wait, req.timeout or LONGEST)
    local exchange, failed = cosocket.exchange(sockets, req)
    waits.finish(wait)
    return exchange, failed
  end

  function runtime.sleep(seconds)
    local waiter, time = assert(scheduler:current()), core.now() + seconds
    waits.begin(waiter, seconds)
    while not closed and core.now() < time do
      scheduler:park(waiter, math.max(0.001, time - core.now()))
    end
    waits.finish(waiter)
  end

  runtime.pending = waits.count

  function runtime.is_idle()
    return waits.count() == 0
  end

  function runtime.settle(done, deadline)
    repeat
      local left = math.min(LOOK, deadline - core.now())
      if left <= 0 then
        return
      end
      local waited, problem, advice = changed:wait(left)
      if not waited then
        return problem, advice
      end
    until done()
  end

  function runtime.progress() -- all else goes on by itself
    tell_of_the_ended()
    look_for_stragglers()
  end

  --- What waits for an answer notices within a second; what connects, when that is over.
  function runtime.close()
    closed = true
    waits.wake_all(scheduler)
    changed:broadcast()
  end

  return runtime
end

---@return rtc.Resty
function adapter.new()
  return setmetatable({}, metatable)
end

return adapter
