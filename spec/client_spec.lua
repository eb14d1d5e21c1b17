-- The client against the sandbox, and against servers that go away.

local certificates = require "spec.support.certificates"
local fault_server = require "spec.support.fault_server"
local listen = require "rtc.sandbox.listen"
local process = require "spec.support.process"
local rtc = require "rtc"

local act = fault_server.act

local function all_bytes()
  local bytes = {}
  for byte = 0, 255 do
    bytes[#bytes + 1] = string.char(byte)
  end
  return table.concat(bytes)
end

describe("a client of the sandbox", function()
  local sandbox, address, endpoint, client, receiver

  local function open(changes)
    local options = { endpoint = endpoint }
    for name, value in pairs(changes or {}) do
      options[name] = value
    end
    return rtc.new(options)
  end

  setup(function()
    sandbox = process.spawn { process.lua, "-e", 'assert(require("rtc.sandbox").run { port = 0 })' }
    address = (sandbox:line() or ""):match("http://%S+")
    assert(address, sandbox:stderr())
    endpoint = "sandbox:" .. address:match("%d+$")
    client = open()
    receiver = assert(listen.open { endpoint = address, room_id = "room", user_id = "alice" })
  end)

  teardown(function()
    receiver:close()
    sandbox:close()
  end)

  --- Sends to `alice` and checks that just that arrives.
  local function arrives(message, binary)
    local receipt = assert(client:send_room_unicast {
      room_id = "room", to = "alice", message = message, binary = binary,
    })
    local got = assert(receiver:next(10))
    assert.equal(binary and "onUserBinaryMessageReceived" or "onUserMessageReceived", got.callback)
    assert.equal("server", got.from)
    assert.is_true(message == got.message, "other bytes arrived")
    return receipt
  end

  for name, message in pairs {
    ["in ASCII"] = "hello", ["in many scripts"] = "你好, мир, 😀", ["of JSON's own characters"] = '"\\/\b\f\n\r\t</b>\127',
    ["with NUL"] = "a\0b", ["of 65536 bytes"] = ("é"):rep(32768),
  } do
    it("sends text " .. name, function()
      arrives(message)
    end)
  end

  for name, message in pairs {
    ["of every value"] = all_bytes(), ["that are text"] = "hello", ["of 65536 bytes"] = all_bytes():rep(256),
  } do
    it("sends raw bytes " .. name, function()
      arrives(message, true)
    end)
  end

  it("gets a receipt that prints well", function()
    local receipt = arrives("hello")
    assert.equal("SendRoomUnicast", receipt.action)
    assert.equal("2020-12-01", receipt.version)
    assert.equal("cn-north-1", receipt.region)
    assert.equal(200, receipt.http_status)
    assert.equal(1, receipt.attempts)
    assert.equal("success", receipt.message:lower())
    assert.is_true(receipt.elapsed > 0)
    assert.matches("^%d+$", receipt.request_id:sub(1, 14))
    assert.matches("^SendRoomUnicast: accepted in %d+ ms %(HTTP 200, cn%-north%-1, request %w+%)$", tostring(receipt))
  end)

  it("takes whole numbers as IDs", function()
    local seven = assert(listen.open { endpoint = address, room_id = "7", user_id = "42" })
    assert(client:send_room_unicast { room_id = 7, from = 1.0, to = 42.0, message = "numbers" })
    local got = assert(seven:next(10))
    seven:close()
    assert.same({ "1", "numbers", "7" }, { got.from, got.message, got.room_id })
  end)

  it("lets a call override what new was given", function()
    local other = open { from = "one", app_id = "sandboxapp00000000000001", version = "2023-07-20" }
    local receipt = assert(other:send_room_unicast { room_id = "room", to = "alice", message = "1" })
    assert.equal("2023-07-20", receipt.version)
    assert.equal("one", assert(receiver:next(10)).from)
    receipt = assert(other:send_room_unicast {
      room_id = "room", to = "alice", message = "2", from = "two", version = "2020-12-01",
    })
    assert.equal("2020-12-01", receipt.version)
    assert.equal("two", assert(receiver:next(10)).from)
    local _, err = other:send_room_unicast { room_id = "room", to = "alice", message = "3", app_id = "nobodys" }
    assert.equal("InvalidParameter.NotExistAppId", err.code)
    assert.equal("service", err.kind)
    assert.equal("rejected", err.outcome)
    assert.matches("app_id", err.advice, 1, true)
  end)

  it("is told that the secret is wrong, without showing it", function()
    local other = open { access_key = "AKLTsandbox", secret_key = "not-the-secret" }
    local _, err = other:send_room_unicast { room_id = "room", to = "alice", message = "x" }
    assert.same({ "gateway", "SignatureDoesNotMatch", 100010, 401, "rejected", false },
      { err.kind, err.code, err.code_n, err.http_status, err.outcome, err.retryable })
    assert.matches("rtc sign", tostring(err), 1, true)
    assert.is_string(err.request_id)
    assert.is_nil((tostring(err) .. tostring(other)):find("not-the-secret", 1, true))
  end)

  it("is told that the access key is wrong", function()
    local other = open { access_key = "AKLTnobody", secret_key = "sandbox-secret-key" }
    local _, err = other:send_room_unicast { room_id = "room", to = "alice", message = "x" }
    assert.same({ "gateway", "InvalidAccessKey", 401, "rejected" },
      { err.kind, err.code, err.http_status, err.outcome })
  end)

  it("is told that the version does not exist", function()
    local _, err = client:send_room_unicast { room_id = "room", to = "alice", message = "x", version = "1999-01-01" }
    assert.same({ "gateway", "InvalidActionOrVersion", 404, "rejected" },
      { err.kind, err.code, err.http_status, err.outcome })
  end)

  it("sends nothing when a value is wrong, and never raises", function()
    local bad = {
      room_id = { false, "", "a b", 1.5, {} }, to = { false, "é", ("x"):rep(129) }, from = { false, 0 / 0 },
      app_id = { false, "a/b" }, message = { false, 42, "\255", ("x"):rep(65537) }, binary = { 1, "yes" },
      version = { false, "latest", 20201201 }, timeout = { false, 0, -1, 0 / 0, math.huge, "10" },
      mesage = { "x" }, RoomId = { "x" }, [1] = { "x" },
    }
    for name, values in pairs(bad) do
      for _, value in ipairs(values) do
        local given = { room_id = "room", to = "alice", message = "must not arrive" }
        given[name] = value
        local receipt, err = client:send_room_unicast(given)
        assert.is_nil(receipt)
        assert.same({ "argument", "InvalidArgument", tostring(name), "not_sent", 0, false, "SendRoomUnicast" },
          { err.kind, err.code, err.field, err.outcome, err.attempts, err.retryable, err.action })
        assert.matches(tostring(name), err.message, 1, true)
      end
    end
    arrives("the first to arrive since")
  end)

  it("names the field that was meant", function()
    for wrong, meant in pairs { mesage = "message", roomid = "room_id", RoomId = "room_id", app = "app_id" } do
      local _, err = client:send_room_unicast { [wrong] = "x" }
      assert.matches(("unknown field `%s`: did you mean `%s`?"):format(wrong, meant), err.message, 1, true)
    end
    local _, err = client:send_room_unicast { quux = 1 }
    assert.matches("there are: app_id, room_id, from, to, binary, message, version, timeout", err.message, 1, true)
  end)

  it("does not raise for a name that cannot be shown", function()
    local name = setmetatable({}, { __tostring = function() error("never") end })
    local receipt, err = client:send_room_unicast { [name] = 1 }
    assert.is_nil(receipt)
    assert.same({ "argument", "a table" }, { err.kind, err.field })
    receipt, err = client:explain(name, {})
    assert.is_nil(receipt)
    assert.matches("unknown action `a table`", err.message, 1, true)
  end)

  it("takes nothing but a table of fields", function()
    for _, value in ipairs { "hello", 42, true, print } do
      local receipt, err = client:send_room_unicast(value)
      assert.is_nil(receipt)
      assert.same({ "argument", "not_sent" }, { err.kind, err.outcome })
      assert.matches("must be a table, not a " .. type(value), err.message, 1, true)
    end
    local _, err = client:send_room_unicast()
    assert.matches("must be a table, not nothing", err.message, 1, true)
  end)

  it("says so when it is called with a dot", function()
    local ok, message = pcall(function()
      client.send_room_unicast { room_id = "room" }
    end)
    assert.is_false(ok)
    assert.matches("client_spec.lua:%d+: call it with a colon: client:send_room_unicast", message)
  end)

  it("explains what it would sign, the same each time", function()
    local fields = { room_id = "room", to = "alice", message = "hello" }
    local shown = assert(client:explain("SendRoomUnicast", fields, 1735787045))
    assert.equal(address .. "/?Action=SendRoomUnicast&Version=2020-12-01", shown.url)
    assert.equal('{"AppId":"sandboxapp00000000000001","RoomId":"room","From":"server","To":"alice","Binary":false,'
      .. '"Message":"hello"}', shown.body)
    assert.equal("20250102/cn-north-1/rtc/request", shown.credential_scope)
    assert.matches("^POST\n/\nAction=SendRoomUnicast&Version=2020%-12%-01\ncontent%-type:application/json\nhost:127%.",
      shown.canonical_request)
    assert.matches("^HMAC%-SHA256\n20250102T030405Z\n", shown.string_to_sign)
    assert.matches("^%x+$", shown.signature)
    assert.equal(("HMAC-SHA256 Credential=AKLTsandbox/%s, SignedHeaders=%s, Signature=%s"):format(
      shown.credential_scope, shown.signed_headers, shown.signature), shown.headers.Authorization)
    assert.same({ "20250102T030405Z", "application/json", (address:match("//(.*)")) },
      { shown.headers["X-Date"], shown.headers["Content-Type"], shown.headers.Host })
    assert.same(shown, client:explain("SendRoomUnicast", fields, 1735787045))
  end)

  it("explains nothing of a call that cannot be made", function()
    local shown, err = client:explain("SendRomUnicast", {})
    assert.is_nil(shown)
    assert.matches("did you mean `SendRoomUnicast`?", err.message, 1, true)
    shown, err = client:explain("SendRoomUnicast", { room_id = "room", to = "alice" })
    assert.is_nil(shown)
    assert.equal("message", err.field)
    shown, err = client:explain("SendRoomUnicast", { room_id = "r", to = "u", message = "" }, "noon")
    assert.is_nil(shown)
    assert.same({ "argument", "time" }, { err.kind, err.field })
  end)

  it("shares its signer with those who send by themselves; a stale clock is refused", function()
    local signer = rtc.signer { access_key = "AKLTsandbox", secret_key = "sandbox-secret-key" }
    local body = assert(client:explain("SendRoomUnicast", { room_id = "room", to = "alice", message = "own" })).body
    for age, status in pairs { [0] = 200, [1000] = 400 } do
      local signed = assert(signer:sign {
        method = "POST", host = address:match("//(.*)"), body = body, time = os.time() - age,
        query = { { "Action", "SendRoomUnicast" }, { "Version", "2020-12-01" } },
      })
      local headers = {}
      for name, value in pairs(signed.headers) do
        headers[#headers + 1] = { name, value }
      end
      local exchange = assert(client.runtime.request { -- only its connections
        url = address .. "/?" .. signed.query, headers = headers, body = body, proxy = "",
      })
      assert.equal(status, exchange.status)
      assert.equal(age > 0, exchange.body:find("InvalidTimestamp", 1, true) ~= nil)
    end
    assert.equal("own", assert(receiver:next(10)).message)
  end)
end)

-- Without retries: what each try tells. What comes of several is in retry_spec.lua.
describe("a client whose server", function()
  local server, client

  local call = { room_id = "room", to = "user", message = "hello" }

  local function open(changes)
    local options = {
      endpoint = server.url, access_key = "AKLTkey", secret_key = "secret", app_id = "app", from = "me", retry = false,
    }
    for name, value in pairs(changes or {}) do
      options[name] = value
    end
    return rtc.new(options)
  end

  before_each(function()
    server = fault_server.start()
    client = open()
  end)

  after_each(function()
    server:stop()
  end)

  it("is not there has sent nothing", function()
    server:stop()
    local _, err = client:send_room_unicast(call)
    assert.same({ "network", "ConnectFailed", "not_sent", true, 1, "SendRoomUnicast" },
      { err.kind, err.code, err.outcome, err.retryable, err.attempts, err.action })
    assert.is_nil(err.advice)
  end)

  it("is the sandbox, and is not there, says how to start it", function()
    server:stop()
    local _, err = rtc.new("sandbox:" .. server.port):send_room_unicast(call)
    assert.equal("ConnectFailed", err.code)
    assert.matches("rtc sandbox --port " .. server.port, tostring(err), 1, true)
  end)

  it("closes after it read the request may have taken the message", function()
    server:script { act.read(), act.close() }
    local _, err = client:send_room_unicast(call)
    assert.same({ "network", "ConnectionClosed", "unknown", false, 1 },
      { err.kind, err.code, err.outcome, err.retryable, err.attempts })
    assert.equal(1, server:state().requests)
    assert.matches("it may have been delivered", tostring(err), 1, true)
  end)

  it("reads a request on a connection used before and closes may have taken it, once", function()
    server:script({ act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } },
      { act.read(), act.close() })
    assert(client:send_room_unicast(call))
    local _, err = client:send_room_unicast(call)
    assert.same({ "network", "ConnectionClosed", "unknown", false },
      { err.kind, err.code, err.outcome, err.retryable })
    assert.equal(2, #server:requests())
    assert.equal(1, server:requests()[2].connection) -- it was the same connection
  end)

  it("closes in the middle of its answer may have taken the message", function()
    server:script { act.read(), act.answer { body = '{"Resp', length = 100 }, act.close() }
    local _, err = client:send_room_unicast(call)
    assert.same({ "network", "unknown" }, { err.kind, err.outcome })
  end)

  for name, settings in pairs {
    ["the client's timeout"] = { new = { timeout = 0.2 } },
    ["the client's try_timeout"] = { new = { try_timeout = 0.2 } },
    ["the call's timeout"] = { call = { timeout = 0.2 } },
  } do
    it("is silent for longer than " .. name .. " may have taken the message", function()
      server:script { act.read(), act.wait("end") }
      local given = { room_id = "room", to = "user", message = "hello", timeout = (settings.call or {}).timeout }
      local _, err = open(settings.new):send_room_unicast(given)
      assert.same({ "timeout", "Timeout", "unknown", false },
        { err.kind, err.code, err.outcome, err.retryable })
      server:release("end")
    end)
  end

  it("is given limits by the client and the call", function()
    server:always(nil, { act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } })
    local function limits(new, timeout)
      local limited = open(new)
      local request, seen = limited.runtime.request, nil
      limited.runtime.request = function(req)
        seen = req
        return request(req)
      end
      assert(limited:send_room_unicast { room_id = "room", to = "user", message = "hello", timeout = timeout })
      assert.is_true(seen.timeout <= (timeout or new.timeout or 10)) -- what is left of it
      return { math.ceil(seen.timeout), seen.try_timeout, seen.connect_timeout, seen.max_response }
    end
    assert.same({ 10, 5, 3, 1048576 }, limits {})
    local own = { timeout = 20, try_timeout = 21, connect_timeout = 22, max_response = 1000 }
    assert.same({ 20, 21, 22, 1000 }, limits(own))
    assert.same({ 30, 21, 22, 1000 }, limits(own, 30))
  end)

  it("speaks TLS is trusted by its certificate", function()
    local tls = certificates.make()
    local secure = fault_server.start { tls = tls.good }
    secure:always(nil, { act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } })
    local target = "https://localhost:" .. secure.port
    assert(open { endpoint = target, ca_file = tls.ca_file }:send_room_unicast(call))
    assert.equal(1, #secure:requests())
    local strange = fault_server.start { tls = tls.untrusted }
    finally(function()
      secure:stop()
      strange:stop()
    end)
    local _, err = open { endpoint = "https://localhost:" .. strange.port }:send_room_unicast(call)
    assert.same({ "network", "CertificateFailed", "not_sent" }, { err.kind, err.code, err.outcome })
    assert.equal(0, #strange:requests())
  end)

  it("is well gets what was signed", function()
    server:script { act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } }
    assert(open { session_token = "token", user_agent = "me/1" }:send_room_unicast(call))
    local request = server:requests()[1]
    assert.equal("POST", request.method)
    assert.equal("/?Action=SendRoomUnicast&Version=2020-12-01", request.target)
    assert.equal("application/json", request.headers["content-type"])
    assert.equal("127.0.0.1:" .. server.port, request.headers.host)
    assert.equal("token", request.headers["x-security-token"])
    assert.equal("me/1", request.headers["user-agent"])
    assert.matches("SignedHeaders=content-type;host;x-content-sha256;x-date;x-security-token,",
      request.headers.authorization, 1, true)
    assert.is_nil(request.headers.expect)
  end)

  it("speaks plain http though https was written says so", function()
    server:on_accept { act.send(fault_server.bytes { status = 400 }) }
    local _, err = open { endpoint = "https://127.0.0.1:" .. server.port }:send_room_unicast(call)
    assert.same({ "TLSFailed", "not_sent" }, { err.code, err.outcome })
    assert.matches("write http://127.0.0.1:" .. server.port, err.advice, 1, true)
  end)

  it("is behind a proxy that is not there names the variable, and not what it holds", function()
    for variable, target in pairs {
      https_proxy = "https://rtc.invalid", HTTPS_PROXY = "https://rtc.invalid", ALL_PROXY = "https://rtc.invalid",
      http_proxy = "http://rtc.invalid",
    } do
      local env = { https_proxy = false, HTTPS_PROXY = false, http_proxy = false, HTTP_PROXY = false,
        all_proxy = false, ALL_PROXY = false, no_proxy = false, NO_PROXY = false }
      env[variable] = "http://user:hunter2@127.0.0.1:1"
      local child = process.run({ process.lua, "-e", ([[
        print(select(2, require "rtc".new {
          endpoint = %q, allow_http = true, access_key = "k", secret_key = "s", app_id = "a", from = "f",
        }:send_room_unicast { room_id = "r", to = "u", message = "m" }))]]):format(target) }, { env = env })
      assert.matches("not sent", child.stdout, 1, true)
      assert.matches("%-> .*" .. variable .. "[^\n]*proxy", child.stdout)
      assert.is_nil(child.stdout:find("hunter2", 1, true))
    end
  end)

  it("is on loopback is never reached through a proxy", function()
    server:always(nil, { act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } })
    local child = process.run({ process.lua, "-e", [[
      print((require "rtc".send_room_unicast { room_id = "r", to = "u", message = "m" }))]] }, { env = {
      RTC_ENDPOINT = server.url, VOLC_ACCESSKEY = "k", VOLC_SECRETKEY = "s", RTC_APP_ID = "a", RTC_FROM = "f",
      http_proxy = "http://127.0.0.1:1", HTTP_PROXY = "http://127.0.0.1:1", all_proxy = "http://127.0.0.1:1",
    } })
    assert.matches("^SendRoomUnicast: accepted", child.stdout)
    assert.equal("/?Action=SendRoomUnicast&Version=2020-12-01", server:requests()[1].target)
  end)

  -- A message fits whole into the kernel's buffers for loopback; a larger body of `call`, on the same way, does not.
  describe("answers before it has the whole request", function()
    local small, big = nil, '{"Message":"' .. ("x"):rep(16000000) .. '"}'

    before_each(function()
      small = fault_server.start { receive_buffer = 4096 }
    end)

    after_each(function()
      small:stop()
    end)

    local function meet(answer)
      local told = ("the caller is told of HTTP %d"):format(answer.status)
      small:script { act.read_head(), act.answer(answer), act.end_writing(), act.wait(told), act.drain() }
      local _, err = open { endpoint = small.url }:call("SendRoomUnicast", big)
      small:release(told)
      return { err.kind, err.code, err.outcome, err.retryable }
    end

    it("by something unreadable, has sent nothing", function()
      assert.same({ "response", "BadAnswer", "not_sent", false }, meet { status = 413, body = "<html>" })
      assert.same({ "response", "BadAnswer", "not_sent", true }, meet { status = 503, body = "" })
      assert.same({ "response", "BadAnswer", "not_sent", true }, meet { status = 429, body = "" })
    end)

    it("by a code, has sent nothing", function()
      local body = '{"ResponseMetadata":{"Error":{"Code":"%s"}}}'
      assert.same({ "gateway", "InvalidAccessKey", "not_sent", false },
        meet { status = 401, body = body:format("InvalidAccessKey") })
      assert.same({ "gateway", "FlowLimitExceeded", "not_sent", true },
        meet { status = 429, body = body:format("FlowLimitExceeded") })
      assert.same({ "gateway", "InternalError", "not_sent", true },
        meet { status = 500, body = body:format("InternalError") })
    end)
  end)
end)
