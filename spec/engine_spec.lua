-- The engine's contract: submit, wait, step, next, cancel; the queue; bad input; what collection does.
-- engine_delivery_spec, engine_time_spec, engine_tls_spec and engine_process_spec have the rest.

local certificates = require("spec.support.certificates")
local collector = require("spec.support.collector")
local cqueues = require("cqueues")
local engine = require("rtc.engine")
local compat = require("spec.support.compat")
local fault_server = require("spec.support.fault_server")
local native = require("spec.support.native")
local pump = require("spec.support.pump")

local act = fault_server.act
local answered = pump.answered

describe("the engine", function()
  local server, e

  before_each(function()
    server = fault_server.start()
    e = engine.new({ connections = 8 })
  end)

  after_each(function()
    e:close()
    server:stop()
  end)

  local function request(target, changes)
    local result = { url = server.url .. (target or "/"), method = "POST", body = "{}",
      headers = { { "Content-Type", "application/json" } }, timeout = 20, try_timeout = 20 }
    for name, value in pairs(changes or {}) do result[name] = value end
    return result
  end

  --- Every request after the first action waits until it is released by this name.
  local function hold(name, target)
    server:always(target, { act.read(), act.wait(name), act.echo() })
  end

  describe("one exchange", function()
    it("sends what was given and gives the answer", function()
      server:script({ act.read(), act.answer({ status = 201, body = "answer \0\255", headers = {
        { "X-One", "1" }, { "X-Two", "a" }, { "x-two", "b" } } }) })
      local body = {}
      for byte = 0, 255 do body[#body + 1] = string.char(byte) end
      body = table.concat(body):rep(256)
      local exchange = pump.one(e, request("/path?A=b&C=%20d", { body = body, headers = {
        { "Content-Type", "text/plain" }, { "X-First", "one" }, { "x-second", "two, three" }, { "X-Empty", "" } } }))
      assert.equal("number", type(exchange.elapsed))
      assert.is_true(exchange.elapsed >= 0)
      assert.is_true(exchange.id > 0)
      exchange.elapsed, exchange.id = nil, nil
      assert.same({ status = 201, body = "answer \0\255", sent = true, reused = false,
        headers = { ["x-one"] = "1", ["x-two"] = "a, b", ["content-length"] = "9" } }, exchange)

      local got = server:requests()
      assert.equal(1, #got)
      assert.equal("POST", got[1].method)
      assert.equal("/path?A=b&C=%20d", got[1].target)
      assert.is_true(got[1].body == body, "the body differs")
      assert.equal("text/plain", got[1].headers["content-type"])
      assert.equal("one", got[1].headers["x-first"])
      assert.equal("two, three", got[1].headers["x-second"])
      assert.equal("", got[1].headers["x-empty"])
      assert.equal(tostring(#body), got[1].headers["content-length"])
      assert.equal("127.0.0.1:" .. server.port, got[1].headers.host)
    end)

    it("posts nothing, visibly, when no body is given", function()
      answered(pump.one(e, { url = server.url .. "/" }))
      local got = server:requests()[1]
      assert.equal("POST", got.method)
      assert.equal("0", got.headers["content-length"])
      assert.is_nil(got.headers["transfer-encoding"])
    end)

    it("sends a GET without a body", function()
      answered(pump.one(e, { url = server.url .. "/g", method = "GET" }))
      local got = server:requests()[1]
      assert.equal("GET", got.method)
      assert.equal(0, got.body_bytes)
      assert.is_nil(got.headers["transfer-encoding"])
    end)

    it("asks for no 100 Continue before a large body", function()
      local body = ("x"):rep(3000000)
      answered(pump.one(e, request("/", { body = body })))
      local got = server:requests()[1]
      assert.equal(#body, got.body_bytes)
      assert.is_nil(got.headers.expect)
    end)

    it("sends a header that it would make itself as it was given, once", function()
      answered(pump.one(e, request("/", { headers = { { "Host", "rtc.example.test" }, { "Accept", "text/x" },
        { "User-Agent", "spec/1" }, { "Authorization", "Some thing=1" }, { "content-type", "a/b" } } })))
      local head = server:requests()[1].head
      for line in ("Host: rtc.example.test\nAccept: text/x\nUser-Agent: spec/1\nAuthorization: Some thing=1\n" ..
        "content-type: a/b\n"):gmatch("[^\n]+") do
        local name = line:match("^[^:]+"):lower()
        local seen = {}
        for sent in head:gmatch("[^\r\n]+") do
          if sent:lower():find(name .. ":", 1, true) == 1 then seen[#seen + 1] = sent end
        end
        assert.same({ line }, seen)
      end
    end)

    it("reads an answer without a length up to its end", function()
      server:script({ act.read(), act.answer({ body = ("long"):rep(20000), length = false }), act.close() })
      local exchange = pump.one(e, request())
      assert.equal(200, exchange.status)
      assert.equal(("long"):rep(20000), exchange.body)
    end)

    it("reads an answer in chunks", function()
      server:script({ act.read(), act.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" ..
        "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n") })
      local exchange = pump.one(e, request())
      assert.equal("abcdefg", exchange.body)
    end)

    it("passes over interim answers", function()
      server:script({ act.read(), act.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX-Hint: 1\r\n\r\n"),
        act.answer({ status = 503, body = "busy", headers = { { "X-Last", "1" } } }) })
      local exchange = pump.one(e, request())
      assert.equal(503, exchange.status)
      assert.equal("busy", exchange.body)
      assert.same({ ["x-last"] = "1", ["content-length"] = "4" }, exchange.headers)
    end)

    it("takes an answer without a body", function()
      server:script({ act.read(), act.send("HTTP/1.1 204 No Content\r\n\r\n") })
      local exchange = pump.one(e, request())
      assert.equal(204, exchange.status)
      assert.equal("", exchange.body)
    end)

    it("follows no redirect", function()
      local elsewhere = fault_server.start()
      for _, status in ipairs({ 301, 302, 307, 308 }) do
        local headers = { { "Location", elsewhere.url .. "/" } }
        server:script({ act.read(), act.answer({ status = status, headers = headers }) })
        local exchange = pump.one(e, request())
        assert.equal(status, exchange.status)
        assert.equal(elsewhere.url .. "/", exchange.headers.location)
      end
      assert.equal(0, elsewhere:state().connections)
      assert.equal(4, server:state().requests)
      elsewhere:stop()
    end)

    it("answers no challenge", function()
      for _, answer in ipairs({
        { status = 401, headers = { { "WWW-Authenticate", "Basic realm=x" } } },
        { status = 401, headers = { { "WWW-Authenticate", "Negotiate" } } },
        { status = 407, headers = { { "Proxy-Authenticate", "Basic realm=x" } } },
        { status = 417 },
        { status = 425 },
      }) do
        server:script({ act.read(), act.answer(answer) })
        assert.equal(answer.status, pump.one(e, request()).status)
      end
      assert.equal(5, server:state().requests)
    end)

    it("uses a connection again", function()
      local first = pump.one(e, request())
      local second = pump.one(e, request())
      assert.is_false(first.reused)
      assert.is_true(second.reused)
      assert.equal(1, server:state().connections)
    end)

    it("opens a new connection when told to, though others are idle, and keeps it", function()
      answered(pump.one(e, request()))
      assert.equal(2, answered(pump.one(e, request("/", { fresh = true }))).connection)
      answered(pump.one(e, request("/", { fresh = false })))
      assert.same({ 2, 2 }, { server:state().connections, server:state().open })
      hold()
      for _ = 1, 2 do assert(e:submit(request())) end
      pump.await(e, function() return server:state().waiting == 2 end)
      assert.equal(2, server:state().connections) -- both are used again
      server:release()
      pump.finish(e, 2)
    end)

    it("uses no connection again when idle ones may not be kept", function()
      local single = engine.new({ idle_timeout = 0 })
      for n = 1, 2 do
        local exchange = pump.one(single, request())
        assert.is_false(exchange.reused)
        assert.equal(n, answered(exchange).connection)
        server:await(function(state) return state.open == 0 end)
        assert.equal("peer", server:connections()[n].ended)
      end
      single:close()
    end)
  end)

  describe("many at once", function()
    it("completes 200 over 8 connections, each with its own answer", function()
      local target_of = {}
      for n = 1, 200 do
        local id = assert(e:submit(request("/" .. n, { body = ("%d "):format(n):rep(n) })))
        assert.is_nil(target_of[id])
        target_of[id] = "/" .. n
      end
      assert.equal(200, e:pending())
      local exchanges = pump.finish(e, 200)
      for _, exchange in ipairs(exchanges) do
        assert.equal(target_of[exchange.id], answered(exchange).target)
        assert.is_true(exchange.sent)
      end
      assert.equal(0, e:pending())
      assert.is_nil(e:next())
      local state = server:state()
      assert.equal(200, state.requests)
      assert.equal(8, state.connections)
      for _, got in ipairs(server:requests()) do
        local n = got.target:match("%d+")
        assert.equal((n .. " "):rep(n), got.body)
      end
    end)

    it("never has more on the wire than connections, and starts the next when one is done", function()
      hold("first", "/first")
      hold("rest")
      assert(e:submit(request("/first")))
      for n = 2, 20 do assert(e:submit(request("/" .. n))) end
      pump.await(e, function() return server:state().waiting == 8 end)
      for _ = 1, 20 do
        e:wait(0.01)
        e:step()
      end
      assert.equal(8, server:state().requests)
      server:release("first")
      pump.await(e, function()
        local state = server:state()
        return state.requests == 9 and state.waiting == 8
      end)
      server:release("rest")
      pump.finish(e, 20)
      assert.equal(8, server:state().most_open)
    end)

    it("keeps to the order of submission in its queue", function()
      local one = engine.new({ connections = 1 })
      local expected, seen = {}, {}
      for n = 1, 30 do
        expected[n] = "/" .. n
        assert(one:submit(request(expected[n])))
      end
      for n, exchange in ipairs((pump.finish(one, 30))) do assert.equal(expected[n], answered(exchange).target) end
      for n, got in ipairs(server:requests()) do seen[n] = got.target end
      assert.same(expected, seen)
      assert.equal(1, server:state().connections)
      one:close()
    end)

    it("gives each exchange when it is done, not when it was submitted", function()
      hold("a", "/a")
      hold("b", "/b")
      local a, b, c = e:submit(request("/a")), e:submit(request("/b")), e:submit(request("/c"))
      assert.equal(c, pump.finish(e, 1)[1].id)
      server:release("b")
      assert.equal(b, pump.finish(e, 1)[1].id)
      assert.equal(1, e:pending())
      server:release("a")
      assert.equal(a, pump.finish(e, 1)[1].id)
    end)

    it("serves several engines at once", function()
      local other = engine.new({ connections = 2 })
      for n = 1, 20 do
        assert(e:submit(request("/e" .. n)))
        assert(other:submit(request("/o" .. n)))
      end
      for _, exchange in ipairs((pump.finish(e, 20))) do assert.truthy(answered(exchange).target:find("^/e")) end
      for _, exchange in ipairs((pump.finish(other, 20))) do assert.truthy(answered(exchange).target:find("^/o")) end
      other:close()
    end)
  end)

  describe("driving it", function()
    it("does nothing without step", function()
      hold()
      server:release()
      assert(e:submit(request()))
      for _ = 1, 20 do e:wait(0.01) end
      assert.is_nil(e:next())
      assert.equal(0, server:state().requests)
      answered(pump.finish(e, 1)[1])
    end)

    it("says by wait whether there is something to do", function()
      assert.is_false(e:wait(0))
      assert.is_false(e:wait(0.01))
      hold()
      assert(e:submit(request()))
      assert.is_true(e:wait(5))
      pump.await(e, function() return server:state().waiting == 1 end)
      pump.await(e, function() return e:wait(0.05) == false end)
      server:release()
      assert.is_true(e:wait(20))
      answered(pump.finish(e, 1)[1])
    end)

    it("waits for several engines at once", function()
      local closed, others = engine.new(), { engine.new(), engine.new() }
      finally(function()
        for _, each in ipairs(others) do each:close() end
      end)
      closed:close()
      local all = { closed, e, others[1], closed, others[2] }
      assert.is_false(engine.wait({}, 0))
      assert.is_false(engine.wait({}, 0.001))
      assert.is_false(engine.wait({ closed }, 0.001))
      assert.is_false(engine.wait(all, -1))
      for _, each in ipairs({ others[2], e }) do
        assert(each:submit(request()))
        assert.is_true(engine.wait(all, 20))
        assert.is_true(engine.wait(all))
        assert.is_false(engine.wait({ closed, others[1] }, 0))
        local exchange
        local deadline = native.now() + 20
        repeat
          assert.is_true(engine.wait(all, 20)) -- for an answer, and not only for what was submitted
          each:step()
          exchange = each:next()
        until exchange or native.now() > deadline
        answered(exchange)
        pump.await(each, function() return not engine.wait(all, 0.05) end)
      end
    end)

    it("raises when told to wait for what is no engine, and for no time", function()
      for _, wrong in ipairs({ { { e, 42 } }, { { "engine" } }, { { io.stdout } }, { { {} } }, { e }, { 42 }, {},
        { { e }, "soon" }, { { e }, {} } }) do
        assert.has_error(function() engine.wait(wrong[1], wrong[2]) end)
      end
      assert.is_false(e:wait(0))
    end)

    it("counts by step what is done and not yet taken", function()
      assert.equal(0, e:step())
      for n = 1, 3 do assert(e:submit(request("/" .. n))) end
      pump.await(e, function() return e:step() == 3 end)
      assert.equal(3, e:step())
      assert.equal(3, e:pending())
      e:next()
      assert.equal(2, e:step())
      assert.equal(2, e:pending())
      e:next()
      e:next()
      assert.equal(0, e:step())
      assert.is_nil(e:next())
    end)

    it("says how long the descriptor may stay silent", function()
      assert.is_nil(e:timeout())
      hold()
      assert(e:submit(request("/", { timeout = 9, try_timeout = 7 })))
      pump.await(e, function() return server:state().waiting == 1 end)
      pump.await(e, function() return e:wait(0.05) == false end)
      local seconds = e:timeout()
      assert.is_true(seconds > 0 and seconds <= 7)
      server:release()
      pump.finish(e, 1)
    end)

    it("is driven by its descriptor and its timeout alone", function()
      hold("held", "/held")
      local deadline = native.now() + 20
      local fd = e:pollfd()
      assert.equal("r", e:events())
      for n = 1, 30 do assert(e:submit(request("/" .. n))) end
      local late = assert(e:submit(request("/held", { timeout = 0.3 })))
      local seen = {}
      while e:pending() > 0 and native.now() < deadline do
        native.readable(e:pollfd(), math.min(e:timeout() or 20, 20))
        e:step()
        for exchange in e.next, e do seen[exchange.id] = exchange end
      end
      assert.equal(0, e:pending())
      assert.equal("timeout", seen[late].kind)
      assert.equal(fd, e:pollfd())
    end)

    it("lets a loop sleep while nothing happens", function()
      hold()
      assert(e:submit(request()))
      pump.await(e, function() return server:state().waiting == 1 end)
      pump.await(e, function() return not native.readable(e:pollfd(), 0.05) end)
      server:release()
      pump.finish(e, 1)
      pump.await(e, function() return not native.readable(e:pollfd(), 0.05) end)
    end)

    it("is an object that cqueues polls", function()
      local loop, done = cqueues.new(), {}
      loop:wrap(function()
        for n = 1, 20 do assert(e:submit(request("/" .. n))) end
        while e:pending() > 0 do
          cqueues.poll(e)
          e:step()
          for exchange in e.next, e do done[#done + 1] = answered(exchange) end
        end
      end)
      assert(loop:loop(20))
      assert.equal(20, #done)
    end)

    it("does a little at a time when it has little time, and loses nothing", function()
      local wide = engine.new({ connections = 64 })
      hold()
      for n = 1, 64 do assert(wide:submit(request("/" .. n))) end
      pump.await(wide, function() return server:state().waiting == 64 end)
      server:release()
      server:await(function(state) return state.idle == 64 end)
      local first = wide:step(1e-9)
      assert.is_true(first < 64, "all 64 answers in one step of a nanosecond")
      local steps, last, seen = 1, first, {}
      pump.await(wide, function()
        steps = steps + 1
        local count = wide:step(1e-9)
        assert.is_true(count >= last)
        last = count
        return count == 64
      end)
      for exchange in wide.next, wide do seen[answered(exchange).target] = true end
      for n = 1, 64 do assert.is_true(seen["/" .. n]) end
      wide:close()
    end)
  end)

  describe("cancel", function()
    it("ends one that is in the queue, and it is never sent", function()
      local one = engine.new({ connections = 1 })
      hold("first", "/first")
      local first = one:submit(request("/first"))
      local second, third = one:submit(request("/second")), one:submit(request("/third"))
      pump.await(one, function() return server:state().waiting == 1 end)
      local exchange = one:cancel(second)
      assert.equal(second, exchange.id)
      assert.equal("cancelled", exchange.kind)
      assert.equal("Cancelled", exchange.code)
      assert.equal("string", type(exchange.message))
      assert.is_false(exchange.sent)
      assert.equal(2, one:pending())
      server:release("first")
      local _, by_id = pump.finish(one, 2)
      answered(by_id[first])
      answered(by_id[third])
      for _, got in ipairs(server:requests()) do assert.not_equal("/second", got.target) end
      one:close()
    end)

    it("ends one before the first step", function()
      local id = e:submit(request())
      local exchange = e:cancel(id)
      assert.equal("cancelled", exchange.kind)
      assert.is_false(exchange.sent)
      assert.equal(0, e:pending())
      assert.equal(0, e:step())
      assert.equal(0, server:state().requests)
    end)

    it("says that a request had left, drops its connection and never mixes its answer up", function()
      hold("late", "/late")
      local id = e:submit(request("/late"))
      pump.await(e, function() return server:state().waiting == 1 end)
      local exchange = e:cancel(id)
      assert.equal("cancelled", exchange.kind)
      assert.is_true(exchange.sent)
      assert.is_nil(e:next())
      assert.equal(0, e:pending())
      server:release("late")
      for n = 1, 5 do
        local answer = answered(pump.one(e, request("/" .. n)))
        assert.equal("/" .. n, answer.target)
        assert.not_equal(1, answer.connection)
      end
      server:await(function() return not server:connections()[1].open end)
    end)

    it("says that a request had not left whole", function()
      local slow = fault_server.start({ receive_buffer = 4096 })
      slow:always(nil, { act.read_body(1000), act.wait() })
      local id = e:submit(request("/", { url = slow.url, body = ("x"):rep(20000000) }))
      pump.await(e, function() return slow:state().waiting == 1 end)
      local exchange = e:cancel(id)
      assert.equal("cancelled", exchange.kind)
      assert.is_false(exchange.sent)
      slow:stop()
    end)

    it("gives one that is done as it ended", function()
      local id = e:submit(request())
      pump.await(e, function() return e:step() == 1 end)
      local exchange = e:cancel(id)
      assert.equal(id, exchange.id)
      answered(exchange)
      assert.equal(0, e:pending())
      assert.equal(0, e:step())
      assert.is_nil(e:next())
    end)

    it("closes what it ends at once, in the midst of a handshake or of an answer", function()
      local silent = fault_server.start({ tls = certificates.make().good })
      finally(function() silent:stop() end)
      silent:on_accept({ act.drain() })
      server:always("/answer", { act.read(), act.answer({ body = "abc", length = 10 }), act.drain() })
      for _, case in ipairs({ { silent, "/handshake", false }, { server, "/answer", true } }) do
        local peer, target, sent = compat.unpack(case)
        local id = e:submit(request(target, { url = peer.url .. target }))
        pump.await(e, function()
          local state = peer:state()
          return state.open == 1 and (not sent or state.complete == 1) and e:wait(0.05) == false -- it is in the midst
        end)
        local exchange = e:cancel(id)
        assert.same({ "cancelled", sent, 0 }, { exchange.kind, exchange.sent, e:pending() })
        peer:await(function(state) return state.open == 0 end) -- though nobody steps
      end
    end)

    it("takes whole ids only", function()
      hold("whole", "/whole")
      local id = e:submit(request("/whole"))
      assert.is_nil(e:cancel(id + 0.5))
      assert.equal(id, e:cancel(id).id)
    end)

    it("leaves nothing to wait for", function()
      hold("due", "/due")
      local id = e:submit(request("/due", { timeout = 0.5 }))
      e:step()
      e:cancel(id)
      e:step()
      assert.is_nil(e:timeout())
      pump.one(e, request("/", { timeout = 0.5 }))
      e:step()
      assert.is_nil(e:timeout())
    end)

    it("knows nothing of others", function()
      assert.is_nil(e:cancel(1))
      local id = pump.one(e, request()).id
      assert.is_nil(e:cancel(id))
      assert.is_nil(e:cancel(id + 1))
      assert.is_nil(e:cancel(-1))
      assert.is_nil(e:cancel(compat.max_integer))
    end)

    it("makes room for the next and leaves the others alone", function()
      hold("stay", "/stay")
      local stay, go = {}, {}
      for n = 1, 4 do
        stay[n] = e:submit(request("/stay"))
        go[n] = e:submit(request("/stay"))
      end
      pump.await(e, function() return server:state().waiting == 8 end)
      for n = 1, 4 do
        e:submit(request("/next" .. n))
        assert.equal("cancelled", e:cancel(go[n]).kind)
      end
      local _, by_id = pump.finish(e, 4)
      for _, exchange in pairs(by_id) do assert.truthy(answered(exchange).target:find("^/next")) end
      server:release("stay")
      _, by_id = pump.finish(e, 4)
      for n = 1, 4 do answered(by_id[stay[n]]) end
    end)
  end)

  describe("what goes out", function()
    local function received(changes)
      pump.one(e, request("/", changes))
      local all = server:requests()
      return all[#all]
    end

    it("has the method that was asked for, with a body and without", function()
      for _, method in ipairs({ "GET", "POST", "PUT", "PATCH", "DELETE" }) do
        for _, body in ipairs({ "", "abc" }) do
          local got = received({ method = method, body = body })
          assert.equal(method, got.method)
          assert.equal(body, got.body)
        end
      end
      assert.equal("HEAD", received({ method = "HEAD", body = "" }).method)
    end)

    it("says the length of an empty body where there could be one", function()
      for _, method in ipairs({ "POST", "PUT", "PATCH" }) do
        assert.equal("0", received({ method = method, body = "" }).headers["content-length"])
      end
      assert.is_nil(received({ method = "GET", body = "" }).headers["content-length"])
    end)

    it("has the path as it was signed, and a header that is blank", function()
      local got = received({ url = server.url .. "/a/../b/./c?x=1", headers = { { "X-Blank", " " } } })
      assert.equal("/a/../b/./c?x=1", got.target)
      assert.equal("", got.headers["x-blank"])
    end)

    it("does not take the length of a HEAD's answer for too long a body", function()
      server:script({ act.read(), act.answer({ body = "", length = 5000000 }) })
      local exchange = pump.one(e, request("/", { method = "HEAD", body = "" }))
      assert.equal(200, exchange.status)
    end)

    it("gets an answer whose trailers change nothing in its head", function()
      server:script({ act.read(), act.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: head\r\n\r\n"
        .. "2\r\nok\r\n0\r\nX-A: trailer\r\nX-B: trailer\r\n\r\n") })
      local exchange = pump.one(e, request())
      assert.equal("ok", exchange.body)
      assert.equal("head", exchange.headers["x-a"])
      assert.is_nil(exchange.headers["x-b"])
    end)
  end)

  describe("bad input", function()
    local function refused(changes, field)
      local id, err = e:submit(changes)
      assert.is_nil(id)
      assert.equal("argument", err.kind)
      assert.equal("InvalidArgument", err.code)
      assert.equal("not_sent", err.outcome)
      assert.equal(field, err.field)
      assert.truthy(err.message:find(field, 1, true), err.message)
      assert.equal(0, e:pending())
    end

    local nothing = {}

    local function cases(field, values)
      for label, value in pairs(values) do
        it(("refuses %s: %s"):format(field, label), function()
          local changes = request()
          changes[field] = value
          if value == nothing then changes[field] = nil end
          refused(changes, field)
          e:step()
          assert.equal(0, server:state().connections)
        end)
      end
    end

    local url = "http://127.0.0.1:1/"
    cases("fresh", { ["a string"] = "yes", ["a number"] = 1, ["a table"] = {} })
    cases("url", { nothing = nothing, ["a number"] = 7, ["a table"] = {}, ["a boolean"] = true, empty = "",
      ["NUL"] = url .. "\0x", ["CR LF"] = url .. "\r\nX: y", ["LF"] = url .. "\nX", ["a space"] = url .. "a b",
      ["ftp"] = "ftp://127.0.0.1/x", ["file"] = "file:///etc/passwd", ["gopher"] = "gopher://127.0.0.1/x",
      ["no scheme"] = "127.0.0.1/x", ["no host"] = "http://" })
    it("refuses a body for HEAD", function()
      local changes = request()
      changes.method = "HEAD"
      refused(changes, "body")
    end)

    for _, name in ipairs({ "Content-Length", "transfer-encoding", "EXPECT" }) do
      it("refuses the caller's own " .. name, function()
        local changes = request()
        changes.headers = { { name, "1" } }
        refused(changes, "headers")
      end)
    end

    it("refuses two Hosts", function()
      local changes = request()
      changes.headers = { { "Host", "a" }, { "host", "b" } }
      refused(changes, "headers")
    end)

    cases("method", { ["a table"] = {}, empty = "", ["CR LF"] = "GET\r\nX: y", ["a space"] = "GET /", ["NUL"] = "G\0" })
    cases("body", { ["a table"] = {}, ["a boolean"] = false })
    cases("headers", { ["a string"] = "X: y", ["a map"] = { X = "y" }, ["strings"] = { "X: y" },
      ["half a header"] = { { "X" } }, ["an empty name"] = { { "", "y" } },
      ["a space in a name"] = { { "X y", "z" } },
      ["a colon in a name"] = { { "X:", "z" } }, ["CR LF in a name"] = { { "X\r\nY", "z" } },
      ["NUL in a name"] = { { "X\0", "z" } }, ["CR LF in a value"] = { { "X", "y\r\nZ: 1" } },
      ["LF in a value"] = { { "X", "y\nZ: 1" } }, ["CR in a value"] = { { "X", "y\rZ: 1" } },
      ["NUL in a value"] = { { "X", "y\0z" } }, ["a table as a value"] = { { "X", {} } } })
    for _, field in ipairs({ "timeout", "try_timeout", "connect_timeout" }) do
      cases(field, { ["a string"] = "soon", zero = 0, negative = -1, ["not a number"] = 0 / 0, ["a table"] = {} })
    end
    cases("max_response", { ["a string"] = "much", negative = -1, ["half a byte"] = 1.5, ["a table"] = {} })
    cases("proxy", { ["a number"] = 7, ["a table"] = {}, ["NUL"] = "http://127.0.0.1:1\0",
      ["CR LF"] = "http://a\r\nb" })

    it("refuses a port that no URL can have, at once or as a failure", function()
      local id, err = e:submit(request("/", { url = "http://127.0.0.1:99999/" }))
      if id then
        local exchange = pump.finish(e, 1)[1]
        assert.equal("network", exchange.kind)
        assert.is_false(exchange.sent)
      else
        assert.equal("url", err.field)
      end
    end)

    it("refuses what is no table, at once", function()
      for _, value in ipairs({ false, "http://127.0.0.1/", 7 }) do
        local ok, id = pcall(e.submit, e, value or nil)
        assert.is_true(not ok or id == nil)
        assert.equal(0, e:pending())
      end
    end)

    it("raises on what is no engine", function()
      for _, name in ipairs({ "submit", "wait", "step", "next", "cancel", "pending", "pollfd", "events", "timeout",
        "close" }) do
        assert.has_error(function() e[name]() end)
        assert.has_error(function() e[name]({}) end)
        assert.has_error(function() e[name](io.stdout) end)
      end
      assert.has_error(function() e:cancel() end)
      assert.has_error(function() e:cancel("x") end)
      assert.has_error(function() e:wait("x") end)
      assert.has_error(function() e:step("x") end)
    end)

    it("sends or refuses a huge header, and goes on", function()
      local value = ("v"):rep(200000)
      local id, err = e:submit(request("/", { headers = { { "X-Huge", value } } }))
      if id then
        answered(pump.finish(e, 1)[1])
        assert.equal(value, server:requests()[1].headers["x-huge"])
      else
        assert.equal("headers", err.field)
      end
      answered(pump.one(e, request()))
    end)

    it("sends none of an exchange's secrets in the text of its failure", function()
      server:script({ act.read(), act.close() })
      local exchange = pump.one(e, request("/?Signature=hush", { headers = { { "Authorization", "hush-hush" } } }))
      assert.equal("network", exchange.kind)
      assert.is_nil(exchange.message:find("hush", 1, true))
    end)

    local options = { connections = { 0, -1, 1.5, "many", 0 / 0, {} }, idle_timeout = { -1, 1.5, "long", 0 / 0, {} },
      max_age = { 0, -1, 1.5, "long", 0 / 0, {} }, ca_file = { 7, {}, "a\0b" }, ca_path = { 7, {}, "a\0b" },
      cert_file = { 7, {}, "a\0b", "" }, key_file = { 7, {}, "a\0b", "" } }
    for name, values in pairs(options) do
      it("raises on a bad " .. name, function()
        for _, value in ipairs(values) do
          local ok, err = pcall(engine.new, { [name] = value })
          assert.is_false(ok, name .. " = " .. tostring(value))
          assert.truthy(tostring(err):find(name, 1, true), tostring(err))
        end
      end)
    end

    it("raises on an option that it does not know, and on options that are no table", function()
      local ok, err = pcall(engine.new, { conections = 3 })
      assert.is_false(ok)
      assert.truthy(tostring(err):find("conections", 1, true))
      assert.has_error(function() engine.new("sandbox") end)
    end)

    it("needs no options", function()
      local plain = engine.new()
      answered(pump.one(plain, request()))
      plain:close()
    end)
  end)

  describe("its end", function()
    it("can come twice", function()
      assert(e:submit(request()))
      e:close()
      e:close()
    end)

    it("leaves methods that fail and do not crash", function()
      assert(e:submit(request()))
      e:step()
      e:close()
      for _, name in ipairs({ "submit", "wait", "step", "next", "cancel", "pending", "pollfd", "timeout" }) do
        local ok, result, err = pcall(e[name], e, name == "submit" and request() or 1)
        if ok then
          assert.is_true(not result or result == 0, name)
        else
          assert.truthy(tostring(result):find("closed", 1, true), name .. ": " .. tostring(result) .. tostring(err))
        end
      end
    end)

    it("ends its connections", function()
      answered(pump.one(e, request()))
      hold()
      assert(e:submit(request("/")))
      pump.await(e, function() return server:state().waiting == 1 end)
      assert.equal(1, server:state().open)
      e:close()
      server:release()
      server:await(function(state) return state.open == 0 end)
    end)

    it("comes by collection, with exchanges in every state", function()
      hold("never", "/never")
      for _ = 1, 20 do
        local doomed = engine.new({ connections = 3 })
        for n = 1, 3 do doomed:submit(request(n == 1 and "/done" or "/never")) end
        pump.await(doomed, function() return doomed:step() == 1 end)
        for _ = 1, 4 do doomed:submit(request("/queued")) end
        doomed = nil -- luacheck: ignore
        collectgarbage()
        collectgarbage()
      end
      server:release("never")
      server:await(function(state) return state.open == 0 end)
      answered(pump.one(e, request()))
    end)

    it("keeps nothing of a request that Lua collects", function()
      hold()
      for n = 1, 8 do
        e:submit({ url = server.url .. "/" .. n, method = "PO" .. "ST", body = ("b"):rep(n * 1000),
          headers = { { "X-N", ("n"):rep(n) } }, timeout = 20, try_timeout = 20 })
        collectgarbage()
      end
      for _ = 1, 5 do collectgarbage() end
      server:release()
      pump.finish(e, 8)
      for _, got in ipairs(server:requests()) do
        local n = tonumber(got.target:sub(2))
        assert.equal(("b"):rep(n * 1000), got.body)
        assert.equal(("n"):rep(n), got.headers["x-n"])
      end
    end)

    it("works under a collector that never rests", function()
      finally(collector.hurry())
      for n = 1, 20 do
        assert(e:submit(request("/" .. n, { headers = { { "X-N", tostring(n) } } })))
        collectgarbage()
      end
      for _, exchange in ipairs((pump.finish(e, 20))) do answered(exchange) end
    end)

    -- A finaliser runs wherever Lua allocates: also while an exchange is turned into a table.
    it("is not led astray by a finaliser that uses it too", function()
      local many = _VERSION == "Lua 5.1" and 150 or 1500 -- there (LuaJIT, too) each piece of work is a whole collection
      local count, wrong = 0, 0
      local function take()
        local exchange = e:next()
        if not exchange then return end
        count = count + 1
        if exchange.code ~= "ConnectFailed" or not exchange.message:find("connect", 1, true) then wrong = wrong + 1 end
      end
      local function litter()
        collector.litter(function()
          take()
          if count < many then litter() end
        end)
      end
      for _ = 1, many do e:submit({ url = "http://127.0.0.1:1/", proxy = "" }) end
      pump.await(e, function() return e:step() == many end)
      litter()
      finally(collector.hurry())
      while count < many do take() end
      collectgarbage()
      assert.equal(many, count)
      assert.equal(0, wrong)
      assert.equal(0, e:pending())
    end)

    it("may be closed by a finaliser while an exchange is taken", function()
      for _ = 1, 20 do
        local each = engine.new()
        each:submit(request("/"))
        pump.await(each, function() return each:step() == 1 end)
        local calm = collector.hurry()
        for _ = 1, 200 do collector.litter(function() each:close() end) end
        local ok, exchange = pcall(each.next, each) -- closed before, meanwhile or not yet
        calm()
        if ok and exchange then pump.answered(exchange) end
      end
    end)

    it("leaves no descriptor behind", function()
      local function descriptors()
        local count = 0
        collectgarbage()
        local list = io.popen("ls /proc/" .. native.getpid() .. "/fd")
        for _ in list:lines() do count = count + 1 end
        list:close()
        return count
      end
      local before = descriptors()
      for _ = 1, 10 do
        local each = engine.new()
        for n = 1, 10 do each:submit(request("/" .. n)) end
        pump.finish(each, 5)
        each:close()
      end
      assert.equal(before, descriptors())
    end)
  end)

  it("counts what has not left yet", function()
    local small = fault_server.start({ receive_buffer = 4096 })
    local one = engine.new({ connections = 1 })
    finally(function()
      one:close()
      small:stop()
    end)
    assert.equal(0, one:unsent())
    small:script({ act.read_head(), act.wait("read") }, { act.read(), act.wait("answer"), act.echo() })
    assert(one:submit({ url = small.url, body = ("x"):rep(16000000), timeout = 60, try_timeout = 60 }))
    assert(one:submit({ url = small.url, body = "x", timeout = 60, try_timeout = 60 }))
    assert.equal(2, one:unsent()) -- queued
    pump.await(one, function() return small:state().waiting == 1 end)
    assert.equal(2, one:unsent()) -- one in the midst of its body, one queued
    assert(one:cancel(1))
    assert.equal(1, one:unsent())
    pump.await(one, function() return small:state().complete == 1 end)
    assert.same({ 0, 1 }, { one:unsent(), one:pending() }) -- sent, and not answered
    small:release("read")
    small:release("answer")
    pump.finish(one, 1)
    assert.same({ 0, 0 }, { one:unsent(), one:pending() })
  end)
end)
