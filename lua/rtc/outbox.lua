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
  self.first, self.last, self.waiting, self.bytes, self.in_flight = 1, 0, 0, 0, 0
  self.entries, self.process = {}, self.runtime.process()
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

local function count(self, what)
  self.counted[what] = self.counted[what] + 1
end

local function work(self)
  local entry = take(self)
  while entry do
    local receipt, err = self.send(entry.call)
    count(self, receipt and "accepted" or "failed")
    if not receipt then
      self.report(entry, err)
    end
    entry = take(self)
  end
  self.in_flight = self.in_flight - 1
  if self.in_flight == 0 then
    busy[self] = nil
  end
end

--- There is no room for a message: now, or ever.
local function full(self, call, size)
  local never = size > self.most_bytes
  return errors.new {
    kind = "quota", code = "OutboxFull", action = call.action, outcome = "not_sent", retryable = not never,
    message = never and ("the message takes %d bytes, and the outbox holds at most %d"):format(size, self.most_bytes)
      or ("%d messages of %d bytes wait already"):format(self.waiting, self.bytes),
    advice = never and "Allow more by the option outbox (bytes)." or "They are added faster than they are sent: add "
      .. "fewer, let client:drain() wait for them, or allow more by the option outbox (entries, bytes, concurrency).",
  }
end

--- Queues a message and returns at once; as much of it is done as can be without waiting.
---@param entry rtc.Outbox.Entry
---@return boolean|nil ok
---@return rtc.Error|nil err  `code` is "OutboxFull"
function methods:put(entry)
  forget_the_parents(self)
  local size = #entry.call.body
  if self.waiting >= self.most_entries or self.bytes + size > self.most_bytes then
    count(self, "refused")
    return nil, full(self, entry.call, size)
  end
  self.last = self.last + 1
  self.entries[self.last] = entry
  self.waiting, self.bytes = self.waiting + 1, self.bytes + size
  busy[self] = self.finalizer
  if self.in_flight < self.concurrency then
    self.in_flight = self.in_flight + 1
    self.runtime.spawn(function()
      work(self)
    end)
  end
  self.runtime.progress()
  return true
end

--- Waits until everything was sent or has failed.
---@param timeout number  seconds
---@return integer left  messages that are not through
function methods:drain(timeout)
  forget_the_parents(self)
  local deadline = self.runtime.now() + timeout
  while self.in_flight > 0 do
    local left = deadline - self.runtime.now()
    if left <= 0 then
      break
    end
    self.runtime.sleep(math.min(left, 0.005))
  end
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

--- At the end of the Lua state: what can still be sent is, and of the rest somebody is told.
local function finish(self, patience)
  local left = self:drain(patience)
  if left == 0 then
    return
  end
  local unsent, entry = self.waiting, take(self)
  while entry do
    self.report(entry, errors.new {
      kind = "cancelled", code = "Cancelled", action = entry.call.action, outcome = "not_sent", retryable = true,
      message = "the program ended before it was its turn",
    })
    entry = take(self)
  end
  if left > unsent then
    io.stderr:write(("rtc: the program ended while %d enqueued messages were on their way: they may have been "
      .. "delivered\n"):format(left - unsent))
  end
end

--- Makes an outbox.
---@param given rtc.Outbox.Options  checked
---@param parts { runtime: rtc.Runtime, send: function, report: function, patience: number }  `send(call)` gives a
--- receipt, or nil and an error; `report(entry, err)` is told of the failed; `patience`: seconds that the end of the
--- Lua state may be held up
---@return rtc.Outbox
function outbox.new(given, parts)
  local self = setmetatable({
    runtime = parts.runtime, send = parts.send, report = parts.report,
    most_entries = given.entries or 1000, most_bytes = given.bytes or 8388608, concurrency = given.concurrency or 16,
    counted = { accepted = 0, failed = 0, refused = 0 },
  }, metatable)
  clear(self)
  self.finalizer = finalized_by(function()
    finish(self, parts.patience)
  end)
  return self
end

return outbox
