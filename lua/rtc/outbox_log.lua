--- What the log says of enqueued messages that failed, where no handler is told of them: each has a line, but never are
--- there thousands at once.

local log = require "rtc.log"

local outbox_log = {}

--- Seconds between two lines about dropped messages.
local PAUSE = 1

---@class rtc.OutboxLog
---@field runtime rtc.Runtime
---@field write fun(...: string)  a function of rtc.log
---@field dropped table<string, { count: integer, err: rtc.Error }>  by the bound: not logged yet; the last one's error
---@field logged_at number  when a line about dropped messages was written last
---@field task table|nil  stands for the one that will write the next
---@field flushed rtc.Condition|nil  what it waits for
local methods = {}
local metatable = { __index = methods, __name = "rtc.outbox_log" }

--- Messages failed.
---@param count integer
---@param err rtc.Error  of the last one
function methods:failed(count, err)
  local what = count == 1 and "an enqueued message failed: "
    or ("%d enqueued messages failed, the last of them: "):format(count)
  self.write(what, tostring(err))
end

--- Writes what is not logged yet.
function methods:flush()
  for _, bound in ipairs { "bytes", "entries" } do
    local noted = self.dropped[bound]
    if noted then
      self.dropped[bound], self.logged_at = nil, self.runtime.now()
      self:failed(noted.count, noted.err)
    end
  end
  if self.flushed then
    self.flushed:broadcast()
  end
end

local function left_of_pause(self)
  return self.logged_at + PAUSE - self.runtime.now()
end

--- What was dropped meanwhile must be known though nothing more is dropped: a task flushes when the pause is over.
local function flush_later(self)
  local task = {}
  self.task, self.flushed = task, self.flushed or self.runtime.condition()
  local function flush()
    if self.task == task then
      self.task = nil
      self:flush()
    end
  end
  local started = self.runtime.detach(function()
    local left = left_of_pause(self)
    while left > 0 and next(self.dropped) and self.flushed:wait(left) do
      left = left_of_pause(self)
    end
    flush()
  end, flush)
  if not started then
    flush()
  end
end

--- A message was dropped. Those of a second share a line.
---@param bound "entries"|"bytes"  what was reached
---@param err rtc.Error
function methods:note_dropped(bound, err)
  local noted = self.dropped[bound]
  self.dropped[bound] = { count = noted and noted.count + 1 or 1, err = err }
  if left_of_pause(self) <= 0 then
    self:flush()
  elseif not self.task then
    flush_later(self)
  end
end

--- Forgets what is not logged yet: in a forked child, where it is the parent's.
function methods:forget()
  self.dropped, self.task, self.flushed = {}, nil, nil
end

--- From now on nginx can't be asked for anything.
function methods:end_of_state()
  self.write = log.last_words
end

---@param runtime rtc.Runtime
---@return rtc.OutboxLog
function outbox_log.new(runtime)
  return setmetatable({ runtime = runtime, write = log.write, dropped = {}, logged_at = -math.huge }, metatable)
end

return outbox_log
