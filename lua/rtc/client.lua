--- The straight line of one call: check, wait for a slot, sign, send, read the answer, and perhaps try again.
---
--- How to wait is the runtime's business: what may yield, may yield here.

local api = require "rtc.api"
local attempt = require "rtc.attempt"
local batch = require "rtc.batch"
local errors = require "rtc.error"
local options = require "rtc.options"
local outbox = require "rtc.outbox"
local prepare = require "rtc.prepare"
local retry = require "rtc.retry"
local send_all = require "rtc.send_all"
local suggest = require "rtc.suggest"
local text = require "rtc.text"

require "rtc.interpreted" ()

local client = {}

---@class rtc.Client
---@field endpoint rtc.Endpoint
---@field region string
---@field version string  of the API; default of each call
---@field defaults { app_id: string|nil, from: string|nil }  of each call
---@field timeout number  seconds for a whole call; default of each call
---@field try_timeout number  seconds for one try
---@field connect_timeout number  seconds to connect
---@field max_response integer  bytes of an answer's body
---@field max_pending integer  calls at once
---@field pool_size integer  connections at once
---@field closed boolean|nil
---@field lists table<rtc.Condition, true>  of each `send_all`: awaited while more will follow
---@field user_agent string
---@field proxied boolean  by the option; what the environment says comes on top
---@field hide_proxy fun(text: string): string  `text` without the proxy's name and password
---@field keys rtc.Keys  gives the signer
---@field signer rtc.Signer|nil  the one that signed last
---@field clock rtc.Clock
---@field retry rtc.Retry
---@field quota rtc.Quota|nil
---@field events rtc.Events
---@field counters table  see rtc.stats
---@field outbox rtc.Outbox
---@field runtime rtc.Runtime
local methods = {}
local client_mt = { __index = methods, __name = "rtc.client" }

function client_mt:__tostring()
  return ("rtc.client(%s, access key %s)"):format(self.endpoint.url, self.keys:label())
end

---@class rtc.Progress  of a call
---@field attempts integer
---@field outcome string|nil  the worst of all tries
---@field corrected boolean|nil  the clock was, in this call
---@field offset integer|nil  the clock's, when the last try was signed
---@field err rtc.Error|nil  of the last try
---@field has_slot boolean|nil  of the rate limit, for the next try

--- Remembers a try that failed.
local function note_failure(progress, err)
  progress.err = err
  progress.outcome = errors.worse(progress.outcome, err.outcome)
end

--- Ends a call that failed: its error is the last try's, but what became of the message goes by all tries. A reason for
--- which no further try was made is told only when there was none before, or when the client was closed.
---@return nil
---@return rtc.Error
local function fail(progress, call, reason)
  local closed = reason and reason.kind == "cancelled"
  local err = errors.copy(not closed and progress.err or reason)
  err.action, err.attempts = call.action, progress.attempts
  err.outcome = progress.outcome or err.outcome
  if err.outcome == "unknown" then
    err.retryable = retry.allows(retry.none, err, call)
  end
  err.retry_after = err.retry_after or reason and reason.retry_after
  return nil, err
end

local function no_time(call)
  return errors.new {
    kind = "timeout", code = "Timeout", outcome = "not_sent", retryable = true,
    message = ("timed out after %g seconds (timeout) before it was sent"):format(call.timeout),
  }
end

local function is_closed(call)
  return errors.new {
    kind = "cancelled", code = "Cancelled", action = call.action, outcome = "not_sent",
    message = "the client is closed",
  }
end

--- Why a call can't even begin.
---@return rtc.Error|nil
local function refusal(self, call)
  if self.closed then
    return is_closed(call)
  end
  local problem, advice = self.runtime.obstacle()
  if problem then
    return errors.no_task(problem, advice, call.action)
  elseif not call.patient and self.runtime.pending() >= self.max_pending then
    return errors.new {
      kind = "quota", code = "TooManyPending", action = call.action, outcome = "not_sent", retryable = true,
      message = ("%d calls of this client wait already (max_pending)"):format(self.max_pending),
      advice = "They are made faster than they are answered: make fewer (client:send_all keeps to a number), or allow "
        .. "more by the option max_pending.",
    }
  end
