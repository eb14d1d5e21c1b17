-- What the engine says of a message's fate: nothing is sent twice by itself, and `sent` is the truth, whatever the
-- server does. The server's record is the judge.

local engine = require("rtc.engine")
local json = require("cjson")
local certificates = require("spec.support.certificates").make()
local compat = require("spec.support.compat")
local fault_server = require("spec.support.fault_server")
local pump = require("spec.support.pump")

local act = fault_server.act
local answered = pump.answered

local BIG = ("x"):rep(20000000)

--- A loopback port where nobody listens.
local function closed_port()
  local server = fault_server.start()
  local port = server.port
  server:stop()
  return port
end

local function within(set, value)
  for _, each in ipairs(set) do
    if each == value then return true end
  end
  return false
end

for _, transport in ipairs({ "plain", "TLS" }) do
  describe("the engine, over " .. transport .. ",", function()
    local server, e

    local function start(options)
      options = options or {}
      options.tls = transport == "TLS" and certificates.good or nil
      return fault_server.start(options)
    end

    before_each(function()
      server = start()
      e = engine.new({ connections = 8, ca_file = certificates.ca_file })
    end)

    after_each(function()
      e:close()
      fault_server.stop_all()
    end)

    local function request(target, changes)
      local result = { url = server.url .. (target or "/"), method = "POST", body = "{}",
        headers = { { "Content-Type", "application/json" } }, timeout = 5, try_timeout = 5 }
      for name, value in pairs(changes or {}) do result[name] = value end
      return result
    end

    local function failed(exchange, kinds, codes, sent)
      assert.is_nil(exchange.status)
      assert.is_true(within(kinds, exchange.kind), ("kind %s, code %s: %s"):format(exchange.kind, exchange.code,
        exchange.message))
      assert.is_true(within(codes, exchange.code), ("code %s: %s"):format(exchange.code, exchange.message))
      assert.equal("string", type(exchange.message))
      assert.is_true(#exchange.message > 0)
      assert.equal("number", type(exchange.elapsed))
      assert.equal(sent, exchange.sent)
    end

    --- So many live connections that wait for a request.
    local function warm(count)
      server:always("/warm", { act.read(), act.wait("warm"), act.echo() })
      for _ = 1, count do assert(e:submit(request("/warm"))) end
      pump.await(e, function() return server:state().waiting == count end)
      server:release("warm")
      pump.finish(e, count)
      server:await(function(state) return state.idle == count end)
    end

    local shapes = {
      ["a POST"] = { method = "POST", body = '{"n":1}' },
      ["a POST without a body"] = { method = "POST", body = "" },
      ["a GET"] = { method = "GET", body = "" },
      ["a large POST"] = { method = "POST", body = ("y"):rep(300000) },
    }

    for shape, changes in pairs(shapes) do
      for end_name, ending in pairs({ close = act.close(), reset = act.reset() }) do
        it(("sends %s once when a reused connection ends by %s after it was read"):format(shape, end_name), function()
          warm(4)
          local target_of = {}
          for n = 1, 4 do
            server:script({ act.read(), ending })
            target_of[assert(e:submit(request("/" .. n, changes)))] = "/" .. n
          end
          local reused = {}
          for _, exchange in ipairs((pump.finish(e, 4))) do
            failed(exchange, { "network" }, { "ConnectionClosed" }, true)
            reused[target_of[exchange.id]] = exchange.reused
          end
          -- A hidden second try would have come before the failure was told, and would have been answered.
          answered(pump.one(e, request("/after")))
          local times, warmed = {}, {}
          for _, got in ipairs(server:requests()) do
            times[got.target] = (times[got.target] or 0) + 1
            assert.is_true(got.complete)
            -- The first goes over a kept connection for certain. When it dies libcurl may take, and close, another.
            if reused[got.target] ~= nil then assert.equal(warmed[got.connection] or false, reused[got.target]) end
            warmed[got.connection] = true
          end
          assert.is_true(reused["/1"])
          assert.same({ ["/warm"] = 4, ["/1"] = 1, ["/2"] = 1, ["/3"] = 1, ["/4"] = 1, ["/after"] = 1 }, times)
        end)
      end

      -- What comes with TLS cannot be counted from here, and a large body does not fit into the kernel's buffer.
      if transport == "plain" and #changes.body < 1000 then
        it(("does not send %s again when a reused connection ends and all of it had come"):format(shape), function()
          pump.one(e, request("/same", changes))
          local first = server:requests()[1]
          server:script({ act.unread(#first.head + #first.body), act.reset() })
          local exchange = pump.one(e, request("/same", changes))
          failed(exchange, { "network" }, { "ConnectionClosed" }, true)
          assert.is_true(exchange.reused)
          assert.equal(1, server:state().requests)
        end)
      end

      it(("sends %s over a new connection when the idle one had ended before"):format(shape), function()
        warm(2)
        assert.equal(2, server:idle(act.close()))
        server:await(function(state) return state.open == 0 end)
        local exchange = pump.one(e, request("/1", changes))
        assert.equal(3, answered(exchange).connection)
        assert.is_true(exchange.sent)
        assert.is_false(exchange.reused)
        assert.equal(3, server:state().requests)
      end)
    end

    -- When a connection ends just while a request goes out, chance decides what happens. What is said must be true.
    for race, spoil in pairs({
      ["a reset at the request's first byte"] = function() server:script({ act.reset() }) end,
      ["a close of the idle connection"] = function() server:idle(act.close()) end,
      ["a reset of the idle connection"] = function() server:idle(act.reset()) end,
      ["a close after an answer that promised more"] = function()
        server:script({ act.read(), act.echo(), act.close() })
        answered(pump.one(e, request("/promise")))
      end,
    }) do
      it("tells the truth after " .. race, function()
        local fate, rounds = {}, 0
        for shape, changes in pairs(shapes) do
          for _ = 1, 5 do
            pump.one(e, request("/warm"))
            spoil()
            rounds = rounds + 1
            local target = "/" .. rounds
            fate[target] = pump.one(e, request(target, changes))
            assert.is_true(fate[target].status == 200 or fate[target].kind == "network", shape)
          end
        end
        local times = {}
        for _, got in ipairs(server:requests()) do
          if got.complete then times[got.target] = (times[got.target] or 0) + 1 end
        end
        for target, exchange in pairs(fate) do
          local count = times[target] or 0
          assert.is_true(count <= 1, target .. " came more than once")
          if exchange.status then
            assert.equal(1, count)
            assert.equal(target, json.decode(exchange.body).target)
          elseif not exchange.sent then
            assert.equal(0, count)
          end
        end
        assert.equal(20, rounds)
      end)
    end

    it("does not use a connection again that the answer said would close", function()
      server:script({ act.read(), act.answer({ headers = { { "Connection", "close" } } }) })
      assert.equal(200, pump.one(e, request()).status)
      local exchange = pump.one(e, request("/next"))
      assert.is_false(exchange.reused)
      assert.equal(2, answered(exchange).connection)
    end)

    it("does not take a 408 on an idle connection for the answer to the next request", function()
      warm(2)
      assert.equal(2, server:idle(act.send(fault_server.bytes({ status = 408 })), act.close()))
      server:await(function(state) return state.open == 0 end)
      for n = 1, 2 do assert.equal("/" .. n, answered(pump.one(e, request("/" .. n))).target) end
      assert.equal(4, server:state().requests)
    end)

    it("sends once when a new connection ends after the request was read", function()
      for n = 1, 4 do
        server:script({ act.read(), n % 2 == 0 and act.close() or act.reset() })
        assert(e:submit(request("/" .. n)))
      end
      for _, exchange in ipairs((pump.finish(e, 4))) do
        failed(exchange, { "network" }, { "ConnectionClosed" }, true)
        assert.is_false(exchange.reused)
      end
      assert.equal(4, server:state().requests)
      assert.equal(4, server:state().connections)
    end)

    it("says not sent when nobody listens", function()
      local url = ("%s://127.0.0.1:%d/"):format(transport == "TLS" and "https" or "http", closed_port())
      failed(pump.one(e, request("/", { url = url })), { "network" }, { "ConnectFailed" }, false)
    end)

    it("says not sent when the connection ends before anything is read", function()
      local codes = transport == "TLS" and { "TLSFailed", "ConnectFailed", "ConnectionClosed" } or
        { "ConnectionClosed", "SendFailed", "ConnectFailed" }
      server:on_accept({ act.close() }, { act.reset() })
      for _ = 1, 2 do
        local exchange = pump.one(e, request("/"))
        assert.equal("network", exchange.kind)
        assert.is_true(within(codes, exchange.code), exchange.code)
        -- Over plain TCP the kernel may have taken the request before it learnt of the end.
        if transport == "TLS" or exchange.code == "ConnectFailed" then assert.is_false(exchange.sent) end
      end
      assert.equal(0, server:state().requests)
    end)

    describe("whose kept connection dies with a whole request, says sent", function()
      -- libcurl opens another connection then, and its counts of what was sent begin anew.
      local function taken(body)
        answered(pump.one(e, request("/")))
        server:script({ act.read(), act.wait("end"), act.close() })
        local id = e:submit(request("/", { body = body }))
        pump.await(e, function() return server:state().waiting == 1 end)
        assert.equal(2, server:state().complete)
        return id
      end

      for label, body in pairs({ ["a small body"] = "{}", ["no body"] = "", ["a large body"] = BIG }) do
        it("when the server is gone: " .. label, function()
          taken(body)
          server:stop()
          failed(pump.finish(e, 1)[1], { "network" }, { "ConnectFailed", "ConnectionClosed" }, true)
        end)

        if transport == "TLS" then
          it("when the next one's handshake breaks: " .. label, function()
            taken(body)
            server:on_accept({ act.close() })
            server:release("end")
            failed(pump.finish(e, 1)[1], { "network" }, { "TLSFailed", "ConnectFailed", "ConnectionClosed" }, true)
          end)

          it("when it is cancelled before the next one stands: " .. label, function()
            local id = taken(body)
            server:on_accept({ act.wait("never") })
            server:release("end")
            pump.await(e, function() return server:state().connections == 2 end)
            failed(e:cancel(id), { "cancelled" }, { "Cancelled" }, true)
          end)
        end
      end
    end)

    for end_name, ending in pairs({ close = act.close(), reset = act.reset() }) do
      it("says not sent when the connection ends within a large body, by " .. end_name, function()
        local small = start({ receive_buffer = 4096 })
        for _ = 1, 3 do small:script({ act.read_body(100000), ending }) end
        for _ = 1, 3 do assert(e:submit(request("/", { url = small.url, body = BIG }))) end
        for _, exchange in ipairs((pump.finish(e, 3))) do
          failed(exchange, { "network" }, { "SendFailed", "ConnectionClosed" }, false)
        end
        local got = small:requests()
        assert.equal(3, #got)
        for _, each in ipairs(got) do assert.is_false(each.complete) end
      end)
    end

    it("sends the whole of a large body, and says so", function()
      for n = 1, 3 do assert(e:submit(request("/" .. n, { body = BIG, timeout = 120, try_timeout = 120 }))) end
      for _, exchange in ipairs((pump.finish(e, 3, 120))) do
        answered(exchange)
        assert.is_true(exchange.sent)
      end
      for _, got in ipairs(server:requests()) do assert.equal(#BIG, got.body_bytes) end
    end)

    it("says sent when a large body was read and the connection ends then", function()
      server:script({ act.read(), act.close() })
      failed(pump.one(e, request("/", { body = BIG })), { "network" }, { "ConnectionClosed" }, true)
      assert.equal(#BIG, server:requests()[1].body_bytes)
    end)

    describe("early answers", function()
      local small

      before_each(function() small = start({ receive_buffer = 4096 }) end)

      for _, status in ipairs({ 408, 413, 503 }) do
        it(("are given though the body was not written: %d, then the end of writing"):format(status), function()
          small:script({ act.read_head(), act.answer({ status = status, body = "early" }), act.end_writing(),
            act.drain() })
          local exchange = pump.one(e, request("/", { url = small.url, body = BIG }))
          assert.is_nil(exchange.kind, exchange.message)
          assert.equal(status, exchange.status)
          assert.equal("early", exchange.body)
          assert.is_false(exchange.sent)
        end)
      end

      -- A reset may destroy the answer on its way, in the kernel even: then it is a failure, but a true one.
      it("are given, or the request was not sent, when a reset follows at once", function()
        for _ = 1, 5 do
          small:script({ act.read_head(), act.answer({ status = 413, body = "early" }), act.close() })
          local exchange = pump.one(e, request("/", { url = small.url, body = BIG }))
          if exchange.kind then
            failed(exchange, { "network" }, { "SendFailed", "ConnectionClosed" }, false)
          else
            assert.equal(413, exchange.status)
            assert.is_false(exchange.sent)
          end
        end
        assert.equal(5, small:state().requests)
      end)

      it("are given though the connection stays open and the server reads no more", function()
        small:script({ act.read_head(), act.answer({ status = 413, body = "early" }), act.wait() })
        local exchange = pump.one(e, request("/", { url = small.url, body = BIG }))
        assert.equal(413, exchange.status)
        assert.is_false(exchange.sent)
        local after = json.decode(pump.one(e, request("/after", { url = small.url .. "/after" })).body)
        assert.equal("/after", after.target)
        assert.equal(2, after.connection)
      end)

      it("say truly whether the rest was sent when the server reads on", function()
        for _, status in ipairs({ 200, 413 }) do
          small:script({ act.read_head(), act.answer({ status = status, body = "early" }) })
          local exchange = pump.one(e, request("/" .. status, { url = small.url .. "/" .. status, body = BIG }))
          assert.equal(status, exchange.status)
          assert.equal("early", exchange.body)
          if exchange.sent then
            small:await(function(state) return state.complete == state.requests end)
          else
            small:await(function(state) return state.open == 0 end)
            local got = small:requests()
            assert.is_false(got[#got].complete)
          end
        end
        -- Whatever became of the connection, the next exchange gets its own answer.
        assert.equal("/last", answered(pump.one(e, request("/", { url = small.url .. "/last" }))).target)
      end)
    end)

    describe("bad answers", function()
      local network = { "ConnectionClosed" }
      local bad = { "BadAnswer" }
      local either = { "BadAnswer", "ConnectionClosed" }

      local function expect(label, codes, ...)
        local actions = { act.read(), ... }
        it(label, function()
          local kinds = { network = false, response = false }
          for _, code in ipairs(codes) do kinds[code == "ConnectionClosed" and "network" or "response"] = true end
          for _ = 1, 3 do
            server:script(actions)
            assert(e:submit(request()))
          end
          for _, exchange in ipairs((pump.finish(e, 3))) do
            failed(exchange, { kinds.network and "network", kinds.response and "response" }, codes, true)
            assert.equal(exchange.code == "ConnectionClosed" and "network" or "response", exchange.kind)
          end
          assert.equal(3, server:state().requests)
          server:await(function(state) return state.open == 0 end)
          answered(pump.one(e, request("/after")))
        end)
      end

      expect("no byte at all", network, act.close())
      expect("half a status line", either, act.send("HTTP/1.1 20"), act.close())
      expect("half the headers", either, act.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-"), act.close())
      expect("half a body", either, act.answer({ body = "abc", length = 10 }), act.close())
      expect("half a body, then a reset", either, act.answer({ body = "abc", length = 10 }), act.reset())
      expect("half of the chunks", either,
        act.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), act.close())
      expect("only an interim answer", either, act.send("HTTP/1.1 100 Continue\r\n\r\n"), act.close())
      expect("garbage", bad, act.send("garbage, for once\r\n\r\n"), act.close())
      expect("garbage and no end", bad, act.send(("\0\1\2\3garbage"):rep(100)), act.drain())
      expect("another protocol", bad, act.send("SSH-2.0-Spec\r\n"), act.drain())
      expect("HTTP/0.9", bad, act.send("<html>hello</html>"), act.close())
      expect("chunks of no size", bad, act.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"),
        act.drain())
      expect("a length that is none", bad, act.send("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc"), act.drain())
      expect("a negative length", bad, act.send("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc"), act.drain())
    end)

    describe("the size of an answer", function()
      local function too_large(...)
        local actions = { act.read(), ... }
        for _ = 1, 3 do
          server:script(actions)
          assert(e:submit(request("/", { max_response = 10000 })))
        end
        for _, exchange in ipairs((pump.finish(e, 3))) do
          failed(exchange, { "response" }, { "AnswerTooLarge" }, true)
        end
        -- The engine leaves: nothing here ends by the server.
        server:await(function(state) return state.open == 0 end)
        assert.equal(3, server:state().requests)
        answered(pump.one(e, request("/after")))
      end

      it("may be just what is allowed", function()
        server:script({ act.read(), act.answer({ body = ("z"):rep(10000) }) })
        local exchange = pump.one(e, request("/", { max_response = 10000 }))
        assert.equal(10000, #exchange.body)
        assert.equal(1, pump.one(e, request()).reused and 1)
      end)

      it("is a megabyte unless told", function()
        server:script({ act.read(), act.answer({ body = ("z"):rep(1048576) }) },
          { act.read(), act.answer({ body = ("z"):rep(1048577) }) })
        assert.equal(1048576, #pump.one(e, request()).body)
        failed(pump.one(e, request()), { "response" }, { "AnswerTooLarge" }, true)
      end)

      it("is refused by its length alone", function()
        too_large(act.send("HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n"), act.drain())
      end)

      it("is refused by an absurd length", function()
        server:script({ act.read(), act.send("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
          act.drain() })
        failed(pump.one(e, request()), { "response" }, { "AnswerTooLarge", "BadAnswer" }, true)
      end)

      it("is refused without a length", function()
        too_large(act.send("HTTP/1.1 200 OK\r\n\r\n"), act.send_for_ever(("z"):rep(1000)))
      end)

      it("is refused in chunks without end", function()
        too_large(act.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
          act.send_for_ever("3e8\r\n" .. ("z"):rep(1000) .. "\r\n"))
      end)

      it("is refused with headers without end", function()
        too_large(act.send("HTTP/1.1 200 OK\r\n"), act.send_for_ever("X-Fill: " .. ("z"):rep(1000) .. "\r\n"))
      end)

      it("is refused with one header without end", function()
        too_large(act.send("HTTP/1.1 200 OK\r\nX-Fill: "), act.send_for_ever(("z"):rep(1000)))
      end)

      it("is refused with interim answers without end", function()
        too_large(act.send_for_ever(("HTTP/1.1 100 Continue\r\n\r\n"):rep(40)))
      end)

      it("is refused with trailers without end", function()
        too_large(act.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
          act.send_for_ever("X-Fill: " .. ("z"):rep(1000) .. "\r\n"))
      end)
    end)

    describe("through a proxy", function()
      local proxy

      before_each(function()
        proxy = fault_server.start()
      end)

      it("passes", function()
        if transport == "TLS" then proxy:always(nil, { act.read(), act.tunnel() }) end
        local exchange = pump.one(e, request("/through", { proxy = proxy.url }))
        assert.is_nil(exchange.kind, exchange.message)
        assert.is_true(exchange.sent)
        local got = proxy:requests()[1]
        if transport == "TLS" then
          assert.equal("CONNECT", got.method)
          assert.is_nil(got.headers["content-type"])
          assert.equal("/through", answered(exchange).target)
          assert.equal(1, server:state().requests)
        else
          assert.equal(server.url .. "/through", got.target)
          assert.equal(0, server:state().connections)
        end
      end)

      it("says that the proxy cannot be reached", function()
        local exchange = pump.one(e, request("/", { proxy = "http://127.0.0.1:" .. closed_port() }))
        failed(exchange, { "network" }, { "ProxyFailed", "ConnectFailed" }, false)
        assert.equal(0, server:state().connections)
      end)

      if transport == "TLS" then
        for _, status in ipairs({ 403, 407, 502, 503 }) do
          it("says that the proxy refused: " .. status, function()
            for _ = 1, 3 do
              proxy:script({ act.read(), act.answer({ status = status, body = "no" }) })
              assert(e:submit(request("/", { proxy = proxy.url, headers = { { "Authorization", "secret" } } })))
            end
            for _, exchange in ipairs((pump.finish(e, 3))) do
              failed(exchange, { "network" }, { "ProxyFailed" }, false)
              assert.equal("integer", compat.number_type(exchange.proxy_status))
              assert.equal(status, exchange.proxy_status)
            end
            assert.equal(3, proxy:state().requests)
            for _, got in ipairs(proxy:requests()) do assert.is_nil(got.headers.authorization) end
          end)
        end

        it("says that the proxy went away", function()
          proxy:script({ act.read(), act.close() })
          local exchange = pump.one(e, request("/", { proxy = proxy.url }))
          failed(exchange, { "network" }, { "ProxyFailed", "ConnectionClosed", "ConnectFailed" }, false)
          assert.is_nil(exchange.proxy_status)
        end)

        it("does not hand what the proxy said on to the next exchange", function()
          proxy:script({ act.read(), act.answer({ status = 407 }) })
          assert.equal(407, pump.one(e, request("/", { proxy = proxy.url })).proxy_status)
          local exchange = pump.one(e, request("/", { url = "https://127.0.0.1:" .. closed_port() }))
          failed(exchange, { "network" }, { "ConnectFailed" }, false)
          assert.is_nil(exchange.proxy_status)
        end)

        it("says what the proxy said of a failure behind it, unless the tunnel stood already", function()
          proxy:always(nil, { act.read(), act.tunnel() })
          server:always("/held", { act.read(), act.wait("never") })
          local function cancelled(nth)
            local id = e:submit(request("/held", { proxy = proxy.url }))
            pump.await(e, function() return server:state().waiting == nth end)
            local exchange = e:cancel(id)
            failed(exchange, { "cancelled" }, { "Cancelled" }, true)
            return exchange
          end
          assert.equal(200, cancelled(1).proxy_status)

          local exchange = pump.one(e, request("/", { proxy = proxy.url }))
          answered(exchange)
          assert.is_nil(exchange.proxy_status)
          exchange = cancelled(2)
          assert.is_true(exchange.reused)
          assert.is_nil(exchange.proxy_status)
        end)
      end
    end)

    it("keeps every fate apart when all happen at once", function()
      local expected = {}
      local fates = {
        ok = { step = { act.read(), act.echo() }, check = answered },
        gone = { step = { act.read(), act.close() }, kind = "network" },
        reset = { step = { act.read(), act.reset() }, kind = "network" },
        garbage = { step = { act.read(), act.send("garbage\r\n\r\n"), act.close() }, kind = "response" },
        large = { step = { act.read(), act.send("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"), act.drain() },
          kind = "response" },
        silent = { step = { act.read(), act.wait("never"), act.close() }, kind = "timeout", timeout = 3 },
      }
      for name, fate in pairs(fates) do server:always("/" .. name, fate.step) end
      for _ = 1, 10 do
        for name, fate in pairs(fates) do
          expected[e:submit(request("/" .. name, { try_timeout = fate.timeout }))] = fate
        end
      end
      for _, exchange in ipairs((pump.finish(e, 60))) do
        local fate = expected[exchange.id]
        assert.equal(fate.kind, exchange.kind)
        assert.is_true(exchange.sent)
        if fate.check then fate.check(exchange) end
      end
      assert.equal(60, server:state().requests)
    end)
  end)
end
