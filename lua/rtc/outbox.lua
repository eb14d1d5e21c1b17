--- Messages that nobody waits for: a bounded queue in memory, and a few tasks that send what is in it.

local errors = require "rtc.error"
local outbox_log = require "rtc.outbox_log"

require "rtc.interpreted" ()

local outbox = {}

---@class rtc.Outbox.Options
---@field entries integer|nil  messages that may wait; default 1000
---@field bytes integer|nil  of their bodies; default 8388608
---@field concurrency integer|nil  messages on their way at once; default 16. With 1 they go out in order
---@field full "refuse"|"drop_oldest"|nil  what gives way when there is no room: the new message, or those that have
--- waited longest; default: the runtime's, and "refuse" where it says nothing

---@class rtc.Outbox.Stats
---@field waiting integer  messages
---@field in_flight integer
---@field accepted integer
---@field failed integer
---@field refused integer  those for which there was no room
---@field dropped integer  those that gave way to newer ones; they count neither as failed nor as refused

---@class rtc.Outbox.Entry
---@field call rtc.Call
---@field fields table  as they were given

---@class rtc.Outbox
local methods = {}
local metatable = { __index = methods, __name = "rtc.outbox" }

--- Outboxes with something in them: never collected, and emptied when the Lua state is closed.
local busy = {} -- luacheck: ignore 241 (it is there to hold them)

--- Seconds: two or three times what a handshake takes, and less than a person notices.
local MOMENT = 0.1

--- Seconds after a failure: what fails at once, and is enqueued again by a handler, must not keep everybody waiting.
local PAUSE = 0.001

--- So many that are lost together get a line each in the log; more of them get one.
local FEW = 10

local newproxy = rawget(_G, "newproxy")

--- Something that Lua finalizes by calling `fn`. Before 5.2 only a userdata can be.
local function finalized_by(fn)
  if not newproxy then
    return setmetatable({}, { __gc = fn })
  end
  local proxy = newproxy(true)
  getmetatable(proxy).__gc = fn
  return proxy
end

local function clear(self)
  self.first, self.last, self.waiting, self.bytes = 1, 0, 0, 0
  self.entries, self.workers, self.in_flight = {}, {}, 0
  self.process = self.runtime.process()
  self.log:forget()
  busy[self] = nil
end

--- In a forked child the queue is a copy of the parent's, and the parent sends it.
local function forget_the_parents(self)
  if self.runtime.process() ~= self.process then
    clear(self)
  end
end

local function take(self)
  local entry = self.entries[self.first]
  if not entry then
    return nil
  end
  self.entries[self.first] = nil
  self.first = self.first + 1
  self.waiting = self.waiting - 1
  self.bytes = self.bytes - #entry.call.body
  return entry
end

local function take_back_the_last(self)
  local entry = self.entries[self.last]
  self.entries[self.last] = nil
  self.last = self.last - 1
  self.waiting, self.bytes = self.waiting - 1, self.bytes - #entry.call.body
end

local function count(self, what)
  self.counted[what] = self.counted[what] + 1
end

local function fail(self, entry, err)
  count(self, "failed")
  if not self.tell(entry, err) then
    self.log:failed(1, err)
  end
end

---@class rtc.Outbox.Worker  a task that sends one message after the other
---@field entry rtc.Outbox.Entry|nil  on its way

local start_worker

--- The next message for a worker; none when it has become another process's.
local function take_for(self, worker)
  forget_the_parents(self)
  return self.workers[worker] and take(self) or nil
end

local function work(self, worker)
  local turns = self.runtime.outbox_turns or math.huge
  worker.entry = take_for(self, worker)
  while worker.entry do
    local receipt, err = self.send(worker.entry.call)
    local entry = worker.entry
    worker.entry = nil
    if receipt then
      count(self, "accepted")
    else
      fail(self, entry, err)
      self.runtime.sleep(PAUSE)
    end
    turns = turns - 1
    if turns <= 0 and self.waiting > 0 and not start_worker(self) then
      return -- another goes on
    end
    worker.entry = take_for(self, worker)
  end
end

local function retire(self, worker)
  if not self.workers[worker] then
    return
  end
  self.workers[worker] = nil
  self.in_flight = self.in_flight - 1
  if self.in_flight == 0 then
    busy[self] = nil
    self.runtime.notify()
  end
end