end

--- Waits for a slot of the rate limit.
---@return rtc.Error|nil
local function take_slot(self, call, left)
  if self.quota and api.actions[call.action] then
    return self.quota:take(self.runtime, call, left)
  end
end

--- A signer; it may take until the deadline.
---@return rtc.Signer|nil
---@return rtc.Error|nil
local function get_signer(self, deadline)
  local signer, err = self.keys:signer(self.runtime, deadline)
  if signer and signer ~= self.signer then
    self.signer = signer
    self.outbox:arm() -- which needs it at the end of the program
  end
  return signer, err
end

--- What a try needs: time, a slot of the rate limit, and a signer.
---@return rtc.Signer|nil
---@return rtc.Error|nil
local function get_ready(self, call, progress, deadline)
  local now = self.runtime.now
  if self.closed then
    return nil, is_closed(call)
  elseif now() >= deadline then
    return nil, no_time(call)
  end
  local refused = not progress.has_slot and take_slot(self, call, deadline - now())
  progress.has_slot = false
  if refused then
    return nil, refused
  end
  local signer, err = get_signer(self, deadline)
  if self.closed then
    return nil, is_closed(call) -- while it waited
  elseif signer and now() >= deadline then
    return nil, no_time(call)
  end
  return signer, err
end

--- Counts a try that is over, and tells of it.
local function account(self, call, number, receipt, err, exchange)
  exchange = exchange or { sent = false } -- it could not be signed
  local sent_bytes, received_bytes = exchange.sent and #(call.body or "") or 0, #(exchange.body or "")
  self.counters:count_try(number, sent_bytes, received_bytes, exchange)
  if self.events:has("response") then
    self.events:emit("response", {
      action = call.action, version = call.version, attempt = number, receipt = receipt, err = err,
      elapsed = exchange.elapsed, sent = exchange.sent, reused = exchange.reused, sent_bytes = sent_bytes,
      received_bytes = received_bytes,
    })
  end
end

--- Whether the clock is another one since the last try was signed: corrected by its answer, or meanwhile by that of
--- another call.
local function is_corrected(self, progress, exchange)
  return self.clock.offset ~= progress.offset or self.clock:correct(exchange.headers.date)
end

--- Seconds to wait before another try; nil: there is none.
local function next_wait(self, call, progress, exchange, deadline)
  local err = progress.err
  if err.code == "InvalidTimestamp" and not progress.corrected and is_corrected(self, progress, exchange) then
    progress.corrected = true
    return 0
  elseif progress.attempts >= self.retry.tries or not retry.allows(self.retry, err, call) then
    return nil
  end
  local wait = retry.wait(self.retry, err, progress.attempts)
  return wait < deadline - self.runtime.now() and wait or nil
end

--- When a call's time is over after a try that failed: anew, when nobody waits for it and nothing was sent. Perhaps
--- nobody used the client meanwhile, as at a prompt.
local function next_deadline(self, call, progress, deadline)
  local anew = call.patient and progress.outcome == "not_sent"
  return anew and self.runtime.now() + call.timeout or deadline
end

