-- Messages that nobody waits for: when they go out, what is told of them, and that none is lost or sent twice.

local api = require "rtc.api"
local certificates = require "spec.support.certificates"
local child = require "spec.support.child"
local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local json = require "cjson"
local native = require "spec.support.native"
local outboxes = require "rtc.outbox"
local own_scheduler = require "spec.support.own_scheduler"
local process = require "spec.support.process"
local rtc = require "rtc"
local service = require "spec.support.service"

local where = compat.where

local act = fault_server.act

local server

local function message(text, changes)
  local fields = service.message(changes)
  fields.message = text
  return fields
end

--- The messages that the server got, in the order in which they came.
local function messages()
  local list = {}
  for i, request in ipairs(server:requests()) do
    list[i] = json.decode(request.body).Message
  end
  return list
end

local function await_waiting(count)
  server:await(function(state) return state.waiting == count end)
end

before_each(function()
  server = fault_server.start()
  server:always(nil, service.accepts())
end)

after_each(fault_server.stop_all)

describe("client:enqueue", function()
  local client

  --- A client that sends one message at a time, unless told otherwise.
  local function open(outbox, changes)
    local options = { retry = false, outbox = { concurrency = 1 } }
    for name, value in pairs(outbox or {}) do
      options.outbox[name] = value
    end
    for name, value in pairs(changes or {}) do
      options[name] = value
    end
    return service.client(server, options)
  end

  --- Texts "1", "2" … or from another number on.
  local function enqueue(count, first)
    for n = first or 1, count do
      assert.is_true(client:enqueue(message(tostring(n))))
    end
  end

  local function counts()
    local outbox = client:stats().outbox
    return { outbox.in_flight, outbox.waiting }
  end

  --- Texts "1", "2" … as `enqueue` sends them.
  local function numbers(count)
    local list = {}
    for n = 1, count do
      list[n] = tostring(n)
    end
    return list
  end

  before_each(function()
    client = open()
  end)

  it("returns before the answer comes, and the message is on its way", function()
    server:always(nil, service.accepts_after "answer")
    enqueue(1)
    await_waiting(1)
    assert.same({ 1, 0 }, counts())
    server:release "answer"
    assert.is_true(client:drain())
    assert.same({ "1" }, messages())
    assert.same({ 0, 0 }, counts())
  end)

  for name, case in pairs {
    ["16 unless told otherwise"] = { nil, 16 }, ["three"] = { 3, 3 }, ["one"] = { 1, 1 },
  } do
    it("has so many messages on their way at once: " .. name, function()
      client = service.client(server, { outbox = { concurrency = case[1] } })
      server:always(nil, service.accepts_after "answer")
      enqueue(20)
      await_waiting(case[2])
      assert.same({ case[2], 20 - case[2] }, counts())
      server:release "answer"
      assert.is_true(client:drain())
      assert.equal(20, #messages())
      assert.equal(case[2], server:state().most_open)
    end)
  end

  it("sends in order, one at a time", function()
    enqueue(30)
    assert.is_true(client:drain())
    assert.same(numbers(30), messages())
  end)

  it("goes on while another call of the client waits", function()
    server:always(service.target "Held", service.accepts_after "held")
    local answered = 0
    client:on("response", function()
      answered = answered + 1
      if answered == 5 then
        server:release "held"
      end
    end)
    enqueue(5)
    assert(client:call("Held", { Message = "call" }))
    assert.equal(6, answered)
    assert.equal(6, #messages())
  end)

  it("goes on while another call of the client waits for its next try", function()
    client = open(nil, { retry = { base = 0, cap = 0 } })
    local target = service.target "Other"
    server:always(target, service.refuses("FlowLimitExceeded", { headers = { { "Retry-After", "1" } } }))
    client:on("retry", function()
      server:always(target, service.accepts())
    end)
    enqueue(3)
    assert.equal(2, assert(client:call("Other", { Message = "call" })).attempts)
    assert.same({ 3, 0 }, { client:stats().outbox.accepted, client:stats().outbox.waiting })
  end)

  it("takes an action by both of its names", function()
    local expected = {}
    for _, action in ipairs(api.messages) do
      for _, name in ipairs { action.name, action.method } do
        local given = { action = name, message = "hello" }
        for _, field in ipairs(action.fields) do
          if field.name == "to" then
            given.to = field.type == "ids" and { "user" } or "user"
          elseif field.name == "room_id" then
            given.room_id = "room"
          end
        end
        assert(client:enqueue(given))
        expected[#expected + 1] = service.target(action.name)
      end
    end
    assert(client:enqueue(service.message()))
    expected[#expected + 1] = service.target "SendRoomUnicast"
    assert(client:drain())
    local targets = {}
    for i, request in ipairs(server:requests()) do
      targets[i] = request.target
    end
    assert.same(expected, targets)
  end)

  it("keeps the fields as they were, whatever becomes of their table", function()
    server:always(nil, service.accepts_after "answer")
    enqueue(1)
    local fields = message "2"
    assert(client:enqueue(fields))
    fields.message, fields.to, fields.action = "3", nil, "send_broadcast"
    server:release "answer"
    assert(client:drain())
    assert.same({ "1", "2" }, messages())
  end)

  -- What is given, the field at fault, and what the message must have.
  for name, case in pairs {
    ["a bad ID"] = { message("x", { to = "a b" }), "to", "to has a space at position 2" },
    ["a field that is missing"] = { { room_id = "room", message = "x" }, "to", "to is missing" },
    ["a field that is unknown"] = { message("x", { mesage = "x" }), "mesage", "did you mean `message`?" },
    ["an action that is unknown"] = {
      message("x", { action = "sendunicst" }), "action", "did you mean `send_unicast`?",
    },
    ["an action that is none"] = { message("x", { action = 42 }), "action", "there are: send_unicast, " },
    ["an action that is false"] = { message("x", { action = false }), "action", "not the name of a message action" },
    ["another action of the service"] = { message("x", { action = "BanRoomUser" }), "action", "not the name" },
    ["a split"] = {
      message("x", { action = "batch_send_room_unicast", to = { "u" }, split = true }), "split", "enqueue each part",
    },
    ["a timeout that is none"] = { message("x", { timeout = "1" }), "timeout", "timeout must be a number of seconds" },
    ["no table"] = { "hello", nil, "must be a table, not a string" },
    ["nothing"] = { nil, nil, "must be a table, not nothing" },
  } do
    it("refuses at once " .. name, function()
      local ok, err = client:enqueue(case[1])
      assert.is_nil(ok)
      assert.same({ "argument", "not_sent", 0, false }, { err.kind, err.outcome, err.attempts, err.retryable })
      assert.equal(case[2], err.field)
      assert.matches(case[3], err.message, 1, true)
      assert.is_true(client:drain())
      assert.same({ waiting = 0, in_flight = 0, accepted = 0, failed = 0, refused = 0, dropped = 0 },
        client:stats().outbox)
      assert.equal(0, server:state().requests)
    end)
  end

  describe("with bounds", function()
    local size

    --- Enqueues so many, the first of which is on its way when the others come.
    local function enqueue_behind_the_first(count)
      enqueue(1)
      await_waiting(1)
      enqueue(count, 2)
    end

    before_each(function()
      size = #assert(client:explain("SendRoomUnicast", message "1")).body
      server:always(nil, service.accepts_after "answer")
    end)

    for name, bounds in pairs {
      ["of messages"] = function() return { entries = 2 } end,
      ["of bytes"] = function() return { bytes = 2 * size } end,
    } do
      it("refuses what is too much, and loses nothing: " .. name, function()
        local options = bounds()
        options.full = "refuse"
        client = open(options)
        enqueue_behind_the_first(3)
        local ok, err = client:enqueue(message "4")
        assert.is_nil(ok)
        assert.same({ "quota", "OutboxFull", "not_sent", true, 0, "SendRoomUnicast" },
          { err.kind, err.code, err.outcome, err.retryable, err.attempts, err.action })
        assert.matches(("2 messages of %d bytes wait already"):format(2 * size), err.message, 1, true)
        assert.matches("client:drain()", err.advice, 1, true)
        assert.same({ 1, 2 }, counts())
        assert.equal(1, client:stats().outbox.refused)
        server:release "answer"
        assert.is_true(client:drain())
        enqueue(1)
        assert.is_true(client:drain())
        assert.same({ "1", "2", "3", "1" }, messages())
      end)
    end

    it("says that a message is too large for any room", function()
      client = open { bytes = size - 1 }
      local ok, err = client:enqueue(message "1")
      assert.is_nil(ok)
      assert.same({ "OutboxFull", "not_sent", false }, { err.code, err.outcome, err.retryable })
      assert.equal(("the message takes %d bytes, and the outbox holds at most %d"):format(size, size - 1), err.message)
      assert.matches("outbox (bytes)", err.advice, 1, true)
    end)

    describe("that drop the oldest", function()
      local failed

      --- What the failures say, of a client that is told of them.
      local function note_failures()
        failed = {}
        client:on("failure", function(event)
          failed[#failed + 1] = event.fields.message .. ": " .. event.err.message
        end)
      end

      local function dropped(text, waiting, bytes, bound)
        return ("%s: dropped for a newer one: %d messages of %d bytes waited, and the outbox holds at most %s"):format(
          text, waiting, bytes, bound)
      end

      it("lets those give way that have waited longest: of messages", function()
        client = open { entries = 2, full = "drop_oldest" }
        note_failures()
        enqueue_behind_the_first(5)
        assert.same({ dropped("2", 2, 2 * size, "2 messages"), dropped("3", 2, 2 * size, "2 messages") }, failed)
        local outbox = client:stats().outbox
        assert.same({ waiting = 2, in_flight = 1, accepted = 0, failed = 0, refused = 0, dropped = 2 }, outbox)
        server:release "answer"
        assert.is_true(client:drain())
        assert.same({ "1", "4", "5" }, messages())
        assert.equal(3, client:stats().outbox.accepted)
      end)

      it("lets as many give way as the new one needs: of bytes", function()
        client = open { bytes = 3 * size + 2, full = "drop_oldest" }
        note_failures()
        enqueue_behind_the_first(4)
        assert.is_true(client:enqueue(message(("x"):rep(size + 2)))) -- of two messages' size, and one byte more
        local bound = ("%d bytes"):format(3 * size + 2)
        assert.same({ dropped("2", 3, 3 * size, bound), dropped("3", 2, 2 * size, bound) }, failed)
        server:release "answer"
        assert.is_true(client:drain())
        assert.same({ "1", "4", ("x"):rep(size + 2) }, messages())
      end)

      it("tell the handler what can be done", function()
        client = open { entries = 1, full = "drop_oldest" }
        local event
        client:on("failure", function(told) event = told end)
        enqueue_behind_the_first(3)
        local err = event.err
        assert.same({ "SendRoomUnicast", "quota", "OutboxFull", "not_sent", true, 0 },
          { event.action, err.kind, err.code, err.outcome, err.retryable, err.attempts })
        assert.matches("outbox (entries, bytes, concurrency)", err.advice, 1, true)
        server:release "answer"
        assert.is_true(client:drain())
      end)

      it("refuse what is too large for any room, and drop nothing for it", function()
        client = open { bytes = 2 * size, full = "drop_oldest" }
        note_failures()
        enqueue_behind_the_first(3)
        local ok, err = client:enqueue(message(("x"):rep(2 * size)))
        assert.is_nil(ok)
        assert.same({ "OutboxFull", false }, { err.code, err.retryable })
        local outbox = client:stats().outbox
        assert.same({ 2, 1, 0 }, { outbox.waiting, outbox.refused, outbox.dropped })
        assert.same({}, failed)
        server:release "answer"
        assert.is_true(client:drain())
      end)

      it("refuse what a handler enqueues again when it is told of a dropped one", function()
        client = open { entries = 2, full = "drop_oldest" }
        local refused = {}
        client:on("failure", function(event)
          local ok, err = client:enqueue(event.fields)
          assert(not ok)
          refused[#refused + 1] = { event.fields.message, err.code, err.outcome, err.retryable }
        end)
        enqueue_behind_the_first(4)
        enqueue(1)
        assert.same({ { "2", "OutboxFull", "not_sent", true }, { "3", "OutboxFull", "not_sent", true } }, refused)
        server:release "answer"
        assert.is_true(client:drain())
        assert.same({ "1", "4", "1" }, messages())
      end)
    end)

    for full, counted in pairs { refuse = { 2, 0 }, drop_oldest = { 0, 2 } } do
      it("does as the runtime says, when the option says nothing: " .. full, function()
        client = open()
        local queue = outboxes.new({ entries = 1, concurrency = 1 }, {
          runtime = client.runtime, patience = 1, full = full, tell = function() return true end,
          send = function() return client:send_room_unicast(message "x") end,
        })
        for n = 1, 4 do
          queue:put { call = { action = "SendRoomUnicast", body = "x" }, fields = {} }
          if n == 1 then
            await_waiting(1)
          end
        end
        assert.same(counted, { queue:stats().refused, queue:stats().dropped })
        server:release "answer"
        assert.is_true(client:drain())
        assert.equal(2, queue:stats().accepted)
      end)
    end

    it(("unless told otherwise %s"):format(compat.in_nginx and "drop the oldest, inside nginx" or "refuse"), function()
      client = open { entries = 1 }
      client:on("failure", function() end)
      enqueue_behind_the_first(2)
      local ok = client:enqueue(message "3")
      local outbox = client:stats().outbox
      assert.same(compat.in_nginx and { true, 0, 1 } or { nil, 1, 0 }, { ok, outbox.refused, outbox.dropped })
      server:release "answer"
      assert.is_true(client:drain())
      assert.same({ "1", compat.in_nginx and "3" or "2" }, messages())
    end)

    it("takes a thousand unless told otherwise", function()
      client = open({ full = "refuse" }, { quota = false })
      enqueue_behind_the_first(1001)
      local _, err = client:enqueue(message "x")
      assert.equal("OutboxFull", err.code)
      assert.same({ 1, 1000 }, counts())
      server:release "answer"
      assert.is_true(client:drain())
    end)
  end)

  it("tells of a message that fails, and goes on", function()
    server:script(service.accepts(), service.refuses("InvalidAccessKey", { status = 401 }), { act.read(), act.close() })
    local failed = {}
    client:on("failure", function(event)
      local err = event.err
      failed[#failed + 1] = { event.action, event.fields.message, err.code, err.outcome, err.attempts }
    end)
    enqueue(4)
    assert.is_true(client:drain())
    assert.same({
      { "SendRoomUnicast", "2", "InvalidAccessKey", "rejected", 1 },
      { "SendRoomUnicast", "3", "ConnectionClosed", "unknown", 1 },
    }, failed)
    assert.same(numbers(4), messages())
    local outbox = client:stats().outbox
    assert.same({ 2, 2 }, { outbox.accepted, outbox.failed })
  end)

  -- Inside nginx the scheduler is always nginx's.
  where(compat.yields_anywhere and not compat.in_nginx, it)(
    "begins its tasks as those that outlive their maker, if there are such", function()
    local scheduler, detached = own_scheduler.new(), 0
    function scheduler:detach(fn, died)
      detached = detached + 1
      return self:start(fn, died)
    end
    client = open(nil, { runtime = scheduler })
    scheduler:start(function()
      enqueue(2)
      assert.is_true(client:drain())
      assert(client:spawn(function() end)):wait()
    end, error)
    scheduler:run(20)
    assert.same({ { "1", "2" }, 1 }, { messages(), detached })
  end)

  it("replaces a task that has sent as many as the runtime wants of it", function()
    server:always(nil, service.accepts_after "all are enqueued")
    client = service.client(server, { outbox = { concurrency = 1 } })
    local detach, detached = client.runtime.detach, 0
    client.runtime.outbox_turns = 3
    function client.runtime.detach(...)
      detached = detached + 1
      return detach(...)
    end
    enqueue(9)
    server:release "all are enqueued"
    assert.is_true(client:drain())
    assert.same({ numbers(9), 3, 0 }, { messages(), detached, client:stats().outbox.in_flight })
  end)

  it("tries again like any call", function()
    client = service.client(server)
    server:script(service.refuses "FlowLimitExceeded", service.refuses "FlowLimitExceeded")
    enqueue(1)
    assert.is_true(client:drain())
    assert.same({ "1", "1", "1" }, messages())
    assert.equal(1, client:stats().outbox.accepted)
  end)

  describe("is not stopped by", function()
    -- What ends a task in the midst of its message is a stray yield; a thread of nginx just goes on after it.
    local yields_end_tasks = not compat.in_nginx

    where(compat.yields_anywhere and yields_end_tasks, it)("an error in a task", function()
      local lost = {}
      client = open(nil, { quota = { store = { take = function() return coroutine.yield() end } } })
      client:on("failure", function(event)
        lost[#lost + 1] = { event.fields.message, event.err.kind, event.err.outcome }
        assert.matches("an error in the program ended the call: its task yielded", event.err.message, 1, true)
      end)
      enqueue(3)
      assert.is_true(client:drain())
      assert.same({ { "1", "cancelled", "unknown" }, { "2", "cancelled", "unknown" }, { "3", "cancelled", "unknown" } },
        lost)
      assert.equal(3, client:stats().outbox.failed)
      assert.same({ 0, 0 }, counts())
    end)

    where(yields_end_tasks, it)("an error in the task that the others in the queue wait for", function()
      local takes, lost = 0, {}
      client = open(nil, {
        retry = { tries = 2, base = 0, cap = 0 },
        quota = { store = { take = function()
          takes = takes + 1
          return takes == 2 and coroutine.yield() or 0
        end } },
      })
      client:on("failure", function(event)
        lost[#lost + 1] = event.fields.message
      end)
      local throttled = service.refuses "FlowLimitExceeded"
      table.insert(throttled, 2, act.wait "enqueued")
      server:script(throttled) -- whose second try is ended by the error
      enqueue(3)
      server:release "enqueued"
      assert.is_true(client:drain())
      assert.same({ "1" }, lost)
      assert.same(numbers(3), messages())
    end)

    it("a store of the rate limit that raises", function()
      local codes = {}
      client = open(nil, { quota = { store = { take = function() error("the store is down") end } } })
      client:on("failure", function(event)
        codes[#codes + 1] = { event.err.kind, event.err.code, event.err.outcome, event.err.retryable }
      end)
      enqueue(2)
      assert.is_true(client:drain())
      local failed = { "config", "QuotaStoreFailed", "not_sent", true }
      assert.same({ failed, failed }, codes)
      assert.same({}, messages())
    end)

    it("a limit that lets few through in a call's time", function()
      client = open({ concurrency = 4 }, { timeout = 0.2, quota = { rate = 25, burst = 1, key = "slow" } })
      enqueue(12)
      assert.is_true(client:drain(20))
      assert.equal(12, #messages())
      assert.equal(12, client:stats().outbox.accepted)
    end)

    it("what fails at once and is enqueued again", function()
      local times = 0
      client = rtc.new { endpoint = server.url, app_id = "app", from = "me", credentials = function()
        return nil, "not yet"
      end }
      client:on("failure", function(event)
        times = times + 1
        if times < 200 then
          assert(client:enqueue(event.fields))
        end
      end)
      enqueue(1)
      assert.is_true(times < 200) -- it returned before all that: after each there is a pause
      assert.is_true(client:drain(20))
      assert.equal(200, times)
    end)
  end)

  describe("over a connection that takes its time", function()
    local secure, tls

    before_each(function()
      tls = certificates.make()
      secure = fault_server.start { tls = tls.good }
      secure:always(nil, service.accepts())
      secure:on_accept { act.wait("handshake") }
      client = service.client(secure, { ca_file = tls.ca_file, timeout = 1 })
    end)

    it("leaves the message to the next use, when its time would be over", function()
      assert.is_true(client:enqueue(message("later")))
      assert.equal(0, #secure:requests())
      native.sleep(1.1) -- as somebody who reads at a prompt: longer than the timeout
      secure:release("handshake")
      assert.is_true(client:drain(20))
      assert.same({ 1, 0 }, { client:stats().outbox.accepted, client:stats().outbox.failed })
      assert.equal(1, secure:state().complete)
    end)

    it("tries again though nobody used the client for longer than its time during the pause", function()
      secure:release("handshake")
      local hasty = fault_server.start { tls = tls.good }
      hasty:always(nil, service.accepts())
      hasty:on_accept { act.close() }
      client = service.client(hasty, { ca_file = tls.ca_file, timeout = 0.5, retry = { base = 0.4, cap = 0.4 } })
      local tries = {}
      client:on("response", function(event) tries[#tries + 1] = event.receipt and "accepted" or event.err.outcome end)
      assert.is_true(client:enqueue(message("again")))
      hasty:await(function()
        client.runtime.progress()
        return #tries > 0
      end)
      native.sleep(0.6)
      assert.is_true(client:drain(20))
      assert.same({ "not_sent", "accepted" }, tries)
    end)

    it("sends it while the program does something else, when it does not take long", function()
      secure:release("handshake")
      assert.is_true(client:enqueue(message("now")))
      secure:await(function(state) return state.complete == 1 end) -- without the client's doing anything
      assert.is_true(client:drain(20))
    end)
  end)

  it("takes from a handler what failed", function()
    local throttled = service.refuses "FlowLimitExceeded"
    server:script({ act.read(), act.wait "enqueued", throttled[2] }, throttled)
    client:on("failure", function(event)
      assert(client:enqueue(event.fields))
    end)
    enqueue(3)
    server:release "enqueued"
    assert.is_true(client:drain())
    assert.same({ "1", "2", "3", "1", "2" }, messages())
    local outbox = client:stats().outbox
    assert.same({ 3, 2 }, { outbox.accepted, outbox.failed })
  end)

  for _, event in ipairs { "request", "response", "retry", "failure" } do
    it("lets a handler send and wait: " .. event, function()
      client = open(nil, { retry = { tries = 2, base = 0, cap = 0 } })
      client:on("failure", function() end)
      server:script(service.refuses "FlowLimitExceeded")
      server:always(nil, service.refuses "InvalidAccessKey")
      local receipts, nested = {}, false
      client:on(event, function()
        if not nested then
          nested = true
          receipts[1] = client:call("Handler", { Message = "handler" })
          assert(client:enqueue(message "from the handler"))
        end
      end)
      server:always(service.target "Handler", service.accepts())
      enqueue(2)
      assert.is_true(client:drain())
      assert.equal(event == "request" and 2 or 1, receipts[1].attempts)
      local seen = {}
      for _, each in ipairs(messages()) do
        seen[each] = (seen[each] or 0) + 1
      end
      assert.same(event == "request" and { ["1"] = 1, ["2"] = 1, handler = 2, ["from the handler"] = 1 }
        or { ["1"] = 2, ["2"] = 1, handler = 1, ["from the handler"] = 1 }, seen)
    end)
  end
end)

describe("client:drain", function()
  local client

  before_each(function()
    client = service.client(server, { timeout = 0.1, retry = false })
  end)

  it("has nothing to wait for at first", function()
    assert.is_true(client:drain())
    assert.is_true(client:drain(0.001))
  end)

  for name, timeout in pairs { ["as long as it is told"] = 0.05, ["as long as the client's timeout"] = false } do
    it("waits only " .. name .. ", and what is left goes on", function()
      server:always(nil, service.accepts_after "answer")
      for n = 1, 20 do
        assert(client:enqueue(message(tostring(n), { timeout = 60 })))
      end
      local done, err = client:drain(timeout or nil)
      assert.is_nil(done)
      assert.same({ "timeout", "Timeout", true }, { err.kind, err.code, err.retryable })
      assert.matches(("after %g seconds 20 calls are not through"):format(timeout or 0.1), err.message, 1,
        true)
      server:release "answer"
      assert.is_true(client:drain(20))
      assert.equal(20, #messages())
    end)
  end

  it("never raises for its timeout", function()
    for _, value in ipairs { -1, 0 / 0, math.huge, "1", {}, true } do
      local done, err = client:drain(value)
      assert.is_nil(done)
      assert.same({ "argument", "timeout", "not_sent" }, { err.kind, err.field, err.outcome })
      assert.matches("timeout must be ", err.message, 1, true)
    end
  end)
end)

describe("what was enqueued", function()
  --- Runs a script with `client`, of the server, and `message(text, timeout)`, to its end.
  local function run(script, options)
    local code = ([[
      local rtc = require "rtc"
      local client = rtc.new { timeout = %g, outbox = { concurrency = 2 } }
      local function message(text, timeout)
        return { room_id = "room", to = "user", message = text, timeout = timeout }
      end
    ]]):format(options and options.timeout or 10)
    return process.run({ process.lua, "-e", code .. script }, { env = service.environment(server) })
  end

  local many = [[for n = 1, 20 do assert(client:enqueue(message(tostring(n)))) end ]]

  local function all_came()
    local seen, list = {}, messages()
    for _, text in ipairs(list) do
      seen[text] = true
    end
    assert.equal(20, #list)
    for n = 1, 20 do
      assert.is_true(seen[tostring(n)])
    end
  end

  -- how the program ends, the exit code, and what standard error must have
  for name, case in pairs {
    ["the script's end"] = { "", 0, "^$" },
    ["an error"] = { "error('wanted')", 1, "^%S+: %(command line%):%d+: wanted\n" },
    ["an error that is a table"] = { "error({})", 1, "^%S+: %(error object is .*%)\n" },
    ["os.exit, told to close"] = compat.exit_closes and { "os.exit(3, true)", 3, "^$" } or nil,
  } do
    it("is still sent at " .. name, function()
      local ended = run(many .. case[1])
      assert.equal(case[2], ended.code)
      assert.matches(case[3], ended.stderr)
      assert.is_nil(ended.stderr:find("rtc:", 1, true))
      all_came()
    end)
  end

  it("is still sent when its client was dropped, and does not hold up the collector", function()
    server:always(nil, service.accepts_after "collected")
    local program = child.start([[
      local rtc = require "rtc"
      do
        local client = rtc.new { outbox = { concurrency = 2 } }
        for n = 1, 20 do
          assert(client:enqueue { room_id = "room", to = "user", message = tostring(n) })
        end
      end
      for _ = 1, 5 do collectgarbage() end
      say "collected"
    ]], {}, { env = service.environment(server) })
    finally(function() program:close() end)
    await_waiting(2)
    assert.equal("collected", program:line())
    assert.equal(2, server:state().waiting)
    server:release "collected"
    assert.same({ 0, "" }, { program:wait(), program:stderr() })
    all_came()
  end)

  it("tries again at the end, too", function()
    server:script(service.refuses("FlowLimitExceeded", { headers = { { "Retry-After", "0" } } }))
    local ended = run(many)
    assert.same({ 0, "" }, { ended.code, ended.stderr })
    assert.equal(21, #messages())
  end)

  it("and fails at the end is told of", function()
    server:script(service.refuses("InvalidAccessKey", { status = 401, message = "who?" }))
    local ended = run [[assert(client:enqueue(message "1"))]]
    assert.equal(0, ended.code)
    assert.matches("^rtc: an enqueued message failed: SendRoomUnicast: InvalidAccessKey: who%? %(gateway, HTTP 401, "
      .. "rejected, request 20250102030405AAAA%)\n  %-> Check access_key", ended.stderr)
  end)

  it("and fails is told to the handler, also at the end", function()
    server:always(nil, service.refuses("InvalidAccessKey", { status = 401 }))
    local ended = run [[
      client:on("failure", function(event) print(event.action, event.fields.message, event.err.code) end)
      assert(client:enqueue(message "1"))]]
    assert.same({ 0, "SendRoomUnicast\t1\tInvalidAccessKey\n", "" }, { ended.code, ended.stdout, ended.stderr })
  end)

  it("is still sent with keys of a function, which it is asked for at the end", function()
    local ended = run([[
      local own = require "rtc".new { outbox = { concurrency = 1 }, credentials = function()
        return { access_key = "AKLTkey", secret_key = "secret" }
      end }
      for n = 1, 20 do assert(own:enqueue(message(tostring(n)))) end]])
    assert.same({ 0, "" }, { ended.code, ended.stderr })
    all_came()
  end)

  it("and enqueued again by a handler does not hold up the end", function()
    server:always(nil, service.refuses("InvalidAccessKey", { status = 401 }))
    local ended = run([[
      client:on("failure", function(event)
        local ok, err = client:enqueue(event.fields)
        print(event.fields.message, ok, err and err.code, err and err.outcome)
      end)
      for n = 1, 2 do assert(client:enqueue(message(tostring(n)))) end]])
    assert.same({ 0, "" }, { ended.code, ended.stderr })
    assert.equal(2, select(2, ended.stdout:gsub("%d\tnil\tCancelled\tnot_sent\n", "")))
  end)

  it("and is on its way at the end is told to the handler", function()
    server:always(nil, { act.read(), act.wait() })
    local ended = run([[
      client:on("failure", function(event) print(event.fields.message, event.err.code, event.err.outcome) end)
      for n = 1, 3 do assert(client:enqueue(message(tostring(n), 60))) end]], { timeout = 0.3 })
    assert.same({ 0, "" }, { ended.code, ended.stderr })
    local lines = {}
    for line in ended.stdout:gmatch("[^\n]+") do
      lines[#lines + 1] = line
    end
    table.sort(lines)
    assert.same({ "1\tCancelled\tunknown", "2\tCancelled\tunknown", "3\tCancelled\tnot_sent" }, lines)
  end)

  it("and is not answered holds up the end for the client's timeout, and is told of", function()
    server:always(nil, { act.read(), act.wait() })
    local ended = run([[for n = 1, 4 do assert(client:enqueue(message(tostring(n), 60))) end]], { timeout = 0.3 })
    assert.equal(0, ended.code)
    local lines = {}
    for line in ended.stderr:gmatch "[^\n]+" do
      lines[#lines + 1] = line
    end
    local failed = "rtc: an enqueued message failed: SendRoomUnicast: Cancelled: the program ended "
    local waited = failed .. "before its turn came (cancelled, not sent)"
    local left = failed .. "while it was on its way (cancelled, outcome unknown: it may have been delivered)"
    assert.same({ waited, waited, left, left }, lines)
    assert.equal(2, #messages())
  end)

  it("may have been delivered when its own time ends before", function()
    server:always(nil, { act.read(), act.wait() })
    local ended = run([[for n = 1, 2 do assert(client:enqueue(message(tostring(n), 0.2))) end]], { timeout = 10 })
    assert.equal(0, ended.code)
    local _, told = ended.stderr:gsub("rtc: an enqueued message failed: SendRoomUnicast: Timeout: [^\n]*"
      .. "outcome unknown: it may have been delivered", "")
    assert.equal(2, told, ended.stderr)
  end)

  it("and waits in great number at the end is told of in one line", function()
    server:always(nil, { act.read(), act.wait() })
    local ended = run([[for n = 1, 22 do assert(client:enqueue(message(tostring(n), 60))) end]], { timeout = 0.3 })
    local lines = {}
    for line in ended.stderr:gmatch "[^\n]+" do
      lines[#lines + 1] = line
    end
    local left = "rtc: an enqueued message failed: SendRoomUnicast: Cancelled: the program ended while it was on its "
      .. "way (cancelled, outcome unknown: it may have been delivered)"
    assert.same({ "rtc: 20 enqueued messages failed, the last of them: SendRoomUnicast: Cancelled: the program ended "
      .. "before its turn came (cancelled, not sent)", left, left }, lines)
  end)

  it("is told of at once, and in the log, where the Lua state ends abruptly", function()
    server:always(nil, { act.read(), act.wait() })
    local ended = run([[
      client.runtime.ends_abruptly = true
      client:on("failure", function() print("never") end)
      for n = 1, 3 do assert(client:enqueue(message(tostring(n)))) end
      local function never() error("asked when nothing is there to answer") end
      client.runtime.settle, client.runtime.obstacle = never, never]], { timeout = 600 })
    assert.same({ 0, "" }, { ended.code, ended.stdout })
    local told = "rtc: an enqueued message failed: SendRoomUnicast: Cancelled: the program ended [^\n]+\n"
    assert.matches(("^%s%s%s$"):format(told, told, told), ended.stderr)
  end)

  describe("and was dropped for newer ones is told of in the log,", function()
    --- How many were dropped by what the log says, and in how many lines.
    local function logged(stderr, bound)
      local total, lines = 0, 0
      for line in stderr:gmatch "[^\n]+\n  [^\n]+" do
        local count, err = line:match "^rtc: (%w+) enqueued messages? failed[^:]*: (SendRoomUnicast: OutboxFull: .+)$"
        assert.matches("^SendRoomUnicast: OutboxFull: dropped for a newer one: %d+ messages of %d+ bytes waited, and "
          .. "the outbox holds at most " .. bound .. " %(quota, not sent%)\n  %-> They are added", err)
        total, lines = total + (tonumber(count) or 1), lines + 1
      end
      return total, lines
    end

    local drop_many = [[
      local dropping = require "rtc".new { outbox = { concurrency = 1, %s, full = "drop_oldest" } }
      for n = 1, 302 do assert(dropping:enqueue(message(tostring(n)))) end
    ]]

    for bound, option in pairs { ["1 messages"] = "entries = 1", ["150 bytes"] = "bytes = 150" } do
      it("by the bound and in few lines, though the program goes on and nothing more is dropped: " .. option, function()
        server:always(nil, service.accepts_after "logged")
        local flag = native.path "go on"
        local program = child.start([[
          local function message(text) return { room_id = "room", to = "user", message = text } end
          ]] .. drop_many:format(option) .. [[
          say(dropping:stats().outbox.dropped)
          while not exists(arg[1]) do
            dropping.runtime.progress()
            native.sleep(0.005)
          end
          assert(dropping:drain())
        ]], { flag }, { env = service.environment(server) })
        finally(function() program:close() end)
        assert.equal("300", program:line(), program:stderr())
        local total, lines
        server:await(function()
          total, lines = logged(program:stderr(), bound)
          return total == 300
        end)
        assert.is_true(lines < 30) -- two, unless the machine is very slow
        server:release "logged"
        assert(io.open(flag, "w")):close()
        assert.equal(0, program:wait())
        assert.equal(300, (logged(program:stderr(), bound)))
      end)
    end

    for name, ending in pairs { ["the program's end"] = "", ["the client's end"] = "dropping:close()" } do
      it("at the latest at " .. name, function()
        local ended = run(drop_many:format "entries = 1" .. "print(dropping:stats().outbox.dropped)" .. ending)
        assert.equal(0, ended.code)
        assert.is_true(tonumber(ended.stdout) > 1)
        assert.equal(tonumber(ended.stdout), (logged(ended.stderr, "1 messages")))
      end)
    end
  end)

  it("does not keep a client that has sent all", function()
    local weak = setmetatable({}, { __mode = "k" })
    do
      local client = service.client(server)
      assert(client:enqueue(message "1"))
      assert(client:drain())
      weak[client] = true
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(weak))
  end)

  describe("is not sent by a forked child, whatever that does:", function()
    -- Of the parent's messages one is on its way, one waits for its turn asleep, and one is in the queue.
    for name, case in pairs {
      ["ending"] = { "os.exit(0, true)", {} },
      ["sleeping beyond the turn of the second"] = { "client.runtime.sleep(0.2) os.exit(0, true)", {} },
      ["draining"] = { "assert(client:drain()) os.exit(0, true)", {} },
      ["counting"] = {
        "local outbox = client:stats().outbox assert(outbox.waiting + outbox.in_flight == 0) os.exit(0, true)", {},
      },
      ["sending"] = { [[assert(client:send_room_unicast(message "child")) os.exit(0, true)]], { "child" } },
      ["enqueueing"] = {
        [[for _ = 1, 2 do assert(client:enqueue(message "child")) end os.exit(0, true)]],
        compat.exit_closes and { "child", "child" } or {}, -- there os.exit is the end at once
      },
      ["enqueueing and draining"] = {
        [[for _ = 1, 3 do assert(client:enqueue(message "child")) end assert(client:drain()) native.leave(0)]],
        { "child", "child", "child" },
      },
    } do
      it(name, function()
        server:script(service.accepts_after "held")
        local parent = child.start([[
          local rtc = require "rtc"
          local client = rtc.new { outbox = { concurrency = 2 }, quota = { rate = 10, burst = 1 } }
          local function message(text) return { room_id = "room", to = "user", message = text } end
          for n = 1, 3 do assert(client:enqueue(message(tostring(n)))) end
          say "queued"
          native.read(0)
          local pid = native.fork()
          if pid == 0 then
            local ok, err = pcall(function() ]] .. case[1] .. [[ end)
            io.stderr:write(tostring(err), "\n")
            native.leave(1)
          end
          local code
          repeat
            native.sleep(0.005)
            code = native.reap(pid)
          until code
          native.forget(pid)
          say("child " .. code)
          native.read(0)
          assert(client:drain())
          say("parent")
        ]], {}, { stdin = "pipe", env = service.environment(server) })
        finally(function() parent:close() end)
        assert.equal("queued", parent:line())
        await_waiting(1)
        parent:write "fork\n"
        assert.equal("child 0", parent:line(), parent:stderr())
        local expected = { "1", compat.unpack(case[2]) }
        assert.same(expected, messages())
        server:release "held"
        parent:write "go on\n"
        assert.equal("parent", parent:line(), parent:stderr())
        assert.same({ 0, "" }, { parent:wait(), parent:stderr() })
        local rest = { compat.unpack(messages(), #expected + 1) }
        table.sort(rest)
        assert.same({ "2", "3" }, rest)
      end)
    end
  end)

  it("is not sent by a child forked in a handler, in the midst of the queue", function()
    server:script(service.accepts_after "queued")
    local parent = child.start([[
      local rtc = require "rtc"
      local client = rtc.new { outbox = { concurrency = 1 } }
      local pid
      client:on("response", function()
        pid = pid or native.fork()
      end)
      for n = 1, 3 do
        assert(client:enqueue { room_id = "room", to = "user", message = tostring(n) })
      end
      say("queued")
      local done = client:drain()
      if pid == 0 then
        native.leave(done and client:stats().outbox.in_flight == 0 and 0 or 1)
      end
      local code
      repeat
        native.sleep(0.005)
        code = native.reap(pid)
      until code
      native.forget(pid)
      say("child " .. code)
    ]], {}, { env = service.environment(server) })
    finally(function() parent:close() end)
    assert.equal("queued", parent:line(), parent:stderr())
    server:release "queued"
    assert.equal("child 0", parent:line(), parent:stderr())
    assert.equal(0, parent:wait())
    assert.same({ "1", "2", "3" }, messages())
  end)

  where(compat.interrupts_main, it)("goes on after an interrupt in the midst of a handler", function()
    server:script(service.refuses("InvalidAccessKey", { status = 401 }))
    local program = child.start([[
      local rtc = require "rtc"
      local client = rtc.new { outbox = { concurrency = 2 } }
      local function message(text) return { room_id = "room", to = "user", message = text } end
      client:on("failure", function()
        say("in the handler")
        native.read(0)
      end)
      say(pcall(function()
        assert(client:enqueue(message "refused"))
        client:drain()
      end))
      assert(client:enqueue(message "later"))
      local deadline = native.now() + 20
      while client:stats().outbox.accepted == 0 and native.now() < deadline do
        client:drain(0)
        native.sleep(0.005)
      end
      say(client:stats().outbox.accepted)
      os.exit(0)
    ]], {}, { stdin = "pipe", env = service.environment(server) })
    finally(function() program:close() end)
    assert.equal("in the handler", program:line(), program:stderr())
    program:kill("INT")
    program:write("go on\n")
    assert.matches("^false\t.*interrupted!$", program:line())
    assert.equal("1", program:line(), program:stderr())
    assert.same({ "refused", "later" }, messages())
  end)
end)
