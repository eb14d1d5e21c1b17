-- One body of specs, run in every runtime: what a client does must not depend on how its program waits.

local certificates = require "spec.support.certificates"
local child = require "spec.support.child"
local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local json = require "cjson"
local native = require "spec.support.native"
local rtc = require "rtc"
local schedulers = require "spec.support.schedulers"
local service = require "spec.support.service"

local where = compat.where

--- A program of its own finds no runtime of nginx.
local has_programs = not compat.in_nginx

local act = fault_server.act

local DEADLINE = 10
local NEVER = { act.read(), act.wait "never" }

local server, tls

setup(function()
  tls = certificates.make()
end)

--- Lets others go on until it is so.
local function await(client, predicate)
  local deadline = native.now() + DEADLINE
  while not predicate() do
    assert(native.now() < deadline, "waited in vain")
    client.runtime.sleep(0.002)
  end
end

local function await_state(client, predicate, of)
  await(client, function() return predicate((of or server):state()) end)
end

local function await_waiting(client, count)
  await_state(client, function(state) return state.waiting == count end)
end

local function message(text, changes)
  return service.message { message = text, to = (changes or {}).to, action = (changes or {}).action }
end

local function list_of(count)
  local messages = {}
  for n = 1, count do
    messages[n] = message(tostring(n))
  end
  return messages
end

--- What was sent, in the order in which it came.
local function texts(of)
  local list = {}
  for i, request in ipairs((of or server):requests()) do
    list[i] = json.decode(request.body).Message
  end
  return list
end

local function sorted(list)
  table.sort(list)
  return list
end

local function sent_from(client, text, changes)
  return client:spawn(client.send_room_unicast, client, message(text, changes))
end

local function descriptors()
  collectgarbage()
  collectgarbage()
  local count = 0
  local list = io.popen("ls /proc/" .. native.getpid() .. "/fd")
  for _ in list:lines() do
    count = count + 1
  end
  list:close()
  return count
end

before_each(function()
  server = fault_server.start()
  server:always(nil, service.accepts())
end)

after_each(fault_server.stop_all)