--- Tries until the service accepted the call, or another try is not allowed.
---@param self rtc.Client
---@param call rtc.Call
---@return rtc.Receipt|nil
---@return rtc.Error|nil
local function try(self, call)
  local progress = { attempts = 0 }
  if call.patient then -- its time begins with its turn
    local err = take_slot(self, call, math.huge)
    if err then
      return fail(progress, call, err)
    end
    progress.has_slot = true
  end
  local deadline = call.deadline or self.runtime.now() + call.timeout
  while true do
    local signer, reason = get_ready(self, call, progress, deadline)
    if not signer then
      return fail(progress, call, reason)
    end
    progress.attempts, progress.offset = progress.attempts + 1, self.clock.offset
    local number = progress.attempts
    local receipt, err, exchange = attempt.make(self, call, signer, number, deadline - self.runtime.now())
    local told = receipt or err
    told.action, told.attempts = call.action, number
    told.possible_duplicate = receipt and progress.outcome == "unknown" and call.method ~= "GET" or nil
    account(self, call, number, receipt, err, exchange)
    if receipt then
      return receipt
    end
    note_failure(progress, err)
    deadline = next_deadline(self, call, progress, deadline)
    local wait = next_wait(self, call, progress, exchange, deadline)
    if not wait then
      return fail(progress, call)
    end
    self.events:emit("retry", { action = call.action, attempt = number, wait = wait, err = err })
    self.runtime.sleep(wait)
    deadline = next_deadline(self, call, progress, deadline) -- the pause may have lasted longer
  end
end

--- Makes a call that was prepared.
---@return rtc.Receipt|nil
---@return rtc.Error|nil
local function carry_out(self, call)
  local started, receipt = self.runtime.now(), nil
  local err = refusal(self, call)
  if not err then
    receipt, err = try(self, call)
  end
  self.counters:count_call(call.action, err)
  if not receipt then
    return nil, err
  end
  receipt.elapsed = self.runtime.now() - started
  return receipt
end

---@return rtc.Receipt|nil
---@return rtc.Error|nil
local function send(self, action, given)
  local call, err = prepare.message(self, action, given)
  if not call then
    return nil, err
  end
  return carry_out(self, call)
end

--- `client.send…{}` for `client:send…{}` is a slip in the code and not in the data: it raises, at the caller's line.
local function check_self(self, method)
  if getmetatable(self) ~= client_mt then
    error(("call it with a colon: client:%s(…)"):format(method), 3)
  end
end

---@class rtc.SendUnicast
---@field app_id string|number|nil  default: the client's
---@field from string|number|nil  the sender's ID, which no real user has; default: the client's
---@field to string|number  the receiver's user ID
---@field message string  text in UTF-8, or with `binary` any bytes; at most 65,536 bytes
---@field binary boolean|nil  default false
---@field version string|nil  of the API; default: the client's
---@field timeout number|nil  seconds for the whole call; default: the client's

--- Sends a message to one user who is logged in, in a room or not: their app fires `onUserMessageReceivedOutsideRoom`,
--- or `onUserBinaryMessageReceivedOutsideRoom` for a binary message. Never raises for a field's value.
---@param given rtc.SendUnicast
---@return rtc.Receipt|nil receipt  the service accepted the message
---@return rtc.Error|nil err  `err.outcome` says whether it may have been delivered all the same
function methods:send_unicast(given)
  check_self(self, "send_unicast")
  return send(self, "SendUnicast", given)
end

---@class rtc.SendRoomUnicast: rtc.SendUnicast
---@field room_id string|number  the room that the receiver is in

--- Sends a message to one user in a room: their app fires `onUserMessageReceived`, or `onUserBinaryMessageReceived`
--- for a binary message. Never raises for a field's value.
---@param given rtc.SendRoomUnicast
---@return rtc.Receipt|nil receipt  the service accepted the message
---@return rtc.Error|nil err  `err.outcome` says whether it may have been delivered all the same
function methods:send_room_unicast(given)
  check_self(self, "send_room_unicast")
  return send(self, "SendRoomUnicast", given)
end

---@class rtc.SendBroadcast
---@field app_id string|number|nil  default: the client's
---@field room_id string|number  the room that the receivers are in
---@field from string|number|nil  the sender's ID, which no real user has; default: the client's
---@field message string  text in UTF-8, or with `binary` any bytes; at most 65,536 bytes
---@field binary boolean|nil  default false
---@field version string|nil  of the API; default: the client's
---@field timeout number|nil  seconds for the whole call; default: the client's

