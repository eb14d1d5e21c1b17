-- What the client makes of every kind of answer, each sent by a real server.

local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local rtc = require "rtc"

local act = fault_server.act

local server, client

local call = { room_id = "room", to = "user", message = "hello" }

--- What the client makes of one answer.
local function meet(answer)
  server:script { act.read(), act.answer(answer) }
  return client:send_room_unicast(call)
end

local function envelope(err, result)
  return ('{"ResponseMetadata":{"RequestId":"20250102030405AAAA","Action":"SendRoomUnicast","Version":"2020-12-01",'
    .. '"Service":"rtc","Region":"cn-north-1"%s}%s}'):format(err and ',"Error":' .. err or "",
    result and ',"Result":' .. result or "")
end

describe("the client meets", function()
  setup(function()
    server = fault_server.start()
    client = rtc.new { endpoint = server.url, access_key = "AKLTkey", secret_key = "hunter2secret",
      session_token = "token/with+signs==", app_id = "app", from = "server",
      retry = false } -- what is made of each answer shows in one try
  end)

  teardown(function()
    server:stop()
  end)

  describe("a success", function()
    for name, body in pairs {
      ["with the message spelt in full"] = envelope(nil, '{"Message":"Success"}'),
      ["without a result"] = envelope(nil),
      ["whose result is null"] = envelope(nil, "null"),
      ["whose Error is null"] = envelope("null", "{}"),
      ["whose Error is empty"] = envelope("{}", "{}"),
      ["whose Error has nothing but zeros"] = envelope('{"CodeN":0,"Code":"","Message":""}', "{}"),
    } do
      it(name, function()
        local receipt = assert(meet { body = body })
        assert.equal("20250102030405AAAA", receipt.request_id)
        assert.equal("SendRoomUnicast", receipt.action)
        assert.equal("2020-12-01", receipt.version)
        assert.equal("cn-north-1", receipt.region)
        assert.equal(200, receipt.http_status)
        assert.equal(1, receipt.attempts)
        assert.is_number(receipt.elapsed)
        assert.equal(body:find("Success", 1, true) and "Success" or nil, receipt.message)
      end)
    end

    it("whose metadata says little, and that wrongly", function()
      local receipt = assert(meet {
        body = '{"ResponseMetadata":{"RequestId":null,"Region":"","Version":7,"Action":[]},"Result":{"Message":1}}',
        headers = { { "X-Request-Id", "from-header" }, { "X-Tt-Logid", "log" } },
      })
      assert.equal("from-header", receipt.request_id)
      assert.equal("cn-north-1", receipt.region)
      assert.equal("2020-12-01", receipt.version)
      assert.is_nil(receipt.message)
      assert.matches("^SendRoomUnicast: accepted in %d+ ms %(HTTP 200, cn%-north%-1, request from%-header%)$",
        tostring(receipt))
    end)

    it("of another version or region than was asked for", function()
      local receipt = assert(meet { body = '{"ResponseMetadata":{"Version":"2023-07-20","Region":"elsewhere"}}' })
      assert.same({ "2023-07-20", "elsewhere" }, { receipt.version, receipt.region })
    end)

    it("that names no request: a log's ID is none", function()
      local receipt = assert(meet {
        body = '{"ResponseMetadata":{"Region":"x"}}', headers = { { "X-Tt-Logid", "log" } },
      })
      assert.is_nil(receipt.request_id)
      assert.matches("%(HTTP 200, x%)$", tostring(receipt))
    end)
  end)

  -- status, Error, then what the client must say
  local refusals = {
    { 401, '{"CodeN":100010,"Code":"SignatureDoesNotMatch","Message":"m"}', "gateway", "rejected", false, 100010 },
    { 401, '{"CodeN":100009,"Code":"InvalidAccessKey","Message":"m"}', "gateway", "rejected", false, 100009 },
    { 400, '{"CodeN":100006,"Code":"InvalidTimestamp","Message":"m"}', "gateway", "rejected", false, 100006 },
    { 403, '{"CodeN":100013,"Code":"AccessDenied","Message":"m"}', "gateway", "rejected", false, 100013 },
    { 429, '{"CodeN":100018,"Code":"FlowLimitExceeded","Message":"m"}', "gateway", "rejected", true, 100018 },
    { 200, '{"CodeN":100027,"Code":"AccountFlowLimitExceeded","Message":"m"}', "gateway", "rejected", true, 100027 },
    { 200, '{"Code":"FlowLimitExceeded.QPSOverLimit","Message":"m"}', "service", "rejected", true },
    { 200, '{"Code":"InvalidParameter.NotExistAppId","Message":"m"}', "service", "rejected", false },
    { 400, '{"CodeN":0,"Code":"InvalidParameter.NewOne","Message":"m"}', "service", "rejected", false },
    { 500, '{"CodeN":100014,"Code":"InternalError","Message":"m"}', "gateway", "unknown", false, 100014 },
    { 504, '{"CodeN":100016,"Code":"InternalServiceTimeout","Message":"m"}', "gateway", "unknown", false, 100016 },
    { 503, '{"CodeN":100019,"Code":"ServiceUnavailableTemp","Message":"m"}', "gateway", "unknown", false, 100019 },
    { 400, '{"Code":"NeverHeard.OfIt","Message":"m"}', "service", "unknown", false },
    { 400, '{"CodeN":100099,"Code":"NeverHeardOfIt","Message":"m"}', "gateway", "unknown", false, 100099 },
  }
  for _, case in ipairs(refusals) do
    local status, err_json, kind, outcome, retryable, code_n = compat.unpack(case)
    local code = err_json:match('"Code":"([^"]*)"')
    it(("%s with HTTP %d"):format(code, status), function()
      local receipt, err = meet { status = status, body = envelope(err_json, "{}") }
      assert.is_nil(receipt)
      assert.same({ kind, code, code:match("^[^.]+"), code_n, "m", status, outcome, retryable, 1 },
        { err.kind, err.code, err.class, err.code_n, err.message, err.http_status, err.outcome, err.retryable,
          err.attempts })
      assert.equal("SendRoomUnicast", err.action)
      assert.equal("20250102030405AAAA", err.request_id)
    end)
  end

  it("a code's number as an integer", function()
    local _, err = meet { status = 401, body = envelope('{"CodeN":100010,"Code":"SignatureDoesNotMatch"}') }
    assert.equal("100010", tostring(err.code_n))
  end)

  it("an error whose parts have wrong types", function()
    local _, err = meet { status = 400, body = envelope('{"CodeN":"x","Code":null,"Message":"only words"}') }
    assert.equal("service", err.kind)
    assert.equal("UnknownError", err.code)
    assert.equal("only words", err.message)
    assert.is_nil(err.code_n)
    assert.equal("unknown", err.outcome)
  end)

  it("an error that came without the rest of the metadata", function()
    local _, err = meet { status = 400, body = '{"ResponseMetadata":{"RequestId":"1","Error":'
      .. '{"CodeN":100002,"Code":"MissingParameter","Message":"The request is missing Action parameter."}}}' }
    assert.equal("MissingParameter", err.code)
    assert.equal("rejected", err.outcome)
  end)

  local page = "<html><head><title>502 Bad Gateway</title></head><body>" .. ("<p>nginx</p>"):rep(100)
  -- what, status, body, what the message must show
  local unreadable = {
    { "HTML from a proxy", 502, page, "the answer (text/html) is not JSON: <html><head><title>502 Bad Gateway" },
    { "HTML with HTTP 200", 200, page, "is not JSON: <html>" },
    { "an empty body", 200, "", "is empty" },
    { "an empty body with HTTP 503", 503, "", "the answer (text/html) is empty" },
    { "truncated JSON", 200, envelope(nil, '{"Mess'):sub(1, -2), "is not JSON: {\"ResponseMetadata\"" },
    { "JSON with more behind it", 200, envelope(nil, "{}") .. "x", "is not JSON" },
    { "NaN, which is not JSON", 200, '{"ResponseMetadata":{"RequestId":"1","X":NaN}}', "is not JSON" },
    { "an array", 200, "[1,2]", "has no ResponseMetadata object: [1,2]" },
    { "a string", 200, '"Success"', 'has no ResponseMetadata object: "Success"' },
    { "a number", 200, "200", "has no ResponseMetadata object: 200" },
    { "true", 200, "true", "has no ResponseMetadata object: true" },
    { "null", 200, "null", "has no ResponseMetadata object: null" },
    { "an object of something else", 200, '{"ok":true}', "has no ResponseMetadata object" },
    { "null metadata", 200, '{"ResponseMetadata":null}', "has no ResponseMetadata object" },
    { "empty metadata", 200, '{"ResponseMetadata":{}}', "has no ResponseMetadata object" },
    { "metadata that is a list", 200, '{"ResponseMetadata":[{}]}', "has no ResponseMetadata object" },
    { "an Error that is a string", 200, envelope('"no"'), "has an Error that is not an object" },
    { "an Error that is false", 200, envelope("false"), "has an Error that is not an object" },
    { "an Error that is a list", 200, envelope('["no"]'), "has an Error that is not an object" },
    { "an Error of unknown parts", 200, envelope('{"Reason":"no"}'), "has an Error without a code" },
    { "a failure without an Error", 500, envelope(nil, "{}"), "is a failure without an error code" },
    { "a redirect", 302, "", "the answer (text/html) is a redirect without a Location; redirects are not followed" },
  }
  for _, case in ipairs(unreadable) do
    local what, status, body, shown = compat.unpack(case)
    it(what, function()
      local receipt, err = meet { status = status, body = body, headers = { { "Content-Type", "text/html" } } }
      assert.is_nil(receipt)
      assert.same({ "response", "BadAnswer", status, "unknown", false, 1, "SendRoomUnicast" },
        { err.kind, err.code, err.http_status, err.outcome, err.retryable, err.attempts, err.action })
      assert.matches(shown, err.message, 1, true)
      assert.is_true(#err.message < 400)
      assert.matches("check the endpoint", tostring(err), 1, true)
    end)
  end

  it("control characters and bytes that are no text, and shows them escaped", function()
    local _, err = meet { body = "\27[31mred\0\255\r\n", headers = { { "Content-Type", "a/b" } } }
    assert.matches("\\x1B[31mred\\x00\\xFF\\x0D\\x0A", err.message, 1, true)
  end)

  it("a page in Chinese, and does not cut it within a character", function()
    for shift = 0, 2 do
      local _, err = meet { body = ("x"):rep(shift) .. ("网关错误"):rep(100) }
      assert.matches("网关错误", err.message, 1, true)
      assert.is_nil(err.message:find("\\x", 1, true))
      assert.is_nil(require("rtc.core").utf8_error(err.message))
    end
  end)

  for _, status in ipairs { 301, 307, 308 } do
    it(("a redirect with HTTP %d, and says where to"):format(status), function()
      local _, err = meet {
        status = status, body = page, headers = { { "Location", "https://elsewhere.example/\27?" .. ("x"):rep(999) } },
      }
      assert.matches("is a redirect to https://elsewhere.example/\\x1B?xxx", err.message, 1, true)
      assert.matches("redirects are not followed", err.message, 1, true)
      assert.is_true(#err.message < 500)
      assert.equal("BadAnswer", err.code)
    end)
  end

  it("an unreadable answer, and says its status once", function()
    local _, err = meet { status = 502, body = page }
    assert.equal(502, err.http_status)
    assert.equal(1, select(2, tostring(err):gsub("HTTP %d+", "")))
  end)

  it("words without end, and keeps their beginning", function()
    local long = ("é"):rep(30000)
    local _, err = meet {
      status = 400, body = envelope(('{"Code":"%s","Message":"%s"}'):format(long, long)):gsub("2025%d+AAAA", long),
    }
    assert.is_true(#err.message < 1100 and #err.code < 200 and #err.class < 200 and #err.request_id < 200)
    assert.matches("^éé", err.message)
    assert.matches("(60000 bytes)", err.message, 1, true)
    assert.is_nil(require("rtc.core").utf8_error(tostring(err)))
    local receipt = assert(meet {
      body = ('{"ResponseMetadata":{"RequestId":"%s","Region":"%s","Version":"%s"},"Result":{"Message":"%s"}}')
        :format(long, long, long, long),
    })
    assert.is_true(#receipt.message < 1100 and #receipt.version < 200 and #tostring(receipt) < 500)
    _, err = meet { status = 502, headers = { { "X-Request-Id", ("x"):rep(9000) } } }
    assert.is_true(#err.request_id < 200)
  end)

  it("words that command a terminal, and shows them escaped", function()
    local receipt = assert(meet {
      body = [[{"ResponseMetadata":{"RequestId":"1\u001b[2J","Region":"\u202edrawkcab\n\u009b2J"}}]],
    })
    assert.matches([[(HTTP 200, \u{202E}drawkcab\x0A\u{9B}2J, request 1\x1B[2J)]], tostring(receipt), 1, true)
  end)

  describe("a server that repeats what it was sent, and hides the secrets:", function()
    -- As long as the tokens of the service's STS.
    local token = "STS2eyJMVEFj/Y2Vzc0tleUlk+" .. ("x9/Ab+Qz0"):rep(42) .. "=="
    local careful

    setup(function()
      careful = rtc.new { endpoint = server.url, access_key = "AKLTkey", secret_key = "hunter2secret",
        session_token = token, app_id = "app", from = "server" }
    end)

    local function json_text(s)
      return (s:gsub("/", "\\/"):gsub("[=+]", function(char) return ("\\u%04x"):format(char:byte()) end))
    end

    --- Nothing of a receipt or an error has as much as 8 bytes of the secret in it.
    local function hides(told, secret)
      for _, value in pairs(told) do
        for i = 1, type(value) == "string" and #value - 7 or 0 do
          assert.is_nil(secret:find(value:sub(i, i + 7), 1, true), value)
        end
      end
      assert.is_nil(tostring(told):find(secret:sub(1, 12), 1, true))
    end

    local echoes = {
      page = "<p>%s", json = '{"your":"%s"}', message = envelope('{"Code":"InvalidSecretToken","Message":"bad: %s!"}'),
      code = envelope('{"Code":"%s","Message":"m"}'), class = envelope('{"Code":"Bad.%s","Message":"m"}'),
      ["request's ID"] = '{"ResponseMetadata":{"RequestId":"%s","Error":{"Code":"A"}}}',
      ["success"] = '{"ResponseMetadata":{"RequestId":"%s","Region":"%s","Version":"%s"},"Result":{"Message":"%s"}}',
    }
    for where, format in pairs(echoes) do
      for how, echo in pairs {
        whole = token, ["in JSON"] = json_text(token), cut = token:sub(1, 40), ["its end"] = json_text(token:sub(-100)),
        ["behind much else"] = ("_"):rep(950) .. token, ["behind some"] = ("_"):rep(120) .. token,
      } do
        it(("its token, %s, as %s"):format(how, where), function()
          server:script { act.read(), act.answer {
            status = where == "success" and 200 or 400, body = (format:gsub("%%s", (echo:gsub("%%", "%%%%")))),
          } }
          local receipt, err = careful:send_room_unicast(call)
          hides(receipt or err, token)
          if where == "message" then
            assert.matches("bad: .*%[hidden%]", err.message)
            assert.same({ "InvalidSecretToken", "rejected" }, { err.code, err.outcome })
          end
        end)
      end
    end

    it("its token in headers", function()
      for _, status in ipairs { 200, 302, 502 } do
        server:script { act.read(), act.answer { status = status, body = '{"ResponseMetadata":{"Region":"x"}}',
          headers = { { "X-Request-Id", token }, { "Content-Type", token }, { "Location", token } } } }
        local receipt, err = careful:send_room_unicast(call)
        hides(receipt or err, token)
        assert.matches("[hidden]", (receipt or err).request_id, 1, true)
      end
    end)

    it("its signature", function()
      -- A server that answers with the headers that came in the same try.
      local request = client.runtime.request
      finally(function() client.runtime.request = request end)
      for _, body in ipairs { "<p>%s", envelope('{"Code":"SignatureDoesNotMatch","Message":"bad %s"}') } do
        local authorization
        client.runtime.request = function(req)
          for _, header in ipairs(req.headers) do
            authorization = header[1] == "Authorization" and header[2] or authorization
          end
          server:script { act.read(), act.answer { status = 401, body = body:format(authorization) } }
          return request(req)
        end
        local _, err = client:send_room_unicast(call)
        hides(err, authorization:match("Signature=(%x+)"))
        assert.matches("Signature=[hidden]", err.message, 1, true)
        assert.matches("Credential=AKLTkey/", err.message, 1, true)
      end
    end)
  end)

  it("an answer larger than it takes", function()
    local small = rtc.new { endpoint = server.url, access_key = "k", secret_key = "s", app_id = "app", from = "server",
      max_response = 1000 }
    server:script { act.read(), act.answer { body = ("x"):rep(1001) } }
    local _, err = small:send_room_unicast(call)
    assert.same({ "response", "AnswerTooLarge", "unknown" }, { err.kind, err.code, err.outcome })
  end)
end)
