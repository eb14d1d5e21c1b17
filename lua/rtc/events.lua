--- What happens to calls, told to whoever asked.

local suggest = require "rtc.suggest"
local text = require "rtc.text"

local events = {}

--- What can be asked for, and what comes with it. No event holds a secret, or the message itself but for `failure`.
---
---     request   { action, version, method, url, attempt, bytes }: a try goes out; `bytes` of its body
---     response  { action, version, attempt, elapsed, sent, reused, sent_bytes, received_bytes, receipt, err }: a try
---               ended, with a receipt or an error of this try alone; `sent`: its last byte left
---     retry     { action, attempt, wait, err }: after this try, another one follows in `wait` seconds
---     failure   { action, fields, err }: an enqueued message was not accepted
events.names = { "request", "response", "retry", "failure" }

---@class rtc.Events
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
  if type(name) ~= "string" or not self[name] or methods[name] then
    return nil, ("unknown event `%s`: %s"):format(text.name(name), suggest.hint(name, events.names))
  elseif type(fn) ~= "function" then
    return nil, ("the handler must be a function, not a %s"):format(type(fn))
  end
  local entry = { fn = fn }
  self[name] = without(self[name], entry)
  table.insert(self[name], entry)
  return function()
    self[name] = without(self[name], entry)
  end
end

---@param name string
---@return boolean
function methods:has(name)
  return self[name][1] ~= nil
end

--- Tells everyone who asked. A handler that raises must not change what becomes of a message: standard error is told.
---@param name string
---@param event table
function methods:emit(name, event)
  for _, entry in ipairs(self[name]) do
    local ok, raised = pcall(entry.fn, event)
    if not ok then
      io.stderr:write(("rtc: a handler of the event `%s` raised: %s\n"):format(name,
        type(raised) == "string" and text.excerpt(raised, 500) or text.name(raised)))
    end
  end
end

---@return rtc.Events
function events.new()
  local self = {}
  for _, name in ipairs(events.names) do
    self[name] = {}
  end
  return setmetatable(self, metatable)
end

return events
