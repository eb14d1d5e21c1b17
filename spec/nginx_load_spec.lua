-- Real nginx under load: what becomes of messages while it throttles, reloads, ends, drops timers and aborts requests.

local certificates = require "spec.support.certificates"
local cqueues = require "cqueues"
local fault_server = require "spec.support.fault_server"
local json = require "cjson"
local native = require "spec.support.native"
local nginx = require "spec.support.nginx"
local process = require "spec.support.process"
local service = require "spec.support.service"
local socket = require "cqueues.socket"
local tree = require "spec.support.tree"

local act = fault_server.act

local DEADLINE = 20 -- seconds
local CONNECTIONS = 32

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
      ngx.print(require "cjson".encode { pending = stats.pending, accepted = stats.accepted, outbox = stats.outbox })
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

--- Makes requests, some at a time, each with the next number, while `main` runs beside.
---@param running SpecNginx
---@param paths string[]  taken in turn
---@param pause number  seconds that each waits after an answer
---@param main fun(made: fun(): integer)  when it returns, no more are begun; `made` counts the answers so far
---@return table<integer, { path: string, answer: string|nil, problem: string|nil }>  by number
local function under_load(running, paths, pause, main)
  local loop, results, number, answers, over = cqueues.new(), {}, 0, 0, false
  local function take_number()
    number = number + 1
    results[number] = { path = paths[number % #paths + 1] }
    return number
  end
  for _ = 1, CONNECTIONS do
    loop:wrap(function()
      while not over do
        local n = take_number()
        local result = results[n]
        local ok, answer = pcall(running.request, running, { path = ("%s?n=%d"):format(result.path, n) })
        if ok and answer.status == 200 then
          result.answer, answers = answer.body, answers + 1
        else
          result.problem = ok and tostring(answer.status) or tostring(answer)
        end
        cqueues.sleep(ok and pause or 0.01)
      end
    end)
  end
  loop:wrap(function()
    main(function() return answers end)
    over = true
  end)
  assert(loop:loop())
  return results
end

--- Waits for a condition, and lets the load go on meanwhile.
local function await(condition, what)
  local deadline = native.now() + DEADLINE
  while not condition() do
    assert(native.now() < deadline, "waited in vain for " .. what)
    cqueues.sleep(0.01)
  end
end

--- Sends $n messages in timers, some at a time.
local TIMERS = [[
  local left, going, ended = $n, 0, require "ngx.semaphore".new()
  local function send()
    for _ = 1, 20 do
      assert(client:send_room_unicast(message))
    end
    going = going - 1
    ended:post()
  end
  while left > 0 do
    while going < 16 and left > 0 do
      left, going = left - 20, going + 1
      assert(ngx.timer.at(0, send))
    end
    ended:wait(10)
  end
  while going > 0 do
    ended:wait(10)
  end
]]

--- Puts values for $words.
local function fill(text, values)
  return (text:gsub("%$([%l_]+)", function(name) return assert(values[name], name) end))
end

--- The most of these times, in order, that a second saw.
local function most_in_a_second(times)
  local most, first = 0, 1
  for i, time in ipairs(times) do
    while time - times[first] >= 1 do
      first = first + 1
    end
    most = math.max(most, i - first + 1)
  end
  return most
end

describe("nginx", function()
  local server, running

  setup(function() nginx.make() end)

  before_each(function()
    server = fault_server.start()
    server:always(nil, service.accepts())
  end)

  after_each(function()
    nginx.stop_all()
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

  -- Each case: what declares the dict, and how many messages may go out at once.
  for name, case in pairs {
    ["with a lua_shared_dict"] = { "lua_shared_dict rtc_quota 1m;", 25 },
    ["without a lua_shared_dict"] = { "", 2 * math.floor(25 / 2) },
  } do
    it("keeps two workers below the service's limit, whatever they are given to send, " .. name, function()
      local workers, rate, burst = 2, 500, case[2]
      local sandbox = tree.sandbox()
      finally(function() sandbox.process:close() end)
      start {
        workers = workers,
        http = case[1] .. fill([[
          lua_shared_dict spec 10m;
          lua_socket_log_errors off;
          init_by_lua_block {
            now = require "rtc.core".now
            client = require "rtc".new { endpoint = "$endpoint", outbox = { entries = 200 } }
            message = { room_id = "room", to = "user", message = "hello" }
            start, queued, times, codes = now(), 0, {}, {}
            client:on("retry", function(event)
              local code = "again after " .. event.err.code
              codes[code] = (codes[code] or 0) + 1
            end)
            client:on("request", function() times[#times + 1] = ("%.9f"):format(now() - start) end)
            client:on("failure", function(event) codes[event.err.code] = (codes[event.err.code] or 0) + 1 end)
          }
          init_worker_by_lua_block {
            local spec = ngx.shared.spec
            local offered, accepted, pending = 0, 0, 0
            local function send()
              local receipt, err = client:send_room_unicast(message)
              pending = pending - 1
              if receipt then
                accepted = accepted + 1
              else
                codes[err.code] = (codes[err.code] or 0) + 1
              end
            end
            ngx.timer.at(0, function()
              local stop = now() + 6
              repeat
                for _ = 1, 10 do
                  offered, pending = offered + 1, pending + 1
                  ngx.thread.spawn(send)
                end
                ngx.sleep(0.01)
              until now() >= stop
              spec:incr("sent", 1, 0)
              while pending > 0 or not spec:get "stopped" do
                ngx.sleep(0.01)
              end
              assert(client:drain(20))
              spec:set("report " .. ngx.worker.id(), require "cjson".encode {
                offered = offered, accepted = accepted, queued = queued, codes = codes, times = times,
                outbox = client:stats().outbox,
              })
            end)
          }
        ]], { endpoint = sandbox.endpoint }),
        server = [[
          location = /queue {
            content_by_lua_block { ngx.print "later" }
            log_by_lua_block {
              for _ = 1, 5 do
                assert(client:enqueue(message))
                queued = queued + 1
              end
            }
          }
          location = /sent { content_by_lua_block { ngx.print(ngx.shared.spec:get "sent" or 0) } }
          location = /stop { content_by_lua_block { ngx.shared.spec:set("stopped", true) } }
          location = /report {
            content_by_lua_block { ngx.print(ngx.shared.spec:get("report " .. ngx.var.arg_n) or "") }
          }
        ]],
      }
      local answered, accepted = 0, 0
      local function read_log() -- before its pipe is full
        for line in function() return sandbox.process:line(0) end do
          answered = answered + (line:find("SendRoomUnicast", 1, true) and 1 or 0)
          accepted = accepted + (line:find(": Success, ", 1, true) and 1 or 0)
        end
      end
      under_load(running, { "/queue" }, 0.1, function()
        await(function()
          read_log()
          return running:get "/sent" == tostring(workers)
        end, "the workers to have sent")
      end)
      running:request { path = "/stop" }
      sandbox.process:wait(0)
      assert.is_nil(sandbox.process.code, sandbox.process:stderr())
      local offered, through, times = 0, 0, {}
      for worker = 0, workers - 1 do
        local report = json.decode(tree.await(function()
          read_log()
          local text = running:get("/report?n=" .. worker)
          return text ~= "" and text
        end, "a worker's report"))
        local codes, outbox = report.codes, report.outbox
        local refused, dropped = codes.QuotaExceeded or 0, codes.OutboxFull or 0
        codes.QuotaExceeded, codes.OutboxFull = nil, nil
        assert.same({}, codes)
        assert.equal(report.offered, report.accepted + refused)
        assert.equal(report.queued, outbox.accepted + dropped)
        assert.same({ 0, dropped, 0, 0 }, { outbox.failed, outbox.dropped, outbox.waiting, outbox.in_flight })
        assert.is_true(report.accepted > 0 and outbox.accepted > 0)
        offered = offered + report.offered + report.queued
        through = through + report.accepted + outbox.accepted
        for _, time in ipairs(report.times) do
          times[#times + 1] = tonumber(time)
        end
      end
      assert.is_true(offered > through)
      assert.equal(through, #times)
      tree.await(function()
        read_log()
        return accepted == through
      end, "the sandbox's log")
      assert.equal(through, answered) -- it refused none
      table.sort(times)
      for i, time in ipairs(times) do -- each a little later than its slot
        assert.is_true(time >= (i - burst) / rate, ("%d messages in %.3f s"):format(i, time))
      end
      assert_sound(running:log())
      print(("\n  %s: %d offered, %d got through in %.2f s, at most %d in a second"):format(name, offered, through,
        times[#times] - times[1], most_in_a_second(times)))
    end)
  end

  describe("whose timers are all in use", function()
    --- A timer that runs until /release, or until the worker exits.
    local HOG = [[
      lua_shared_dict spec 100k;
      init_worker_by_lua_block {
        ngx.timer.at(0, function()
          ngx.log(ngx.NOTICE, "the hog runs")
          while not ngx.shared.spec:get "released" and not ngx.worker.exiting() do
            ngx.sleep(0.01)
          end
        end)
      }
    ]]
    local RELEASE = 'location = /release { content_by_lua_block { ngx.shared.spec:set("released", true) } }'
    local DROPPED = "1 lua_max_running_timers are not enough"

    local function start_hogged()
      start { http = "lua_max_running_timers 1;" .. http(server.url) .. HOG,
        server = LOCATIONS .. RELEASE }
      await_log "the hog runs"
    end

    it("and drops one: what it was to send is sent by a later one", function()
      start_hogged()
      for n = 1, 3 do
        running:get("/queue?n=" .. n)
      end
      await_log(DROPPED)
      assert.same({}, server:requests())
      running:request { path = "/release" }
      server:await(function(state) return state.complete == 3 end)
      assert.equal("true", running:get "/drain")
      assert.equal(0, json.decode(running:get "/stats").outbox.in_flight)
      assert.same({ 1, 1, 1 }, deliveries(server))
    end)

    it("and drops that one, too: it is sent when the next is enqueued", function()
      start_hogged()
      running:get "/queue?n=1"
      tree.await(function() return select(2, running:log():gsub(DROPPED, "")) == 2 end, "two dropped timers")
      running:request { path = "/release" }
      running:get "/queue?n=2"
      server:await(function(state) return state.complete == 2 end)
      assert.same({ 1, 1 }, deliveries(server))
    end)

    it("and exits: it is sent at the exit, or told of", function()
      start_hogged()
      running:get "/queue?n=1"
      await_log(DROPPED)
      running:signal "QUIT"
      assert.equal(0, running.process:wait())
      local log = running:log()
      assert.equal(1, (deliveries(server)[1] or 0) + last_words(log))
      assert.no_matches("exited on signal", log, 1, true)
    end)

    it("and takes none more: enqueue says so", function()
      start { http = "lua_max_pending_timers 1;" .. http(server.url) .. [[
        init_worker_by_lua_block { ngx.timer.at(1000, function() end) }]],
        server = LOCATIONS .. [[ location = /enqueue {
          content_by_lua_block { ngx.print(tostring(select(2, client:enqueue(message(1))))) }
        }]] }
      local said = running:get "/enqueue"
      assert.matches("NoTask: nginx made no timer: too many pending timers", said, 1, true)
      assert.matches("lua_max_pending_timers", said, 1, true)
      assert.equal(0, json.decode(running:get "/stats").outbox.in_flight)
    end)
  end)

  it("exits: there a message can neither be sent nor enqueued, which is an error", function()
    start { http = http(server.url) .. [[
      exit_worker_by_lua_block {
        ngx.log(ngx.NOTICE, "sending: ", tostring(select(2, client:send_room_unicast(message(1)))))
        ngx.log(ngx.NOTICE, "enqueuing: ", tostring(select(2, client:enqueue(message(1)))))
        client:close()
        ngx.log(ngx.NOTICE, "that was all")
      }]], server = LOCATIONS }
    running:get "/worker" -- before that, a signal may come to a master that does not know it yet
    running:signal "QUIT"
    assert.equal(0, running.process:wait())
    local log = running:log()
    assert.matches("sending: [^\n]*nothing can wait in nginx's phase exit_worker", log)
    assert.matches("enqueuing: [^\n]*nginx has no timers in its phase exit_worker", log)
    assert.matches("that was all", log, 1, true)
    assert_sound(log)
  end)

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

  describe("under load", function()
    --- What became of each number, by the service, the log and the answers: delivered once, or told of.
    local function assert_none_lost(results, may_be_cut)
      local log, delivered = running:log(), deliveries(server)
      local queued, queued_count = logged(log, "queued")
      local begun, failed = logged(log, "begun"), logged(log, "failed")
      local missing = 0
      for n, result in ipairs(results) do
        local times = delivered[n] or 0
        assert.is_true(times <= 1, ("%d was delivered %d times"):format(n, times))
        if queued[n] then
          missing = missing + (times == 0 and not failed[n] and 1 or 0)
          assert.is_true(times == 0 or failed[n] ~= "not", n)
        elseif result.path == "/send" then
          assert.is_true(result.answer ~= "accepted" or times == 1, n)
          assert.is_true(result.answer ~= "not_sent" or times == 0, n)
          assert.is_true(may_be_cut or not begun[n] or result.answer ~= nil, n .. ": " .. tostring(result.problem))
        end
      end
      assert.is_true(queued_count > 0)
      return missing, log
    end

    local function reload()
      local seen = running:get "/worker"
      running:signal "HUP"
      await(function() return running:get "/worker" ~= seen end, "another worker")
    end

    local function refuses()
      local connected, connection = pcall(running.connect, running)
      if connected then
        connection:close()
      end
      return not connected
    end

    local function start_loaded(pieces)
      server:always(nil, { act.read(), act.sleep(0.02), act.answer(service.acceptance()) })
      pieces.workers = 2
      pieces.http, pieces.server = http(server.url), LOCATIONS
      start(pieces)
    end

    it("reloads again and again, and quits: each message is delivered once or told of", function()
      start_loaded {}
      local results = under_load(running, { "/send", "/queue" }, 0, function(made)
        for _ = 1, 4 do
          local before = made()
          reload()
          await(function() return made() > before + 50 end, "answers")
        end
        running:signal "QUIT"
        await(refuses, "nginx to refuse connections")
      end)
      assert.equal(0, running.process:wait())
      local missing, log = assert_none_lost(results)
      assert.equal(0, missing)
      assert.equal(0, last_words(log))
      assert_sound(log)
      print(("\n  reload: %d requests, %d messages delivered"):format(#results, server:state().complete))
    end)

    --- What AddressSanitizer and UBSan say of the workers of a build, after calls that are accepted and that
    --- fail, a reload and an end.
    local function sanitized(build)
      local reports = native.path("reports")
      assert(process.run({ "mkdir", "-m", "777", reports }).code == 0)
      local runtime = { "libasan.so", "libubsan.so" }
      for i, library in ipairs(runtime) do
        runtime[i] = process.run({ "cc", "-print-file-name=" .. library }).stdout:gsub("%s+$", "")
      end
      local path = "log_path=" .. reports .. "/report"
      start_loaded {
        build = build, main = "user root;", -- or they could not write there
        env = {
          LD_PRELOAD = table.concat(runtime, " "), ASAN_OPTIONS = path .. ":detect_leaks=0",
          UBSAN_OPTIONS = path .. ":print_stacktrace=1",
        },
      }
      local ok, problem = pcall(under_load, running, { "/send", "/queue" }, 0, function(made)
        await(function() return made() > 200 end, "answers")
        reload()
        server:always(nil, service.refuses "AccessDenied")
        local before = made()
        await(function() return made() > before + 100 end, "answers")
        server:always(nil, { act.read(), act.send "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" })
        before = made()
        await(function() return made() > before + 100 end, "answers")
      end)
      running:signal "TERM"
      running.process:wait()
      local said = process.run({ "sh", "-c", "cat " .. reports .. "/*" }).stdout
      return said == "" and not ok and problem or said
    end

    it("makes no error that the sanitizers find", function()
      local build = nginx.build .. "-asan"
      nginx.make(build, "-DRTC_SANITIZE=ON")
      assert.equal("", sanitized(build))
      assert.no_matches("exited on signal", running:log(), 1, true)
    end)

    it("ends at once: what is lost is counted in the error log", function()
      start_loaded {}
      local results = under_load(running, { "/send", "/queue" }, 0, function(made)
        await(function() return made() > 200 end, "answers")
        running:signal "TERM"
        await(refuses, "nginx to refuse connections")
      end)
      assert.equal(0, running.process:wait())
      local missing, log = assert_none_lost(results, true)
      assert.is_true(missing <= last_words(log), missing .. " are missing, and " .. last_words(log) .. " told of")
      assert_sound(log)
      print(("\n  TERM: %d requests, %d missing, %d told of"):format(#results, missing, last_words(log)))
    end)
  end)

  describe("that ends requests in the midst of", function()
    local MANY = 20

    -- Each case: options of the client, and what a location does; those that say so are left to their clients to end.
    for name, case in pairs {
      ["calls, when the clients go away"] = { "", "ngx.on_abort(function() ngx.exit(499) end) $send", true },
      ["calls that wait for a connection"] = {
        "pool_size = 2,", "ngx.on_abort(function() ngx.exit(499) end) $send", true,
      },
      ["calls that wait for their turn"] = {
        "quota = { rate = 1, burst = 2, max_wait = 1000, key = 'few' },",
        "ngx.on_abort(function() ngx.exit(499) end) $send", true, 2,
      },
      ["send_all"] = { "", [[
        ngx.on_abort(function() ngx.exit(499) end)
        for _ in client:send_all({ soon, soon }, { concurrency = 1 }) do end
      ]], true },
      ["drain"] = { "", [[
        ngx.on_abort(function() ngx.exit(499) end)
        client:enqueue(soon)
        client:drain(100)
      ]], true },
      ["calls, by ngx.exit in a light thread"] = { "", "ngx.thread.spawn(function() $send end) ngx.exit(503)" },
      ["calls, by an error"] = { "", "ngx.thread.spawn(function() $send end) error 'in the program'" },
    } do
      it(name .. ": nothing counts them or waits for them for ever", function()
        server:always(nil, service.accepts_after "released")
        start {
          http = http(server.url, "max_pending = 20, keep_alive = false," .. case[1]),
          server = LOCATIONS .. "lua_check_client_abort on; location /cut { content_by_lua_block {"
            .. "local soon = message(1) soon.timeout = 1 "
            .. case[2]:gsub("%$send", "client:send_room_unicast(soon)") .. "} }",
        }
        local worker = running:get "/worker"
        local function descriptors()
          local _, count = process.run({ "ls", "/proc/" .. worker .. "/fd" }).stdout:gsub("\n", "")
          return count
        end
        local before = descriptors()
        local requests = {}
        for n = 1, MANY do
          requests[n] = running:begin { path = "/cut" }
        end
        if case[3] then
          server:await(function(state) return state.waiting >= 2 end)
          assert.is_true(tonumber(json.decode(running:get "/stats").pending) > 0)
        end
        for _, request in ipairs(requests) do
          if not case[3] then
            assert(request:read "*a")
          end
          request:close()
        end
        assert.equal("true", running:get "/drain")
        assert.equal(0, json.decode(running:get "/stats").pending)
        tree.await(function() return descriptors() <= before end, "the connections to be closed")
        server:release "released"
        local sending = {}
        for n = 1, case[4] or MANY do
          sending[n] = running:begin { path = "/send?n=" .. n }
        end
        for _, request in ipairs(sending) do
          assert.equal("accepted", nginx.read_answer(request).body)
          request:close()
        end
        assert.no_matches("exited on signal", running:log(), 1, true)
      end)
    end
  end)

  describe("keeps no memory of messages that are through", function()
    local tls = certificates.make "localhost"

    --- A port on which nobody listens.
    local function free_port()
      local listener = socket.listen { host = "127.0.0.1", port = 0 }
      local _, _, port = listener:localname()
      listener:close()
      return port
    end

    -- Each case: how many messages, the scheme, options of the client, and what sends $n messages.
    for name, case in pairs {
      ["over TLS"] = { 20000, "https", "", TIMERS },
      ["over TLS, each over a connection of its own"] = { 1200, "https", "keep_alive = false,", TIMERS },
      ["enqueued, while others always wait"] = { 20000, "http", "", [[
        for _ = 1, $n do
          assert(client:enqueue(message))
          while client:stats().outbox.waiting > 500 do
            ngx.sleep(0.001)
          end
        end
      ]] },
    } do
      it(name, function()
        local port = free_port()
        local answering = nginx.start { http = fill([[
          server {
            listen 127.0.0.1:$port $ssl;
            ssl_certificate $cert;
            ssl_certificate_key $key;
            keepalive_requests 1000000;
            location / { return 200 '{"ResponseMetadata":{"RequestId":"id"},"Result":{"Message":"Success"}}'; }
          }
        ]], { port = port, ssl = case[2] == "https" and "ssl" or "", cert = tls.good.cert, key = tls.good.key }) }
        finally(function() answering:close() end)
        start {
          http = http(("%s://localhost:%d"):format(case[2], port), case[3])
            .. ("lua_ssl_verify_depth 3; lua_ssl_trusted_certificate %s;"):format(tls.ca_file),
          server = LOCATIONS .. fill([[
            location = /run {
              content_by_lua_block {
                local message = message(("x"):rep(200))
                $run
                collectgarbage()
                collectgarbage()
                local file = io.open "/proc/self/statm"
                local pages = file:read("*a"):match "^%d+ (%d+)"
                file:close()
                ngx.print(math.floor(collectgarbage "count"), " ", pages * 4)
                assert(client:drain(20))
              }
            }
          ]], { run = case[4]:gsub("%$n", "tonumber(ngx.var.arg_n)") }),
        }
        local function run(count)
          local lua, resident = running:get("/run?n=" .. count):match "^(%d+) (%d+)$"
          return tonumber(lua), tonumber(resident)
        end
        local many = case[1]
        local lua, resident = run(math.floor(many / 4))
        local lua_then, resident_then = run(many)
        local stats = json.decode(running:get "/stats")
        assert.equal(many + math.floor(many / 4), stats.accepted)
        print(("\n  %s: %d KB more of Lua's and %d KB more in all, for %d messages"):format(name, lua_then - lua,
          resident_then - resident, many))
        assert.is_true(lua_then - lua < 200)
        assert.is_true(resident_then - resident < 3000)
      end)
    end
  end)
end)
