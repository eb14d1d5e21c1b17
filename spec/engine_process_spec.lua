-- The engine and its process: slow name look-ups, fork, SIGPIPE, the environment's proxies, and the process's end.
-- Each test runs in a process of its own.

local certificates = require("spec.support.certificates").make()
local child = require("spec.support.child")
local fault_server = require("spec.support.fault_server")
local native = require("spec.support.native")

local sh = require("spec.support.process").sh
local act = fault_server.act

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

--- A sanitizer that the specs run under must stay the first.
local function preload(name)
  local before, library = os.getenv("LD_PRELOAD") or "", native.compile(name)
  return before == "" and library or before .. " " .. library
end

local function touch(path)
  assert(io.open(path, "w")):close()
end

describe("the engine in its process", function()
  local server, processes

  local function run(code, arguments, options)
    local process = child.start(code, arguments, options)
    processes[#processes + 1] = process
    return process
  end

  local function hears(process, expected)
    local line, why = process:line(20)
    assert.equal(expected, line, tostring(why) .. ": " .. process:stderr())
  end

  local function ends_well(process)
    local code, how = process:wait(20)
    assert.equal(0, code, how .. ": " .. process:stderr())
    assert.equal("", process:stderr())
  end

  before_each(function()
    processes = {}
    server = fault_server.start()
  end)

  after_each(function()
    for _, each in ipairs(processes) do each:close() end
    fault_server.stop_all()
  end)

  describe("during a slow look-up", function()
    local folder, slow_url

    before_each(function()
      folder = native.path("dns")
      sh("mkdir " .. folder)
      slow_url = ("http://name.slow.test:%d/slow"):format(server.port)
    end)

    local function run_slow(code)
      return run([[
        local slow_url, fast_url, folder = arg[1], arg[2], arg[3]
        local e = engine.new({ connections = 8 })
        local function slow(changes)
          local request = { url = slow_url, timeout = 60, try_timeout = 60, connect_timeout = 60 }
          for name, value in pairs(changes or {}) do request[name] = value end
          return assert(e:submit(request))
        end
        local function begun() return exists(folder .. "/begun") end
        -- Nothing here may be done by waiting for the look-up.
        local function early() assert(not exists(folder .. "/ended"), "the look-up has ended") end
      ]] .. code, { slow_url, server.url .. "/fast", folder }, { env = { LD_PRELOAD = preload("slow_dns"),
        RTC_SLOW_DNS_FOLDER = folder, http_proxy = false, all_proxy = false, ALL_PROXY = false } })
    end

    local function release()
      assert.is_false(exists(folder .. "/ended"))
      touch(folder .. "/release")
    end

    it("other exchanges complete, then the slow one", function()
      local process = run_slow([[
        local id = slow()
        pump.await(e, begun)
        for n = 1, 20 do e:submit({ url = fast_url .. n }) end
        for _, exchange in ipairs((pump.finish(e, 20))) do assert(exchange.status == 200 and exchange.id ~= id) end
        early()
        say("others are done")
        local exchange = pump.finish(e, 1)[1]
        assert(exchange.id == id and exchange.status == 200, exchange.message)
        say("all are done")
      ]])
      hears(process, "others are done")
      release()
      hears(process, "all are done")
      ends_well(process)
      assert.equal(21, server:state().requests)
    end)

    it("its exchange times out: not sent", function()
      local process = run_slow([[
        slow({ timeout = 0.2 })
        slow({ try_timeout = 0.2 })
        slow({ connect_timeout = 0.2 })
        for _, exchange in ipairs((pump.finish(e, 3))) do
          assert(exchange.kind == "timeout" and exchange.sent == false, exchange.message)
        end
        early()
        assert(pump.one(e, { url = fast_url }).status == 200)
        early()
        say("timed out")
      ]])
      hears(process, "timed out")
      ends_well(process)
      assert.is_false(exists(folder .. "/ended"))
      assert.equal(1, server:state().requests)
    end)

    it("its exchange can be cancelled at once", function()
      local process = run_slow([[
        local id, other = slow(), slow()
        pump.await(e, begun)
        local exchange = e:cancel(id)
        assert(exchange.kind == "cancelled" and exchange.sent == false)
        early()
        assert(e:cancel(other))
        early()
        assert(e:pending() == 0)
        assert(pump.one(e, { url = fast_url }).status == 200)
        early()
        say("cancelled")
      ]])
      hears(process, "cancelled")
      ends_well(process)
      assert.is_false(exists(folder .. "/ended"))
      assert.equal(1, server:state().requests)
    end)

    for name, code in pairs({
      ["close"] = "e:close()",
      ["collection"] = "e = nil collectgarbage() collectgarbage()",
      ["the end of the script"] = "",
      ["os.exit"] = "os.exit(0)",
      ["os.exit with lua_close"] = "os.exit(0, true)",
    }) do
      it(("the end comes at once by %s"):format(name), function()
        local process = run_slow([[
          for _ = 1, 4 do slow() end
          pump.await(e, begun)
          early()
          say("begun")
        ]] .. code .. "\nearly() say('over')")
        hears(process, "begun")
        ends_well(process)
        assert.is_false(exists(folder .. "/ended"))
      end)
    end

    it("the module can be unloaded, and the look-up's end finds its code still there", function()
      local process = run_slow([[
        e:close()
        native.in_another_state(([=[
          local engine, pump = require("rtc.engine"), require("spec.support.pump")
          local e = engine.new()
          e:submit({ url = %q, timeout = 60, try_timeout = 60, connect_timeout = 60 })
          pump.await(e, function() local f = io.open(%q) return f and f:close() end)
        ]=]):format(slow_url, folder .. "/begun"))
        early()
        engine, pump = nil
        package.loaded["rtc.engine"] = nil
        say("unloaded")
        local function threads()
          local count = 0
          for _ in io.popen("ls /proc/" .. native.getpid() .. "/task"):lines() do count = count + 1 end
          return count
        end
        while not exists(folder .. "/ended") or threads() > 1 do native.sleep(0.01) end
        say("survived")
      ]])
      hears(process, "unloaded")
      release()
      hears(process, "survived")
      ends_well(process)
    end)

    it("a name that does not exist is told at once: not sent", function()
      local process = run_slow([[
        slow()
        pump.await(e, begun)
        for n = 1, 4 do e:submit({ url = "http://no.such.test/" .. n }) end
        for _, exchange in ipairs((pump.finish(e, 4))) do
          assert(exchange.kind == "network" and exchange.code == "DNSFailed" and exchange.sent == false, exchange.code)
        end
        early()
        say("no such name")
      ]])
      hears(process, "no such name")
      ends_well(process)
    end)
  end)

  describe("after a fork", function()
    -- The parent has, over each transport, three connections: one with an exchange in flight, one with an exchange
    -- whose time will run out, one idle. The child does what the test says. Then the parent goes on, driven by its
    -- descriptor alone.
    local forker = [[
      local urls, ca_file = { arg[1], arg[2] }, arg[3]
      local e = engine.new({ ca_file = ca_file, connections = 16 })
      local function submit(url, changes)
        local request = { url = url, timeout = 60, try_timeout = 60 }
        for name, value in pairs(changes or {}) do request[name] = value end
        return assert(e:submit(request))
      end
      local function told() return native.readable(0, 0) and native.read(0) end

      for _, url in ipairs(urls) do
        for _ = 1, 3 do submit(url .. "/warm") end
      end
      pump.finish(e, 6)
      local held, late = {}, {}
      for n, url in ipairs(urls) do held[n] = submit(url .. "/held") end
      say("in flight")
      pump.await(e, told)

      local function in_child()
        assert(e:pending() == 0, "pending")
        assert(e:next() == nil, "next")
        assert(e:step() == 0, "step")
        assert(e:cancel(held[1]) == nil, "cancel")
        for _ = 1, 3 do
          for _, url in ipairs(urls) do submit(url .. "/child") end
        end
        local exchanges = pump.finish(e, 6)
        for _, exchange in ipairs(exchanges) do assert(exchange.status == 200, exchange.message) end
      end

      for n, url in ipairs(urls) do late[submit(url .. "/late", { timeout = 0.3 })] = n end
      e:step()
      local pid = native.fork()
      if pid == 0 then
        local ok, err = pcall(function()
          CHILD
        end)
        if not ok then
          io.stderr:write(tostring(err), "\n")
          native.leave(1)
        end
        LEAVE
      end
      say("child " .. native.await_end(pid))

      local deadline = native.now() + 20
      local function finish(count)
        local exchanges = {}
        while #exchanges < count and native.now() < deadline do
          native.readable(e:pollfd(), 20)
          e:step()
          for exchange in e.next, e do exchanges[#exchanges + 1] = exchange end
        end
        assert(#exchanges == count, "the parent's exchanges do not end")
        return exchanges
      end
      for _, exchange in ipairs(finish(2)) do
        assert(late[exchange.id] and exchange.kind == "timeout", exchange.kind)
      end
      say("late")
      local held_on = {}
      for _, exchange in ipairs(finish(2)) do
        local n = exchange.id == held[1] and 1 or 2
        assert(exchange.status == 200 and exchange.id == held[n] and exchange.reused, exchange.message)
        held_on[n] = ("%d"):format(json.decode(exchange.body).connection)
      end
      say("held on " .. held_on[1] .. " and " .. held_on[2])
      for _, url in ipairs(urls) do
        submit(url .. "/after")
        submit(url .. "/after")
      end
      for _, exchange in ipairs(finish(4)) do
        assert(exchange.status == 200 and exchange.reused, exchange.message)
        assert(json.decode(exchange.body).connection <= 3, "another connection")
      end
      say("after")
    ]]

    for name, fate in pairs({
      ["uses the engine and closes it"] = { "in_child() e:close()", "native.leave(0)", 6 },
      ["uses the engine and vanishes"] = { "in_child()", "native.leave(0)", 6 },
      ["uses the engine and ends as Lua does"] = { "in_child()", "os.exit(0, true)", 6 },
      ["only closes the engine"] = { "e:close()", "native.leave(0)", 0 },
      ["only collects the engine"] = { "e = nil collectgarbage() collectgarbage()", "native.leave(0)", 0 },
      ["only ends as Lua does"] = { "", "os.exit(0, true)", 0 },
      ["only asks for the descriptor"] = { "assert(e:pollfd() >= 0) e:wait(0) e:timeout()", "os.exit(0, true)", 0 },
    }) do
      it(("the parent's connections live on when the child %s"):format(name), function()
        local both = { server, fault_server.start({ tls = certificates.good }) }
        for _, each in ipairs(both) do
          each:always("/warm", { act.read(), act.wait("warm"), act.echo() })
          each:always("/held", { act.read(), act.wait("held"), act.echo() })
          each:always("/late", { act.read(), act.wait("never") })
        end
        local code = forker:gsub("CHILD", fate[1]):gsub("LEAVE", fate[2])
        local process = run(code, { both[1].url, both[2].url, certificates.ca_file }, { stdin = "pipe" })
        for _, each in ipairs(both) do each:await(function(state) return state.waiting == 3 end) end
        for _, each in ipairs(both) do each:release("warm") end
        hears(process, "in flight")
        for _, each in ipairs(both) do each:await(function(state) return state.waiting == 1 end) end
        process:write("go on\n")
        hears(process, "child 0")
        hears(process, "late")
        local held_on = {}
        for n, each in ipairs(both) do
          for _, request in ipairs(each:requests()) do
            if request.target == "/held" then held_on[n] = request.connection end
          end
          each:release("held")
        end
        hears(process, ("held on %d and %d"):format(held_on[1], held_on[2]))
        hears(process, "after")
        for n, each in ipairs(both) do
          local by_target = {}
          for _, request in ipairs(each:requests()) do
            by_target[request.target] = (by_target[request.target] or 0) + 1
            assert.is_true(request.complete)
          end
          assert.equal(fate[3] / 2, by_target["/child"] or 0)
          assert.equal(2, by_target["/after"])
          assert.equal(1, by_target["/held"])
          assert.equal(0, each:state().unknown_bytes)
          assert.is_true(held_on[n] <= 3)
        end
        ends_well(process)
      end)
    end
  end)

  -- A finaliser runs wherever Lua allocates: while a request is read, for the name of a field that is mentioned nowhere
  -- else in this process.
  it("may be closed by a finaliser in the middle of a submit", function()
    local process = run([[
      local url = arg[1]
      local collector = require "spec.support.collector"
      collector.hurry()
      local submitting, amid, ok, problem
      repeat
        local e = engine.new()
        collectgarbage()
        collectgarbage("stop")
        collector.litter(function()
          amid = submitting
          if amid then e:close() end
        end)
        local given = { url = url }
        collectgarbage("restart") -- the next allocation collects
        submitting = true
        ok, problem = pcall(e.submit, e, given)
        submitting = false
      until amid
      say(ok, problem)
    ]], { server.url })
    hears(process, "false\trtc.engine: it is closed")
    ends_well(process)
  end)

  describe("with a peer that resets in mid-write", function()
    for _, transport in ipairs({ "plain", "TLS" }) do
      it("survives, over " .. transport, function()
        local tls = transport == "TLS" and certificates.good or nil
        local small = fault_server.start({ receive_buffer = 4096, tls = tls })
        for _ = 1, 12 do small:script({ act.read_body(50000), act.reset() }) end
        local process = run([[
          local e = engine.new({ ca_file = arg[2] })
          for round = 1, 3 do
            for _ = 1, 4 do e:submit({ url = arg[1], body = ("x"):rep(5000000), timeout = 20, try_timeout = 20 }) end
            for _, exchange in ipairs((pump.finish(e, 4))) do
              assert(exchange.kind == "network" and exchange.sent == false, exchange.message)
            end
          end
          e:close()
          say("survived")
        ]], { small.url, certificates.ca_file })
        hears(process, "survived")
        ends_well(process)
        assert.equal(12, small:state().requests)
      end)

      it("survives a close with idle connections that the peer has reset, over " .. transport, function()
        local peer = fault_server.start({ tls = transport == "TLS" and certificates.good or nil })
        peer:always(nil, { act.read(), act.wait(), act.echo() })
        local process = run([[
          local e = engine.new({ ca_file = arg[2] })
          for _ = 1, 4 do e:submit({ url = arg[1] }) end
          pump.finish(e, 4)
          say("idle")
          native.read(0)
          e:close()
          say("survived")
        ]], { peer.url, certificates.ca_file }, { stdin = "pipe" })
        peer:await(function(state) return state.waiting == 4 end)
        peer:release()
        hears(process, "idle")
        peer:await(function(state) return state.idle == 4 end)
        peer:idle(act.reset())
        peer:await(function(state) return state.open == 0 end)
        process:write("go on\n")
        hears(process, "survived")
        ends_well(process)
      end)
    end
  end)

  describe("with a proxy in the environment", function()
    local proxy, environment

    before_each(function()
      proxy = fault_server.start()
      environment = { http_proxy = proxy.url, HTTP_PROXY = proxy.url, https_proxy = proxy.url, HTTPS_PROXY = proxy.url,
        all_proxy = proxy.url, ALL_PROXY = proxy.url, no_proxy = false, NO_PROXY = false }
    end)

    local once = [[
      local e = engine.new({ ca_file = arg[3] })
      local exchange = pump.one(e, { url = arg[1], proxy = arg[2] ~= "default" and arg[2] or nil, timeout = 20,
        try_timeout = 20 })
      say(exchange.status or exchange.code, exchange.sent)
    ]]

    it("uses it", function()
      local process = run(once, { "http://host.invalid/x", "default" }, { env = environment })
      hears(process, "200\ttrue")
      assert.equal("http://host.invalid/x", proxy:requests()[1].target)
    end)

    it("uses it for https", function()
      proxy:script({ act.read(), act.answer({ status = 403 }) })
      local process = run(once, { "https://host.invalid/x", "default" }, { env = environment })
      hears(process, "ProxyFailed\tfalse")
      assert.equal("host.invalid:443", proxy:requests()[1].target)
    end)

    for _, transport in ipairs({ "http", "https" }) do
      it("does not when told to use none, for " .. transport, function()
        local target = transport == "https" and fault_server.start({ tls = certificates.good }) or server
        local process = run(once, { target.url .. "/x", "", certificates.ca_file }, { env = environment })
        hears(process, "200\ttrue")
        assert.equal(0, proxy:state().connections)
        assert.equal(1, target:state().requests)
      end)
    end

    it("uses the one that it is given before the environment's", function()
      local other = fault_server.start()
      local process = run(once, { "http://host.invalid/x", other.url }, { env = environment })
      hears(process, "200\ttrue")
      assert.equal(1, other:state().requests)
      assert.equal(0, proxy:state().connections)
    end)
  end)

  it("ends well with exchanges in flight", function()
    server:always("/held", { act.read(), act.wait("never") })
    local tls = fault_server.start({ tls = certificates.good })
    tls:always("/held", { act.read(), act.wait("never") })
    for _, ending in ipairs({ "", "os.exit(0)", "os.exit(0, true)", "error('wanted')" }) do
      local process = run([[
        local e = engine.new({ ca_file = arg[3], connections = 4 })
        for _ = 1, 4 do
          e:submit({ url = arg[1] .. "/held" })
          e:submit({ url = arg[2] .. "/held" })
        end
        for _ = 1, 10 do e:wait(0.01) e:step() end
      ]] .. ending, { server.url, tls.url, certificates.ca_file })
      local code, how = process:wait(20)
      assert.equal("exited", how)
      assert.equal(ending:find("error") and 1 or 0, code)
    end
  end)

  it("fails what it has when a socket can't be watched, and goes on after", function()
    local refuse = native.path("refuse")
    touch(refuse)
    local process = run([[
      local e = engine.new()
      for _ = 1, 3 do assert(e:submit({ url = arg[1], timeout = 60, try_timeout = 60 })) end
      for _, exchange in ipairs((pump.finish(e, 3))) do say(exchange.code, exchange.sent) end
      os.remove(arg[2])
      say(pump.one(e, { url = arg[1] }).status)
      e:close()

      -- What still waits in the queue is not drawn into it.
      e = engine.new({ connections = 2 })
      assert(io.open(arg[2], "w")):close()
      for _ = 1, 20 do assert(e:submit({ url = arg[1], timeout = 60, try_timeout = 60 })) end
      local exchange
      repeat
        e:wait(0.01)
        e:step()
        exchange = e:next()
      until exchange
      os.remove(arg[2])
      local failed, answered = 1, 0
      for _, each in ipairs((pump.finish(e, 19))) do
        if each.status == 200 then answered = answered + 1 else failed = failed + 1 end
      end
      say(failed <= 4 and "few failed" or failed, failed + answered)
      say(pump.one(e, { url = arg[1] }).status)
      e:close()
    ]], { server.url, refuse }, { env = { LD_PRELOAD = preload("failing_epoll"), RTC_FAILING_EPOLL = refuse } })
    for _ = 1, 3 do hears(process, "EngineFailed\tfalse") end
    hears(process, "200")
    hears(process, "few failed\t20")
    hears(process, "200")
    ends_well(process)
  end)
end)
