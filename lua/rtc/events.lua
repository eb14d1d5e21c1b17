--- What happens to calls, told to whoever asked.

local log = require "rtc.log"
local suggest = require "rtc.suggest"
local text = require "rtc.text"

local events = {}

--- What can be asked for, and what comes with it. No event holds a secret, but for what a receipt's `result` holds; nor
--- the message itself, but for `failure`.
---
---     request   { action, version, method, url, attempt, bytes }: a try goes out; `bytes` of its body
---     response  { action, version, attempt, elapsed, sent, reused, sent_bytes, received_bytes, receipt, err }: a try
---               ended, with a receipt or an error of this try alone; `sent`: its last byte left
---     retry     { action, attempt, wait, err }: after this try, another one follows in `wait` seconds
---     failure   { action, fields, err }: an enqueued message was not accepted, or gave way to newer ones
events.names = { "request", "response", "retry", "failure" }

---@class rtc.Events
---@field handlers table<string, { fn: fun(event: table) }[]>
local methods = {}
local metatable = { __index = methods, __name = "rtc.events" }

--- A copy of `list` without `entry`. Lists are replaced and not changed: one may be walked at the moment.
local function without(list, entry)
  local rest = {}
  for _, other in ipairs(list) do
    if other ~= entry then
      rest[#rest + 1] = other
    end
  end
  return rest
end

--- Registers a function for an event.
---@param name string
---@param fn fun(event: table)
---@return fun()|nil off  takes it away again
---@return string|nil problem
function methods:on(name, fn)
  local handlers = self.handlers
  if not (type(name) == "string" and handlers[name]) then
    return nil, ("unknown event `%s`: %s"):format(text.name(name), suggest.hint(name, events.names))
  elseif type(fn) ~= "function" then
    return nil, ("the handler must be a function, not a %s"):format(type(fn))
  end
  local entry = { fn = fn }
  handlers[name] = without(handlers[name], entry)
  table.insert(handlers[name], entry)
  return function()
    handlers[name] = without(handlers[name], entry)
  end
end

---@param name string
---@return boolean
function methods:has(name)
  return self.handlers[name][1] ~= nil
end

--- What went wrong in a handler; nil: nothing. It runs in a coroutine of its own, so that what it raises, or its
--- yielding, does not become the call's. Some of nginx's phases have no coroutines (log): in those nothing can yield.
local function run(fn, event)
  local made, handler = pcall(coroutine.create, fn)
  local ok, raised
  if made then
    ok, raised = coroutine.resume(handler, event)
  else
    ok, raised = pcall(fn, event)
  end
  if not ok then
    return "raised: " .. text.raised(raised)
  end
  return made and coroutine.status(handler) ~= "dead" and "yielded, and was left there" or nil
end

--- Tells everyone who asked. What goes wrong in a handler must not change what becomes of a message: the log is told.
---@param name string
---@param event table
function methods:emit(name, event)
  for _, entry in ipairs(self.handlers[name]) do
    local problem = run(entry.fn, event)
    if problem then
      log.write(("a handler of the event `%s` %s"):format(name, problem))
    end
  end
end

---@return rtc.Events
function events.new()
  local handlers = {}
  for _, name in ipairs(events.names) do
    handlers[name] = {}
  end
  return setmetatable({ handlers = handlers }, metatable)
end

return events
