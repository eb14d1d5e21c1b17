-- What a step with little time does, and what it leaves for the next one.

local core = require "rtc.core"
local engine = require "rtc.engine"
local fault_server = require "spec.support.fault_server"
local native = require "spec.support.native"
local pump = require "spec.support.pump"

local act = fault_server.act

local NO_TIME = 1e-9 -- seconds: enough for one piece of work

describe("a step with a budget", function()
  local server, e

  before_each(function()
    server = fault_server.start()
    e = engine.new { connections = 8 }
  end)

  after_each(function()
    e:close()
    server:stop()
  end)

  local function submit(target, changes)
    local request = { url = server.url .. target, timeout = 20, try_timeout = 20 }
    for name, value in pairs(changes or {}) do
      request[name] = value
    end
    return assert(e:submit(request))
  end

  local function sockets()
    local count = 0
    local list = io.popen("ls -l /proc/" .. native.getpid() .. "/fd")
    for line in list:lines() do
      count = count + (line:find("socket:", 1, true) and 1 or 0)
    end
    list:close()
    return count
  end

  it("opens no more connections than the budget has room for, and all of them in time", function()
    local before = sockets()
    for n = 1, 8 do
      submit("/" .. n)
    end
    e:step(0.0009) -- less than a handshake is taken for
    assert.equal(before + 1, sockets())
    e:step(0.0009)
    assert.is_true(sockets() <= before + 2)
    pump.finish(e, 8)
  end)

  it("takes an answer that has come before it sends what is new", function()
    server:always("/held", { act.read(), act.wait(), act.echo() })
    submit "/held"
    pump.await(e, function() return server:state().waiting == 1 end)
    server:release()
    server:await(function(state) return state.idle == 1 end)
    submit "/new"
    assert.equal(1, e:step(NO_TIME))
    assert.equal(1, e:unsent())
    pump.finish(e, 2)
  end)

  it("ends one after the other whose time is over, and all of them in time", function()
    local one = engine.new { connections = 1 }
    server:always("/held", { act.read(), act.wait(), act.echo() })
    one:submit { url = server.url .. "/held", timeout = 20, try_timeout = 20 }
    pump.await(one, function() return server:state().waiting == 1 end)
    for n = 1, 3 do
      one:submit { url = server.url .. "/" .. n, timeout = 0.01 }
    end
    local due = core.now() + 0.01
    while core.now() < due do
      native.sleep(due - core.now())
    end
    assert.equal(1, one:step(NO_TIME))
    assert.equal(2, one:step(NO_TIME))
    assert.equal(3, one:step(NO_TIME))
    one:close()
  end)
end)
