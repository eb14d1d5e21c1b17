-- The files of examples/nginx, as somebody would run them: real nginx, the sandbox as a process, and real receivers.

local fault_server = require "spec.support.fault_server"
local json = require("cjson").new()
local listen = require "rtc.sandbox.listen"
local nginx = require "spec.support.nginx"
local process = require "spec.support.process"
local service = require "spec.support.service"
local tree = require "spec.support.tree"

local act = fault_server.act

local TOKEN = "0123456789abcdef"
local WAIT = 20 -- seconds after which something awaited is a failure

local ONE_WORKER = { ["worker_processes 2;"] = "worker_processes 1;" }

--- What POST /notify takes.
local function order(changes)
  local fields = { room_id = "room", to = "alice", message = "your turn" }
  for name, value in pairs(changes or {}) do
    fields[name] = value
  end
  return json.encode(fields)
end

--- A request to /notify, with what it takes or something else.
local function request(changes)
  local given = { path = "/notify", method = "POST", body = order(), headers = {
    ["Authorization"] = "Bearer " .. TOKEN, ["Content-Type"] = "application/json",
  } }
  for name, value in pairs(changes or {}) do
    given[name] = value
  end
  return given
end

local function headers(authorization, content_type)
  return { headers = { ["Authorization"] = authorization, ["Content-Type"] = content_type } }
end

--- The change that makes a server the one that is served at /.
---@param upstream FaultServer
---@param changes table<string, string>|nil  others
local function serving(upstream, changes)
  local all = { ["proxy_pass http://127.0.0.1:3000"] = "proxy_http_version 1.1; proxy_pass " .. upstream.url }
  for old, new in pairs(changes or {}) do
    all[old] = new
  end
  return all
end

--- The samples of a text for Prometheus, of which each line must be one or a comment: values by name and labels.
local function samples(text)
  local found = {}
  for line in text:gmatch "[^\n]*\n" do
    local name, labels, value = line:match "^([%a_]+)(%b{}) (%d+)\n$"
    assert(name or line:find "^# %u+ [%a_]+ .", line)
    if name then
      found[name .. labels] = tonumber(value)
    end
  end
  return found
end

--- The sum of those samples whose name and labels match, and how many of them are not zero.
local function sum(text, pattern)
  local total, count = 0, 0
  for name, value in pairs(samples(text)) do
    if name:find(pattern) then
      total, count = total + value, count + (value > 0 and 1 or 0)
    end
  end
  return total, count
end

local ACCEPTED = '^rtc_calls_total{action="SendRoomUnicast",code="accepted",'

