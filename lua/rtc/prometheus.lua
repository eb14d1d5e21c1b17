--- Clients' counters in Prometheus' text format, version 0.0.4
--- (https://prometheus.io/docs/instrumenting/exposition_formats/).

local core = require("rtc.native").load("rtc.core")
local text = require "rtc.text"

local prometheus = {}

--- What the text is served as.
prometheus.content_type = "text/plain; version=0.0.4; charset=utf-8"

---@class rtc.Prometheus.Entry
---@field labels table<string, string|number>|nil  on all of the client's metrics
---@field stats rtc.Stats  of client:stats(), or a plain table of the same, as from JSON

---@class rtc.Prometheus.Metric
---@field name string
---@field kind "counter"|"gauge"
---@field help string
---@field labels string[]|nil  its own
---@field read fun(stats: table, add: fun(value: any, path: string, labels: table<string, string>|nil))  calls `add` for
--- each sample; `path` says where in the stats its value is

--- A metric that is one number of the stats.
local function number(name, kind, help, path)
  return { name = name, kind = kind, help = help, read = function(stats, add)
    add(stats[path], path)
  end }
end

--- Numbers of a table in the stats, each by a label.
local function numbers(name, help, path, label, fields)
  return { name = name, kind = "counter", help = help, labels = { label }, read = function(stats, add)
    for _, field in ipairs(fields) do
      add(stats[path][field], path .. "." .. field, { [label] = field })
    end
  end }
end

local function outbox_number(field, help)
  return { name = "rtc_outbox_" .. field, kind = "gauge", help = help, read = function(stats, add)
    add(stats.outbox[field], "outbox." .. field)
  end }
end

local function read_calls(stats, add)
  for action, counted in pairs(stats.actions) do
    local path = ("actions[%q]"):format(text.name(action))
    if type(counted) ~= "table" or type(counted.codes) ~= "table" then
      counted = { codes = {} } -- whose `accepted` is missing
    end
    add(counted.accepted, path .. ".accepted", { action = action, code = "accepted" })
    for code, count in pairs(counted.codes) do
      add(count, ("%s.codes[%q]"):format(path, text.name(code)), { action = action, code = code })
    end
  end
end

--- In the order in which they are written.
---@type rtc.Prometheus.Metric[]
local metrics = {
  { name = "rtc_calls_total", kind = "counter", labels = { "action", "code" }, read = read_calls,
    help = "Calls that are over, by action and the error's code; accepted: those with a receipt." },
  numbers("rtc_failed_calls_total", "Calls that failed, by what became of the message.", "outcomes", "outcome",
    { "not_sent", "rejected", "unknown" }),
  number("rtc_tries_total", "counter", "Tries of all calls.", "tries"),
  number("rtc_retries_total", "counter", "Tries that were not a call's first.", "retries"),
  number("rtc_sent_bytes_total", "counter", "Bytes of the bodies that were sent whole.", "sent_bytes"),
  number("rtc_received_bytes_total", "counter", "Bytes of the bodies of all answers.", "received_bytes"),
  numbers("rtc_connections_total", "Connections opened, and tries that reused one.", "connections", "state",
    { "opened", "reused" }),
  number("rtc_pending", "gauge", "Calls that wait at the moment.", "pending"),
  outbox_number("waiting", "Enqueued messages that wait for their turn."),
  outbox_number("in_flight", "Enqueued messages that are on their way."),
  numbers("rtc_outbox_messages_total", "Enqueued messages, by what became of them.", "outbox", "result",
    { "accepted", "failed", "refused", "dropped" }),
}

--- Labels that are the metrics' own.
local own_labels = {}
for _, metric in ipairs(metrics) do
  for _, label in ipairs(metric.labels or {}) do
    own_labels[label] = true
  end
end

local escapes = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }

--- A label's value as it is written: UTF-8, where all characters but these stand for themselves.
local function label_value(value)
  local s = type(value) == "number" and ("%.14g"):format(value) or value
  return (core.utf8_error(s) and text.printable(s) or s):gsub('[\\"\n]', escapes)
end