--- Sends a message to everyone in a room: their apps fire `onRoomMessageReceived`, or `onRoomBinaryMessageReceived` for
--- a binary message. Never raises for a field's value.
---@param given rtc.SendBroadcast
---@return rtc.Receipt|nil receipt  the service accepted the message
---@return rtc.Error|nil err  `err.outcome` says whether it may have been delivered all the same
function methods:send_broadcast(given)
  check_self(self, "send_broadcast")
  return send(self, "SendBroadcast", given)
end

---@class rtc.BatchSendRoomUnicast: rtc.SendBroadcast
---@field to (string|number)[]  the receivers' user IDs, at most 600 without `split`
---@field message string  at most 20,480 bytes
---@field split boolean|nil  send a longer list in parts of 600, one after the other; default false

--- Sends a message to many users in a room: their apps fire `onUserMessageReceived`, or `onUserBinaryMessageReceived`
--- for a binary message. Never raises for a field's value.
---
--- With `split` a list of any length goes out in parts, and receipt and error have `parts`, which say what became of
--- each: an error is given when any part failed, and its `outcome` is "unknown" as soon as one part may have been
--- delivered. (An error of the fields has none: nothing was sent.)
---@param given rtc.BatchSendRoomUnicast
---@return rtc.Receipt|nil receipt  the service accepted the message
---@return rtc.Error|nil err  `err.outcome` says whether it may have been delivered all the same
function methods:batch_send_room_unicast(given)
  check_self(self, "batch_send_room_unicast")
  local action = "BatchSendRoomUnicast"
  if type(given) ~= "table" or not given.split then
    return send(self, action, given)
  end
  local parts, err = batch.divide(api.actions[action], given, function(part)
    return prepare.message(self, action, part)
  end)
  if not parts then
    return nil, err
  end
  return batch.send(action, parts, self.runtime.now, function(call)
    return carry_out(self, call)
  end)
end

---@class rtc.CallSettings
---@field version string|nil  of the API; default: the client's
---@field method "POST"|"GET"|nil  default "POST"
---@field query table<string, string|number|boolean>|nil  parameters beside Action and Version
---@field timeout number|nil  seconds for the whole call; default: the client's

--- Calls any action of the service. Its receipt has `result`: what the answer's JSON holds as Result.
---@param action string  "BanRoomUser", "GetRoomOnlineUsers" …
---@param body table|string|nil  a table is written as JSON; a string is JSON already, and sent as it is; nothing: `{}`,
--- or no body at all with GET
---@param given rtc.CallSettings|nil
---@return rtc.Receipt|nil receipt
---@return rtc.Error|nil err  `err.outcome` says whether it may have been carried out all the same
function methods:call(action, body, given)
  check_self(self, "call")
  local call, err = prepare.any(self, action, body, given)
  if not call then
    return nil, err
  end
  return carry_out(self, call)
end

--- Queues a message and returns at once (the first of several within 0.1 seconds, for a connection to be made). It is
--- sent while the client waits for something else, by `drain`, and at the latest when the program ends; its failure is
--- told to `client:on("failure", fn)`, or to standard error (inside nginx: the error log) when nobody asked. So it is
--- when it gives way to newer ones, as the option outbox = { full = "drop_oldest" } has it. Takes what the send methods
--- take, and `action`. Its timeout begins when it has its turn, and anew after each try that sent nothing. When a
--- function gives the keys and is due, it is asked here, and takes its time.
---@param given table  `action` is "send_room_unicast" (default), "send_unicast", "send_broadcast" or
--- "batch_send_room_unicast", or the service's name of one
---@return boolean|nil queued
---@return rtc.Error|nil err  a bad field, or no room: `kind` is "quota", `code` "OutboxFull"
function methods:enqueue(given)
  check_self(self, "enqueue")
  local call, err, copy = prepare.any_message(self, given)
  if not call then
    return nil, err
  end
  call.patient = true
  return self.outbox:put { call = call, fields = copy }
