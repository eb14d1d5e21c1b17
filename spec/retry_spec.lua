-- What is tried again, when, and what a call tells of its tries.

local certificates = require "spec.support.certificates"
local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local native = require "spec.support.native"
local retry = require "rtc.retry"
local service = require "spec.support.service"

local act = fault_server.act

local throttled = service.refuses("FlowLimitExceeded", { status = 429, code_n = 100018 })
local closed = { act.read(), act.close() }

local function date(time)
  return os.date("!%a, %d %b %Y %H:%M:%S GMT", time)
end

describe("retry.read_after", function()
  local now = 1735787045 -- Thu, 02 Jan 2025 03:04:05 GMT

  -- the header, and the seconds that it means
  local cases = {
    { nil, nil }, { "0", 0 }, { "7", 7 }, { "0007", 7 }, { "999999999", 999999999 },
    { "1000000000", 999999999 }, { "99999999999999999999", 999999999 }, { ("9"):rep(400), 999999999 },
    { "", nil }, { "-1", nil }, { "+1", nil }, { "1.5", nil }, { "1e3", nil }, { "0x10", nil }, { " 7", nil },
    { "7 ", nil }, { "7s", nil }, { "1, 2", nil }, { "soon", nil }, { "\0", nil }, { "\255", nil },
    { date(now + 10), 10 }, { date(now), 0 }, { date(now - 1), 0 }, { "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
    { "Fri, 31 Dec 9999 23:59:59 GMT", 251666513754 }, { "Wed, 02 Jan 2025 03:04:15 GMT", nil },
    { "Thursday, 02-Jan-25 03:04:15 GMT", nil }, { "Thu, 02 Jan 2025 03:04:15", nil },
    { "2025-01-02T03:04:15Z", nil },
  }
  for _, case in ipairs(cases) do
    it(("reads %q"):format(tostring(case[1]):sub(1, 40)), function()
      assert.equal(case[2], retry.read_after(case[1], now))
    end)
  end
end)

describe("retry.wait", function()
  local default = retry.new()
  local throttling = { outcome = "rejected" }

  -- policy, error of the last try, tries made, the least and the most of the wait
  local cases = {
    { default, { outcome = "not_sent" }, 1, 0, 0.2 }, { default, { outcome = "not_sent" }, 2, 0, 0.4 },
    { default, { outcome = "unknown" }, 5, 0, 3.2 }, { default, { outcome = "not_sent" }, 6, 0, 5 },
    { default, { outcome = "not_sent" }, 10, 0, 5 }, { default, throttling, 1, 0, 1 },
    { default, throttling, 4, 0, 1.6 },
    { default, { outcome = "rejected", retry_after = 3 }, 1, 3, 4 },
    { default, { outcome = "unknown", retry_after = 30 }, 1, 30, 30.2 },
    { { base = 0.2, cap = 0.5 }, throttling, 1, 0, 0.5 }, { { base = 7, cap = 5 }, throttling, 1, 0, 5 },
  }
  for _, case in ipairs(cases) do
    local policy, err, tries, least, most = compat.unpack(case)
    it(("is anything from %g to %g s"):format(least, most), function()
      local lowest, highest = math.huge, -math.huge
      for _ = 1, 2000 do
        local wait = retry.wait(policy, err, tries)
        lowest, highest = math.min(lowest, wait), math.max(highest, wait)
      end
      local width = most - least
      assert.is_true(lowest >= least and highest <= most, ("%g to %g"):format(lowest, highest))
      assert.is_true(lowest < least + 0.1 * width, lowest)
      assert.is_true(highest > most - 0.1 * width, highest)
    end)
  end

  it("is nothing when told so", function()
    for _, policy in ipairs { { base = 0, cap = 0 }, { base = 1, cap = 0 } } do
      assert.equal(0, retry.wait(policy, throttling, 3))
      assert.equal(2, retry.wait(policy, { outcome = "rejected", retry_after = 2 }, 3))
    end
  end)
end)

describe("a call", function()
  local server, client, before

  setup(function()
    server = fault_server.start()
  end)

  teardown(fault_server.stop_all)

  before_each(function()
    before = server:state().requests
    client = service.client(server)
  end)

  --- How many requests came in this test.
  local function requests()
    return server:state().requests - before
  end

  local function send(sender, changes)
    return (sender or client):send_room_unicast(service.message(changes))
  end

  local function get(sender)
    return (sender or client):call("GetRoomOnlineUsers", nil, { method = "GET" })
  end

  describe("is tried three times", function()
    for name, step in pairs {
      ["when the gateway throttles"] = throttled,
      ["when the gateway throttles the account, with 200"] =
        service.refuses("AccountFlowLimitExceeded", { status = 200, code_n = 100027 }),
      ["when the service throttles, with 200"] = service.refuses("FlowLimitExceeded.QPSOverLimit", { status = 200 }),
      ["when the service throttles by a code that is not known"] =
        service.refuses("FlowLimitExceeded.Whatever", { status = 400 }),
    } do
      it(name, function()
        server:always(nil, step)
        local _, err = send()
        assert.same({ 3, "rejected", true }, { err.attempts, err.outcome, err.retryable })
        assert.matches("3 tries", tostring(err), 1, true)
        assert.equal(3, requests())
      end)
    end

    it("when nobody listens", function()
      local gone = fault_server.start()
      gone:stop()
      local _, err = send(service.client(gone))
      assert.same({ "ConnectFailed", 3, "not_sent", true }, { err.code, err.attempts, err.outcome, err.retryable })
    end)

    it("when the TLS handshake breaks", function()
      local connections = server:state().connections
      server:on_accept({ act.close() }, { act.close() }, { act.close() })
      local _, err = send(service.client(server, { endpoint = "https://127.0.0.1:" .. server.port }))
      assert.same({ "TLSFailed", 3, "not_sent", true }, { err.code, err.attempts, err.outcome, err.retryable })
      assert.equal(3, server:state().connections - connections)
    end)

    it("when the proxy has trouble of its own", function()
      server:always(nil, { act.read(), act.answer { status = 503 } })
      local _, err = send(service.client(server, { endpoint = "https://rtc.invalid", proxy = server.url }))
      assert.same({ "ProxyFailed", 3, "not_sent", true }, { err.code, err.attempts, err.outcome, err.retryable })
      assert.equal(3, requests())
    end)
  end)

  --- Answers after which it is not known whether the message was delivered, but another try may go better.
  local uncertain = {
    ["no answer"] = closed,
    ["a part of an answer"] = { act.read(), act.answer { body = "{", length = 9 }, act.close() },
    ["an answer that is none"] = { act.read(), act.answer { body = "<html>" } },
    ["a server's error without a code"] = { act.read(), act.answer { status = 502, body = "" } },
    ["a server's error with a code"] = service.refuses("InternalError", { status = 500, code_n = 100014 }),
    ["an unknown code and 503"] = service.refuses("Whatever", { status = 503 }),
    ["429 by somebody else"] = { act.read(), act.answer { status = 429, body = "slow down" } },
    ["408 by somebody else"] = { act.read(), act.answer { status = 408, body = "" } },
  }

  --- Those after which another try would end alike.
  local final = {
    ["an unknown code"] = service.refuses("Whatever", { status = 400 }),
    ["an unknown code and 200"] = service.refuses("Whatever", { status = 200 }),
    ["403 by somebody else"] = { act.read(), act.answer { status = 403, body = "<html>" } },
    ["a redirect"] = { act.read(), act.answer { status = 302, headers = { { "Location", "https://else.where/" } } } },
  }

  describe("is made once", function()
    for code, status in pairs {
      InvalidAccessKey = 401, SignatureDoesNotMatch = 401, AccessDenied = 403, InvalidActionOrVersion = 404,
      ["InvalidParameter.IllegalTo"] = 200, ["InvalidParameter.Whatever"] = 400,
    } do
      it("when it is refused: " .. code, function()
        server:always(nil, service.refuses(code, { status = status }))
        local _, err = send()
        assert.same({ 1, code, "rejected", false }, { err.attempts, err.code, err.outcome, err.retryable })
        assert.equal(1, requests())
      end)
    end

    for _, steps in ipairs { uncertain, final } do
      for name, step in pairs(steps) do
        it("when it meets " .. name, function()
          server:always(nil, step)
          local _, err = send()
          assert.same({ 1, "unknown", false }, { err.attempts, err.outcome, err.retryable })
          assert.equal(1, requests())
        end)
      end
    end

    it("when it is not answered in time", function()
      server:always(nil, { act.read(), act.wait() })
      local _, err = send(service.client(server, { try_timeout = 0.2 }))
      assert.same({ 1, "Timeout", "unknown", false }, { err.attempts, err.code, err.outcome, err.retryable })
      assert.equal(1, requests())
    end)

    it("when the certificate is not trusted", function()
      local secure = fault_server.start { tls = certificates.make().untrusted }
      local _, err = send(service.client(secure, { endpoint = "https://localhost:" .. secure.port }))
      assert.same({ 1, "CertificateFailed", "not_sent", false }, { err.attempts, err.code, err.outcome, err.retryable })
    end)

    it("when the proxy says no", function()
      server:always(nil, { act.read(), act.answer { status = 407 } })
      local _, err = send(service.client(server, { endpoint = "https://rtc.invalid", proxy = server.url }))
      assert.same({ 1, "ProxyFailed", "not_sent", false }, { err.attempts, err.code, err.outcome, err.retryable })
    end)

    it("when its fields are wrong: or rather not at all", function()
      local _, err = send(client, { to = "a b" })
      assert.equal(0, err.attempts)
      assert.equal(0, requests())
    end)

    it("with retry = false", function()
      server:always(nil, throttled)
      local _, err = send(service.client(server, { retry = false }))
      assert.same({ 1, "rejected", true }, { err.attempts, err.outcome, err.retryable })
      assert.equal(1, requests())
    end)
  end)

  it("is tried as often as it is told", function()
    server:always(nil, throttled)
    for _, tries in ipairs { 1, 2, 10 } do
      local _, err = send(service.client(server, { retry = { tries = tries, base = 0, cap = 0 } }))
      assert.equal(tries, err.attempts)
    end
    assert.equal(13, requests())
  end)

  it("ends with the first success", function()
    server:script(throttled, throttled, service.accepts())
    local receipt = assert(send())
    assert.equal(3, receipt.attempts)
    assert.is_nil(receipt.possible_duplicate)
    assert.matches("3 tries", tostring(receipt), 1, true)
    assert.is_nil(tostring(receipt):find("twice", 1, true))
    assert.equal(3, requests())
  end)

  -- how the call is made, and the options of its client
  for how, case in pairs {
    ["with on_unknown"] = { send, { on_unknown = true, base = 0, cap = 0 } },
    ["by GET, which changes nothing"] = { get, { base = 0, cap = 0 } },
  } do
    local make, policy = compat.unpack(case)

    describe("whose outcome is unknown, " .. how, function()
      for name, step in pairs(uncertain) do
        it("is tried again after " .. name, function()
          server:script(step)
          server:always(nil, service.accepts())
          local receipt = assert(make(service.client(server, { retry = policy })))
          local twice = make == send or nil -- what only reads is not called a duplicate
          assert.same({ 2, twice }, { receipt.attempts, receipt.possible_duplicate })
          assert.matches(twice and "2 tries, possibly twice" or "2 tries, request", tostring(receipt), 1, true)
          assert.equal(2, requests())
        end)
      end

      for name, step in pairs(final) do
        it("is not after " .. name, function()
          server:always(nil, step)
          local _, err = make(service.client(server, { retry = policy }))
          assert.same({ 1, "unknown", false }, { err.attempts, err.outcome, err.retryable })
        end)
      end

      it("is tried three times", function()
        server:always(nil, closed)
        local _, err = make(service.client(server, { retry = policy }))
        assert.same({ 3, "unknown", "ConnectionClosed" }, { err.attempts, err.outcome, err.code })
        assert.equal(make == get, err.retryable)
        assert.equal(3, requests())
      end)
    end)
  end

  it("that gets, with retry = false, is made once", function()
    server:always(nil, closed)
    local _, err = get(service.client(server, { retry = false }))
    assert.same({ 1, "unknown", true }, { err.attempts, err.outcome, err.retryable })
  end)

  it("ends with the last try's error and the worst outcome", function()
    server:script(closed, throttled, service.refuses("InvalidAccessKey", { status = 401, code_n = 100009 }))
    local _, err = send(service.client(server, { retry = { on_unknown = true, base = 0, cap = 0 } }))
    assert.same({ "InvalidAccessKey", 401, 3, "unknown", false },
      { err.code, err.http_status, err.attempts, err.outcome, err.retryable })
    assert.matches("3 tries, outcome unknown: it may have been delivered", tostring(err), 1, true)
  end)

  it("that was throttled, and then finds nobody, was rejected at worst", function()
    local passing = fault_server.start()
    passing:script(throttled)
    -- A pause is there, in which nginx hears that the kept connection has ended.
    client = service.client(passing, { retry = { base = 0.01, cap = 0.01 } })
    client:on("retry", function(event)
      if event.attempt == 1 then
        passing:stop()
      end
    end)
    local _, err = send()
    assert.same({ "ConnectFailed", 3, "rejected", true }, { err.code, err.attempts, err.outcome, err.retryable })
  end)

  it("is signed anew by each try", function()
    server:always(nil, throttled)
    client:on("retry", function()
      client.clock.offset = client.clock.offset + 100
    end)
    send()
    local dates = {}
    for i = 1, requests() do
      local request = server:requests()[before + i]
      assert.is_true(service.is_signed_well(request))
      dates[i] = request.headers["x-date"]
    end
    assert.equal(3, #dates)
    assert.is_true(dates[1] < dates[2] and dates[2] < dates[3])
  end)

  describe("that is told to wait", function()
    local waits

    before_each(function()
      waits = {}
      client:on("retry", function(event)
        waits[#waits + 1] = event.wait
      end)
    end)

    local function throttled_for(value)
      return service.refuses("FlowLimitExceeded", { status = 429, headers = { { "Retry-After", value } } })
    end

    it("waits for so many seconds", function()
      server:script(throttled_for("1"), throttled_for("0"), service.accepts())
      local receipt = assert(send())
      assert.equal(3, receipt.attempts)
      assert.same({ 1, 0 }, waits)
      assert.is_true(receipt.elapsed >= 1)
    end)

    it("waits until a date, by the client's clock", function()
      client.clock.offset = 86400
      server:script(throttled_for(date(os.time() + 86400 + 1)), service.accepts())
      assert.equal(2, assert(send()).attempts)
      assert.is_true(waits[1] == 0 or waits[1] == 1, waits[1])
    end)

    it("does not wait for what is over or makes no sense", function()
      server:script(throttled_for(date(os.time() - 60)), throttled_for("soon"), service.accepts())
      assert.equal(3, assert(send()).attempts)
      assert.same({ 0, 0 }, waits)
    end)

    for name, value in pairs { ["seconds"] = "60", ["a number that is huge"] = "99999999999",
      ["a date"] = date(os.time() + 3600) } do
      it("for longer than its timeout ends: " .. name, function()
        server:always(nil, throttled_for(value))
        local _, err = send()
        assert.same({ 1, "FlowLimitExceeded", "rejected", true },
          { err.attempts, err.code, err.outcome, err.retryable })
        assert.is_true(err.retry_after > 10)
        assert.same({}, waits)
        assert.equal(1, requests())
      end)
    end

    it("is told of it also where it is not tried again", function()
      server:always(nil, service.refuses("Whatever", { status = 503, headers = { { "Retry-After", "5" } } }))
      local _, err = send()
      assert.same({ 1, "unknown", 5 }, { err.attempts, err.outcome, err.retry_after })
    end)
  end)

  it("ends when its time is over, however many tries it has", function()
    server:always(nil, { act.read(), act.wait() })
    local _, err = send(service.client(server, {
      timeout = 0.5, try_timeout = 0.2, retry = { tries = 10, base = 0, cap = 0, on_unknown = true },
    }))
    assert.same({ "Timeout", "unknown" }, { err.code, err.outcome })
    assert.is_true(err.attempts < 10)
  end)

  it("whose time is over before the next try ends with the last one's error", function()
    server:always(nil, throttled)
    client:on("retry", function()
      native.sleep(0.4)
    end)
    local _, err = send(client, { timeout = 0.3 })
    assert.same({ 1, "FlowLimitExceeded", "rejected" }, { err.attempts, err.code, err.outcome })
    assert.equal(1, requests())
  end)

  it("for whose next try the rate limit has no slot ends with the last one's error", function()
    server:always(nil, throttled)
    local _, err = send(service.client(server, {
      quota = { rate = 0.001, burst = 1, key = "retry" }, retry = { base = 0, cap = 0 },
    }))
    assert.same({ 1, "gateway", "FlowLimitExceeded", "rejected" }, { err.attempts, err.kind, err.code, err.outcome })
    assert.is_true(err.retry_after > 100) -- the limit's word
    assert.equal(1, requests())
  end)
end)
