local blocking = require "rtc.runtime.blocking"
local certificates = require "spec.support.certificates"
local fault_server = require "spec.support.fault_server"
local process = require "spec.support.process"

local act = fault_server.act

describe("the blocking runtime", function()
  local server, runtime

  before_each(function()
    server = fault_server.start()
    runtime = blocking.new()
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
    local child = process.spawn({ "lua5.4", "-e", ([[
      local runtime = require "rtc.runtime.blocking".new { ca_file = %q }
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

  it("runs a spawned function at once", function()
    local ran = false
    runtime.spawn(function() ran = true end)
    assert.is_true(ran)
  end)
end)