end

--- Sends a message that may name its action.
local function send_any(self, message, default)
  local action, given = prepare.action_of(message, default)
  if not action then
    return nil, given
  end
  return self[action.method](self, given)
end

--- Sends many messages, some at a time, and gives what becomes of each as soon as it is known: a function for a `for`
--- loop, `for index, receipt, err in client:send_all(messages) do`. A message may name its `action`. When the loop is
--- left early, those that are on their way go on, and no more are begun. Raises, at the caller's line, for a wrong or
--- unknown option, and where nothing can wait.
---@param messages table[]|fun(): table|nil  a list, or a function that gives one after the other; it is called only
--- when one can be sent
---@param given rtc.SendAll|nil
---@return (fun(): integer|nil, rtc.Receipt|nil, rtc.Error|nil)|integer next_result  index, and receipt or nil and err;
--- with `on_result`: how many were accepted
---@return integer|nil failed  with `on_result`
function methods:send_all(messages, given)
  check_self(self, "send_all")
  local checked, problem = options.check(options.send_all, given or {})
  if not checked then
    error("client:send_all: " .. problem, 2)
  end
  local known = self.runtime.condition()
  self.lists[known] = true
  local begun, failed = send_all.begin(messages, checked, {
    known = known, most = self.max_pending, runtime = self.runtime, defaults = self.defaults, send = function(message)
      return send_any(self, message, checked.action or "send_room_unicast")
    end,
  })
  if not begun then
    error("client:send_all: " .. failed, 2)
  end
  return begun, failed
end

--- Runs a function as a task beside the others. An error in it that nobody waits for is written to standard error.
---@param fn function
---@param ... any  its arguments
---@return rtc.Future|nil future  `future:wait()` gives what it returned
---@return rtc.Error|nil err  `code` is "NoTask": no task can be made here
function methods:spawn(fn, ...)
  check_self(self, "spawn")
  if type(fn) ~= "function" then
    error("client:spawn: the first argument must be a function, not a " .. type(fn), 2)
  end
  local future, problem, advice = self.runtime.spawn(fn, ...)
  if not future then
    return nil, errors.no_task(problem, advice)
  end
  return future
end

--- Opens connections ahead, so that the first messages pay for no handshake. Those that are not used are closed after
--- the seconds of `keep_alive`.
---@param count integer|nil  default 1; at most the option pool_size
---@return integer|nil opened
---@return rtc.Error|nil err  the first one that failed
function methods:connect(count)
  check_self(self, "connect")
  local wanted, problem = options.count(self.pool_size)(count or 1)
  if not wanted then
    return nil, errors.argument("count " .. problem, "count")
  end
  local err = refusal(self, {})
  local opening, condition = wanted, self.runtime.condition()
  local function ended(failure)
    err = err or failure
    opening = opening - 1
    condition:broadcast()
  end
  for _ = 1, err and 0 or wanted do
    self.runtime.start(function()
      ended(attempt.connect(self))
    end, function(what)
      ended(errors.new { kind = "cancelled", code = "Cancelled", outcome = "not_sent",
        message = "an error in the program ended it: its task " .. what })
    end)
  end
  while not err and opening > 0 do
    condition:wait()
  end
  if err then
    return nil, err
  end
  return wanted
end

--- Whether no call is on its way, and none will follow of itself.
local function is_idle(self)
  for known in pairs(self.lists) do
    if known:is_awaited() then
      return false
    end
  end
  return self.outbox:left() == 0 and self.runtime.is_idle()
end