local function describe_runtime(scheduler)
  --- Runs a test as a task, with a function that makes clients, and the runtime itself.
  local function within(fn)
    return function()
      scheduler.run(function(runtime)
        fn(function(changes, of)
          local options = { runtime = runtime }
          for name, value in pairs(changes or {}) do
            options[name] = value
          end
          return service.client(of or server, options)
        end, runtime)
      end)
    end
  end

  describe("a call", function()
    it("gives its receipt", within(function(open)
      local receipt = assert(open():send_room_unicast(message "hello"))
      assert.same({ "SendRoomUnicast", 1, 200 }, { receipt.action, receipt.attempts, receipt.http_status })
      assert.same({ "hello" }, texts())
    end))

    it("gives its error, with what became of the message", within(function(open)
      local client = open { retry = false }
      server:script(service.refuses("InvalidAccessKey", { status = 401 }), { act.read(), act.close() })
      local none = fault_server.start()
      none:stop()
      local nowhere = open({ retry = false }, none)
      for _, case in ipairs {
        { client, "InvalidAccessKey", "rejected" }, { client, "ConnectionClosed", "unknown" },
        { nowhere, "ConnectFailed", "not_sent" },
      } do
        local receipt, err = case[1]:send_room_unicast(message "hello")
        assert.is_nil(receipt)
        assert.same({ case[2], case[3] }, { err.code, err.outcome })
      end
    end))

    it("waits beside many others", within(function(open)
      local client, futures = open(), {}
      server:always(nil, service.accepts_after "all are there")
      for n = 1, 20 do
        futures[n] = sent_from(client, tostring(n))
      end
      await_waiting(client, 20)
      server:release "all are there"
      for _, future in ipairs(futures) do
        assert(future:wait(DEADLINE))
      end
      assert.equal(20, #server:requests())
    end))

    it("lets others go on", within(function(open)
      local client, naps = open(), 0
      server:always(nil, service.accepts_after "slept")
      client:spawn(function()
        for _ = 1, 3 do
          client.runtime.sleep(0.005)
          naps = naps + 1
        end
        server:release "slept"
      end)
      assert(client:send_room_unicast(message "hello"))
      assert.equal(3, naps)
    end))

    it("waits for the rate limit beside others", within(function(open)
      local client, futures = open { quota = { rate = 50, burst = 1, key = scheduler.name } }, {}
      for n = 1, 5 do
        futures[n] = sent_from(client, tostring(n))
      end
      for _, future in ipairs(futures) do
        assert(future:wait(DEADLINE))
      end
      assert.same({ "1", "2", "3", "4", "5" }, sorted(texts())) -- cqueues starts the last one first
    end))

    it("pauses and tries again", within(function(open)
      local client, throttled = open { retry = { base = 0.02, cap = 0.02 } }, service.refuses "FlowLimitExceeded"
      server:script(throttled, throttled)
      assert.equal(3, assert(client:send_room_unicast(message "again")).attempts)
      assert.same({ "again", "again", "again" }, texts())
    end))

    where(compat.yields_anywhere, it)("waits for keys from a function that waits itself", within(function(_, runtime)
      local asked, client = 0, nil
      client = rtc.new {
        endpoint = server.url, app_id = "app", from = "me", runtime = runtime, credentials = function()
          asked = asked + 1
          client.runtime.sleep(0.01)
          return { access_key = service.access_key, secret_key = service.secret_key }
        end,
      }
      local futures = {}
      for n = 1, 3 do
        futures[n] = sent_from(client, tostring(n))
      end
      for _, future in ipairs(futures) do
        assert(future:wait(DEADLINE))
      end
      assert.equal(1, asked)
      assert.is_true(service.is_signed_well(server:requests()[1]))
    end))

    it("tells of what happens to it", within(function(open)
      local client, told = open(), {}
      server:script(service.refuses "FlowLimitExceeded")
      for _, name in ipairs { "request", "response", "retry" } do
        client:on(name, function(event) told[#told + 1] = ("%s %d"):format(name, event.attempt) end)
      end
      assert(client:send_room_unicast(message "hello"))
      assert.same({ "request 1", "response 1", "retry 1", "request 2", "response 2" }, told)
    end))
  end)

  it("wakes sleepers in the order of their time", within(function(open)
    local client, order, futures = open(), {}, {}
    for _, n in ipairs { 3, 1, 4, 2 } do
      futures[n] = client:spawn(function()
        client.runtime.sleep(n / 40)
        order[#order + 1] = n
      end)
    end
    for n = 1, 4 do
      futures[n]:wait(DEADLINE)
    end
    assert.same({ 1, 2, 3, 4 }, order)
  end))

  it("sleeps for no time, and for less", within(function(open)
    local client = open()
    client.runtime.sleep(0)
    client.runtime.sleep(-1)
  end))

  describe("send_all", function()
    it("gives what became of each message of a list", within(function(open)
      local client, seen = open(), {}
      for index, receipt, err in client:send_all(list_of(30)) do
        assert.is_nil(err)
        assert.equal("SendRoomUnicast", receipt.action)
        assert.is_nil(seen[index])
        seen[index] = true
      end
      assert.equal(30, #seen)
      assert.equal(30, #server:requests())
    end))

    it("gives nothing for no messages", within(function(open)
      for _ in open():send_all {} do
        error "there is none"
      end
      assert.same({ 0, 0 }, { open():send_all({}, { on_result = error }) })
    end))

    where(compat.yields_anywhere, it)("asks for messages only as fast as they are sent", within(function(open)
      local client, pulled, taken = open(), 0, 0
      server:always(nil, service.accepts_after "held")
      local done = client:spawn(function()
        for _, receipt in client:send_all(function()
          pulled = pulled + 1
          return pulled <= 10 and message(tostring(pulled)) or nil
        end, { concurrency = 3 }) do
          assert(receipt)
          taken = taken + 1
          assert.is_true(pulled <= taken - 1 + 3)
        end
      end)
      await_waiting(client, 3)
      assert.equal(3, pulled)
      server:release "held"
      done:wait(DEADLINE)
      assert.same({ 10, 11, 3 }, { taken, pulled, server:state().most_open })
    end))

    it("has no more on their way than the client takes", within(function(open)
      local client = open { max_pending = 2 }
      assert.same({ 5, 0 }, { client:send_all(list_of(5), { on_result = function() end }) })
    end))

    it("has 64 on their way unless told otherwise", within(function(open)
      local client = open { quota = false }
      server:always(nil, service.accepts_after "held")
      local done = client:spawn(client.send_all, client, list_of(70), { on_result = function() end })
      await_waiting(client, 64)
      assert.equal(64, client.runtime.pending())
      server:release "held"
      assert.same({ 70, 0 }, { done:wait(DEADLINE) })
    end))

    it("counts when a function is told", within(function(open)
      local client, told = open { retry = false }, {}
      server:script(service.refuses("InvalidAccessKey", { status = 401 }))
      local accepted, failed = client:send_all(list_of(5), { on_result = function(index, receipt, err)
        told[index] = receipt and "accepted" or err.code
      end, concurrency = 1 })
      assert.same({ 4, 1 }, { accepted, failed })
      assert.same({ "InvalidAccessKey", "accepted", "accepted", "accepted", "accepted" }, told)
    end))

    it("keeps messages to the same receiver in order, and the others overlap", within(function(open)
      local client = open()
      server:always(service.target "SendUnicast", service.accepts_after "first")
      local done = client:spawn(client.send_all, client, {
        { action = "send_unicast", to = "a", message = "1" }, -- which is held
        message("2 after 1", { to = "a" }),
        message("3", { to = "b" }),
        { action = "batch_send_room_unicast", room_id = "room", to = { "c", "b" }, message = "4 after 3" },
        { action = "SendBroadcast", room_id = "room", message = "5 after all" },
        message("6 after 5", { to = "d" }),
        { action = "send_broadcast", room_id = "other", message = "7 after 1" },
        { room_id = "other", app_id = "another", to = "a", message = "8" },
      }, { ordered = true, on_result = function() end })
      await_state(client, function(state) return state.complete == 4 end)
      assert(client:send_room_unicast(message "in between"))
      local early = sorted(texts())
      assert.same({ "1", "3", "4 after 3", "8", "in between" }, early)
      server:release "first"
      assert.same({ 8, 0 }, { done:wait(DEADLINE) })
      local place = {}
      for i, text in ipairs(texts()) do
        place[text:match "^%S+"] = i
      end
      assert.is_true(place["3"] < place["4"])
      assert.is_true(place["2"] < place["5"] and place["5"] < place["6"])
      assert.is_true(place["7"] > 5)
    end))

    it("keeps one after the other, though each fails", within(function(open)
      local client, told = open { retry = false, quota = false }, {}
      local messages = list_of(300)
      for n = 2, 299 do
        messages[n].message = nil
      end
      local accepted, failed = client:send_all(messages, { ordered = true, concurrency = 1000, on_result =
        function(index, receipt, err)
          told[#told + 1] = index
          assert.is_true(receipt ~= nil or err.field == "message", tostring(err))
        end })
      assert.same({ 2, 298 }, { accepted, failed })
      for n = 1, 300 do
        assert.equal(n, told[n])
      end
    end))

    it("keeps messages after one that can't be sent", within(function(open)
      local client, told = open(), {}
      for index, receipt, err in client:send_all({ message("x", { to = "a b" }), message("1", { to = "a b" }), "bad",
        message "2", message "3" }, { ordered = true }) do
        told[index] = receipt and "accepted" or err.kind
      end
      assert.same({ "argument", "argument", "argument", "accepted", "accepted" }, told)
      assert.same({ "2", "3" }, texts())
    end))

    it("sends by the action that a message names, or by the option", within(function(open)
      local client = open()
      local accepted, failed = client:send_all({
        { room_id = "room", message = "default" }, message("named", { action = "send_room_unicast" }),
        { action = "send_unicast", to = "u", message = "other" },
      }, { action = "send_broadcast", concurrency = 1, on_result = function() end })
      assert.same({ 3, 0 }, { accepted, failed })
      local targets = {}
      for i, request in ipairs(server:requests()) do
        targets[i] = request.target
      end
      assert.same({ service.target "SendBroadcast", service.target "SendRoomUnicast", service.target "SendUnicast" },
        targets)
    end))

    it("tells of a bad message at its place, and goes on", within(function(open)
      local client, told = open(), {}
      local messages = { message "1", message("2", { to = "a b" }), "3", message("4", { action = "sendunicst" }),
        message "5" }
      for index, receipt, err in client:send_all(messages) do
        told[index] = receipt and "accepted" or { err.kind, err.outcome, err.field }
      end
      assert.same({ "accepted", { "argument", "not_sent", "to" }, { "argument", "not_sent" },
        { "argument", "not_sent", "action" }, "accepted" }, told)
      assert.same({ "1", "5" }, sorted(texts()))
    end))

    it("begins no more when the loop is left, and those on their way go on", within(function(open)
      local client, pulled = open(), 0
      local next_result = client:send_all(function()
        pulled = pulled + 1
        return message(tostring(pulled))
      end, { concurrency = 4 })
      assert.is_number((next_result())) -- and no more is asked for, as after a `break`
      assert.is_true(client:drain(DEADLINE))
      assert.same({ 4, 4 }, { pulled, #server:requests() })
      assert(client:send_room_unicast(message "next"))
      assert.same({ 4, 5 }, { pulled, #server:requests() })
    end))

    it("sends a list of receivers in parts", within(function(open)
      local client, everyone = open(), {}
      for n = 1, 601 do
        everyone[n] = "user" .. n
      end
      for index, receipt in client:send_all { { action = "batch_send_room_unicast", room_id = "room", to = everyone,
        message = "all", split = true } } do
        assert.same({ 1, 2, 600, 1 }, { index, #receipt.parts, #receipt.parts[1].to, #receipt.parts[2].to })
      end
      assert.same({ "all", "all" }, texts())
    end))

    it("raises at the caller's line for what is no option and no list", within(function(open)
      local client = open()
      for problem, case in pairs {
        ["did you mean `concurrency`?"] = { {}, { concurency = 1 } }, ["concurrency"] = { {}, { concurrency = 0 } },
        ["did you mean `send_unicast`?"] = { {}, { action = "sendunicast" } }, ["ordered"] = { {}, { ordered = 1 } },
        ["on_result"] = { {}, { on_result = "print" } }, ["not nothing"] = {}, ["not a string"] = { "hello" },
      } do
        local ok, raised = pcall(function() client:send_all(case[1], case[2]) end)
        assert.is_false(ok)
        assert.matches("^spec/runtimes_spec.lua:%d+: client:send_all: ", raised)
        assert.matches(problem, raised, 1, true)
      end
      assert.equal(0, server:state().requests)
    end))

    it("gives the error of a source that raises, and goes on with what is on its way", within(function(open)
      local client, pulled = open(), 0
      local ok, raised = pcall(client.send_all, client, function()
        pulled = pulled + 1
        return pulled < 3 and message(tostring(pulled)) or error("the source is dry", 0)
      end, { on_result = function() end })
      assert.same({ false, "the source is dry" }, { ok, raised })
      assert.is_true(client:drain(DEADLINE))
      assert.same({ "1", "2" }, sorted(texts()))
    end))
  end)

  describe("a task's future", function()
    it("gives what the task returned, to all who wait", within(function(open)
      local client, woken = open(), 0
      local future = client:spawn(function(...)
        client.runtime.sleep(0.02)
        return select("#", ...), nil, ...
      end, "a", nil, "c", nil)
      assert.is_false(future:done())
      assert.equal("rtc.future(pending)", tostring(future))
      for _ = 1, 3 do
        client:spawn(function()
          assert.same(compat.pack(4, nil, "a", nil, "c", nil), compat.pack(future:wait(DEADLINE)))
          woken = woken + 1
        end)
      end
      assert.same(compat.pack(4, nil, "a", nil, "c", nil), compat.pack(future:wait()))
      assert.is_true(future:done())
      assert.equal("rtc.future(done)", tostring(future))
      await(client, function() return woken == 3 end)
      assert.equal(6, select("#", future:wait(0)))
    end))

    it("raises what the task raised, as it was", within(function(open)
      local client, problem = open(), { "a table" }
      for _ = 1, 2 do
        local future = client:spawn(function()
          client.runtime.sleep(0.01)
          error(problem)
        end)
        local ok, raised = pcall(future.wait, future, DEADLINE)
        assert.is_false(ok)
        assert.equal(problem, raised)
        assert.equal("rtc.future(failed)", tostring(future))
        assert.is_false((pcall(future.wait, future)))
      end
    end))

    it("says that the task is not over in time", within(function(open)
      local client, go = open(), false
      local future = client:spawn(function()
        await(client, function() return go end)
        return "done"
      end)
      for _, seconds in ipairs { 0, 0.01, -1 } do
        local result, err = future:wait(seconds)
        assert.is_nil(result)
        assert.same({ "timeout", "Timeout" }, { err.kind, err.code })
      end
      go = true
      assert.equal("done", future:wait(DEADLINE))
    end))

    it("waits for seconds only", within(function(open)
      local future = open():spawn(function() end)
      for _, bad in ipairs { "1", 0 / 0, {} } do
        local ok, raised = pcall(future.wait, future, bad)
        assert.is_false(ok)
        assert.matches("future:wait: seconds must be a number", raised)
      end
      future:wait()
    end))

    it("refuses what is no function", within(function(open)
      local client = open()
      for _, value in ipairs { 42, "f", {} } do
        local ok, raised = pcall(function() client:spawn(value) end)
        assert.is_false(ok)
        assert.matches("^spec/runtimes_spec.lua:%d+: client:spawn: the first argument must be a function", raised)
      end
    end))
  end)

  where(has_programs, it)("tells standard error of a task's error that nobody waits for, and of no other", function()
    local program = child.start([[
      local rtc, schedulers = require "rtc", require "spec.support.schedulers"
      schedulers.named(arg[1]).run(function(runtime)
        local client = rtc.new { runtime = runtime }
        local lonely = client:spawn(function()
          client.runtime.sleep(0.001)
          error("nobody waits", 0)
        end)
        client.runtime.sleep(0.02)
        while not lonely:done() do client.runtime.sleep(0.001) end
        local missed = client:spawn(function()
          client.runtime.sleep(0.001)
          error("somebody waits", 0)
        end)
        say(pcall(missed.wait, missed))
        local late = client:spawn(function()
          client.runtime.sleep(0.02)
          error("nobody waits any more", 0)
        end)
        assert(not late:wait(0.001))
        while not late:done() do client.runtime.sleep(0.001) end
      end)
    ]], { scheduler.name }, { env = service.environment(server) })
    finally(function() program:close() end)
    assert.equal("false\tsomebody waits", program:line())
    assert.equal(0, program:wait())
    assert.equal("rtc: a task raised: nobody waits\nrtc: a task raised: nobody waits any more\n", program:stderr())
  end)

  it("refuses calls beyond max_pending, and takes one when another is through", within(function(open)
    local client = open { max_pending = 2 }
    server:always(nil, service.accepts_after "held")
    local futures = { sent_from(client, "1"), sent_from(client, "2") }
    await_waiting(scheduler.name == "blocking" and client or open(), 2) -- a sleep of the client counts, too
    local receipt, err = client:send_room_unicast(message "3")
    assert.is_nil(receipt)
    assert.same({ "quota", "TooManyPending", "not_sent", true, 0, "SendRoomUnicast" },
      { err.kind, err.code, err.outcome, err.retryable, err.attempts, err.action })
    assert.matches("max_pending", err.message .. err.advice, 1, true)
    server:release "held"
    for _, future in ipairs(futures) do
      assert(future:wait(DEADLINE))
    end
    assert(client:send_room_unicast(message "4"))
    assert.same({ "1", "2", "4" }, { sorted(texts())[1], sorted(texts())[2], sorted(texts())[3] })
  end))

  describe("drain", function()
    it("waits for calls and for what is enqueued", within(function(open)
      local client, over = open { outbox = { concurrency = 1 } }, 0
      server:always(nil, service.accepts_after "held")
      for n = 1, 3 do
        assert.is_true(client:enqueue(message("enqueued " .. n)))
        client:spawn(function()
          assert(client:send_room_unicast(message("call " .. n)))
          over = over + 1
        end)
      end
      await_waiting(client, 4)
      local done, err = client:drain(0)
      assert.is_nil(done)
      assert.same({ "timeout", "Timeout" }, { err.kind, err.code })
      done, err = client:drain(0.01)
      assert.is_nil(done)
      assert.equal("Timeout", err.code)
      client:spawn(function()
        client.runtime.sleep(0.02)
        server:release "held"
      end)
      assert.is_true(client:drain(DEADLINE))
      assert.same({ 3, 3, 6 }, { over, client:stats().outbox.accepted, #server:requests() })
    end))

    it("waits for calls that are tried again", within(function(open)
      local client, receipt = open { retry = { base = 0.02, cap = 0.02, tries = 5 } }, nil
      local throttled = service.refuses "FlowLimitExceeded"
      server:script(throttled, throttled, throttled)
      client:spawn(function()
        receipt = client:send_room_unicast(message "again")
      end)
      client.runtime.sleep(0.001) -- so that it has begun
      assert.is_true(client:drain(DEADLINE))
      assert.equal(4, receipt.attempts)
    end))

    it("waits for messages that a send_all has not come to yet", within(function(open)
      local client, left = open(), 100
      local all = client:spawn(function()
        return client:send_all(function()
          left = left - 1
          return left >= 0 and message(tostring(left)) or nil
        end, { concurrency = 3, on_result = function() end })
      end)
      await(client, function() return left < 95 end)
      assert(client:drain(DEADLINE))
      assert.is_true(all:done())
      assert.equal(100, #server:requests())
    end))

    it("has nothing to wait for at first, and takes seconds only", within(function(open)
      local client = open()
      assert.is_true(client:drain())
      assert.is_true(client:drain(0))
      local done, err = client:drain "soon"
      assert.is_nil(done)
      assert.same({ "argument", "timeout" }, { err.kind, err.field })
    end))

    it("goes on when a handler enqueues what failed", within(function(open)
      local client, failed = open { retry = false }, 0
      server:script(service.refuses("InvalidAccessKey", { status = 401 }),
        service.refuses("InvalidAccessKey", { status = 401 }))
      client:on("failure", function(event)
        failed = failed + 1
        assert.is_true(client:enqueue(event.fields))
      end)
      assert.is_true(client:enqueue(message "again"))
      assert.is_true(client:drain(DEADLINE))
      assert.same({ 2, { "again", "again", "again" } }, { failed, texts() })
    end))
  end)

  describe("close", function()
    it("may come in a handler of the call that is about to go out", within(function(open)
      local client = open()
      client:on("request", function() client:close() end)
      local receipt, err = client:send_room_unicast(message "1")
      assert.is_nil(receipt)
      assert.same({ "Cancelled", "not_sent" }, { err.code, err.outcome })
      assert.same({}, server:requests())
    end))

    it("ends a connect whose tasks have not begun", within(function(open)
      local client = open()
      client:spawn(function() client:close() end)
      local opened, err = client:connect(2)
      assert.is_nil(opened)
      assert.equal("Cancelled", err.code)
    end))

    --- What became of calls of a client that is closed when `ready` says so.
    local function closed(client, ready, ...)
      local futures = {}
      for i, call in ipairs { ... } do
        futures[i] = client:spawn(call)
      end
      await(client, ready)
      client:close()
      local results = {}
      for i, future in ipairs(futures) do
        local receipt, err = future:wait(DEADLINE)
        assert.is_nil(receipt)
        assert.matches("clos", err.message .. " " .. err.code, 1, true)
        results[i] = { err.kind, err.code, err.outcome }
      end
      assert.equal(0, client.runtime.pending())
      assert.same({ nil, "Cancelled" }, { (client:send_room_unicast(message "late")),
        select(2, client:send_room_unicast(message "late")).code })
      return results
    end

    local function send(client, text)
      return function()
        return client:send_room_unicast(message(text))
      end
    end

    local not_sent, unknown = { "cancelled", "Cancelled", "not_sent" }, { "cancelled", "Cancelled", "unknown" }

    it("ends calls that wait for an answer, and those in the queue", within(function(open)
      local client = open { pool_size = 1 }
      server:always(nil, { act.read(), act.drain() })
      local results = closed(client, function() return server:state().complete == 1 end, send(client, "1"),
        send(client, "2"), send(client, "3"))
      table.sort(results, function(one, other) return one[3] > other[3] end) -- cqueues starts the last one first
      assert.same({ unknown, not_sent, not_sent }, results)
      server:await(function() return server:connections()[1].ended == "peer" end)
      assert.equal(1, #server:requests())
    end))

    it("ends calls that connect", within(function(open)
      local secure = fault_server.start { tls = tls.good }
      secure:on_accept({ act.wait "never" })
      local client = open({ ca_file = tls.ca_file }, secure)
      assert.same({ not_sent }, closed(client, function() return secure:state().waiting == 1 end,
        send(client, "1")))
    end))

    it("ends calls in the pause before another try", within(function(open)
      local client, pauses = open { retry = { base = 0, cap = 0, on_unknown = true } }, 0
      local long = { headers = { { "Retry-After", "8" } } }
      server:always(service.target "SendRoomUnicast", service.refuses("FlowLimitExceeded", long))
      server:always(service.target "SendUnicast", service.refuses("InternalError", {
        status = 500, headers = long.headers,
      }))
      client:on("retry", function() pauses = pauses + 1 end)
      assert.same({ { "cancelled", "Cancelled", "rejected" }, unknown },
        closed(client, function() return pauses == 2 end, send(client, "1"), function()
          return client:send_unicast { to = "user", message = "2" }
        end))
    end))

    it("ends calls that wait for the rate limit", within(function(open)
      local client = open { quota = { rate = 0.1, burst = 1, max_wait = 100, key = "close-" .. scheduler.name },
        timeout = 100 }
      assert(client:send_room_unicast(message "1"))
      assert.same({ not_sent }, closed(client, function() return client.runtime.pending() == 1 end,
        send(client, "2")))
      assert.same({ "1" }, texts())
    end))

    where(compat.yields_anywhere, it)("ends calls that wait for keys", within(function(_, runtime)
      local asked, client = false, nil
      client = rtc.new {
        endpoint = server.url, app_id = "app", from = "me", runtime = runtime, credentials = function()
          asked = true
          client.runtime.sleep(0.05)
          return { access_key = service.access_key, secret_key = service.secret_key }
        end,
      }
      assert.same({ not_sent, not_sent }, closed(client, function() return asked end, send(client, "1"),
        send(client, "2")))
      assert.same({}, texts())
    end))

    it("tells of enqueued messages, also of those on their way", within(function(open)
      local client, told = open { outbox = { concurrency = 1 } }, {}
      server:always(nil, NEVER)
      client:on("failure", function(event)
        told[event.fields.message] = { event.err.kind, event.err.code, event.err.outcome }
        local again, err = client:enqueue(event.fields)
        assert.is_nil(again)
        assert.equal("Cancelled", err.code)
      end)
      for n = 1, 3 do
        assert.is_true(client:enqueue(message(tostring(n))))
      end
      await_waiting(client, 1)
      client:close()
      assert.is_true(client:drain(DEADLINE))
      assert.same({ ["1"] = unknown, ["2"] = not_sent, ["3"] = not_sent }, told)
      assert.same({ 0, 0 }, { client:stats().outbox.waiting, client:stats().outbox.in_flight })
    end))

    it("wakes who drains, and who connects", within(function(open)
      local secure = fault_server.start { tls = tls.good }
      secure:on_accept({ act.wait "never" })
      local client = open({ ca_file = tls.ca_file }, secure)
      local connects = client:spawn(client.connect, client)
      local drains = client:spawn(client.drain, client, DEADLINE)
      await_state(client, function(state) return state.waiting == 1 end, secure)
      client:close()
      local opened, err = connects:wait(DEADLINE)
      assert.is_nil(opened)
      assert.equal("Cancelled", err.code)
      assert.is_true(drains:wait(DEADLINE))
    end))

    it("is heard of by every method", within(function(open)
      local client = open()
      client:close()
      client:close()
      for name, err in pairs {
        send = select(2, client:send_room_unicast(message "x")), call = select(2, client:call("BanRoomUser", {})),
        enqueue = select(2, client:enqueue(message "x")), connect = select(2, client:connect()),
        batch = select(2, client:batch_send_room_unicast {
          room_id = "room", to = { "u" }, message = "x", split = true,
        }),
      } do
        assert.same({ name, "cancelled", "Cancelled", "not_sent" }, { name, err.kind, err.code, err.outcome })
        assert.matches("the client is closed", err.message, 1, true)
      end
      for _, receipt, err in client:send_all { message "x", message "y" } do
        assert.is_nil(receipt)
        assert.equal("Cancelled", err.code)
      end
      assert.is_true(client:drain())
      assert.equal(0, client:stats().outbox.failed)
      assert.equal(0, server:state().connections)
    end))

    it("closes connections, and leaves other clients alone", within(function(open)
      local client, other = open(), open()
      server:always(nil, service.accepts_after "held")
      for n = 1, 3 do
        sent_from(client, tostring(n))
      end
      local stays = sent_from(other, "stays")
      await_state(client, function(state) return state.waiting >= 3 end)
      await_waiting(other, 4)
      client:close()
      server:release "held"
      await_state(other, function(state) return state.open == 1 end)
      assert(stays:wait(DEADLINE))
      assert(other:send_room_unicast(message "after"))
      assert.equal(4, server:state().connections)
    end))

    it("can come in the same turn as a call's beginning", within(function(open)
      for _, first in ipairs { "call", "close" } do -- cqueues starts the last one first
        local client = open()
        local future
        for _, what in ipairs(first == "call" and { "call", "close" } or { "close", "call" }) do
          if what == "call" then
            future = client:spawn(client.send_room_unicast, client, message "1")
          else
            client:spawn(client.close, client)
          end
        end
        local receipt, err = future:wait(DEADLINE)
        assert.equal("Cancelled", receipt and "Cancelled" or err.code) -- a slow machine may see an answer before
      end
    end))
  end)

  describe("connect", function()
    it("opens so many connections, which are used then", within(function(open)
      local secure = fault_server.start { tls = tls.good }
      secure:always("/", { act.read(), act.answer { status = 404, body = "", length = 0 } })
      secure:always(nil, service.accepts_after "all are there")
      local client, futures = open({ ca_file = tls.ca_file }, secure), {}
      assert.equal(4, client:connect(4))
      assert.same({ 4, 4 }, { secure:state().handshakes, secure:state().open })
      for n = 1, 4 do
        futures[n] = sent_from(client, tostring(n))
      end
      await_state(client, function(state) return state.waiting == 4 end, secure)
      secure:release "all are there"
      for n = 1, 4 do
        assert(futures[n]:wait(DEADLINE))
      end
      assert.same({ 4, 4 }, { secure:state().handshakes, secure:state().connections })
      assert.equal(4, client:stats().connections.reused)
    end))

    it("says why not", within(function(open)
      local secure = fault_server.start { tls = tls.expired }
      local opened, err = open({ ca_file = tls.ca_file }, secure):connect(3)
      assert.is_nil(opened)
      assert.same({ "CertificateFailed", "not_sent" }, { err.code, err.outcome })
      server:script { act.read(), act.close() }
      opened, err = open():connect()
      assert.is_nil(opened)
      assert.same({ "ConnectionClosed", "not_sent" }, { err.code, err.outcome }) -- there was no message
      for _, count in ipairs { 0, 65, 1.5, "x", {} } do
        opened, err = open():connect(count)
        assert.is_nil(opened)
        assert.same({ "argument", "count" }, { err.kind, err.field })
      end
    end))
  end)

  it("leaves nothing behind of a client that is dropped", function()
    local function go()
      scheduler.run(function(runtime)
        local client = service.client(server, { runtime = runtime })
        for n = 1, 3 do
          assert(client:send_room_unicast(message(tostring(n))))
        end
      end)
    end
    go()
    local before = descriptors()
    for _ = 1, 5 do
      go()
    end
    assert.equal(before, descriptors())
  end)

  where(has_programs, it)("survives that everything is dropped with calls on their way", function()
    local program = child.start([[
      local rtc, schedulers = require "rtc", require "spec.support.schedulers"
      local service, fault_server = require "spec.support.service", require "spec.support.fault_server"
      local function descriptors()
        for _ = 1, 3 do collectgarbage() end
        local count = 0
        local list = io.popen("ls /proc/" .. native.getpid() .. "/fd")
        for _ in list:lines() do count = count + 1 end
        list:close()
        return count
      end
      local function go()
        local finished = {}
        local ok, raised = pcall(schedulers.named(arg[1]).run, function(runtime)
          local client, over = rtc.new { runtime = runtime, timeout = 0.3 }, 0
          local sleep = client.runtime.sleep
          for n = 1, 5 do
            client:spawn(function(mine)
              mine:send_room_unicast { room_id = "r", to = "u", message = "x" }
              over = over + 1
            end, client)
          end
          client = nil
          for _ = 1, 10 do
            sleep(0.005)
            collectgarbage()
          end
          while over < 5 do sleep(0.01) end
          finished[1] = over
        end)
        assert(ok, raised)
        assert(finished[1] == 5)
      end
      go()
      local before = descriptors()
      for _ = 1, 3 do go() end
      say(descriptors() - before)
      os.exit(0, true)
    ]], { scheduler.name }, { env = service.environment(server) })
    server:always(nil, NEVER)
    finally(function() program:close() end)
    assert.equal("0", program:line(), program:stderr())
    assert.same({ 0, "" }, { program:wait(), program:stderr() })
  end)

  if scheduler.only_tasks then
    describe("where nothing can wait", function()
      local client

      before_each(function()
        client = service.client(server, { runtime = scheduler.runtime() })
      end)

      it("says so, and what to do instead", function()
        for name, method in pairs {
          send = function() return client:send_room_unicast(message "x") end,
          call = function() return client:call("BanRoomUser", {}) end,
          connect = function() return client:connect() end,
        } do
          local receipt, err = method()
          assert.is_nil(receipt)
          assert.same({ name, "config", "NoTask", "not_sent", false },
            { name, err.kind, err.code, err.outcome, err.retryable })
          assert.matches("nothing can wait here", err.message, 1, true)
          assert.is_true(#err.advice > 10)
        end
        local ok, raised = pcall(function() client:send_all { message "x" } end)
        assert.is_false(ok)
        assert.matches("^spec/runtimes_spec.lua:%d+: client:send_all: nothing can wait here.*\n  %-> ", raised)
        assert.equal(0, server:state().requests)
      end)

      it("drains when there is nothing to wait for", function()
        assert.is_true(client:drain())
      end)

      if not scheduler.starts_anywhere then
        it("starts no task", function()
          for _, start in pairs {
            function() return client:spawn(function() end) end,
            function() return client:enqueue(message "x") end,
          } do
            local started, err = start()
            assert.is_nil(started)
            assert.same({ "config", "NoTask", "not_sent" }, { err.kind, err.code, err.outcome })
          end
          assert.equal(0, client:stats().outbox.waiting)
        end)
      end
    end)
  end

  if scheduler.starts_anywhere then
    it("takes messages where nothing can wait, and sends them when it can", function()
      local told
      local client
      scheduler.run(function(runtime)
        client = service.client(server, { runtime = runtime })
        coroutine.wrap(function() end)()
      end)
      scheduler.run(function(runtime)
        client = service.client(server, { runtime = runtime })
        client:on("response", function(event) told = event.receipt end)
        assert.is_true(client:enqueue(message "later"))
        assert.is_true(client:drain(DEADLINE))
      end)
      assert.equal("SendRoomUnicast", told.action)
    end)
  end
end

for _, scheduler in ipairs(schedulers.all) do
  describe("in the runtime " .. scheduler.name .. ",", function()
    describe_runtime(scheduler)
  end)
end
