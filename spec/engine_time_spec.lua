-- The engine's limits of time: of an exchange, of a try, of connecting, in the queue; and how long a connection lives.
-- No test says how fast something is; a limit that is not kept runs into the pump's own deadline.

local engine = require("rtc.engine")
local certificates = require("spec.support.certificates").make()
local child = require("spec.support.child")
local fault_server = require("spec.support.fault_server")
local native = require("spec.support.native")
local pump = require("spec.support.pump")

local act = fault_server.act
local answered = pump.answered

local SHORT = 0.25
local LONG = 60

describe("the engine's time", function()
  local server, e

  before_each(function()
    server = fault_server.start()
    e = engine.new({ connections = 8, ca_file = certificates.ca_file })
  end)

  after_each(function()
    e:close()
    fault_server.stop_all()
  end)

  local function request(target, changes)
    local result = { url = server.url .. (target or "/"), method = "POST", body = "{}", timeout = LONG,
      try_timeout = LONG, connect_timeout = LONG }
    for name, value in pairs(changes or {}) do result[name] = value end
    return result
  end

  local function timed_out(exchange, sent, seconds)
    assert.equal("timeout", exchange.kind, exchange.message)
    assert.equal("Timeout", exchange.code)
    assert.is_true(#exchange.message > 0)
    assert.equal(sent, exchange.sent)
    -- It must not be early; how late it is depends on the machine.
    assert.is_true(exchange.elapsed >= seconds - 0.005, tostring(exchange.elapsed))
  end

  --- Submits several, with other exchanges between them that must not be disturbed, and checks each.
  local function each_times_out(changes, sent, count)
    server:always("/between", { act.read(), act.wait("between"), act.echo() })
    local timely = {}
    for n = 1, count or 3 do
      assert(e:submit(request("/held", changes)))
      if n <= 3 then timely[e:submit(request("/between", { url = server.url .. "/between" }))] = true end
    end
    for _, exchange in ipairs((pump.finish(e, count or 3))) do timed_out(exchange, sent, SHORT) end
    server:release("between")
    for _, exchange in ipairs((pump.finish(e, 3))) do
      assert.is_true(timely[exchange.id])
      answered(exchange)
    end
  end

  for _, name in ipairs({ "timeout", "try_timeout" }) do
    describe(name, function()
      it("ends the wait for an answer: sent", function()
        server:always("/held", { act.read(), act.wait("never") })
        each_times_out({ [name] = SHORT }, true)
      end)

      it("ends the wait for the rest of an answer: sent", function()
        server:always("/held", { act.read(), act.answer({ body = "abc", length = 10 }), act.wait("never") })
        each_times_out({ [name] = SHORT }, true)
      end)

      it("ends an answer that comes without end but slowly: sent", function()
        local step = { act.read(), act.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n") }
        for n = 3, 200 do step[n] = n % 2 == 0 and act.send("x") or act.sleep(0.02) end
        server:always("/held", step)
        each_times_out({ [name] = SHORT }, true)
      end)

      it("ends the sending of a body that nobody reads: not sent", function()
        local small = fault_server.start({ receive_buffer = 4096 })
        small:always(nil, { act.read_body(1000), act.wait("never") })
        each_times_out({ url = small.url, body = ("x"):rep(20000000), [name] = SHORT }, false)
      end)

      it("ends connecting: not sent", function()
        local port, keep = native.full_listener()
        each_times_out({ url = ("http://127.0.0.1:%d/"):format(port), [name] = SHORT }, false)
        for _, fd in ipairs(keep) do native.close(fd) end
      end)

      it("ends a TLS handshake: not sent", function()
        local silent = fault_server.start({ tls = certificates.good })
        silent:on_accept({ act.wait("never") }, { act.wait("never") }, { act.wait("never") })
        each_times_out({ url = silent.url, [name] = SHORT }, false)
      end)
    end)
  end

  describe("connect_timeout", function()
    it("ends connecting: not sent", function()
      local port, keep = native.full_listener()
      each_times_out({ url = ("http://127.0.0.1:%d/"):format(port), connect_timeout = SHORT }, false)
      for _, fd in ipairs(keep) do native.close(fd) end
    end)

    it("ends a TLS handshake: not sent", function()
      local silent = fault_server.start({ tls = certificates.good })
      silent:on_accept({ act.wait("never") }, { act.wait("never") }, { act.wait("never") })
      each_times_out({ url = silent.url, connect_timeout = SHORT }, false)
    end)

    it("does not end an exchange that is connected", function()
      server:always("/held", { act.read(), act.wait(), act.echo() })
      local held = e:submit(request("/held", { connect_timeout = SHORT }))
      pump.during(e, SHORT * 2)
      server:release()
      local exchange = pump.finish(e, 1)[1]
      assert.equal(held, exchange.id)
      answered(exchange)
    end)
  end)

  describe("in the queue", function()
    local one

    before_each(function()
      one = engine.new({ connections = 1 })
      server:always("/held", { act.read(), act.wait("held"), act.echo() })
    end)

    after_each(function() one:close() end)

    it("timeout goes on: never sent", function()
      local held = one:submit(request("/held"))
      for n = 1, 5 do assert(one:submit(request("/late" .. n, { timeout = SHORT }))) end
      local patient = one:submit(request("/patient"))
      for _, exchange in ipairs((pump.finish(one, 5))) do timed_out(exchange, false, SHORT) end
      assert.equal(2, one:pending())
      server:release("held")
      local _, by_id = pump.finish(one, 2)
      answered(by_id[held])
      answered(by_id[patient])
      assert.equal(2, server:state().requests)
    end)

    it("try_timeout and connect_timeout stand still", function()
      local held = one:submit(request("/held"))
      local queued = one:submit(request("/queued", { try_timeout = SHORT, connect_timeout = SHORT }))
      pump.during(one, SHORT * 2)
      assert.equal(2, one:pending())
      server:release("held")
      local _, by_id = pump.finish(one, 2)
      answered(by_id[held])
      answered(by_id[queued])
    end)

    it("what is left of timeout bounds the try", function()
      server:always("/second", { act.read(), act.wait("never") })
      one:submit(request("/held"))
      local second = one:submit(request("/second", { timeout = SHORT * 3 }))
      pump.during(one, SHORT)
      server:release("held")
      local _, by_id = pump.finish(one, 2)
      timed_out(by_id[second], true, SHORT * 3)
    end)
  end)

  it("never gives a late answer to another request", function()
    for n = 1, 8 do
      server:always("/late" .. n, { act.read(), act.wait("late"), act.echo() })
      assert(e:submit(request("/late" .. n, { timeout = SHORT })))
    end
    for _, exchange in ipairs((pump.finish(e, 8))) do timed_out(exchange, true, SHORT) end
    server:release("late")
    local target_of = {}
    for n = 1, 40 do target_of[e:submit(request("/" .. n))] = "/" .. n end
    for _, exchange in ipairs((pump.finish(e, 40))) do
      local answer = answered(exchange)
      assert.equal(target_of[exchange.id], answer.target)
      assert.is_true(answer.connection > 8)
    end
    assert.equal(48, server:state().requests)
  end)

  it("is kept by who only polls the descriptor", function()
    server:always("/held", { act.read(), act.wait("never") })
    for n = 1, 4 do assert(e:submit(request("/held", { timeout = SHORT * n / 2 }))) end
    local deadline, seen = native.now() + 20, {}
    while e:pending() > 0 and native.now() < deadline do
      native.readable(e:pollfd(), 20)
      e:step()
      for exchange in e.next, e do seen[#seen + 1] = exchange end
    end
    assert.equal(4, #seen)
    for n, exchange in ipairs(seen) do timed_out(exchange, true, SHORT * n / 2) end
  end)

  it("has many limits at once", function()
    server:always(nil, { act.read(), act.wait("never") })
    local wide = engine.new({ connections = 64 })
    local limit = {}
    for n = 1, 100 do limit[wide:submit(request("/" .. n, { timeout = 0.1 + (n * 37 % 100) / 200 }))] = n end
    for _, exchange in ipairs((pump.finish(wide, 100))) do
      local n = limit[exchange.id]
      assert.equal("timeout", exchange.kind)
      assert.is_true(exchange.elapsed >= 0.1 + (n * 37 % 100) / 200 - 0.005)
    end
    wide:close()
  end)

  it("takes a limit of a millisecond", function()
    server:always("/held", { act.read(), act.wait("never") })
    for _, name in ipairs({ "timeout", "try_timeout", "connect_timeout" }) do
      local exchange = pump.one(e, request("/held", { timeout = SHORT, [name] = 0.001 }))
      assert.equal("timeout", exchange.kind)
    end
  end)

  it("takes a limit that is longer than a life, or says which it refuses", function()
    for _, name in ipairs({ "timeout", "try_timeout", "connect_timeout" }) do
      for _, seconds in ipairs({ 86400, 1e7, 1e12, 1e300, math.huge }) do
        local id, err = e:submit(request("/", { [name] = seconds }))
        if id then
          answered(pump.finish(e, 1)[1])
        else
          assert.equal(name, err.field)
          assert.is_true(seconds > 86400)
        end
      end
    end
  end)

  describe("a connection, plain or TLS,", function()
    local urls

    before_each(function() urls = { server.url, fault_server.start({ tls = certificates.good }).url } end)

    --- The numbers that the two servers gave the connections that served us.
    local function connections_of(used)
      local numbers, reused = {}, {}
      for n, url in ipairs(urls) do
        local exchange = pump.one(used, request("/", { url = url }))
        numbers[n], reused[n] = answered(exchange).connection, exchange.reused
      end
      return numbers, reused
    end

    it("is not used again after idle_timeout, though the server would", function()
      local short = engine.new({ idle_timeout = 1, ca_file = certificates.ca_file })
      assert.same({ 1, 1 }, (connections_of(short)))
      assert.same({ 1, 1 }, (connections_of(short)))
      assert.same({ 2, 2 }, (connections_of(e)))
      pump.during(short, 2.1)
      local numbers, reused = connections_of(short)
      assert.same({ 3, 3 }, numbers)
      assert.same({ false, false }, reused)
      -- It was the idle time: the other engine's connections are as old, and still good.
      numbers, reused = connections_of(e)
      assert.same({ 2, 2 }, numbers)
      assert.same({ true, true }, reused)
      short:close()
    end)

    it("is not used again after max_age, however busy", function()
      local short = engine.new({ max_age = 1, ca_file = certificates.ca_file })
      local count = 0
      pump.await(short, function()
        count = count + 1
        native.sleep(0.02)
        local numbers = connections_of(short)
        return numbers[1] > 1 and numbers[2] > 1
      end)
      -- They had been used again until then.
      assert.is_true(count > 2)
      short:close()
    end)
  end)

  describe("wait", function()
    local waiter = [[
      local e = engine.new()
      e:submit({ url = arg[1], timeout = 600, try_timeout = 600 })
      local seconds = tonumber(arg[2])
      while e:wait(0.2) do e:step() end
      native.interrupt_after(0.2)
      say("returned", e:wait(seconds))
    ]]

    for label, seconds in pairs({ ["500 seconds"] = "500", ["no limit"] = "forever" }) do
      it("ends early by a signal, with " .. label, function()
        server:always(nil, { act.read(), act.wait("never") })
        local process = child.start(waiter, { server.url, seconds })
        assert.equal("returned\tfalse", (process:line(20)))
        assert.equal(0, (process:wait()))
        process:close()
      end)
    end
  end)

  -- As at a prompt, where nothing steps between two lines.
  for _, body in ipairs({ "{}", "" }) do
    it("sends nothing when its time was over before it could, and nobody stepped: " .. #body .. " bytes", function()
      local secure = fault_server.start({ tls = certificates.good })
      secure:on_accept({ act.wait("handshake") })
      assert(e:submit(request("/", { url = secure.url, body = body, timeout = SHORT })))
      pump.await(e, function() return secure:state().waiting == 1 end)
      native.sleep(SHORT)
      secure:release("handshake")
      native.sleep(0.2) -- so that the server's part of the handshake is there: else it ends while connecting, as usual
      local exchange = pump.finish(e, 1)[1]
      timed_out(exchange, false, SHORT)
      assert.matches("while connecting", exchange.message, 1, true)
      assert.equal(0, secure:state().requests)
    end)
  end
end)
