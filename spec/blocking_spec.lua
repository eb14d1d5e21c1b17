local blocking = require "rtc.runtime.blocking"
local runtimes = require "rtc.runtime"
local certificates = require "spec.support.certificates"
local fault_server = require "spec.support.fault_server"
local json = require "cjson"
local native = require "spec.support.native"
local process = require "spec.support.process"

local act = fault_server.act

describe("the blocking runtime", function()
  local server, runtime

  before_each(function()
    server = fault_server.start()
    runtime = runtimes.new(blocking.new())
  end)

  after_each(function()
    server:stop()
  end)

  local function request(target, changes)
    local req = { url = server.url .. target, headers = {}, body = "x", proxy = "" }
    for name, value in pairs(changes or {}) do
      req[name] = value
    end
    return runtime.request(req)
  end

  it("gives an answer, or nil and what happened", function()
    server:script({ act.read(), act.answer { status = 404, body = "no" } }, { act.read(), act.close() })
    local answered = assert(request "/a")
    assert.same({ 404, "no", true }, { answered.status, answered.body, answered.sent })
    local nothing, failed = request "/b"
    assert.is_nil(nothing)
    assert.same({ "network", true }, { failed.kind, failed.sent })
  end)

  it("tells of a request that the engine does not take", function()
    local nothing, err = request("/", { timeout = "soon" })
    assert.is_nil(nothing)
    assert.equal("argument", err.kind)
    assert.equal("not_sent", err.outcome)
  end)

  it("drops a request whose caller was interrupted before it was sent", function()
    -- Ctrl-C in the standalone interpreter raises in the middle of the wait; a prompt goes on after it. The first
    -- request, held before its TLS handshake, must not go out when the second one makes the engine work again.
    local tls = certificates.make()
    local secure = fault_server.start { tls = tls.good }
    secure:on_accept { act.wait("hold") }
    local child = process.spawn({ process.lua, "-e", ([[
      local runtime = require "rtc.runtime".new(require "rtc.runtime.blocking".new(), { ca_file = %q })
      local function request(target)
        return runtime.request { url = %q .. target, headers = {}, body = "x", proxy = "" }
      end
      print(pcall(request, "/first"))
      io.stdout:flush()
      print(request("/second").status)
      io.stdout:flush()
      io.read()]]):format(tls.ca_file, secure.url) }, { stdin = "pipe" })
    finally(function()
      child:close()
      secure:stop()
    end)
    secure:await(function(state) return state.waiting == 1 end)
    child:kill("INT")
    assert.matches("^false\t.*interrupted", child:line())
    assert.equal("200", child:line())
    secure:release("hold")
    secure:await(function() return secure:connections()[1].ended end)
    assert.equal(1, #secure:requests())
    assert.equal("/second", secure:requests()[1].target)
  end)

  it("sleeps for as long as told", function()
    local start = runtime.now()
    runtime.sleep(0.05)
    assert.is_true(runtime.now() - start >= 0.05)
    runtime.sleep(0)
    runtime.sleep(-1)
  end)

  it("runs a spawned function at once, up to where it first waits", function()
    local order = ""
    runtime.spawn(function()
      order = order .. "a"
      runtime.sleep(0.01)
      order = order .. "c"
    end)
    order = order .. "b"
    runtime.sleep(0.02)
    assert.equal("abc", order)
  end)

  --- Keeps the runtime going until it is so.
  local function await(condition)
    local deadline = native.now() + 20
    while not condition() do
      assert.is_true(native.now() < deadline, "waited in vain")
      runtime.sleep(0.005)
    end
  end

  --- A coroutine that the runtime knows nothing of.
  local function elsewhere(fn)
    return coroutine.wrap(fn)()
  end

  -- A step that is held until a task of the runtime has got an answer; whoever waits for it lets the task go on.
  for name, wait in pairs {
    ["a request"] = function(held) return held() end,
    ["a request in a coroutine that is no task"] = function(held) return elsewhere(held) end,
    ["a sleep in a coroutine that is no task"] = function(held, done)
      elsewhere(function()
        while not done() do runtime.sleep(0.005) end
      end)
      return held()
    end,
    ["a sleep"] = function(held, done)
      await(done)
      return held()
    end,
  } do
    it("lets tasks go on during " .. name, function()
      server:always("/held", { act.read(), act.wait "task", act.echo() })
      local done = false
      runtime.spawn(function()
        runtime.sleep(0.005)
        assert.equal(200, request("/task").status)
        server:release "task"
        done = true
      end)
      local answered = wait(function() return request "/held" end, function() return done end)
      assert.equal(200, answered.status)
      assert.is_true(done)
    end)
  end

  it("gives each task its own answer", function()
    local targets = {}
    server:always("/40", { act.read(), act.wait "last", act.echo() })
    for n = 1, 40 do
      runtime.spawn(function()
        local exchange = assert(request("/" .. n))
        targets[#targets + 1] = json.decode(exchange.body).target
        assert.equal("/" .. n, targets[#targets])
      end)
    end
    await(function() return #targets == 39 end)
    server:release "last"
    await(function() return #targets == 40 end)
    assert.equal("/40", targets[40])
  end)

  it("lets tasks spawn others, and use coroutines of their own", function()
    local inner, own, slept
    runtime.spawn(function()
      runtime.spawn(function()
        inner = request("/inner").status
      end)
      assert.is_nil(inner)
      own = elsewhere(function() return request("/own").status end)
      runtime.sleep(0.001)
      slept = true
    end)
    assert.equal(200, own) -- it is no task's, so that it was waited for
    await(function() return slept and inner end)
    assert.equal(200, inner)
    assert.equal(2, server:state().requests)
  end)

  it("wakes tasks in the order of their time, also when it comes late", function()
    local order, expected, began = {}, {}, runtime.now()
    for n = 1, 16 do
      local turn = n * 7 % 17 -- each of 1 to 16, in disorder
      expected[n] = n
      runtime.spawn(function()
        runtime.sleep(math.max(0, began + turn / 50 - runtime.now()))
        order[#order + 1] = turn
      end)
    end
    native.sleep(0.4)
    assert.same({}, order)
    runtime.sleep(0)
    assert.same(expected, order)
  end)

  it("wakes a task once for each sleep, whatever others do when they wake", function()
    local woken = { 0, 0, 0 }
    for n = 1, 3 do
      runtime.spawn(function()
        runtime.sleep(0.001)
        woken[n] = woken[n] + 1
        runtime.progress() -- wakes those that are due, too
        runtime.sleep(1000)
        woken[n] = woken[n] + 1
      end)
    end
    native.sleep(0.002)
    runtime.sleep(0)
    assert.same({ 1, 1, 1 }, woken)
  end)

  it("lets a task that does not sleep go on at once", function()
    local done = 0
    runtime.spawn(function()
      runtime.sleep(0)
      runtime.sleep(-1)
      done = 1
    end)
    assert.equal(1, done)
  end)

  it("does in progress what can be done without waiting, and no more", function()
    server:always(nil, { act.read(), act.wait "progress", act.echo() })
    local status
    runtime.spawn(function() status = request("/").status end)
    server:await(function(state)
      runtime.progress()
      return state.waiting == 1
    end)
    runtime.progress()
    assert.is_nil(status)
    server:release "progress"
    server:await(function()
      runtime.progress()
      return status
    end)
    assert.equal(200, status)
  end)

  it("says whose process it is", function()
    assert.equal(runtime.process(), runtimes.new(blocking.new()).process())
  end)

  it("tells who spawned a task of an error that ends it", function()
    local problems = {}
    local function died(problem)
      problems[#problems + 1] = problem
    end
    runtime.start(function() error("at once", 0) end, died)
    runtime.start(function()
      runtime.sleep(0.001)
      error({}, 0)
    end, died)
    runtime.start(function() coroutine.yield() end, died)
    runtime.start(function() request "/" end, died)
    await(function() return #problems == 3 end)
    assert.same({ "raised: at once", "yielded, and nothing of rtc resumes it", "raised: a table" }, problems)
  end)

  -- what is raised, and what standard error says
  for name, case in pairs {
    ["a string"] = { [["bad luck"]], "bad luck" },
    ["what commands a terminal"] = { [["\27[2J\nall is well"]], [[\x1B[2J\x0Aall is well]] },
    ["an error of ours"] = {
      [[require "rtc.error".argument("it is bad", "to", "SendUnicast")]],
      "SendUnicast: InvalidArgument: it is bad (argument, not sent)",
    },
    ["a table that cannot be shown"] = { "setmetatable({}, { __tostring = error })", "a table" },
    ["nothing"] = { "nil", tostring(select(2, pcall(error))) },
  } do
    it("tells of a task that raises, and goes on: " .. name, function()
      local child = process.run { process.lua, "-e", ([[
        local runtime = require "rtc.runtime".new(require "rtc.runtime.blocking".new())
        local done = 0
        local function request()
          return runtime.request { url = %q, headers = {}, body = "x", proxy = "" }.status
        end
        local function raise() error(%s, 0) end
        runtime.spawn(raise)
        runtime.spawn(function() runtime.sleep(0.001) raise() end)
        runtime.spawn(function() request() raise() end)
        runtime.spawn(function() runtime.sleep(0.002) done = done + 1 end)
        runtime.spawn(function()
          local status = request()
          done = done + status
        end)
        while done < 201 do runtime.sleep(0.005) end
        print(request(), done)]]):format(server.url .. "/", case[1]) }
      assert.same({ 0, "200\t201\n", ("rtc: a task raised: %s\n"):format(case[2]):rep(3) },
        { child.code, child.stdout, child.stderr })
    end)
  end
end)