--- What becomes of a message whose call the program ended.
local function ended(call, outcome, message)
  return errors.new {
    kind = "cancelled", code = "Cancelled", action = call.action, outcome = outcome, message = message,
    retryable = outcome == "not_sent",
  }
end

--- Tells of messages that are lost together.
---@param next_entry fun(): rtc.Outbox.Entry|nil
local function lose(self, next_entry, outcome, message)
  local untold = {}
  for entry in next_entry do
    local err = ended(entry.call, outcome, message)
    count(self, "failed")
    untold[#untold + 1] = not self.tell(entry, err) and err or nil
  end
  if #untold > FEW then
    self.log:failed(#untold, untold[#untold])
    return
  end
  for _, err in ipairs(untold) do
    self.log:failed(1, err)
  end
end

--- An error ended a worker in the midst of its message: others must not wait for it.
local function bury(self, worker, problem)
  local entry = worker.entry
  retire(self, worker)
  if entry then
    fail(self, entry, ended(entry.call, "unknown", "an error in the program ended the call: its task " .. problem))
  end
  if self.waiting > 0 then
    start_worker(self)
  end
end

--- Starts a task; or says why none can be started here.
---@return string|nil problem
---@return string|nil advice
function start_worker(self)
  local worker = {}
  self.workers[worker] = true
  self.in_flight = self.in_flight + 1
  busy[self] = true
  local started, problem, advice = self.runtime.detach(function()
    work(self, worker)
    retire(self, worker)
  end, function(what)
    bury(self, worker, what)
  end)
  if not started then
    retire(self, worker)
    return problem, advice
  end
end

--- The bound that leaves no room for a message of so many bytes.
---@return "entries"|"bytes"|nil
local function bound_reached(self, size)
  return self.waiting >= self.most_entries and "entries" or self.bytes + size > self.most_bytes and "bytes" or nil
end

---@class rtc.Outbox.Dropped
---@field entry rtc.Outbox.Entry
---@field bound "entries"|"bytes"
---@field err rtc.Error

--- Drops those that have waited longest until a message of so many bytes has room.
---@return rtc.Outbox.Dropped[]
local function make_room(self, size)
  local dropped, bound = {}, bound_reached(self, size)
  while bound do
    local message = ("dropped for a newer one: %d messages of %d bytes waited, and the outbox holds at most %d %s")
      :format(self.waiting, self.bytes, bound == "entries" and self.most_entries or self.most_bytes,
        bound == "entries" and "messages" or "bytes")
    local entry = take(self)
    count(self, "dropped")
    dropped[#dropped + 1] = {
      entry = entry, bound = bound,
      err = errors.new {
        kind = "quota", code = "OutboxFull", action = entry.call.action, outcome = "not_sent", retryable = true,
        message = message, advice = "They are added faster than they are sent: add fewer, or allow more by the option "
          .. "outbox (entries, bytes, concurrency).",
      },
    }
    bound = bound_reached(self, size)
  end
  return dropped
end

--- Tells of the dropped. Meanwhile no other is: a handler that enqueues again what was dropped would never come to an
--- end.
---@param dropped rtc.Outbox.Dropped[]
local function tell_of(self, dropped)
  self.is_telling = true
  local ok, raised = pcall(function()
    for _, each in ipairs(dropped) do
      if not self.tell(each.entry, each.err) then
        self.log:note_dropped(each.bound, each.err)
      end
    end
  end)
  self.is_telling = false
  if not ok then
    error(raised, 0) -- an interrupt
  end
end

local function refusal(self, call, size)
  if self.closing then
    return ended(call, "not_sent", self.closing)
  end
  local never = size > self.most_bytes
  return errors.new {
    kind = "quota", code = "OutboxFull", action = call.action, outcome = "not_sent", retryable = not never,
    message = never and ("the message takes %d bytes, and the outbox holds at most %d"):format(size, self.most_bytes)
      or ("%d messages of %d bytes wait already"):format(self.waiting, self.bytes),
    advice = never and "Allow more by the option outbox (bytes)." or "They are added faster than they are sent: add "
      .. "fewer, let client:drain() wait for them, or allow more by the option outbox (entries, bytes, concurrency).",
  }
end

--- Queues a message and returns at once, or nearly: the first one of several may open a connection, and has a moment to
--- get through before the program goes on, since at a prompt nothing is done until the next line. When there is no
--- room, the message is refused, or others are dropped for it.
---@param entry rtc.Outbox.Entry
---@return boolean|nil ok
---@return rtc.Error|nil err  `code` is "OutboxFull"; "NoTask"; or "Cancelled" when the client is closed or the program
--- ends
function methods:put(entry)
  forget_the_parents(self)
  local size = #entry.call.body
  local is_full = bound_reached(self, size) and (self.full == "refuse" or self.is_telling)
  if self.closing or is_full or size > self.most_bytes then
    count(self, "refused")
    return nil, refusal(self, entry.call, size)
  end
  local dropped = make_room(self, size)
  self.last = self.last + 1
  self.entries[self.last] = entry
  self.waiting, self.bytes = self.waiting + 1, self.bytes + size
  local patience = self.in_flight == 0 and MOMENT or 0
  local problem, advice
  if self.in_flight < self.concurrency then
    problem, advice = start_worker(self)
  end
  local is_stuck = problem and self.in_flight == 0
  if is_stuck then
    take_back_the_last(self)
  end
  if dropped[1] then
    tell_of(self, dropped)
  end
  if is_stuck then
    return nil, errors.no_task(problem, advice, entry.call.action)
  end
  self.runtime.progress(patience)
  return true
end

--- Messages that are not through.
---@return integer
function methods:left()
  forget_the_parents(self)
  return self.waiting + self.in_flight
end

---@return rtc.Outbox.Stats
function methods:stats()
  forget_the_parents(self)
  local counted = self.counted
  return {
    waiting = self.waiting, in_flight = self.in_flight,
    accepted = counted.accepted, failed = counted.failed, refused = counted.refused,
    dropped = counted.dropped,
  }
end

--- Takes no more messages, and tells of those that wait.
---@param why string  for those that come later
---@param waited string  for those that wait
function methods:close(why, waited)
  forget_the_parents(self)
  self.closing = why
  lose(self, function() return take(self) end, "not_sent", waited .. " before its turn came")
  self.log:flush()
end

--- Those that are on their way, one after the other.
---@return fun(): rtc.Outbox.Entry|nil
local function on_their_way(self)
  local worker
  return function()
    repeat
      worker = next(self.workers, worker)
    until not worker or worker.entry
    return worker and worker.entry
  end
end

--- At the end of the Lua state: what can still be sent is, and of the rest somebody is told. Where the state ends
--- abruptly, that is the log: a handler would most likely ask nginx for something, as `ngx.log` does, and nginx is no
--- longer there to answer.
local function finish(self)
  self.closing = "the program is ending" -- or else a handler that enqueues again would hold up the end
  self.log:end_of_state()
  if self.runtime.ends_abruptly then
    self.tell = function() return false end
  elseif self:left() > 0 then
    self.runtime.settle(function() return self:left() == 0 end, self.runtime.now() + self.patience)
  end
  self:close(self.closing, "the program ended")
  lose(self, on_their_way(self), "unknown", "the program ended while it was on its way")
end

--- Makes it that `finish` runs before Lua finalizes anything that was made up to now: what is made last goes first. To
--- be called anew when something was made that sending needs, such as a signer.
function methods:arm()
  local finalizer
  finalizer = finalized_by(function()
    if self.finalizer == finalizer then
      finish(self)
    end
  end)
  self.finalizer = finalizer
end

--- Makes an outbox.
---@param given rtc.Outbox.Options  checked
---@param parts { runtime: rtc.Runtime, send: function, tell: function, patience: number, full: string|nil }
--- `send(call)` gives a receipt, or nil and an error; `tell(entry, err)` tells the program of the failed, and gives
--- false when it does not want to know: then the log is told; `patience`: seconds that the end of the Lua state may be
--- held up; `full`: the default of the option
---@return rtc.Outbox
function outbox.new(given, parts)
  local self = setmetatable({
    runtime = parts.runtime, send = parts.send, tell = parts.tell, patience = parts.patience,
    log = outbox_log.new(parts.runtime), full = given.full or parts.full or "refuse",
    most_entries = given.entries or 1000, most_bytes = given.bytes or 8388608, concurrency = given.concurrency or 16,
    counted = { accepted = 0, failed = 0, refused = 0, dropped = 0 },
  }, metatable)
  clear(self)
  self:arm()
  return self
end

return outbox