--- Waits until no call of this client is on its way any more, and all that was enqueued is through.
---@param timeout number|nil  seconds; 0: does what can be done without waiting; default: the client's timeout
---@return boolean|nil done
---@return rtc.Error|nil err  `code` is "Timeout": so many are left, and go on; or "NoTask": nothing can wait here
function methods:drain(timeout)
  check_self(self, "drain")
  local seconds, wrong = options.pause(timeout or self.timeout)
  if not seconds then
    return nil, errors.argument("timeout " .. wrong, "timeout")
  end
  local runtime = self.runtime
  runtime.progress()
  local problem, advice = runtime.settle(function() return is_idle(self) end, runtime.now() + seconds)
  if is_idle(self) then
    return true
  elseif problem then
    return nil, errors.no_task(problem, advice)
  end
  return nil, errors.new {
    kind = "timeout", code = "Timeout", retryable = true,
    message = ("after %g seconds %d calls are not through, enqueued ones among them"):format(seconds,
      math.max(1, self.outbox:left(), runtime.pending())),
  }
end

--- Ends the client: calls that are on their way fail ("Cancelled"; their outcome says whether they may have been
--- delivered), messages that wait are told of by the event `failure`, and connections are closed. To lose nothing,
--- `client:drain()` first. May be called at any moment, and twice.
function methods:close()
  check_self(self, "close")
  if self.closed then
    return
  end
  self.closed = true
  self.outbox:close("the client is closed", "the client was closed")
  self.runtime.close()
  self.runtime.progress()
end

--- Registers a function for what happens to calls: see lua/rtc/events.lua. Raises, at the caller's line, for an unknown
--- event.
---@param name "request"|"response"|"retry"|"failure"
---@param fn fun(event: table)  when it raises or yields, that is written to standard error, and the call goes on
---@return fun() off  takes it away again
function methods:on(name, fn)
  check_self(self, "on")
  local off, problem = self.events:on(name, fn)
  if not off then
    error("client:on: " .. problem, 2)
  end
  return off
end

--- The client's counters since it was made.
---@return rtc.Stats
function methods:stats()
  check_self(self, "stats")
  return self.counters:read(self.runtime.pending(), self.outbox:stats())
end

--- Shows how a message would be signed. Sends nothing.
---@param action string  "SendRoomUnicast", or "send_room_unicast"
---@param given table  the call's fields
---@param time integer|nil  Unix seconds; default now
---@return table|nil explanation  rtc.Signer.Explanation with `url`, `body` and `headers` (name -> value to send;
--- Authorization among them, and with temporary keys the session token)
---@return rtc.Error|nil
function methods:explain(action, given, time)
  check_self(self, "explain")
  local found = api.find(action)
  if not found then
    return nil, errors.argument(("unknown action `%s`: %s"):format(text.name(action),
      suggest.hint(action, api.action_names)), "action")
  end
  local call, wrong = prepare.message(self, found.name, given)
  if not call then
    return nil, wrong
  end
  local signer, err = get_signer(self, self.runtime.now() + call.timeout)
  if not signer then
    return nil, errors.adopt(err, found.name)
  end
  local request = attempt.signing_request(self, call, time or self.clock:now())
  local signed, refused = signer:sign(request)
  if not signed then
    return nil, errors.adopt(refused, found.name)
  end
  local explanation = signer:explain(request)
  explanation.url, explanation.body = attempt.url(self, signed.query), call.body
  explanation.headers = signed.headers
  return explanation
end

--- Makes a client of what `rtc.new` has checked.
---@param parts table  endpoint, keys, region, defaults, version, timeouts, runtime, retry, quota, events, counters; and
--- `outbox`: its options
---@return rtc.Client
function client.new(parts)
  local self = setmetatable(parts, client_mt)
  self.lists = setmetatable({}, { __mode = "k" })
  self.outbox = outbox.new(self.outbox, {
    runtime = self.runtime, patience = self.timeout, full = self.runtime.outbox_full,
    send = function(call)
      return carry_out(self, call)
    end,
    tell = function(entry, err)
      local wanted = self.events:has("failure")
      if wanted then
        self.events:emit("failure", { action = entry.call.action, fields = entry.fields, err = err })
      end
      return wanted
    end,
  })
  return self
end

return client
