-- Lists of receivers: as they are, and split into parts that are told of as one.

local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local json = require "cjson"
local native = require "spec.support.native"
local service = require "spec.support.service"

local act = fault_server.act

local server, client, before

setup(function()
  server = fault_server.start()
end)

teardown(fault_server.stop_all)

before_each(function()
  before = server:state().requests
  server:always(nil, service.accepts())
  client = service.client(server, { retry = false })
end)

local function receivers(count)
  local list = {}
  for n = 1, count do
    list[n] = "user" .. n
  end
  return list
end

local function send(to, changes, sender)
  local fields = service.message { to = to }
  for name, value in pairs(changes or {}) do
    fields[name] = value
  end
  return (sender or client):batch_send_room_unicast(fields)
end

--- The decoded bodies of this test's requests.
local function bodies()
  local list = {}
  for i, request in ipairs { compat.unpack(server:requests(), before + 1) } do
    assert.equal(service.target "BatchSendRoomUnicast", request.target)
    assert.is_true(service.is_signed_well(request))
    list[i] = json.decode(request.body)
  end
  return list
end

--- The receivers from one position of the list to another.
local function from_to(first, last)
  return { compat.unpack(receivers(last), first) }
end

local split = { split = true }

describe("a message to many", function()
  for _, count in ipairs { 1, 2, 600 } do
    it(("goes out as a list: %d"):format(count), function()
      local receipt = assert(send(receivers(count)))
      assert.is_nil(receipt.parts)
      assert.same({
        { AppId = "app", RoomId = "room", From = "server", To = receivers(count), Binary = false, Message = "hello" },
      }, bodies())
    end)
  end

  it("takes whole numbers for IDs", function()
    assert(send { 1, 2.0, "3" })
    assert.same({ "1", "2", "3" }, bodies()[1].To)
  end)

  it("has at most 600 receivers, and says what to do", function()
    local receipt, err = send(receivers(601))
    assert.is_nil(receipt)
    assert.same({ "argument", "to", "not_sent", 0 }, { err.kind, err.field, err.outcome, err.attempts })
    assert.matches("to has 601 entries, and the service takes at most 600 in a call: pass split = true", err.message, 1,
      true)
    assert.same({}, bodies())
  end)

  it("has at most 20480 bytes, with each part", function()
    local _, err = send(receivers(1), { message = ("x"):rep(20481) })
    assert.same({ "argument", "message" }, { err.kind, err.field })
    _, err = send(receivers(601), { message = ("x"):rep(20481), split = true })
    assert.same({ "argument", "message" }, { err.kind, err.field })
    assert.same({}, bodies())
    assert(send(receivers(600), { message = ("x"):rep(20480) }))
  end)

  local long = receivers(1500)
  long[1203] = "a b"
  -- What is no list of receivers, with and without split, the field at fault, and what the message must have.
  local wrong = {
    { nil, "to", "to " }, { "user", "to", "to must be a list of IDs, not a string" },
    { 42, "to", "to must be a list of IDs, not a number" }, { {}, "to", "to is empty: name at least one receiver" },
    { { "a", nil, "c" }, "to", "to must be a list of IDs, not a table with other keys or holes" },
    { { "a", "b", n = 2 }, "to", "not a table with other keys or holes" }, { { a = "b" }, "to", "other keys or holes" },
    { { [0] = "a", "b" }, "to", "other keys or holes" }, { { [1.5] = "a" }, "to", "other keys or holes" },
    { { "a", { "b" } }, "to", "to[2] must be a string or a whole number, not a table" },
    { { "a", "", "c" }, "to", "to[2] is empty" }, { { "a", "b", "c d" }, "to", "to[3] has a space at position 2" },
    { { true }, "to", "to[1] must be a string" }, { { 0 / 0 }, "to", "to[1] is not a number: it is NaN" },
    { { 1.5 }, "to", "to[1] is the number 1.5" }, { { ("x"):rep(129) }, "to", "to[1] has 129 characters" },
  }
  for name, changes in pairs { ["as it is"] = {}, ["split"] = split } do
    it("to nobody who can be is not sent, " .. name, function()
      for _, case in ipairs(wrong) do
        local receipt, err = send(case[1], changes)
        assert.is_nil(receipt)
        assert.same({ "argument", case[2], "not_sent", 0, false, "BatchSendRoomUnicast" },
          { err.kind, err.field, err.outcome, err.attempts, err.retryable, err.action })
        assert.matches(case[3], err.message, 1, true)
        assert.is_nil(err.parts)
      end
      assert.same({}, bodies())
    end)
  end

  it("with one bad ID in a later part is not sent to anybody", function()
    local _, err = send(long, split)
    assert.same({ "argument", "to" }, { err.kind, err.field })
    assert.matches("^to%[1203%] has a space at position 2", err.message)
    assert.same({}, bodies())
  end)

  it("takes nothing but true or false for split", function()
    for _, value in ipairs { "yes", 1, {}, "" } do
      for _, count in ipairs { 1, 601 } do
        local receipt, err = send(receivers(count), { split = value })
        assert.is_nil(receipt)
        assert.same({ "argument", "split" }, { err.kind, err.field })
        assert.matches("split must be true or false, not a " .. type(value), err.message, 1, true)
      end
    end
    local _, err = send(receivers(601), { split = false })
    assert.matches("pass split = true", err.message, 1, true)
    _, err = client:send_room_unicast(service.message(split))
    assert.matches("unknown field `split`", err.message, 1, true)
    assert.same({}, bodies())
  end)
end)

