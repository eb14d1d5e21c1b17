-- What a client tells of its calls: events, counters, and the lines of RTC_DEBUG.

local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local process = require "spec.support.process"
local service = require "spec.support.service"

local act = fault_server.act

local TOKEN = "hunter3/the+session=token=="

local throttled = service.refuses("FlowLimitExceeded", { status = 429, code_n = 100018 })
local refused = service.refuses("InvalidAccessKey", { status = 401, code_n = 100009, message = "who?" })
local closed = { act.read(), act.close() }

local NAMES = { "request", "response", "retry", "failure" }

local server

local function start()
  server = fault_server.start()
end

local function send(client, changes)
  return client:send_room_unicast(service.message(changes))
end

--- Enqueues a message and waits for its end.
local function enqueue(client, changes)
  assert(client:enqueue(service.message(changes)))
  assert(client:drain())
end

--- All events of a client as they come, each with its name.
local function record(client)
  local events = {}
  for _, name in ipairs(NAMES) do
    client:on(name, function(event)
      events[#events + 1] = { name = name, event = event }
    end)
  end
  return events
end

local function names_of(events)
  local names = {}
  for i, each in ipairs(events) do
    names[i] = each.name
  end
  return table.concat(names, " ")
end

describe("a client's events", function()
  local client, events

  -- One for each test: the connections that nginx keeps are not a client's but its worker's.
  before_each(start)
  after_each(fault_server.stop_all)

  before_each(function()
    client = service.client(server, { session_token = TOKEN })
    events = record(client)
  end)

  -- what the server does, how a message is sent, and the events that come of it
  local stories = {
    ["an accepted message"] = { { service.accepts() }, send, "request response" },
    ["a refused message"] = { { refused }, send, "request response" },
    ["a message without an answer"] = { { closed }, send, "request response" },
    ["one that is throttled at first"] = {
      { throttled, service.accepts() }, send, "request response retry request response",
    },
    ["one that is always throttled"] = {
      { throttled, throttled, throttled }, send, "request response retry request response retry request response",
    },
    ["one whose time was wrong"] = {
      { service.refuses("InvalidTimestamp", { headers = { { "Date", "Thu, 02 Jan 2025 03:04:05 GMT" } } }),
        service.accepts() }, send, "request response retry request response",
    },
    ["one that was enqueued and accepted"] = { { service.accepts() }, enqueue, "request response" },
    ["one that was enqueued and refused"] = { { refused }, enqueue, "request response failure" },
    ["one with a wrong field"] = { {}, function(own) send(own, { to = "a b" }) end, "" },
    ["a call"] = { { service.accepts() }, function(own) own:call("BanRoomUser", {}) end, "request response" },
  }
  for name, story in pairs(stories) do
    it("come in order: " .. name, function()
      server:script(compat.unpack(story[1]))
      story[2](client)
      assert.equal(story[3], names_of(events))
    end)
  end

  it("do not come of what the rate limit refuses", function()
    client = service.client(server, { quota = { rate = 0.001, burst = 1, max_wait = 0, key = "events" } })
    server:script(service.accepts())
    assert(send(client))
    events = record(client)
    assert(not send(client))
    assert.equal("", names_of(events))
  end)

  --- The event's own fields as they are, but for `elapsed`, whose type is enough, and receipts and errors.
  local function shown(event)
    local result = {}
    for name, value in pairs(event) do
      result[name] = name == "elapsed" and type(value) or value
    end
    result.receipt, result.err = nil, nil
    return result
  end

  it("tell of every try, and only of it", function()
    server:script(throttled, service.accepts())
    local receipt = assert(send(client))
    local first, second = compat.unpack(server:requests())
    local function request(number)
      return {
        action = "SendRoomUnicast", version = "2020-12-01", method = "POST", attempt = number,
        url = server.url .. first.target, bytes = #first.body,
      }
    end
    local function response(number, answer)
      return {
        action = "SendRoomUnicast", version = "2020-12-01", attempt = number, elapsed = "number", reused = number == 2,
        sent = true, sent_bytes = #second.body, received_bytes = #answer.body,
      }
    end
    assert.same(request(1), shown(events[1].event))
    assert.same(response(1, service.refusal("FlowLimitExceeded", { code_n = 100018 })), shown(events[2].event))
    assert.same({ action = "SendRoomUnicast", attempt = 1, wait = 0 }, shown(events[3].event))
    assert.same(request(2), shown(events[4].event))
    assert.same(response(2, service.acceptance()), shown(events[5].event))
    assert.equal("FlowLimitExceeded", events[2].event.err.code)
    assert.is_nil(events[2].event.receipt)
    assert.equal("FlowLimitExceeded", events[3].event.err.code)
    assert.equal(receipt, events[5].event.receipt)
    assert.is_nil(events[5].event.err)
  end)

  it("tell of a try without an answer", function()
    server:script(closed)
    local _, err = send(client)
    assert.same({
      action = "SendRoomUnicast", version = "2020-12-01", attempt = 1, elapsed = "number", reused = false, sent = true,
      sent_bytes = #server:requests()[1].body, received_bytes = 0,
    }, shown(events[2].event))
    assert.same(err, events[2].event.err)
  end)

  it("tell of a GET call, with its parameters in the URL", function()
    server:script(service.accepts())
    assert(client:call("GetRoomOnlineUsers", nil, {
      method = "GET", query = { AppId = "app" }, version = "2023-11-01",
    }))
    assert.same({
      action = "GetRoomOnlineUsers", version = "2023-11-01", method = "GET", attempt = 1, bytes = 0,
      url = server.url .. "/?Action=GetRoomOnlineUsers&AppId=app&Version=2023-11-01",
    }, events[1].event)
  end)

  it("tell of a failed message with its fields, as they were given", function()
    server:script(refused)
    local given = { action = "send_unicast", to = 42, message = "hello" }
    assert(client:enqueue(given))
    given.message = "another"
    assert(client:drain())
    local event = events[3].event
    assert.equal("SendUnicast", event.action)
    assert.same({ action = "send_unicast", to = 42, message = "hello" }, event.fields)
    assert.same({ "InvalidAccessKey", 1, "rejected" }, { event.err.code, event.err.attempts, event.err.outcome })
  end)

  it("have receipts and errors that print while they are told", function()
    local printed = {}
    client:on("response", function(event)
      printed[#printed + 1] = tostring(event.receipt or event.err)
    end)
    client:on("retry", function(event)
      printed[#printed + 1] = tostring(event.err)
    end)
    server:script(throttled, service.accepts(), closed)
    assert(send(client))
    assert(not client:call("BanRoomUser", {}))
    assert.equal(4, #printed)
    assert.matches("^SendRoomUnicast: FlowLimitExceeded: no %(gateway, HTTP 429, rejected", printed[1])
    assert.equal(printed[1], printed[2])
    assert.matches("^SendRoomUnicast: accepted in %d+ ms %(HTTP 200, .*2 tries", printed[3])
    assert.matches("^BanRoomUser: ConnectionClosed: .*it may have been carried out", printed[4])
  end)

  it("have the error of each try, and not what the call made of it", function()
    local told = {}
    client = service.client(server, { retry = { base = 0, cap = 0, on_unknown = true } })
    events = record(client)
    server:script(closed, throttled, refused)
    local _, err = send(client)
    assert.same({ "unknown", 3 }, { err.outcome, err.attempts })
    for _, each in ipairs(events) do
      local own = each.event.err
      told[#told + 1] = own and ("%s %s %d"):format(each.name, own.outcome, own.attempts)
    end
    assert.same({ "response unknown 1", "retry unknown 1", "response rejected 2", "retry rejected 2",
      "response rejected 3" }, told)
  end)

  --- Looks through a value, its tables and what they print as; returns how many values those were.
  local function search(value, secrets, seen)
    local text, count = tostring(value), 1
    for _, secret in ipairs(secrets) do
      assert.is_nil(text:find(secret, 1, true), text)
    end
    if type(value) == "table" and not seen[value] then
      seen[value] = true
      for name, inner in pairs(value) do
        count = count + search(name, secrets, seen) + search(inner, secrets, seen)
      end
    end
    return count
  end

  it("hold no secret, whatever answers repeat", function()
    local secrets = { service.secret_key, TOKEN }
    local request = client.runtime.request
    client.runtime.request = function(req)
      local repeated = {}
      for _, header in ipairs(req.headers) do
        repeated[#repeated + 1] = header[1] .. ": " .. header[2]
        secrets[#secrets + 1] = header[2]:match("Signature=(%x+)")
      end
      server:script(service.refuses("FlowLimitExceeded", { message = table.concat(repeated, "; ") }))
      return request(req)
    end
    enqueue(client)
    assert.equal("request response retry request response retry request response failure", names_of(events))
    assert.matches("X-Security-Token: [hidden]", events[2].event.err.message, 1, true)
    assert.matches("Signature=[hidden]", events[2].event.err.message, 1, true)
    assert.equal(2 + 3, #secrets)
    assert.is_true(search(events, secrets, {}) > 100)
  end)
end)

describe("client:on", function()
  local client

  setup(start)
  teardown(fault_server.stop_all)

  before_each(function()
    client = service.client(server)
    server:always(nil, service.accepts())
  end)

  it("gives a function that takes the handler away again, and no other", function()
    local heard = {}
    local function hear(event)
      heard[#heard + 1] = event.attempt
    end
    local off = client:on("response", hear)
    local other = client:on("response", hear)
    assert(send(client))
    assert.equal(2, #heard)
    off()
    off()
    assert(send(client))
    assert.equal(3, #heard)
    other()
    assert(send(client))
    assert.equal(3, #heard)
  end)

  it("lets handlers come and go while they are called", function()
    local heard = ""
    local off = {}
    local function hear(name, act_on)
      off[name] = client:on("response", function()
        heard = heard .. name
        if act_on then
          act_on()
        end
      end)
    end
    hear("a", function() off.a() end)
    hear("b", function()
      off.b()
      hear("d")
    end)
    hear "c"
    assert(send(client))
    assert.equal("abc", heard)
    heard = ""
    assert(send(client))
    assert.equal("cd", heard)
    heard = ""
    hear("e", function() hear "f" end)
    assert(send(client))
    assert.equal("cde", heard) -- and not yet "f"
  end)

  -- event, handler, what the message must have
  for _, case in ipairs {
    { "respons", print, "unknown event `respons`: did you mean `response`?" },
    { "quux", print, "unknown event `quux`: there are: request, response, retry, failure" },
    { "on", print, "unknown event `on`" }, { "emit", print, "unknown event `emit`" }, { "has", print, "unknown event" },
    { nil, print, "unknown event `a nil`" }, { 42, print, "unknown event `42`" },
    { {}, print, "unknown event `a table`" },
    { "a\27[2J", print, "unknown event `a\\x1B[2J`" },
    { "response", nil, "the handler must be a function, not a nil" },
    { "response", "print", "the handler must be a function, not a string" },
  } do
    it(("raises, at the caller's line: %s"):format(case[3]), function()
      local ok, message = pcall(function()
        client:on(case[1], case[2])
      end)
      assert.is_false(ok)
      assert.matches("events_spec.lua:%d+: client:on: ", message)
      assert.matches(case[3], message, 1, true)
    end)
  end

  it("raises when it is called with a dot", function()
    local ok, message = pcall(function()
      client.on("response", print)
    end)
    assert.is_false(ok)
    assert.matches("events_spec.lua:%d+: call it with a colon: client:on", message)
  end)
end)

--- Runs a script in a process with a default client of the server.
local function run(script, env)
  local child = process.run({ process.lua, "-e", 'local rtc = require "rtc" ' .. script },
    { env = service.environment(server, env) })
  assert.equal(0, child.code, child.stderr)
  return child
end

describe("a handler that goes wrong", function()
  setup(start)
  teardown(fault_server.stop_all)

  local script = [[
    for _, name in ipairs { "request", "response", "retry", "failure" } do
      rtc.on(name, function() %s end)
      rtc.on(name, function() io.write(name, " ") end)
    end
    local receipt, err = rtc.send_room_unicast { room_id = "r", to = "u", message = "m" }
    print(receipt and receipt.attempts)
    rtc.enqueue { room_id = "r", to = "u", message = "m" }
    print(rtc.drain())]]

  for name, case in pairs {
    ["raising a string"] = { [[error("bad luck", 0)]], "raised: bad luck" },
    ["raising what commands a terminal"] = {
      [[error("\27[2J\nall is well", 0)]], [[raised: \x1B[2J\x0Aall is well]],
    },
    ["raising a table that cannot be shown"] = {
      "error(setmetatable({}, { __tostring = error }))", "raised: a table",
    },
    ["raising nothing"] = { "error(nil)", "raised: " .. tostring(select(2, pcall(error))) },
    ["yielding"] = { "coroutine.yield() os.exit(9)", "yielded, and was left there" },
  } do
    it("changes nothing, and is told of: " .. name, function()
      server:script(service.refuses("FlowLimitExceeded", { headers = { { "Retry-After", "0" } } }),
        service.accepts(), refused)
      local child = run(script:format(case[1]))
      assert.equal("request response retry request response 2\nrequest response failure true\n", child.stdout)
      local lines = {}
      for event in ("request response retry request response request response failure"):gmatch "%l+" do
        lines[#lines + 1] = ("rtc: a handler of the event `%s` %s\n"):format(event, case[2])
      end
      assert.equal(table.concat(lines), child.stderr)
    end)
  end
end)

describe("client:stats", function()
  local client

  before_each(start)
  after_each(fault_server.stop_all)

  before_each(function()
    client = service.client(server)
  end)

  local nothing = {
    calls = 0, accepted = 0, failed = 0, pending = 0, tries = 0, retries = 0, sent_bytes = 0, received_bytes = 0,
    outcomes = { not_sent = 0, rejected = 0, unknown = 0 }, connections = { opened = 0, reused = 0 }, actions = {},
    outbox = { waiting = 0, in_flight = 0, accepted = 0, failed = 0, refused = 0, dropped = 0 },
  }

  it("starts at zero", function()
    assert.same(nothing, client:stats())
  end)

  it("counts calls, tries, bytes and connections", function()
    local sent, received = 0, 0
    local function script(...)
      for _, answer in ipairs { ... } do
        received = received + #answer.body
        server:script { act.read(), act.answer(answer) }
      end
    end
    script(service.acceptance(), service.refusal "FlowLimitExceeded", service.acceptance(),
      service.refusal "InvalidAccessKey", service.acceptance(), service.refusal "InvalidAccessKey")
    assert(send(client))
    assert(send(client))
    send(client)
    assert(client:call("BanRoomUser", { "x" }))
    client:call("BanRoomUser", {})
    server:script(closed)
    send(client)
    send(client, { to = "a b" })
    for _, request in ipairs(server:requests()) do
      sent = sent + #request.body
    end
    local expected = {
      calls = 6, accepted = 3, failed = 3, pending = 0, tries = 7, retries = 1, sent_bytes = sent,
      received_bytes = received,
      outcomes = { not_sent = 0, rejected = 2, unknown = 1 }, connections = { opened = 1, reused = 6 },
      actions = {
        SendRoomUnicast = { accepted = 2, codes = { InvalidAccessKey = 1, ConnectionClosed = 1 } },
        BanRoomUser = { accepted = 1, codes = { InvalidAccessKey = 1 } },
      },
      outbox = nothing.outbox,
    }
    assert.same(expected, client:stats())
  end)

  it("counts what was enqueued", function()
    client = service.client(server, {
      retry = false, outbox = { entries = 1, concurrency = 1, full = "refuse" },
    })
    client:on("failure", function() end)
    server:script(service.accepts_after "counted", refused)
    client:enqueue(service.message())
    server:await(function(state) return state.waiting == 1 end)
    for _ = 1, 2 do
      client:enqueue(service.message())
    end
    local waiting = client:stats()
    assert.same({ waiting = 1, in_flight = 1, accepted = 0, failed = 0, refused = 1, dropped = 0 }, waiting.outbox)
    assert.equal(1, waiting.pending)
    server:release "counted"
    assert(client:drain())
    local stats = client:stats()
    assert.same({ waiting = 0, in_flight = 0, accepted = 1, failed = 1, refused = 1, dropped = 0 }, stats.outbox)
    assert.same({ 2, 1, 1 }, { stats.calls, stats.accepted, stats.failed })
  end)

  it("counts no connection where there was none", function()
    local gone = fault_server.start()
    gone:stop()
    client = service.client(gone)
    send(client)
    local stats = client:stats()
    assert.same({ 3, 2, 1, 1, 0 },
      { stats.tries, stats.retries, stats.failed, stats.outcomes.not_sent, stats.sent_bytes })
    assert.same({ opened = 0, reused = 0 }, stats.connections)
  end)

  it("is a copy each time", function()
    server:script(service.accepts(), refused)
    send(client)
    send(client)
    local function spoil(counters)
      for name, value in pairs(counters) do
        if type(value) == "table" then
          spoil(value)
        end
        counters[name] = "spoilt"
      end
    end
    spoil(client:stats())
    local stats = client:stats()
    assert.same({ 2, 1, 1 }, { stats.calls, stats.outcomes.rejected, stats.connections.opened })
    assert.same({ SendRoomUnicast = { accepted = 1, codes = { InvalidAccessKey = 1 } } }, stats.actions)
    assert.same(nothing.outbox, stats.outbox)
  end)

  it("is one client's", function()
    server:script(service.accepts())
    send(client)
    assert.same(nothing, service.client(server):stats())
  end)

  local function count(counters)
    local entries, sum = 0, 0
    for _, value in pairs(counters) do
      entries, sum = entries + 1, sum + value
    end
    return { entries, sum }
  end

  it("has a bound of codes and of actions", function()
    for n = 1, 150 do
      server:script(service.refuses("Code" .. n))
      send(client)
    end
    server:script(service.refuses "Code1", service.refuses "Code150")
    send(client)
    send(client)
    local codes = client:stats().actions.SendRoomUnicast.codes
    assert.same({ 101, 152 }, count(codes))
    assert.same({ 2, 1, 51 }, { codes.Code1, codes.Code100, codes.other })

    local accepted = {}
    for n = 1, 150 do
      server:script(service.accepts())
      assert(client:call("Action" .. n))
    end
    for name, action in pairs(client:stats().actions) do
      accepted[name] = action.accepted
    end
    assert.same({ 101, 150 }, count(accepted))
    assert.same({ 1, 51 }, { accepted.Action1, accepted.other })
  end)
end)

describe("RTC_DEBUG=1", function()
  setup(start)
  teardown(fault_server.stop_all)

  local send_one = 'rtc.send_room_unicast { room_id = "r", to = "u", message = "m" }'

  it("writes a line a try", function()
    server:script({ act.read(), act.sleep(0.1), act.answer(service.acceptance()) },
      service.refuses("FlowLimitExceeded", {
        status = 429, message = "too fast", headers = { { "Retry-After", "0" } },
      }), service.accepts(), closed)
    local child = run(send_one .. " " .. send_one .. ' rtc.call("BanRoomUser", {}, { version = "2023-11-01" })',
      { RTC_DEBUG = "1" })
    assert.equal("", child.stdout)
    local lines = {}
    for line in child.stderr:gmatch("[^\n]+") do
      lines[#lines + 1] = line
    end
    local expected = {
      "^rtc: SendRoomUnicast 2020%-12%-01, try 1: HTTP 200, accepted, request 20250102030405AAAA, %d+%.%d ms, "
        .. "new connection, %d+ bytes out, %d+ in$",
      "^rtc: SendRoomUnicast 2020%-12%-01, try 1: HTTP 429, FlowLimitExceeded: too fast %(rejected%), "
        .. "request 20250102030405AAAA, %d+%.%d ms, kept connection, %d+ bytes out, %d+ in$",
      "^rtc: SendRoomUnicast, another try after [01]%.%d%d%d s$",
      "^rtc: SendRoomUnicast 2020%-12%-01, try 2: HTTP 200, accepted, ",
      "^rtc: BanRoomUser 2023%-11%-01, try 1: no answer, ConnectionClosed: .* %(unknown%), %d+%.%d ms, kept connection",
    }
    assert.equal(#expected, #lines, child.stderr)
    for i, pattern in ipairs(expected) do
      assert.matches(pattern, lines[i])
    end
    assert.is_true(tonumber(lines[1]:match("([%d.]+) ms")) >= 100)
  end)

  it("shows no secret, and no terminal what commands it", function()
    local hostile = "\27[2J\r\n\226\128\174 Authorization: " .. TOKEN .. " \194\155 " .. ("x"):rep(5000)
    server:script(service.refuses(hostile, { message = hostile }),
      { act.read(), act.answer { status = 502, body = hostile } },
      { act.read(), act.answer { body = require("cjson").encode {
        ResponseMetadata = { RequestId = hostile, Region = hostile, Version = hostile },
      } } })
    local child = run(([[
      local client = rtc.new { access_key = %q, secret_key = %q, session_token = %q }
      for _ = 1, 3 do client:send_room_unicast { room_id = "r", to = "u", message = "m" } end]]):format(
      service.access_key, service.secret_key, TOKEN), { RTC_DEBUG = "1" })
    local lines = select(2, child.stderr:gsub("\n", ""))
    assert.equal(3, lines, child.stderr)
    assert.is_nil(child.stderr:gsub("\n", ""):find("[%c]"))
    for _, forbidden in ipairs { "\226\128\174", "\194\155", TOKEN, service.secret_key, "Signature" } do
      assert.is_nil(child.stderr:find(forbidden, 1, true), forbidden)
    end
    assert.matches("[hidden]", child.stderr, 1, true)
    assert.is_true(#child.stderr < 6000, #child.stderr)
  end)

  for name, value in pairs { ["not set"] = false, ["0"] = "0", ["empty"] = "" } do
    it("is silent when it is " .. name, function()
      server:script(service.accepts())
      local child = run(send_one, { RTC_DEBUG = value })
      assert.equal("", child.stderr)
    end)
  end
end)
