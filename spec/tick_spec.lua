-- A loop of one's own: what its steps do and don't. What all runtimes do is in runtimes_spec.lua.

local child = require "spec.support.child"
local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local json = require "cjson"
local native = require "spec.support.native"
local rtc = require "rtc"
local service = require "spec.support.service"
local tree = require "spec.support.tree"

local where = compat.where

local act = fault_server.act

local DEADLINE = 20

describe("a loop", function()
  local server, loop, client

  before_each(function()
    server = fault_server.start()
    server:always(nil, service.accepts())
    loop = rtc.loop()
    client = service.client(server, { runtime = loop, quota = false })
  end)

  after_each(fault_server.stop_all)

  local function message(text)
    return service.message { message = text }
  end

  --- Steps until it is so.
  local function step_until(predicate, budget)
    local deadline = native.now() + DEADLINE
    while not predicate() do
      assert(native.now() < deadline, "stepped in vain")
      loop:step(budget)
      loop:wait(0.01)
    end
  end

  local function is_empty()
    return loop:pending() == 0
  end

  it("does nothing between steps, and begins tasks at the next one", function()
    local begun, answered = false, false
    loop:spawn(function()
      begun = true
      answered = assert(client:send_room_unicast(message "hello")) ~= nil
    end)
    assert.same({ false, 1, "rtc.loop(1 pending)" }, { begun, loop:pending(), tostring(loop) })
    assert.equal(1, loop:step())
    assert.same({ true, false }, { begun, answered })
    server:await(function(state)
      loop:step()
      return state.complete == 1
    end)
    step_until(is_empty)
    assert.is_true(answered)
    assert.equal(0, loop:step())
  end)

  it("sends in the step in which a task called, when there is a connection", function()
    loop:spawn(client.send_room_unicast, client, message "first")
    step_until(is_empty)
    loop:spawn(client.send_room_unicast, client, message "second")
    loop:step()
    server:await(function(state) return state.complete == 2 end)
    step_until(is_empty)
  end)

  it("never waits in a step", function()
    server:always(nil, { act.read(), act.wait "never" })
    loop:spawn(client.send_room_unicast, client, message "hello")
    loop:spawn(loop.sleep, loop, 1000)
    step_until(function() return server:state().waiting == 1 end)
    local steps = 0
    local deadline = native.now() + DEADLINE
    repeat
      assert.equal(2, loop:step())
      steps = steps + 1
    until steps == 1000 or native.now() > deadline -- a step that waits would wait for an answer, or a thousand seconds
    assert.equal(1000, steps)
  end)

  it("does some of its work in a step with a budget, and all of it in time", function()
    local begun, over = 0, 0
    for n = 1, 200 do
      loop:spawn(function()
        begun = begun + 1
        assert(client:send_room_unicast(message(tostring(n))))
        over = over + 1
      end)
    end
    assert.equal(200, loop:step(0))
    assert.is_true(begun >= 1 and begun < 200, begun .. " have begun")
    local early
    step_until(function()
      early = early or begun < 200 and server:state().requests > 0
      return over == 200
    end, 0)
    assert.is_true(early) -- requests go out though there are still tasks to begin
    assert.equal(200, #server:requests())
    assert.equal(0, loop:pending())
  end)

  it("serves each of its clients, however small the budget", function()
    local clients, over = {}, {}
    server:always(service.target "SendUnicast", { act.read(), act.wait "never" })
    loop:spawn(client.send_unicast, client, { to = "u", message = "held" }) -- always there to be served, and the first
    loop:step()
    for n = 1, 3 do
      clients[n] = service.client(server, { runtime = loop, quota = false })
      over[n] = 0
      for _ = 1, 20 do
        loop:spawn(function()
          assert(clients[n]:send_room_unicast(message "x"))
          over[n] = over[n] + 1
        end)
      end
    end
    step_until(function() return loop:pending() == 1 end, 0)
    assert.same({ 20, 20, 20 }, over)
  end)

  it("lets a task that goes on and on not hold up a step, nor the others", function()
    local rounds, over = 0, false
    loop:spawn(function()
      while not over do
        loop:sleep(0)
        rounds = rounds + 1
      end
    end)
    loop:spawn(function()
      for _ = 1, 5 do
        loop:sleep(0)
      end
      assert(client:send_room_unicast(message "hello"))
      over = true
    end)
    step_until(is_empty)
    assert.is_true(rounds >= 5)
  end)

  it("wakes its tasks by time, in order", function()
    local order = {}
    for _, n in ipairs { 3, 1, 2, 1 } do
      loop:spawn(function()
        loop:sleep(n / 100)
        order[#order + 1] = n
      end)
    end
    loop:step()
    native.sleep(0.05)
    assert.same({}, order)
    loop:step()
    assert.same({ 1, 1, 2, 3 }, order)
  end)

  it("is not led astray by a sleep that ended early", function()
    local future = loop:spawn(function() loop:sleep(0.01) end)
    local seconds
    loop:spawn(function()
      local begun = native.now()
      future:wait(0.05) -- is woken before its time, which comes in the midst of the sleep
      loop:sleep(0.1)
      seconds = native.now() - begun
    end)
    step_until(is_empty)
    assert.is_true(seconds >= 0.1, "it slept for " .. seconds)
  end)

  it("says when there is work", function()
    assert.is_false(loop:wait(0))
    assert.is_false(loop:wait(0.001))
    assert.is_false(loop:wait()) -- nothing can ever come
    loop:spawn(function() loop:sleep(0.01) end)
    assert.is_true(loop:wait(0))
    loop:step()
    assert.is_false(loop:wait(0))
    assert.is_true(loop:wait())
    loop:step()
    assert.equal(0, loop:pending())
    server:always(nil, service.accepts_after "held")
    loop:spawn(client.send_room_unicast, client, message "hello")
    step_until(function() return server:state().waiting == 1 end)
    step_until(function() return not loop:wait(0.05) end)
    server:release "held"
    assert.is_true(loop:wait(DEADLINE))
    step_until(is_empty)
  end)

  it("ends by itself when it is only waited for and stepped", function()
    local over = 0
    for n = 1, 5 do
      loop:spawn(function()
        loop:sleep(n / 500)
        assert(client:send_room_unicast(message(tostring(n))))
        over = over + 1
      end)
    end
    while loop:wait() do
      loop:step(0.001)
    end
    assert.equal(5, over)
  end)

  it("has tasks for its own functions only", function()
    local problems = {}
    local function note(...)
      problems[#problems + 1] = select(2, pcall(...))
    end
    note(function() loop:sleep(1) end)
    loop:spawn(function()
      note(function() loop:step() end)
      note(function() loop:wait(1) end)
      coroutine.wrap(function()
        note(function() loop:step() end)
        note(function() loop:sleep(1) end)
        note(function() error(select(2, client:send_room_unicast(message "x")), 0) end)
      end)()
    end)
    loop:step()
    assert.matches("^spec/tick_spec.lua:%d+: loop:sleep: nothing can wait here", problems[1])
    assert.matches("^spec/tick_spec.lua:%d+: loop:step: it is for your own loop", problems[2])
    assert.matches("^spec/tick_spec.lua:%d+: loop:wait: it is for your own loop", problems[3])
    assert.matches("^spec/tick_spec.lua:%d+: loop:step: it is for your own loop", problems[4])
    assert.matches("^spec/tick_spec.lua:%d+: loop:sleep: nothing can wait here", problems[5])
    assert.equal("NoTask", problems[6].code)
    assert.equal(0, loop:pending())
  end)

  it("raises at the caller's line for what is no time and no function", function()
    for problem, case in pairs {
      ["loop:step: budget must be seconds"] = { "step", "x" }, ["loop:step: budget must be"] = { "step", -1 },
      ["loop:step: budget"] = { "step", 0 / 0 }, ["loop:wait: seconds must be"] = { "wait", "x" },
      ["loop:wait: seconds"] = { "wait", 0 / 0 }, ["loop:sleep: seconds must be"] = { "sleep", "x" },
      ["loop:sleep: seconds"] = { "sleep" }, ["loop:spawn: the first argument must be a function"] = { "spawn", 42 },
    } do
      local ok, raised = pcall(function() loop[case[1]](loop, case[2]) end)
      assert.is_false(ok)
      assert.matches("^spec/tick_spec.lua:%d+: " .. problem:gsub("%p", "%%%0"), raised)
    end
  end)

  where(compat.yields_anywhere, it)("goes on after a task that raises or yields, and tells of it", function()
    local told = {}
    for name, fn in pairs {
      raise = function() error("bad luck", 0) end, yield = function() coroutine.yield() end,
      later = function()
        loop:sleep(0.001)
        coroutine.yield "x"
      end,
    } do
      local future = loop:spawn(fn)
      loop:spawn(function()
        told[name] = select(2, pcall(future.wait, future))
      end)
    end
    local over = false
    loop:spawn(function()
      loop:sleep(0.01)
      over = true
    end)
    step_until(is_empty)
    assert.is_true(over)
    local yielded = "the task yielded, and nothing of rtc resumes it"
    assert.same({ raise = "bad luck", yield = yielded, later = yielded }, told)
  end)

  it("may be stepped by a program that is a coroutine", function()
    local main = coroutine.wrap(function()
      loop:spawn(client.send_room_unicast, client, message "hello")
      step_until(is_empty)
      return "done"
    end)
    assert.equal("done", main())
    assert.equal(1, #server:requests())
  end)

  it("may be stepped within another loop's task", function()
    local outer, over = rtc.loop(), false
    outer:spawn(function()
      loop:spawn(function()
        assert(client:send_room_unicast(message "hello"))
        over = true
      end)
      while loop:step() > 0 do
        outer:sleep(0.001)
      end
    end)
    while outer:step() > 0 do
      outer:wait(0.01)
    end
    assert.is_true(over)
  end)

  it("may be drained from outside of its tasks", function()
    for n = 1, 3 do
      assert.is_true(client:enqueue(message("enqueued " .. n)))
      loop:spawn(client.send_room_unicast, client, message("call " .. n))
    end
    assert.equal(0, #server:requests())
    assert.is_true(client:drain(DEADLINE))
    assert.equal(6, #server:requests())
  end)

  it("leaves out a client that is closed in the midst of a step", function()
    server:always(nil, { act.read(), act.wait "never" })
    local others, codes = {}, {}
    for n = 1, 3 do
      others[n] = service.client(server, { runtime = loop })
      loop:spawn(function()
        codes[n] = select(2, others[n]:send_room_unicast(message "x")).code
      end)
    end
    step_until(function() return server:state().waiting == 3 end)
    loop:spawn(function() others[2]:close() end)
    step_until(function() return codes[2] end)
    assert.same({ [2] = "Cancelled" }, codes)
    loop:spawn(function()
      others[1]:close()
      others[3]:close()
    end)
    step_until(is_empty)
    assert.same({ "Cancelled", "Cancelled", "Cancelled" }, codes)
    assert.is_false(loop:wait())
  end)

  it("sends a parent's messages in the parent only", function()
    server:always(nil, service.accepts_after "held")
    local parent = child.start([[
      local rtc = require "rtc"
      local loop = rtc.loop()
      local client = rtc.new { runtime = loop }
      local over = 0
      local function send(text)
        loop:spawn(function()
          assert(client:send_room_unicast { room_id = "room", to = "user", message = text })
          over = over + 1
        end)
      end
      local function finish(count)
        local deadline = native.now() + 20
        while over < count and native.now() < deadline do
          loop:step(0.001)
          loop:wait(0.01)
        end
        return over == count
      end
      send "parent"
      loop:spawn(function()
        loop:sleep(0.05)
        over = over + 1
      end)
      for _ = 1, 20 do loop:step() loop:wait(0.001) end
      say "sent"
      native.read(0)
      send "begins in the parent"
      local pid = native.fork()
      if pid == 0 then
        local ok = loop:pending() == 0 and not loop:wait(0) and loop:step() == 0
        over = 0 -- the sleeper may have been through before
        send "child"
        native.leave(ok and finish(1) and loop:pending() == 0 and 0 or 1)
      end
      local code = native.await_end(pid)
      say("child " .. code)
      say("parent " .. tostring(finish(3)))
    ]], {}, { stdin = "pipe", env = service.environment(server) })
    finally(function() parent:close() end)
    assert.equal("sent", parent:line(), parent:stderr())
    server:await(function(state) return state.waiting == 1 end)
    server:release "held"
    parent:write "fork\n"
    assert.equal("child 0", parent:line(), parent:stderr())
    assert.equal("parent true", parent:line(), parent:stderr())
    assert.same({ 0, "" }, { parent:wait(), parent:stderr() })
    local texts = {}
    for i, request in ipairs(server:requests()) do
      texts[i] = json.decode(request.body).Message
    end
    table.sort(texts)
    assert.same({ "begins in the parent", "child", "parent" }, texts)
  end)

  it("goes on in a child that is forked by a task, with nothing of the parent's", function()
    local parent = child.start([[
      local rtc = require "rtc"
      local loop = rtc.loop()
      local pid
      local woken = 0
      for _ = 1, 2 do
        loop:spawn(function()
          loop:sleep(0.001)
          pid = pid or native.fork()
          loop:sleep(0.001)
          woken = woken + 1
        end)
      end
      loop:step()
      local deadline = native.now() + 20
      while loop:step() > 0 and native.now() < deadline do loop:wait(0.01) end
      if pid == 0 then native.leave(woken == 0 and loop:pending() == 0 and 0 or 1) end
      say("child " .. native.await_end(pid))
      say("woken " .. woken)
    ]])
    finally(function() parent:close() end)
    assert.equal("child 0", parent:line(), parent:stderr())
    assert.equal("woken 2", parent:line(), parent:stderr())
  end)

  it("forgets how many wait after an interrupt", function()
    -- With the blocking runtime, whose tasks are a loop's: who is interrupted waits for the future no more.
    local program = child.start([[
      local rtc = require "rtc"
      local client = rtc.new {}
      local future = client:spawn(function()
        while not exists(arg[1]) do client.runtime.sleep(0.005) end
        error("nobody waits any more", 0)
      end)
      say "waits"
      say(pcall(future.wait, future))
      io.open(arg[1], "w"):close()
      while not future:done() do client.runtime.sleep(0.005) end
      say "done"
    ]], { native.path "go" }, { env = service.environment(server) })
    finally(function() program:close() end)
    assert.equal("waits", program:line())
    native.sleep(0.05) -- so that it is in the wait, and not before it
    program:kill "INT"
    assert.matches("^false\t.*interrupted!$", program:line())
    assert.equal("done", program:line())
    program:wait()
    assert.equal("rtc: a task raised: nobody waits any more\n", program:stderr())
  end)

  where(compat.interrupts_main, it)("counts a call once that is interrupted when its answer is there", function()
    server:script(service.accepts_after "both", service.accepts_after "both")
    local program = child.start([[
      local rtc = require "rtc"
      local client = rtc.new { retry = false }
      local told
      client:spawn(function()
        -- In the step that brings the answer to the main thread, this task, woken before it, is interrupted.
        client:send_unicast { to = "u", message = "first" }
        say "in the task"
        native.read(0)
      end)
      say(pcall(client.send_room_unicast, client, { room_id = "r", to = "u", message = "second" }))
      say(client.runtime.pending())
      client:drain()
      say(client.runtime.pending())
    ]], {}, { stdin = "pipe", env = service.environment(server) })
    finally(function() program:close() end)
    server:await(function(state) return state.waiting == 2 end)
    program:kill "STOP" -- so that both answers are there when it goes on
    tree.await(function()
      return io.open(("/proc/%d/stat"):format(program.pid)):read("*a"):match "%) T "
    end, "the program to stop")
    server:release "both"
    server:await(function(state) return state.idle == 2 end)
    program:kill "CONT"
    assert.equal("in the task", program:line(), program:stderr())
    program:kill "INT"
    program:write "go on\n"
    assert.matches("^false\t.*interrupted!$", program:line())
    assert.equal("0", program:line())
    assert.equal("0", program:line())
  end)
end)