describe("examples/nginx", function()
  local running

  setup(nginx.make)

  after_each(function()
    nginx.stop_all()
    fault_server.stop_all()
  end)

  --- Starts it, with this service and these changes.
  local function start(env, changes)
    env.NOTIFY_TOKEN = env.NOTIFY_TOKEN or TOKEN
    running = nginx.start_example { env = tree.environment(env), changes = changes }
  end

  --- Makes a request to /notify: the status, what the answer's JSON holds, and its headers.
  local function notify(changes)
    local answer = running:request(request(changes))
    return answer.status, json.decode(answer.body), answer.headers
  end

  it("is accepted by nginx -t", function()
    local tested = process.run { "nginx", "-t", "-p", "examples/nginx", "-e", "stderr", "-c", "nginx.conf" }
    assert.equal(0, tested.code, tested.stderr)
  end)

  it("does not start without a token", function()
    local started, problem = pcall(start, { NOTIFY_TOKEN = "short" })
    assert.is_false(started)
    assert.matches("set NOTIFY_TOKEN, to 16 random characters at least", problem, 1, true)
  end)

  describe("with the sandbox", function()
    local sandbox, receivers

    setup(function()
      sandbox, receivers = tree.sandbox(), {}
    end)

    after_each(function()
      for _, receiver in ipairs(receivers) do
        receiver:close()
      end
      receivers = {}
    end)

    teardown(function()
      sandbox.process:close()
    end)

    local function listener(room, user)
      local receiver = assert(listen.open { endpoint = sandbox.url, room_id = room, user_id = user })
      receivers[#receivers + 1] = receiver
      return receiver
    end

    local function start_with_sandbox(changes)
      start({ RTC_ENDPOINT = sandbox.endpoint }, changes)
    end

    it("sends what is posted to /notify, and answers with the receipt", function()
      start_with_sandbox()
      local alice = listener("room", "alice")
      local status, told = notify()
      assert.same({ 200, "accepted", 1, "number", 34 },
        { status, told.outcome, told.attempts, type(told.elapsed), #told.request_id })
      assert.equal("your turn", assert(alice:next(WAIT)).message)
    end)

    it("takes the largest message, though JSON makes it longer still", function()
      start_with_sandbox()
      local alice = listener("room", "alice")
      local body = order { message = "MESSAGE" }:gsub("MESSAGE", ("\\u00e9"):rep(32768))
      assert.equal(200, (notify { body = body }))
      assert.is_true(("é"):rep(32768) == assert(alice:next(WAIT)).message)
    end)

    it("refuses what is not right, and sends nothing", function()
      start_with_sandbox()
      local alice = listener("room", "alice")
      local json_type = "application/json"
      for _, case in ipairs {
        { 405, "MethodNotAllowed", { method = "PUT" } },
        { 401, "UnknownCaller", headers(nil, json_type) },
        { 401, "UnknownCaller", headers("Bearer", json_type) },
        { 401, "UnknownCaller", headers("Basic " .. TOKEN, json_type) },
        { 401, "UnknownCaller", headers("Bearer " .. TOKEN .. "0", json_type) },
        { 401, "UnknownCaller", headers("Bearer " .. TOKEN:sub(1, -2), json_type) },
        { 401, "UnknownCaller", headers("Bearer 1" .. TOKEN:sub(2), json_type) },
        { 401, "UnknownCaller", headers("Bearer " .. TOKEN:sub(1, -2) .. "0", json_type) },
        { 415, "NotJSON", headers("Bearer " .. TOKEN, nil) },
        { 415, "NotJSON", headers("Bearer " .. TOKEN, "text/plain") },
        { 400, "NotJSON", { body = "" } },
        { 400, "NotJSON", { body = "{" } },
        { 400, "NotJSON", { body = '"text"' } },
        { 413, "BodyTooLarge", { body = (" "):rep(262145) } },
        { 400, "InvalidArgument", { body = "[]" }, "room_id" },
        { 400, "InvalidArgument", { body = order { room_id = json.null } }, "room_id" },
        { 400, "InvalidArgument", { body = order { to = "al ice" } }, "to" },
        { 400, "InvalidArgument", { body = order { to = { "alice" } } }, "to" },
        { 400, "InvalidArgument", { body = order { message = ("x"):rep(65537) } }, "message" },
        { 400, "InvalidArgument", { body = order { message = "\255" } }, "message" },
      } do
        local status, told, fields = notify(case[3])
        assert.same({ case[1], case[2], case[4], "not_sent", "argument", "string" },
          { status, told.code, told.field, told.outcome, told.kind, type(told.message) })
        assert.equal(status == 405, fields:find("\nallow: post", 1, true) ~= nil)
        assert.equal(status == 401, fields:find("\nwww-authenticate: bearer", 1, true) ~= nil)
      end
      -- By other headers it is right; and nobody sends as somebody else.
      local body = order { message = "last", from = "mallory", app_id = "another" }
      local known = headers("bearer " .. TOKEN, "Application/JSON; charset=utf-8").headers
      assert.equal(200, (notify { body = body, headers = known }))
      local got = assert(alice:next(WAIT))
      assert.same({ "last", "server" }, { got.message, got.from })
    end)

    it("tells how the service refuses, and keeps the advice for the log", function()
      start { RTC_ENDPOINT = sandbox.url, VOLC_ACCESSKEY = "AKLTsandbox", VOLC_SECRETKEY = "wrong",
        RTC_APP_ID = "sandboxapp00000000000001", RTC_FROM = "server" }
      local status, told = notify()
      assert.same({ 502, "rejected", "gateway", "SignatureDoesNotMatch", 1, false, 34 }, { status, told.outcome,
        told.kind, told.code, told.attempts, told.retryable, #told.request_id })
      assert.matches("SignatureDoesNotMatch: .*Most often secret_key is wrong", running:log())
    end)

    it("shows the counters of both workers, which add up", function()
      start_with_sandbox()
      local sent, text, total, workers = 0, nil, 0, 0
      tree.await(function()
        local sending = {}
        for i = 1, 20 do
          sending[i] = running:begin(request())
        end
        for _, connection in ipairs(sending) do
          assert.equal(200, nginx.read_answer(connection).status)
          connection:close()
        end
        sent = sent + #sending
        text = running:get "/metrics"
        total, workers = sum(text, ACCEPTED)
        return workers == 2
      end, "messages of both workers")
      tree.await(function()
        total = sum(running:get "/metrics", ACCEPTED)
        return total >= sent
      end, "the other worker's counters")
      assert.equal(sent, total)
      assert.equal(sent, (sum(running:get "/metrics", "^rtc_tries_total{")))
      assert.matches("\n# TYPE rtc_calls_total counter\n", text, 1, true)
      assert.matches("\ncontent-type: text/plain; version=0.0.4",
        running:request({ path = "/metrics" }).headers, 1, true)
    end)

    it("shows the counters to this machine alone", function()
      start_with_sandbox()
      assert.equal(200, running:request({ path = "/metrics" }).status)
      -- 127.0.0.2 is not 127.0.0.1, and so stands for all others.
      running.address.bind = "127.0.0.2"
      assert.equal(403, running:request({ path = "/metrics" }).status)
      assert.equal("ok\n", running:get "/healthz")
    end)

    it("tells whoever is on call of a failed request, once in so many seconds", function()
      local upstream = fault_server.start()
      upstream:always(nil, { act.read(), act.answer { status = 500 } })
      upstream:always("/missing", { act.read(), act.answer { status = 404 } })
      start_with_sandbox { ["nginx.conf"] = serving(upstream) }
      local on_call = listener("operations", "on-call")
      assert.equal(404, running:request({ path = "/missing" }).status)
      for _ = 1, 5 do
        assert.equal(500, running:request({ path = "/caf\195\169?token=secret" }).status)
      end
      assert.equal("GET /caf?? ended with status 500", assert(on_call:next(WAIT)).message)
      assert.equal(200, (notify { body = order { room_id = "operations", to = "on-call", message = "all of it" } }))
      assert.equal("all of it", assert(on_call:next(WAIT)).message)
    end)

    it("tells of later ones, and of how many were left out", function()
      local upstream = fault_server.start()
      upstream:always(nil, { act.read(), act.answer { status = 503 } })
      start_with_sandbox { ["nginx.conf"] = serving(upstream, { ["every = 60"] = "every = 0.5" }) }
      local on_call = listener("operations", "on-call")
      local made, got = 0, {}
      tree.await(function()
        made = made + 1
        assert.equal(503, running:request({ path = "/" .. made }).status)
        got[#got + 1] = on_call:next(0.02)
        return #got == 2
      end, "a second message")
      assert.equal("GET /1 ended with status 503", got[1].message)
      local number, left_out = got[2].message:match "^GET /(%d+) ended with status 503; and (%d+) more since the last"
      assert.equal(tonumber(number) - 2, tonumber(left_out), got[2].message)
    end)
  end)

  describe("with a service that fails", function()
    local server

    before_each(function()
      server = fault_server.start()
    end)

    local function start_with_server(changes)
      start({ RTC_ENDPOINT = server.url, VOLC_ACCESSKEY = service.access_key, VOLC_SECRETKEY = service.secret_key,
        RTC_APP_ID = "app", RTC_FROM = "server" }, changes)
    end

    it("answers 502 when it is not known what became of the message, and tells nobody else of it", function()
      server:always(nil, { act.read(), act.close() })
      start_with_server { ["nginx.conf"] = ONE_WORKER }
      local status, told = notify()
      assert.same({ 502, "unknown", "network", "ConnectionClosed", false },
        { status, told.outcome, told.kind, told.code, told.retryable })
      assert.equal(0, (sum(running:get "/metrics", "^rtc_outbox_")))
      assert.equal(1, #server:requests())
    end)

    it("answers 504 when it does not answer in time", function()
      server:always(nil, { act.read(), act.wait() })
      start_with_server { ["lua/client.lua"] = { ["rate = 500 }"] = "rate = 500 }, timeout = 0.2" } }
      local status, told = notify()
      assert.same({ 504, "unknown", "timeout", "Timeout" }, { status, told.outcome, told.kind, told.code })
    end)

    it("answers 503 and when to come again, once the rate limit is reached", function()
      server:always(nil, service.accepts())
      start_with_server { ["nginx.conf"] = ONE_WORKER, ["lua/client.lua"] = { ["rate = 500"] = "rate = 0.001" } }
      for _ = 1, 25 do
        assert.equal(200, (notify()))
      end
      local status, told, fields = notify()
      assert.same({ 503, "not_sent", "quota", "QuotaExceeded", true },
        { status, told.outcome, told.kind, told.code, told.retryable })
      local seconds = tonumber(fields:match "\nretry%-after: (%d+)")
      assert.is_true(seconds > 900 and seconds <= 1000, fields)
      assert.equal(25, #server:requests())
    end)

    --- Starts it with one worker and a service that waits for the word "told", and makes requests fail until five
    --- messages wait for those that are on their way.
    ---@return integer enqueued
    local function enqueue_many()
      local upstream = fault_server.start()
      upstream:always(nil, { act.read(), act.answer { status = 500 } })
      server:always(nil, service.accepts_after "told")
      start_with_server { ["nginx.conf"] = serving(upstream, {
        ["worker_processes 2;"] = "worker_processes 1;", ["every = 60"] = "every = 0.001",
        ["error.log;"] = "error.log notice;",
      }) }
      local enqueued
      tree.await(function()
        running:request { path = "/" }
        local text = running:get "/metrics"
        local waiting = sum(text, "^rtc_outbox_waiting")
        enqueued = waiting + sum(text, "^rtc_outbox_in_flight")
        return waiting == 5
      end, "messages that wait")
      server:await(function(state) return state.waiting == enqueued - 5 end)
      return enqueued
    end

    it("reports what nginx -s stop cuts off", function()
      local enqueued = enqueue_many()
      running:signal "TERM"
      assert.equal(0, running.process:wait())
      local reported = {}
      -- A line for each, or one for many.
      for count, outcome in running:log():gmatch "rtc: (%w+) enqueued messages? failed[^\n]*%(cancelled, ([^:)]+)" do
        reported[outcome] = (reported[outcome] or 0) + (tonumber(count) or 1)
      end
      assert.same({ ["not sent"] = 5, ["outcome unknown"] = enqueued - 5 }, reported, running:log())
    end)

    for name, signal in pairs { ["nginx -s quit"] = "QUIT", ["a reload"] = "HUP" } do
      it("loses nothing by " .. name .. ": neither what is on its way nor what is enqueued", function()
        local enqueued = enqueue_many()
        local sending = running:begin(request())
        server:await(function(state) return state.waiting == enqueued - 5 + 1 end)
        running:signal(signal)
        tree.await(function()
          return running:log():find("gracefully shutting down", 1, true)
        end, "the worker's word that it is to end")
        server:release "told"
        local answer = nginx.read_answer(sending)
        sending:close()
        assert.same({ 200, "accepted" }, { answer.status, json.decode(answer.body).outcome })
        if signal == "QUIT" then
          assert.equal(0, running.process:wait())
        else
          tree.await(function()
            return sum(running:get "/metrics", ACCEPTED) == enqueued + 1
          end, "the old worker's end")
        end
        assert.equal(enqueued + 1, #server:requests())
      end)
    end
  end)
end)