--- `{name="value",…}`, sorted by name; "" for none.
local function write_labels(...)
  local written = {}
  for _, labels in ipairs { ... } do
    for name, value in pairs(labels) do
      written[#written + 1] = ('%s="%s"'):format(name, (label_value(value)))
    end
  end
  table.sort(written)
  return written[1] and "{" .. table.concat(written, ",") .. "}" or ""
end

--- What is wrong with labels that were given.
---@return string|nil
local function label_problem(labels, path)
  if type(labels) ~= "table" then
    return ("%s must be a table of names and values, not a %s"):format(path, type(labels))
  end
  for name, value in pairs(labels) do
    local kind = type(value)
    if type(name) ~= "string" or not name:find("^[A-Za-z_][A-Za-z0-9_]*$") or name:find("^__") then
      return ("%s has the name `%s`: it must be of A-Z a-z 0-9 _ and begin with no digit and not with __"):format(path,
        text.name(name))
    elseif own_labels[name] then
      return ("%s must not have `%s`: it is a metric's own"):format(path, name)
    elseif kind ~= "string" and kind ~= "number" then
      return ("%s.%s must be a string or a number, not a %s"):format(path, name, kind)
    end
  end
end

--- What is wrong with stats on the whole; numbers are looked at when they are written.
---@return string|nil
local function stats_problem(stats, path)
  if type(stats) ~= "table" then
    return ("%s must be what client:stats() gives, not %s"):format(path,
      stats == nil and "nothing" or "a " .. type(stats))
  end
  for _, name in ipairs { "outcomes", "connections", "actions", "outbox" } do
    if type(stats[name]) ~= "table" then
      return ("%s must be what client:stats() gives: its %s is no table"):format(path, name)
    end
  end
end

--- The entries, checked. One client's stats are an entry without labels.
---@return { stats: table, labels: table, path: string }[]|nil
---@return string|nil problem
local function entries_of(list)
  if type(list) ~= "table" then
    return nil, ("list must be client:stats(), or a list of { labels = …, stats = … }, not %s"):format(
      list == nil and "nothing" or "a " .. type(list))
  elseif list.calls ~= nil then
    return { { stats = list, labels = {}, path = "stats" } }, stats_problem(list, "stats")
  end
  local entries, seen = {}, {}
  for i, given in ipairs(list) do
    local path = ("list[%d]"):format(i)
    if type(given) ~= "table" then
      return nil, ("%s must be a table { labels = …, stats = … }, not a %s"):format(path, type(given))
    end
    local labels = given.labels or {}
    local problem = label_problem(labels, path .. ".labels") or stats_problem(given.stats, path .. ".stats")
    if problem then
      return nil, problem
    end
    local written = write_labels(labels)
    if seen[written] then
      return nil, ("%s.labels are those of %s: give each its own, such as the worker's number"):format(path,
        seen[written])
    end
    seen[written] = path
    entries[i] = { stats = given.stats, labels = labels, path = path .. ".stats" }
  end
  for key in pairs(list) do
    if entries[key] == nil then
      return nil, ("list must be client:stats(), or a list of { labels = …, stats = … }: it has the key `%s`"):format(
        text.name(key))
    end
  end
  return entries
end

--- The samples of a metric, sorted.
---@return string[]|nil lines
---@return string|nil problem
local function samples(metric, entries)
  local lines, problem = {}, nil
  for _, entry in ipairs(entries) do
    metric.read(entry.stats, function(value, path, labels)
      if type(value) ~= "number" or not (value >= 0 and value < 2 ^ 53 and value % 1 == 0) then
        problem = problem or ("%s.%s must be a whole number, not %s"):format(entry.path, path, text.name(value))
        return
      end
      lines[#lines + 1] = ("%s%s %.0f"):format(metric.name, write_labels(entry.labels, labels or {}), value)
    end)
  end
  table.sort(lines)
  return not problem and lines or nil, problem
end

--- The text of all metrics; the same counters give the same text.
---@return string|nil
---@return string|nil problem
local function write(list)
  local entries, problem = entries_of(list)
  if problem then
    return nil, problem
  end
  local lines = {}
  for _, metric in ipairs(metrics) do
    local of_metric, wrong = samples(metric, entries)
    if not of_metric then
      return nil, wrong
    elseif of_metric[1] then
      lines[#lines + 1] = ("# HELP %s %s\n# TYPE %s %s\n%s\n"):format(metric.name, metric.help, metric.name,
        metric.kind, table.concat(of_metric, "\n"))
    end
  end
  return table.concat(lines)
end

--- Writes the counters of one client, or of several (such as the workers of nginx, which can share theirs as JSON) by
--- labels that tell them apart. Raises, at the caller's line, for anything else.
---
---     prometheus.text(client:stats())
---     prometheus.text { { labels = { worker = 0 }, stats = one }, { labels = { worker = 1 }, stats = other } }
---@param list rtc.Stats|rtc.Prometheus.Entry[]
---@return string text  to be served as `prometheus.content_type`; "" for an empty list
function prometheus.text(list)
  local written, problem = write(list)
  if not written then
    error("prometheus.text: " .. problem, 2)
  end
  return written
end

return prometheus
