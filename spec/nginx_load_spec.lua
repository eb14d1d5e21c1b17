-- Real nginx under load: what becomes of messages while it throttles, reloads, ends, drops timers and aborts requests.

local fault_server = require "spec.support.fault_server"
local json = require "cjson"
local nginx = require "spec.support.nginx"
local service = require "spec.support.service"
local tree = require "spec.support.tree"

--- Directives that make the client `client`, once a worker, and `message(number)`. Its failures are in the error log.
local function http(endpoint, changes)
  return ([[ lua_socket_log_errors off; init_by_lua_block {
    client = require "rtc".new {
      endpoint = %q, access_key = %q, secret_key = %q, app_id = "app", from = "server", quota = false,
      retry = { base = 0, cap = 0 }, %s }
    client:on("failure", function(event)
      ngx.log(ngx.WARN, "failed ", event.fields.message, " ", event.err.outcome, ";")
    end)
    function message(number)
      return { room_id = "room", to = "user", message = tostring(number) }
    end
  } ]]):format(endpoint, service.access_key, service.secret_key, changes or "")
end

--- Locations that send a message, and that enqueue one in the log phase. The error log has what they did.
local LOCATIONS = [[
  location = /send {
    content_by_lua_block {
      ngx.log(ngx.NOTICE, "begun ", ngx.var.arg_n, ";")
      local receipt, err = client:send_room_unicast(message(ngx.var.arg_n))
      ngx.print(receipt and "accepted" or err.outcome)
    }
  }
  location = /queue {
    content_by_lua_block { ngx.print "later" }
    log_by_lua_block {
      local queued, err = client:enqueue(message(ngx.var.arg_n))
      ngx.log(ngx.NOTICE, queued and "queued " or "refused ", ngx.var.arg_n, ";", tostring(err))
    }
  }
  location = /worker { content_by_lua_block { ngx.print(ngx.worker.pid()) } }
  location = /stats {
    content_by_lua_block {
      local stats = client:stats()
      ngx.print(require "cjson".encode { pending = stats.pending, outbox = stats.outbox, retries = stats.retries })
    }
  }
  location = /drain { content_by_lua_block { ngx.print(tostring((client:drain(10)))) } }
]]

--- How often each number was received.
local function deliveries(server)
  local count = {}
  for _, request in ipairs(server:requests()) do
    if request.complete then
      local number = tonumber(json.decode(request.body).Message)
      count[number] = (count[number] or 0) + 1
    end
  end
  return count
end

--- The numbers that the error log has after a word.
---@return table<integer, string>  what follows the number
---@return integer count
local function logged(log, word)
  local found, count = {}, 0
  for number, rest in log:gmatch(" " .. word .. " (%d+) ?(%a*);") do
    found[tonumber(number)], count = rest, count + 1
  end
  return found, count
end

--- How many enqueued messages the log says are lost, without naming them.
local function last_words(log)
  local count = 0
  for number in log:gmatch("\nrtc: (%w+) enqueued messages? failed") do
    count = count + (tonumber(number) or 1)
  end
  return count
end

local function assert_sound(log)
  assert.no_matches("exited on signal", log, 1, true)
  assert.no_matches("%[alert%]", log)
  assert.no_matches("%[error%]", log)
end

describe("nginx", function()
  local server, running

  setup(nginx.make)

  before_each(function()
    server = fault_server.start()
    server:always(nil, service.accepts())
  end)

  after_each(function()
    if running then
      running:close()
      running = nil
    end
    fault_server.stop_all()
  end)

  local function start(pieces)
    pieces.env = tree.environment(pieces.env)
    running = nginx.start(pieces)
    return running
  end

  local function await_log(text)
    return tree.await(function() return running:log():find(text, 1, true) end, "a line in the error log: " .. text)
  end

  describe("that ends while messages wait", function()
    local WAITING, ON_THEIR_WAY = 40, 16

    local function enqueue_many(pieces)
      server:always(nil, service.accepts_after "released")
      pieces.http = http(server.url, "timeout = 2")
      pieces.server = LOCATIONS
      start(pieces)
      for n = 1, WAITING do
        running:get("/queue?n=" .. n)
      end
      server:await(function(state) return state.waiting == ON_THEIR_WAY end)
    end

    it("gracefully sends them all", function()
      enqueue_many {}
      running:signal "QUIT"
      server:release "released"
      assert.equal(0, running.process:wait())
      local delivered = deliveries(server)
      for n = 1, WAITING do
        assert.equal(1, delivered[n])
      end
      assert.equal(0, last_words(running:log()))
      assert_sound(running:log())
    end)

    it("at once tells in the error log how many are lost", function()
      enqueue_many {}
      running:signal "TERM"
      assert.equal(0, running.process:wait())
      local log = running:log()
      assert.matches("\nrtc: 24 enqueued messages failed, [^\n]*not sent", log)
      assert.matches("\nrtc: 16 enqueued messages failed, [^\n]*may have been delivered", log)
      assert_sound(log)
    end)

    it("and cuts their connections at worker_shutdown_timeout: each is sent or told of", function()
      enqueue_many { main = "worker_shutdown_timeout 1s;" }
      running:signal "QUIT"
      await_log "failed"
      server:release "released"
      assert.equal(0, running.process:wait())
      local log, delivered = running:log(), deliveries(server)
      local failed = logged(log, "failed")
      for n = 1, WAITING do
        assert.equal(1, delivered[n], n)
        assert.equal(n <= ON_THEIR_WAY and "unknown" or nil, failed[n], n)
      end
      assert.equal(0, last_words(log))
      assert_sound(log)
    end)
  end)
end)
