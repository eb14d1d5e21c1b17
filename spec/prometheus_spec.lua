-- Counters in Prometheus' text format: its exact text, its grammar, and what is refused.

local fault_server = require "spec.support.fault_server"
local json = require "cjson"
local prometheus = require "rtc.prometheus"
local service = require "spec.support.service"

--- Stats in which no two numbers are the same.
local function plain_stats()
  return {
    calls = 1, accepted = 2, failed = 3, pending = 4, tries = 5, retries = 6, sent_bytes = 7,
    received_bytes = 9007199254740991,
    outcomes = { not_sent = 8, rejected = 9, unknown = 10 }, connections = { opened = 11, reused = 12 },
    actions = {
      SendUnicast = { accepted = 13, codes = {} },
      BanRoomUser = { accepted = 14, codes = { ["InvalidParameter.IllegalTo"] = 15, Timeout = 16 } },
    },
    outbox = { waiting = 17, in_flight = 18, accepted = 19, failed = 20, refused = 21, dropped = 22 },
  }
end

local expected = [[
# HELP rtc_calls_total Calls that are over, by action and the error's code; accepted: those with a receipt.
# TYPE rtc_calls_total counter
rtc_calls_total{action="BanRoomUser",code="InvalidParameter.IllegalTo"} 15
rtc_calls_total{action="BanRoomUser",code="Timeout"} 16
rtc_calls_total{action="BanRoomUser",code="accepted"} 14
rtc_calls_total{action="SendUnicast",code="accepted"} 13
# HELP rtc_failed_calls_total Calls that failed, by what became of the message.
# TYPE rtc_failed_calls_total counter
rtc_failed_calls_total{outcome="not_sent"} 8
rtc_failed_calls_total{outcome="rejected"} 9
rtc_failed_calls_total{outcome="unknown"} 10
# HELP rtc_tries_total Tries of all calls.
# TYPE rtc_tries_total counter
rtc_tries_total 5
# HELP rtc_retries_total Tries that were not a call's first.
# TYPE rtc_retries_total counter
rtc_retries_total 6
# HELP rtc_sent_bytes_total Bytes of the bodies that were sent whole.
# TYPE rtc_sent_bytes_total counter
rtc_sent_bytes_total 7
# HELP rtc_received_bytes_total Bytes of the bodies of all answers.
# TYPE rtc_received_bytes_total counter
rtc_received_bytes_total 9007199254740991
# HELP rtc_connections_total Connections opened, and tries that reused one.
# TYPE rtc_connections_total counter
rtc_connections_total{state="opened"} 11
rtc_connections_total{state="reused"} 12
# HELP rtc_pending Calls that wait at the moment.
# TYPE rtc_pending gauge
rtc_pending 4
# HELP rtc_outbox_waiting Enqueued messages that wait for their turn.
# TYPE rtc_outbox_waiting gauge
rtc_outbox_waiting 17
# HELP rtc_outbox_in_flight Enqueued messages that are on their way.
# TYPE rtc_outbox_in_flight gauge
rtc_outbox_in_flight 18
# HELP rtc_outbox_messages_total Enqueued messages, by what became of them.
# TYPE rtc_outbox_messages_total counter
rtc_outbox_messages_total{result="accepted"} 19
rtc_outbox_messages_total{result="dropped"} 22
rtc_outbox_messages_total{result="failed"} 20
rtc_outbox_messages_total{result="refused"} 21
]]

local unescapes = { ["\\\\"] = "\\", ['\\"'] = '"', ["\\n"] = "\n" }

