--- Many messages, some of them on their way at once: what becomes of each is told as it is known.

local errors = require "rtc.error"
local order = require "rtc.order"

local send_all = {}

---@class rtc.SendAll  given to client:send_all
---@field concurrency integer|nil  messages on their way at once; default 64
---@field action string|nil  of messages that name none: "send_room_unicast" (default), "send_unicast" …
---@field ordered boolean|nil  messages to the same receiver go one after the other, in their order; default false
---@field on_result (fun(index: integer, receipt: rtc.Receipt|nil, err: rtc.Error|nil))|nil  called for each message,
--- instead of a loop over them

---@class rtc.SendAll.State
---@field next_message fun(): any
---@field send fun(message: any): rtc.Receipt|nil, rtc.Error|nil
---@field start fun(fn: function, died: function): any|nil, string|nil, string|nil
---@field concurrency integer
---@field order rtc.Order|nil
---@field ready table[]  messages whose turn it is
---@field starting boolean|nil  they are being started
---@field known rtc.Condition  a result is
---@field notify fun()  tells that nobody waits for a result any more
---@field results table[]  { index, receipt, err }, not taken yet: from `first` to `last`
---@field pulled integer
---@field taken integer
---@field exhausted boolean|nil

local start_ready

local function finish(state, entry, receipt, err)
  state.last = state.last + 1
  state.results[state.last] = { entry.index, receipt, err }
  if entry.ordered then
    state.order:finish(entry.ordered)
    start_ready(state)
  end
  state.known:broadcast()
end

local function ended(problem)
  return errors.new {
    kind = "cancelled", code = "Cancelled", message = "an error in the program ended the call: its task " .. problem,
  }
end

local function start(state, entry)
  local started, problem, advice = state.start(function()
    finish(state, entry, state.send(entry.message))
  end, function(what)
    finish(state, entry, nil, ended(what))
  end)
  if not started then
    finish(state, entry, nil, errors.no_task(problem, advice))
  end
end

--- Starts those whose turn it is, one after the other: what fails at once makes the next one ready, and within each
--- other they would lead ever deeper.
function start_ready(state)
  if state.starting then
    return
  end
  state.starting = true
  local entry = table.remove(state.ready, 1)
  while entry do
    start(state, entry)
    entry = table.remove(state.ready, 1)
  end
  state.starting = nil
end

--- Begins with as many as may be on their way, those included whose result nobody has taken yet: so no more is asked of
--- the messages' source than is sent.
local function pull(state)
  state.starting = nil -- should Ctrl-C have ended it, and the program have gone on
  while not state.exhausted and state.pulled - state.taken < state.concurrency do
    local message = state.next_message()
    if message == nil then
      state.exhausted = true
      return
    end
    state.pulled = state.pulled + 1
    local entry = { index = state.pulled, message = message }
    if state.order and type(message) == "table" then
      entry.ordered = state.order:add(message, function() table.insert(state.ready, entry) end)
    else
      table.insert(state.ready, entry)
    end
    start_ready(state)
  end
end

--- What became of one of the messages; nil when all are through.
---@param state rtc.SendAll.State
---@return integer|nil index
---@return rtc.Receipt|nil receipt
---@return rtc.Error|nil err
local function next_result(state)
  pull(state)
  while state.first > state.last and state.taken < state.pulled do
    local waited, problem = state.known:wait()
    state.notify()
    if not waited then
      error("client:send_all: " .. problem, 0)
    end
  end
  local result = state.results[state.first]
  if not result then
    return nil
  end
  state.results[state.first] = nil
  state.first, state.taken = state.first + 1, state.taken + 1
  return result[1], result[2], result[3]
end

--- Messages of a list, or of a function that gives one after the other and then nil; nil: it is neither.
local function source(messages)
  if type(messages) == "function" then
    return messages
  elseif type(messages) ~= "table" then
    return nil
  end
  local i = 0
  return function()
    i = i + 1
    return messages[i]
  end
end

local function tell_all(state, on_result)
  local accepted, failed = 0, 0
  local index, receipt, err = next_result(state)
  while index do
    accepted, failed = accepted + (receipt and 1 or 0), failed + (receipt and 0 or 1)
    on_result(index, receipt, err)
    index, receipt, err = next_result(state)
  end
  return accepted, failed
end

--- In PUC Lua 5.1 nothing that a `for` loop calls can wait; at a prompt it need not.
local function loop_can_wait()
  return _VERSION ~= "Lua 5.1" or rawget(_G, "jit") or not coroutine.running()
end

--- Begins; see client:send_all.
---@param messages any
---@param given rtc.SendAll  checked
---@param parts { runtime: rtc.Runtime, send: (fun(message: any): rtc.Receipt|nil, rtc.Error|nil), defaults: table,
--- known: rtc.Condition, most: integer }  whoever takes the results waits by `known`; `most`: calls that the client
--- takes at once
---@return (fun(): integer|nil, rtc.Receipt|nil, rtc.Error|nil)|integer|nil
---@return integer|string|nil failed  or what is wrong with the arguments
function send_all.begin(messages, given, parts)
  local next_message = source(messages)
  local obstacle, advice = parts.runtime.obstacle()
  if not next_message then
    return nil, ("messages must be a list, or a function that gives one after the other, not %s")
      :format(messages == nil and "nothing" or "a " .. type(messages))
  elseif obstacle then
    return nil, obstacle .. "\n  -> " .. advice
  elseif not given.on_result and not loop_can_wait() then
    return nil, "in PUC Lua 5.1 a for loop can't wait: give on_result = function(index, receipt, err) … end instead"
  end
  local state = {
    next_message = next_message, send = parts.send, start = parts.runtime.start, known = parts.known,
    notify = parts.runtime.notify, concurrency = math.min(given.concurrency or 64, parts.most),
    order = given.ordered and order.new(parts.defaults) or nil,
    ready = {}, results = {}, first = 1, last = 0, pulled = 0, taken = 0,
  }
  if given.on_result then
    return tell_all(state, given.on_result)
  end
  return function()
    return next_result(state)
  end
end

return send_all