describe("a list that is split", function()
  for _, count in ipairs { 1, 600 } do
    it(("into one part says so, too: %d"):format(count), function()
      local receipt = assert(send(receivers(count), split))
      assert.same({ 1, count }, { #receipt.parts, #receipt.parts[1].to })
      assert.is_nil(tostring(receipt):find("parts", 1, true))
      assert.equal(1, receipt.attempts)
      assert.equal(1, #bodies())
      assert.same(receivers(count), bodies()[1].To)

      server:always(nil, service.refuses("InvalidAccessKey", { status = 401 }))
      local _, err = send(receivers(count), split)
      assert.same({ "InvalidAccessKey", "no", "rejected", 1, 1 },
        { err.code, err.message, err.outcome, err.attempts, #err.parts })
    end)
  end

  for count, parts in pairs {
    [601] = { { 1, 600 }, { 601, 601 } }, [1200] = { { 1, 600 }, { 601, 1200 } },
    [1500] = { { 1, 600 }, { 601, 1200 }, { 1201, 1500 } },
  } do
    it(("goes out in parts: %d"):format(count), function()
      local fields = service.message { to = receivers(count), split = true, from = "me", binary = true }
      local receipt = assert(client:batch_send_room_unicast(fields))
      assert.same({ "BatchSendRoomUnicast", "2020-12-01", "cn-north-1", 200, "Success", #parts },
        { receipt.action, receipt.version, receipt.region, receipt.http_status, receipt.message, receipt.attempts })
      assert.is_true(receipt.elapsed > 0)
      assert.matches(("%d parts"):format(#parts), tostring(receipt), 1, true)
      assert.is_nil(tostring(receipt):find("tries", 1, true))
      local expected = {}
      for i, part in ipairs(parts) do
        local to = from_to(part[1], part[2])
        expected[i] = { AppId = "app", RoomId = "room", From = "me", To = to, Binary = true, Message = "aGVsbG8=" }
        assert.same(to, receipt.parts[i].to)
        assert.same({ 1, 200 }, { receipt.parts[i].receipt.attempts, receipt.parts[i].receipt.http_status })
        assert.is_nil(receipt.parts[i].err)
        assert.is_nil(receipt.parts[i].call)
      end
      assert.equal(#parts, #receipt.parts)
      assert.same(expected, bodies())
      assert.same({ to = receivers(count), split = true, from = "me", binary = true, message = "hello",
        room_id = "room" }, fields) -- they are the caller's
    end)
  end

  it("adds up the tries of its parts", function()
    client = service.client(server)
    server:script(service.accepts(), service.refuses "FlowLimitExceeded", service.refuses "FlowLimitExceeded")
    local receipt = assert(send(receivers(1201), split))
    assert.equal(5, receipt.attempts)
    assert.matches("3 parts, 5 tries", tostring(receipt), 1, true)
    assert.same({ 1, 3, 1 }, { receipt.parts[1].receipt.attempts, receipt.parts[2].receipt.attempts,
      receipt.parts[3].receipt.attempts })
  end)

  local accepted = service.accepts()
  local throttled = service.refuses("FlowLimitExceeded", {
    status = 429, code_n = 100018, headers = { { "Retry-After", "7" } },
  })
  local refused = service.refuses("AccessDenied", { status = 403, code_n = 100013 })
  local lost = { act.read(), act.close() }

  -- What becomes of each of three parts, and of the whole: code, outcome, retryable, kind, how many failed.
  for name, case in pairs {
    ["one throttled"] = { { accepted, throttled, accepted }, "FlowLimitExceeded", "unknown", false, "gateway", 1 },
    ["one refused"] = { { refused, accepted, accepted }, "AccessDenied", "unknown", false, "gateway", 1 },
    ["one unknown"] = { { accepted, accepted, lost }, "ConnectionClosed", "unknown", false, "network", 1 },
    ["two of three"] = { { throttled, accepted, refused }, "FlowLimitExceeded", "unknown", false, "gateway", 2 },
    ["all throttled"] = { { throttled, throttled, throttled }, "FlowLimitExceeded", "rejected", true, "gateway", 3 },
    ["all refused"] = { { refused, refused, refused }, "AccessDenied", "rejected", false, "gateway", 3 },
    ["all, one of them for good"] = {
      { throttled, refused, throttled }, "FlowLimitExceeded", "rejected", false, "gateway", 3,
    },
    ["all, one of them unknown"] = {
      { throttled, lost, throttled }, "FlowLimitExceeded", "unknown", false, "gateway", 3,
    },
  } do
    it("tells which parts failed: " .. name, function()
      local steps, code, outcome, retryable, kind, failures = compat.unpack(case)
      server:script(compat.unpack(steps))
      local receipt, err = send(receivers(1500), split)
      assert.is_nil(receipt)
      assert.same({ code, outcome, retryable, kind, 3, "BatchSendRoomUnicast" },
        { err.code, err.outcome, err.retryable, err.kind, err.attempts, err.action })
      assert.equal(3, #bodies())
      assert.equal(3, #err.parts)
      local first
      for i, bounds in ipairs { { 1, 600 }, { 601, 1200 }, { 1201, 1500 } } do
        local part = err.parts[i]
        assert.same(from_to(bounds[1], bounds[2]), part.to)
        assert.equal(steps[i] == accepted, part.receipt ~= nil)
        assert.equal(steps[i] ~= accepted, part.err ~= nil)
        first = first or part.err
      end
      assert.same({ first.code, first.http_status, first.code_n, first.request_id, first.retry_after },
        { err.code, err.http_status, err.code_n, err.request_id, err.retry_after })
      assert.matches(("%d of 3 parts failed, the first of them: %s"):format(failures, first.message), err.message, 1,
        true)
      if failures < 3 then
        assert.matches("err.parts", err.advice, 1, true)
        assert.matches("it may have been delivered", tostring(err), 1, true)
      else
        assert.equal(first.advice, err.advice)
      end
    end)
  end

  it("was not sent when no part was", function()
    local gone = fault_server.start()
    gone:stop()
    local _, err = send(receivers(601), split, service.client(gone))
    assert.same({ "ConnectFailed", "not_sent", true, 6 }, { err.code, err.outcome, err.retryable, err.attempts })
  end)

  it("has one timeout for all parts", function()
    -- The first part takes all the time that there is: the others are not sent.
    client:on("response", function()
      native.sleep(0.35)
    end)
    local _, err = send(receivers(1201), { split = true, timeout = 0.3 })
    assert.same({ "timeout", "Timeout", "unknown", false, 1 },
      { err.kind, err.code, err.outcome, err.retryable, err.attempts })
    assert.equal(1, #bodies())
    assert.is_table(err.parts[1].receipt)
    for i = 2, 3 do
      local part = err.parts[i].err
      assert.same({ "timeout", "Timeout", "not_sent", true, 0 },
        { part.kind, part.code, part.outcome, part.retryable, part.attempts })
      assert.matches("timed out after 0.3 seconds (timeout) before it was sent", part.message, 1, true)
    end
  end)

  it("gives each part what is left of the timeout", function()
    local request, left = client.runtime.request, {}
    client.runtime.request = function(req)
      left[#left + 1] = req.timeout
      return request(req)
    end
    client:on("response", function()
      native.sleep(0.1)
    end)
    server:script(service.accepts(), { act.read(), act.wait() })
    local _, err = send(receivers(601), { split = true, timeout = 0.4 })
    assert.same({ "Timeout", "unknown", 2 }, { err.code, err.outcome, err.attempts })
    assert.is_table(err.parts[1].receipt)
    assert.equal("unknown", err.parts[2].err.outcome)
    assert.is_true(left[1] <= 0.4 and left[2] <= left[1] - 0.1)
  end)
end)
