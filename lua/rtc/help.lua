--- Help at the prompt, from the tables that the client itself goes by.

local api = require "rtc.api"
local suggest = require "rtc.suggest"
local text = require "rtc.text"

local help = {}

local overview = [[
rtc: tell a person who is in a call something, now.

  client = rtc.new "sandbox"     a client of the sandbox (start it in another terminal: rtc sandbox)
  client = rtc.new { … }         a client of the service; keys from the environment when none are given
%s
  client:call(action, body, { version =, method =, query = })   any other action of the service
  client:send_all(list)          send many, some at a time
  client:enqueue { … }           send without waiting; client:drain() waits for what is left
  client:spawn(fn)               run something beside the rest
  client:connect(n)              open connections ahead; client:close() closes them
  client:on(event, fn)           be told of "request", "response", "retry", "failure"
  client:stats()                 counters
  rtc.loop()                     for a loop of your own that must not wait
  rtc.signer { … }               the signer by itself

The same functions without a client, as in rtc.send_unicast { … }, use one that is made from the environment.
Each gives a receipt, or nil and an error: print either. err.outcome is "not_sent", "rejected" or "unknown".
More: rtc.help "send_unicast", rtc.help "enqueue" and so on.
]]

local function in_columns(rows)
  local width = 0
  for _, row in ipairs(rows) do
    width = math.max(width, #row[1])
  end
  local lines = {}
  for i, row in ipairs(rows) do
    lines[i] = ("  %s%s   %s"):format(row[1], (" "):rep(width - #row[1]), row[2])
  end
  return table.concat(lines, "\n")
end

local function about_all()
  local rows = {}
  for i, action in ipairs(api.messages) do
    rows[i] = { ("client:%s { … }"):format(action.method), action.summary }
  end
  return overview:format(in_columns(rows))
end

local units = { message = "bytes", ids = "IDs" }

--- What a field takes, in a phrase.
---@param field rtc.api.Field
---@return string
function help.describe(field)
  local notes = { field.summary }
  if field.max then
    notes[#notes + 1] = ("at most %d %s"):format(field.max, units[field.type])
  end
  if field.default ~= nil then
    notes[#notes + 1] = "default " .. tostring(field.default)
  elseif field.remedy then
    notes[#notes + 1] = "default: the client's"
  end
  return table.concat(notes, "; ")
end

local function about_action(action)
  local rows = {}
  for _, field in ipairs(action.fields) do
    rows[#rows + 1] = { field.name, help.describe(field) }
    if field.type == "ids" then
      rows[#rows + 1] = { "split", "send a longer list in parts; default false" }
    end
  end
  rows[#rows + 1] = { "version", "of the API: " .. table.concat(action.versions, " or ") }
  rows[#rows + 1] = { "timeout", "seconds for the whole call; default: the client's" }
  return ("client:%s { … }   %s (%s)\n\n%s\n\nThe receiver's app fires %s, or %s for a binary message.\n%s\n"):format(
    action.method, action.summary, action.name, in_columns(rows), action.callbacks.text, action.callbacks.binary,
    "An ID is a string or a whole number: " .. api.id.rule)
end

local topics = {
  call = [[
client:call(action, body, { version =, method =, query =, timeout = })   any action of the service

  action   its name, like "BanRoomUser"
  body     a table, a string of JSON, or nothing: {}, or no body with method = "GET"
  query    a table of parameters beside Action and Version

The receipt's `result` is what the answer holds as Result.
]],
  enqueue = [[
client:enqueue { action =, … }   sends without waiting

Takes the fields of a message, and as action "send_room_unicast" (default) or another one. Returns true, or nil and an
error. What fails is told to client:on("failure", fn), or to standard error. When no more fit, a message is refused, or
with rtc.new { outbox = { full = "drop_oldest" } } those that have waited longest give way to it. client:drain(seconds)
waits for what is left, calls of other tasks included, client:drain(0) only does what can be done at once, and
client:stats().outbox counts.
]],
  send_all = [[
for index, receipt, err in client:send_all(messages, { … }) do … end   sends many messages, some at a time

  messages      a list, or a function that gives one after the other; one may have an `action` of its own
  concurrency   on their way at once; default 64
  action        of messages that name none; default "send_room_unicast"
  ordered       keep the order of messages to the same receiver; default false
  on_result     function(index, receipt, err), called for each instead of a loop; then it returns accepted, failed
]],
  spawn = [[
client:spawn(fn, …)   runs fn as a task; returns a future

  future:wait(seconds)   what fn returned; raises what it raised. After so long: nil and an error ("Timeout")
  future:done()          whether it is over
]],
  connect = [[
client:connect(n)   opens n connections ahead, for the first messages to need no handshake

Returns n, or nil and an error. They are kept for the seconds of the option keep_alive.
]],
  close = [[
client:close()   ends the client: calls on their way fail ("Cancelled"), and connections are closed

To lose nothing, client:drain() first.
]],
  loop = [[
loop = rtc.loop(); client = rtc.new { runtime = loop }   for a loop of your own, such as a game's

  loop:spawn(fn, …)    makes a task, in which calls wait; returns a future
  loop:step(budget)    lets the tasks go on for so many seconds, without waiting: call it once a frame
  loop:pending()       how many tasks are not over
  loop:wait(seconds)   waits until there is work, or so long
  loop:sleep(seconds)  for a task
  loop:now()           monotonic seconds
]],
  on = [[
client:on(event, fn)   calls fn with a table; returns a function that ends it

  request    a try goes out: action, version, method, url, attempt, bytes
  response   a try ended: action, version, attempt, receipt or err, elapsed, sent, reused, sent_bytes, received_bytes
  retry      another try follows: action, attempt, wait, err
  failure    an enqueued message was not accepted: action, fields, err
]],
  stats = [[
client:stats()   counters since the client was made: print it

calls, accepted, failed, pending, outcomes, tries, retries, sent_bytes, received_bytes, connections, actions, outbox

require("rtc.prometheus").text(client:stats()) is the same for Prometheus.
]],
}
topics.drain = topics.enqueue

--- The names of all topics.
local function topic_names()
  local names = { "send_all", "call", "enqueue", "drain", "spawn", "connect", "close", "loop", "on", "stats" }
  for i, name in ipairs(api.method_names) do
    table.insert(names, i, name)
  end
  return names
end

--- A text about a topic.
---@param topic any  the name of a message action or of another method of the client; nil: all there is
---@return string
function help.about(topic)
  if topic == nil then
    return about_all()
  end
  local action = api.find(topic)
  return action and about_action(action) or topics[topic] or ("There is no help on `%s`: %s\n"):format(
    text.name(topic), suggest.hint(topic, topic_names()))
end

return help
