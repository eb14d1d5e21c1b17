-- A machine whose clock is wrong: corrected once from the service's answer, and remembered.

local clock = require "rtc.clock"
local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local rtc = require "rtc"
local service = require "spec.support.service"
local tree = require "spec.support.tree"
local utc = require "rtc.utc"

local act = fault_server.act

local DAY = 86400

local function date(time)
  return os.date("!%a, %d %b %Y %H:%M:%S GMT", time)
end

--- An answer that refuses a request for its time, dated so many seconds from now, or by whatever header.
local function expired(header)
  if type(header) == "number" then
    header = date(os.time() + header)
  end
  return service.refuses("InvalidTimestamp", {
    status = 400, code_n = 100006, message = "The Signature of the request is expired.",
    headers = header and { { "Date", header } } or {},
  })
end

describe("the clock", function()
  -- seconds that an answer's date is off, and whether that corrects it
  for ahead, corrects in pairs {
    [DAY] = true, [-DAY] = true, [100] = true, [-100] = true, [0] = false, [1] = false, [-1] = false,
  } do
    it(("is %s by a date %+d s off"):format(corrects and "corrected" or "left alone", ahead), function()
      local own = clock.new()
      assert.equal(corrects, own:correct(date(os.time() + ahead)))
      local off = own:now() - os.time()
      assert.is_true(corrects and math.abs(off - ahead) <= 1 or off == 0, off)
    end)
  end

  it("is left alone by no date", function()
    local own = clock.new()
    own.offset = 77
    for _, value in pairs { false, "", "now", "1735787045", "2099-01-01T00:00:00Z", "Thu, 99 Jan 2099 00:00:00 GMT" } do
      assert.is_false(own:correct(value or nil))
    end
    assert.equal(77, own.offset)
  end)
end)

describe("a client whose clock is wrong", function()
  local server, client, before

  setup(function()
    server = fault_server.start()
  end)

  teardown(fault_server.stop_all)

  before_each(function()
    before = server:state().requests
    client = service.client(server)
  end)

  local function send(sender)
    return (sender or client):send_room_unicast(service.message())
  end

  --- By how many seconds each request of this test was dated off; well signed, they all must be.
  local function dated()
    local off = {}
    for i, request in ipairs({ compat.unpack(server:requests(), before + 1) }) do
      assert.is_true(service.is_signed_well(request))
      off[i] = utc.parse_basic(request.headers["x-date"]) - os.time()
    end
    return off
  end

  local function is_near(expected, off)
    assert.is_true(math.abs(off - expected) < 60, ("%d s, not %d"):format(off, expected))
  end

  for name, retry in pairs { ["by default"] = { base = 0, cap = 0 }, ["without retries"] = false } do
    for direction, ahead in pairs { slow = DAY, fast = -DAY } do
      it(("that is %s, has it corrected, and remembers: %s"):format(direction, name), function()
        client = service.client(server, { retry = retry })
        server:script(expired(ahead), service.accepts(), service.accepts())
        assert.equal(2, assert(send()).attempts)
        assert.equal(1, assert(send()).attempts)
        local off = dated()
        assert.equal(3, #off)
        is_near(0, off[1])
        is_near(ahead, off[2])
        is_near(ahead, off[3])
      end)
    end
  end

  it("is corrected again by a later call", function()
    server:script(expired(DAY), service.accepts(), expired(-DAY), service.accepts())
    assert.equal(2, assert(send()).attempts)
    assert.equal(2, assert(send()).attempts)
    is_near(-DAY, dated()[4])
  end)

  it("is corrected for every kind of call", function()
    for _, make in ipairs {
      function(own) return own:call("BanRoomUser", {}) end,
      function(own) return own:call("GetRoomOnlineUsers", nil, { method = "GET" }) end,
      function(own) return own:send_broadcast { room_id = "room", message = "hello" } end,
    } do
      server:script(expired(DAY), service.accepts())
      assert.equal(2, assert(make(service.client(server))).attempts)
    end
  end)

  it("is told that a correction did not help", function()
    server:script(expired(DAY), expired(2 * DAY))
    local _, err = send()
    assert.same({ "InvalidTimestamp", 100006, 2, "rejected", false },
      { err.code, err.code_n, err.attempts, err.outcome, err.retryable })
    assert.matches("set this machine's clock", err.advice, 1, true)
    assert.equal(2, #dated())
  end)

  for name, header in pairs {
    ["without a date"] = false, ["with a date that is none"] = "yesterday", ["with the date that it has itself"] = 0,
    ["with an empty date"] = "",
  } do
    it("is told so when the answer comes " .. name, function()
      server:script(expired(header))
      local _, err = send()
      assert.same({ "InvalidTimestamp", 1, "rejected", false }, { err.code, err.attempts, err.outcome, err.retryable })
      assert.equal(0, client.clock.offset)
      assert.equal(1, #dated())
    end)
  end

  it("is not corrected by another answer's date", function()
    server:script(
      service.refuses("InvalidAccessKey", { status = 401, headers = { { "Date", date(os.time() + DAY) } } }),
      service.accepts { headers = { { "Date", date(os.time() + DAY) } } })
    assert.equal("InvalidAccessKey", select(2, send()).code)
    assert(send())
    assert.equal(0, client.clock.offset)
  end)

  it("does not tell another client", function()
    local other = service.client(server)
    server:script(expired(DAY), service.accepts(), service.accepts())
    assert(send())
    assert(send(other))
    assert.equal(0, other.clock.offset)
    is_near(0, dated()[3])
  end)

  it("is corrected once for all calls that are on their way", function()
    local late = expired(DAY)
    table.insert(late, 2, act.wait "all")
    server:script(late, late, late)
    server:always(nil, service.accepts())
    for _ = 1, 3 do
      assert(client:enqueue(service.message()))
    end
    server:await(function(state) return state.waiting == 3 end)
    server:release "all"
    assert(client:drain())
    local outbox = client:stats().outbox
    assert.same({ 3, 0 }, { outbox.accepted, outbox.failed })
    local off = dated()
    assert.equal(6, #off)
    for i, each in ipairs(off) do
      is_near(i <= 3 and 0 or DAY, each)
    end
  end)

  it("has the tries before and after it counted on", function()
    local throttled = service.refuses("FlowLimitExceeded", { status = 429 })
    server:script(throttled, expired(DAY), throttled)
    local _, err = send()
    assert.same({ "FlowLimitExceeded", 3 }, { err.code, err.attempts })
    assert.equal(3, #dated())
  end)
end)

describe("a client of the sandbox whose clock is wrong", function()
  local sandbox

  setup(function()
    sandbox = tree.sandbox()
  end)

  teardown(function()
    sandbox.process:close()
  end)

  for _, offset in ipairs { 3600, -3600 } do
    it(("by %+d s is corrected by the first call"):format(offset), function()
      local client = rtc.new(sandbox.endpoint)
      client.clock.offset = offset
      assert.equal(2, assert(client:send_room_unicast(service.message())).attempts)
      assert.equal(1, assert(client:send_room_unicast(service.message())).attempts)
      assert.is_true(math.abs(client.clock.offset) < 60)
    end)
  end
end)
