--- Counters of one client.

local text = require "rtc.text"

require "rtc.interpreted" ()

local stats = {}

---@class rtc.Stats
---@field calls integer  that are over
---@field accepted integer  calls that got a receipt
---@field failed integer  calls that got an error
---@field outcomes { not_sent: integer, rejected: integer, unknown: integer }  of the failed calls
---@field pending integer  calls that wait at the moment
---@field tries integer  of all calls
---@field retries integer  those that were not a call's first
---@field sent_bytes integer  of the bodies that were sent whole
---@field received_bytes integer  of the bodies of all answers
---@field connections { opened: integer, reused: integer }  by `connect`, and by the tries that reached one
---@field actions table<string, { accepted: integer, codes: table<string, integer> }>  by action: receipts, and errors
--- by their code
---@field outbox rtc.Outbox.Stats  what was enqueued

local methods = {}
local metatable = { __index = methods, __name = "rtc.counters" }

--- Codes and actions come from elsewhere: what is beyond so many different ones counts as "other".
local MANY = 100

--- What is counted by name: `of` the names, so many different ones.
local function by_name()
  return { of = {}, count = 0 }
end

--- The name under which something is counted.
local function place(counted, name, make)
  if counted.of[name] == nil and counted.count >= MANY then
    name = "other"
  end
  if counted.of[name] == nil then
    counted.of[name] = make()
    counted.count = counted.count + 1
  end
  return name
end

local function zero()
  return 0
end

local function new_action()
  return { accepted = 0, codes = by_name() }
end

--- Counts a connection that an exchange went over.
---@param exchange rtc.Exchange
function methods:count_connection(exchange)
  if exchange.reused then
    self.connections.reused = self.connections.reused + 1
  elseif exchange.status or exchange.sent then
    self.connections.opened = self.connections.opened + 1
  end
end

--- Counts a try.
---@param number integer  which of its call
---@param sent_bytes integer
---@param received_bytes integer
---@param exchange rtc.Exchange  what came of it
function methods:count_try(number, sent_bytes, received_bytes, exchange)
  self.tries = self.tries + 1
  self.retries = self.retries + (number > 1 and 1 or 0)
  self.sent_bytes = self.sent_bytes + sent_bytes
  self.received_bytes = self.received_bytes + received_bytes
  self:count_connection(exchange)
end

--- Counts a call that is over.
---@param action string
---@param err rtc.Error|nil  nil: it was accepted
function methods:count_call(action, err)
  local by_action = self.actions
  local counted = by_action.of[place(by_action, action, new_action)]
  self.calls = self.calls + 1
  if not err then
    self.accepted = self.accepted + 1
    counted.accepted = counted.accepted + 1
    return
  end
  self.failed = self.failed + 1
  self.outcomes[err.outcome] = self.outcomes[err.outcome] + 1
  local code = place(counted.codes, err.code, zero)
  counted.codes.of[code] = counted.codes.of[code] + 1
end

local function copy(from)
  local result = {}
  for name, value in pairs(from) do
    result[name] = value
  end
  return result
end

--- Lines of names and numbers, sorted, for a person to read.
local function lines(table_of, indent, into)
  local names = {}
  for name in pairs(table_of) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = table_of[name]
    into[#into + 1] = indent .. text.printable(name) .. (type(value) == "table" and "" or ": " .. tostring(value))
    if type(value) == "table" then
      lines(value, indent .. "  ", into)
    end
  end
  return into
end

local printable = {
  __name = "rtc.stats",
  __tostring = function(read)
    return table.concat(lines(read, "", {}), "\n")
  end,
}

--- The counters as they are now, in tables of their own.
---@param pending integer
---@param outbox rtc.Outbox.Stats
---@return rtc.Stats
function methods:read(pending, outbox)
  local result = copy(self)
  result.outcomes, result.connections, result.actions = copy(self.outcomes), copy(self.connections), {}
  for name, counted in pairs(self.actions.of) do
    result.actions[name] = { accepted = counted.accepted, codes = copy(counted.codes.of) }
  end
  result.pending, result.outbox = pending, outbox
  return setmetatable(result, printable)
end

function stats.new()
  return setmetatable({
    calls = 0, accepted = 0, failed = 0, tries = 0, retries = 0, sent_bytes = 0, received_bytes = 0,
    outcomes = { not_sent = 0, rejected = 0, unknown = 0 },
    connections = { opened = 0, reused = 0 },
    actions = by_name(),
  }, metatable)
end

return stats