--- Reads `name="value"` pairs; every character must be part of one.
local function parse_labels(written)
  local labels, rest = {}, written
  while rest ~= "" do
    local name, after = rest:match '^([A-Za-z_][A-Za-z0-9_]*)="(.*)$'
    assert(name and not labels[name], "labels: " .. written)
    local at, value = 1, {}
    while after:sub(at, at) ~= '"' do
      local escape = unescapes[after:sub(at, at + 1)]
      local char = escape or after:match("^[^\\\n]", at)
      assert(char, "a label's value: " .. after)
      value[#value + 1] = char
      at = at + (escape and 2 or 1)
    end
    labels[name], rest = table.concat(value), after:sub(at + 1)
    assert(rest == "" or rest:find "^,.", "labels: " .. written)
    rest = rest:gsub("^,", "")
  end
  return labels
end

--- Reads a text by the format's grammar, strictly: HELP and TYPE once for each metric and before its samples, which
--- stand together, and none of them twice.
---@return { name: string, labels: table<string, string>, value: number }[]
---@return table<string, string> types
local function parse(written)
  local samples, types, current, helped, seen = {}, {}, nil, nil, {}
  assert(written == "" or written:sub(-1) == "\n")
  for line in written:gmatch "([^\n]*)\n" do
    local help = line:match "^# HELP ([A-Za-z_:][A-Za-z0-9_:]*) [^\\]+$"
    local typed, kind = line:match "^# TYPE ([A-Za-z_:][A-Za-z0-9_:]*) (%l+)$"
    local name, labels, value = line:match "^([A-Za-z_:][A-Za-z0-9_:]*)(%S*.*) (%d+)$"
    if help then
      assert(not types[help], line)
      helped = help
    elseif typed then
      assert(typed == helped and not types[typed] and (kind == "counter" or kind == "gauge"), line)
      assert((kind == "counter") == (typed:find "_total$" ~= nil), line)
      types[typed], current = kind, typed
    else
      assert(name and name == current and not seen[name .. labels], "a line: " .. line)
      assert(labels == "" or labels:find "^{.*}$", line)
      seen[name .. labels] = true
      samples[#samples + 1] = { name = name, labels = parse_labels(labels:sub(2, -2)), value = tonumber(value) }
    end
  end
  return samples, types
end

describe("prometheus.text", function()
  it("writes all counters of a client", function()
    assert.equal(expected, prometheus.text(plain_stats()))
    assert.equal("text/plain; version=0.0.4; charset=utf-8", prometheus.content_type)
  end)

  it("writes several clients' counters under one HELP, with their labels, in an order of its own", function()
    local other = plain_stats()
    other.tries, other.actions = 105, { SendUnicast = { accepted = 113, codes = {} } }
    local entries = {
      { labels = { worker = 1, host = "a" }, stats = plain_stats() }, { labels = { worker = "0" }, stats = other },
    }
    local written = prometheus.text(entries)
    for _, part in ipairs {
      '# TYPE rtc_tries_total counter\nrtc_tries_total{host="a",worker="1"} 5\nrtc_tries_total{worker="0"} 105\n# HELP',
      'rtc_calls_total{action="SendUnicast",code="accepted",host="a",worker="1"} 13\n'
        .. 'rtc_calls_total{action="SendUnicast",code="accepted",worker="0"} 113\n# HELP',
      'rtc_outbox_messages_total{host="a",result="accepted",worker="1"} 19\n',
    } do
      assert.matches(part, written, 1, true)
    end
    assert.equal(select(2, expected:gsub("#", "")), select(2, written:gsub("#", "")))
    assert.equal(written, prometheus.text { entries[2], entries[1] })
  end)

  it("leaves out a metric without samples, and all of them without clients", function()
    local stats = plain_stats()
    stats.actions = {}
    assert.equal(expected:match "\n(# HELP rtc_failed_calls_total.*)$", prometheus.text(stats))
    assert.equal("", prometheus.text {})
  end)

  it("escapes what labels can't hold as it is", function()
    local stats = plain_stats()
    stats.actions = { ['a"\\\nb'] = { accepted = 1, codes = { ["\255\n"] = 2, ["é\r"] = 3 } } }
    local written = prometheus.text { { labels = { place = 'c\\n"\n' }, stats = stats } }
    assert.equal(([[
rtc_calls_total{action="a\"\\\nb",code="\\xFF\\x0A",place="c\\n\"\n"} 2
rtc_calls_total{action="a\"\\\nb",code="accepted",place="c\\n\"\n"} 1
rtc_calls_total{action="a\"\\\nb",code="é\r",place="c\\n\"\n"} 3
]]):gsub("\\r", "\r"), (written:match "counter\n(.-)# HELP"))
  end)

  it("writes by the format's grammar", function()
    local stats = plain_stats()
    local hostile = '{x="y"} 1,\\\n# TYPE x\\'
    stats.actions[hostile] = { accepted = 23, codes = { [hostile] = 24, ["}"] = 25, [""] = 26 } }
    local samples, types = parse(prometheus.text {
      { labels = { a = hostile }, stats = stats }, { labels = {}, stats = stats },
    })
    local values, metrics = {}, 0
    for _, sample in ipairs(samples) do
      if sample.labels.action == hostile then
        values[#values + 1] = { sample.labels.code, sample.labels.a, sample.value }
      end
    end
    table.sort(values, function(one, other)
      return one[3] < other[3] or one[3] == other[3] and one[2] ~= nil and other[2] == nil
    end)
    assert.same({
      { "accepted", hostile, 23 }, { "accepted", nil, 23 }, { hostile, hostile, 24 }, { hostile, nil, 24 },
      { "}", hostile, 25 }, { "}", nil, 25 }, { "", hostile, 26 }, { "", nil, 26 },
    }, values)
    for _ in pairs(types) do
      metrics = metrics + 1
    end
    assert.equal(11, metrics)
  end)

  it("reads the counters of a client, and the same from JSON", function()
    local server = fault_server.start()
    finally(fault_server.stop_all)
    server:always(nil, service.accepts())
    server:script(service.refuses "FlowLimitExceeded", service.refuses 'Odd"Code\\')
    local client = service.client(server)
    client:on("failure", function() end)
    for _ = 1, 3 do
      client:send_room_unicast(service.message())
    end
    assert(client:enqueue(service.message()))
    assert(client:drain())
    local stats = client:stats()
    local read = {}
    for _, sample in ipairs((parse(prometheus.text(stats)))) do
      local labels = sample.labels
      read[table.concat({ sample.name, labels.action or labels.result or labels.state or labels.outcome,
        labels.code }, " ")] = sample.value
    end
    assert.same({ 3, 1 }, { read["rtc_calls_total SendRoomUnicast accepted"],
      read['rtc_calls_total SendRoomUnicast Odd"Code\\'] })
    assert.same({ 5, 1, 1, 4, 1, 1 }, { read["rtc_tries_total"], read["rtc_retries_total"],
      read["rtc_connections_total opened"], read["rtc_connections_total reused"],
      read["rtc_failed_calls_total unknown"], read["rtc_outbox_messages_total accepted"] })
    assert.equal(stats.sent_bytes, read["rtc_sent_bytes_total"])
    assert.equal(prometheus.text(stats), prometheus.text(json.decode(json.encode(stats))))
  end)

  local function changed(change)
    local stats = plain_stats()
    change(stats)
    return stats
  end

  local function entry(labels)
    return { labels = labels, stats = plain_stats() }
  end

  for name, case in pairs {
    ["nothing"] = { nil, "list must be client:stats(), or a list of { labels = …, stats = … }, not nothing" },
    ["a string"] = { "x", "{ labels = …, stats = … }, not a string" },
    ["another table"] = { { stats = plain_stats() }, "it has the key `stats`" },
    ["an entry that is none"] = { { 42 }, "list[1] must be a table { labels = …, stats = … }, not a number" },
    ["an entry without stats"] = { { {} }, "list[1].stats must be what client:stats() gives, not nothing" },
    ["stats that are none"] = { { { stats = true } }, "list[1].stats must be what client:stats() gives, not a b" },
    ["stats without a table"] = {
      changed(function(stats) stats.outbox = nil end), "stats must be what client:stats() gives: its outbox is no",
    },
    ["stats without a number"] = {
      { entry(), { labels = { a = "b" }, stats = changed(function(stats) stats.outbox.dropped = nil end) } },
      "list[2].stats.outbox.dropped must be a whole number, not a nil",
    },
    ["an action that is none"] = {
      changed(function(stats) stats.actions.SendUnicast = 1 end), 'stats.actions["SendUnicast"].accepted must be',
    },
    ["a code's number that is none"] = {
      changed(function(stats) stats.actions.SendUnicast.codes.X = "1" end),
      'stats.actions["SendUnicast"].codes["X"] must be a whole number, not 1',
    },
    ["a number that is negative"] = {
      changed(function(stats) stats.tries = -1 end), "stats.tries must be a whole number, not -1",
    },
    ["a number that is none"] = { changed(function(stats) stats.tries = 0 / 0 end), "stats.tries must be a whole" },
    ["a number that is broken"] = {
      changed(function(stats) stats.tries = 1.5 end), "stats.tries must be a whole number, not 1.5",
    },
    ["labels that are none"] = { { entry "x" }, "list[1].labels must be a table of names and values, not a string" },
    ["a label's name that is none"] = { { entry { ["a-b"] = "x" } }, "list[1].labels has the name `a-b`: it must" },
    ["a label's name that is a number"] = { { entry { "x" } }, "list[1].labels has the name `1`" },
    ["a label's name that is reserved"] = { { entry { __name__ = "x" } }, "list[1].labels has the name `__name__`" },
    ["a label that is a metric's own"] = { { entry { code = "x" } }, "list[1].labels must not have `code`" },
    ["a label's value that is none"] = {
      { entry { worker = true } }, "list[1].labels.worker must be a string or a number, not a boolean",
    },
    ["clients that nothing tells apart"] = {
      { entry { worker = 1 }, entry { worker = 2 }, entry { worker = "1" } },
      "list[3].labels are those of list[1]: give each its own",
    },
  } do
    it("raises at the caller's line for " .. name, function()
      local ok, problem = pcall(function()
        local written = prometheus.text(case[1])
        return written
      end)
      assert.is_false(ok)
      assert.matches("^%S*prometheus_spec%.lua:%d+: prometheus%.text: ", problem)
      assert.matches(case[2], problem, 1, true)
    end)
  end
end)
