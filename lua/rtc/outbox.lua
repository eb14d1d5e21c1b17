--- Messages that nobody waits for: a bounded queue in memory, and a few tasks that send what is in it.

local errors = require "rtc.error"

local outbox = {}

---@class rtc.Outbox.Options
---@field entries integer|nil  messages that may wait; default 1000
---@field bytes integer|nil  of their bodies; default 8388608
---@field concurrency integer|nil  messages on their way at once; default 16. With 1 they go out in order

---@class rtc.Outbox.Stats
---@field waiting integer  messages
---@field in_flight integer
---@field accepted integer
---@field failed integer
---@field refused integer  those for which there was no room

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
  self.report(entry, err)
end

---@class rtc.Outbox.Worker  a task that sends one message after the other
---@field entry rtc.Outbox.Entry|nil  on its way

--- The next message for a worker; none when it has become another process's.
local function take_for(self, worker)
  forget_the_parents(self)
  return self.workers[worker] and take(self) or nil
end

local function work(self, worker)
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

local start_worker

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
--- get through before the program goes on, since at a prompt nothing is done until the next line.
---@param entry rtc.Outbox.Entry
---@return boolean|nil ok
---@return rtc.Error|nil err  `code` is "OutboxFull"; "NoTask"; or "Cancelled" when the client is closed or the program
--- ends
function methods:put(entry)
  forget_the_parents(self)
  local size = #entry.call.body
  if self.closing or self.waiting >= self.most_entries or self.bytes + size > self.most_bytes then
    count(self, "refused")
    return nil, refusal(self, entry.call, size)
  end
  self.last = self.last + 1
  self.entries[self.last] = entry
  self.waiting, self.bytes = self.waiting + 1, self.bytes + size
  local patience = self.in_flight == 0 and MOMENT or 0
  if self.in_flight < self.concurrency then
    local problem, advice = start_worker(self)
    if problem and self.in_flight == 0 then
      take_back_the_last(self)
      return nil, errors.no_task(problem, advice, entry.call.action)
    end
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
  }
end

--- Takes no more messages, and tells of those that wait.
---@param why string  for those that come later
---@param waited string  for those that wait
function methods:close(why, waited)
  forget_the_parents(self)
  self.closing = why
  local entry = take(self)
  while entry do
    fail(self, entry, ended(entry.call, "not_sent", waited .. " before its turn came"))
    entry = take(self)
  end
end

--- At the end of the Lua state: what can still be sent is, and of the rest somebody is told.
local function finish(self)
  self.closing = "the program is ending" -- or else a handler that enqueues again would hold up the end
  if self:left() == 0 then
    return
  end
  self.runtime.settle(function() return self:left() == 0 end, self.runtime.now() + self.patience)
  self:close(self.closing, "the program ended")
  for worker in pairs(self.workers) do
    if worker.entry then
      fail(self, worker.entry, ended(worker.entry.call, "unknown", "the program ended while it was on its way"))
    end
  end
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
---@param parts { runtime: rtc.Runtime, send: function, report: function, patience: number }  `send(call)` gives a
--- receipt, or nil and an error; `report(entry, err)` is told of the failed; `patience`: seconds that the end of the
--- Lua state may be held up
---@return rtc.Outbox
function outbox.new(given, parts)
  local self = setmetatable({
    runtime = parts.runtime, send = parts.send, report = parts.report, patience = parts.patience,
    most_entries = given.entries or 1000, most_bytes = given.bytes or 8388608, concurrency = given.concurrency or 16,
    counted = { accepted = 0, failed = 0, refused = 0 },
  }, metatable)
  clear(self)
  self:arm()
  return self
end

return outbox
