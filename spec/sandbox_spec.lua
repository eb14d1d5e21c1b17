-- The sandbox in its own process, over real sockets, with a client and signatures that are not ours.
local cjson = require("cjson").new()
local cqueues = require("cqueues")
local digest = require("openssl.digest")
local hmac = require("openssl.hmac")
local http_request = require("http.request")
local listen = require("rtc.sandbox.listen")
local process = require("spec.support.process")
local socket = require("cqueues.socket")
local utc = require("rtc.utc")

local WAIT = 10 -- seconds after which something awaited is a failure

local APP, KEY, SECRET = "sandboxapp00000000000001", "AKLTsandbox", "sandbox-secret-key"

-- The running sandbox, and the lines that it printed so far. ---------------------------------------------------

local sandbox

-- Lines are taken as they come: a pipe that nobody empties would stop the sandbox.
local function read_lines()
  local line
  repeat
    line = sandbox.process:line(0)
    sandbox.lines[#sandbox.lines + 1] = line
  until not line
end

local function start(options)
  local run = ("assert(require('rtc.sandbox').run{%s})"):format(options or "port=0")
  sandbox = { process = process.spawn({ process.lua, "-e", run }), lines = {} }
  local first = assert(sandbox.process:line(WAIT), sandbox.process:stderr())
  sandbox.url = assert(first:match("^rtc sandbox: listening on (http://127%.0%.0%.1:%d+)$"), first)
  sandbox.port = tonumber(sandbox.url:match("%d+$"))
end

local function stop()
  sandbox.process:close()
end

-- The first line printed that matches, whether it came already or is still to come.
local function logged(pattern)
  local deadline = cqueues.monotime() + WAIT
  local seen = 0
  while cqueues.monotime() < deadline do
    read_lines()
    while seen < #sandbox.lines do
      seen = seen + 1
      if sandbox.lines[seen]:find(pattern) then
        return sandbox.lines[seen]
      end
    end
    sandbox.lines[#sandbox.lines + 1] = sandbox.process:line(0.1)
  end
  error("never logged: " .. pattern .. "\n" .. table.concat(sandbox.lines, "\n"), 2)
end

-- A plain HTTP client ------------------------------------------------------------------------------------------

local function connect()
  local peer = assert(socket.connect({ host = "127.0.0.1", port = sandbox.port, nodelay = true }))
  peer:settimeout(WAIT)
  peer:setmode("b", "bf")
  peer:onerror(function(_, _, why)
    return why
  end)
  assert(peer:connect())
  return peer
end

local function read_answer(peer, bodiless)
  local line = peer:read("*l")
  if not line then
    return nil
  end
  local answer = { status = tonumber(line:match("^HTTP/1%.1 (%d%d%d) ")), headers = {} }
  for header in peer:lines("*l") do
    if header == "" or header == "\r" then
      break
    end
    local name, value = header:match("^([^:]+): (.-)\r?$")
    answer.headers[name:lower()] = value
  end
  -- A client with a wrong clock goes by it.
  assert(answer.status == 100 or utc.parse_http(answer.headers.date or ""), "an answer without a Date")
  local length = tonumber(answer.headers["content-length"] or 0)
  answer.body = not bodiless and length > 0 and peer:read(length) or ""
  if answer.headers["content-type"] == "application/json" and not bodiless then
    answer.json = cjson.decode(answer.body)
  end
  return answer
end

local function encode_request(request)
  local lines = { ("%s %s HTTP/1.1"):format(request.method, request.target) }
  for name, value in pairs(request.headers) do
    lines[#lines + 1] = name .. ": " .. value
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. request.body
end

local function exchange(request, peer)
  local own = not peer
  peer = peer or connect()
  assert(peer:write(encode_request(request)))
  assert(peer:flush())
  local answer = read_answer(peer, request.method == "HEAD")
  if own then
    peer:close()
  end
  read_lines()
  return answer
end

local function get(target, method)
  return exchange({ method = method or "GET", target = target, headers = { Host = "sandbox" }, body = "" })
end

-- Signing by the rules, written for this spec only ---------------------------------------------------------------

local function hex(bytes)
  return (bytes:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

local function sha256(bytes)
  return hex(digest.new("sha256"):final(bytes))
end

local function x_date(offset)
  return os.date("!%Y%m%dT%H%M%SZ", os.time() + (offset or 0))
end

-- Options: action, version or query (canonical already); method, body; key, secret; date, scope_date, region, service;
-- signed (names, in order).
local function signed_request(options)
  local host = "127.0.0.1:" .. sandbox.port
  local date, body, method = options.date or x_date(), options.body or "", options.method or "POST"
  local query = options.query
    or ("Action=%s&Version=%s"):format(options.action or "SendRoomUnicast", options.version or "2023-07-20")
  local headers = {
    ["Host"] = host,
    ["Content-Type"] = "application/json",
    ["X-Date"] = date,
    ["X-Content-Sha256"] = sha256(body),
    ["Content-Length"] = tostring(#body),
  }
  local signed = options.signed or { "content-type", "host", "x-content-sha256", "x-date" }
  local values = {}
  for name, value in pairs(headers) do
    values[name:lower()] = value
  end
  local lines = {}
  for i, name in ipairs(signed) do
    lines[i] = name .. ":" .. (values[name] or "") .. "\n"
  end
  local list = table.concat(signed, ";")
  local canonical = table.concat({ method, "/", query, table.concat(lines), list, sha256(body) }, "\n")
  local scope = table.concat(
    { options.scope_date or date:sub(1, 8), options.region or "cn-north-1", options.service or "rtc", "request" },
    "/"
  )
  local key = options.secret or SECRET
  for part in scope:gmatch("[^/]+") do
    key = hmac.new(key, "sha256"):final(part)
  end
  local string_to_sign = table.concat({ "HMAC-SHA256", date, scope, sha256(canonical) }, "\n")
  headers.Authorization = ("HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s"):format(
    options.key or KEY,
    scope,
    list,
    hex(hmac.new(key, "sha256"):final(string_to_sign))
  )
  return { method = method, target = "/?" .. query, headers = headers, body = body }, canonical, string_to_sign
end

-- Each action, and what its body holds beside the fields that all of them have.
local actions = {
  SendUnicast = { To = "alice" },
  SendRoomUnicast = { RoomId = "room-1", To = "alice" },
  SendBroadcast = { RoomId = "room-1" },
  BatchSendRoomUnicast = { RoomId = "room-1", To = { "alice" } },
}

-- What fires in the receiver's app.
local callbacks = {
  SendUnicast = { text = "onUserMessageReceivedOutsideRoom", binary = "onUserBinaryMessageReceivedOutsideRoom" },
  SendRoomUnicast = { text = "onUserMessageReceived", binary = "onUserBinaryMessageReceived" },
  SendBroadcast = { text = "onRoomMessageReceived", binary = "onRoomBinaryMessageReceived" },
  BatchSendRoomUnicast = { text = "onUserMessageReceived", binary = "onUserBinaryMessageReceived" },
}

-- The largest message of each, in bytes.
local limits = { SendUnicast = 65536, SendRoomUnicast = 65536, SendBroadcast = 65536, BatchSendRoomUnicast = 20480 }

local function fields(changes, action)
  local body = { AppId = APP, From = "server", Binary = false, Message = "hello" }
  for name, value in pairs(actions[action or "SendRoomUnicast"]) do
    body[name] = value
  end
  for name, value in pairs(changes or {}) do
    body[name] = value
    if value == "absent" then
      body[name] = nil
    end
  end
  return cjson.encode(body)
end

-- Base64 of so many zero bytes.
local function base64_of_size(size)
  return ("AAAA"):rep(math.floor(size / 3)) .. ({ [0] = "", "AA==", "AAA=" })[size % 3]
end

local function call(options, peer)
  return exchange((signed_request(options)), peer)
end

-- user1, user2 and so on.
local function users(count)
  local list = {}
  for i = 1, count do
    list[i] = "user" .. i
  end
  return list
end

local function send_by(action, changes, version, peer)
  return call({ action = action, body = fields(changes, action), version = version }, peer)
end

local function send(changes, version, peer)
  return send_by("SendRoomUnicast", changes, version, peer)
end

local function assert_refused(answer, status, code, code_n)
  local err = answer.json.ResponseMetadata.Error
  assert.same({ status, code, code_n }, { answer.status, err.Code, err.CodeN })
  assert.is_string(err.Message)
  assert.is_nil(answer.json.Result)
  return err.Message, answer.json.ResponseMetadata
end

local function assert_accepted(answer)
  assert.same({ 200, { Message = "Success" } }, { answer.status, answer.json.Result })
  assert.is_nil(answer.json.ResponseMetadata.Error)
  return answer.json.ResponseMetadata
end

local function join(room_id, user_id)
  return assert(listen.open({ endpoint = sandbox.url, room_id = room_id, user_id = user_id }))
end

-- Received next by a listener: the callback, the sender and the message.
local function received(listener)
  local message = assert(listener:next(WAIT))
  return { message.callback, message.from, message.message }
end

local base64_of = {
  ["\0\1\254\255 \r\n\r\n"] = "AAH+/yANCg0K",
}

describe("the sandbox", function()
  setup(function()
    start("port=0, rate=1000000") -- this spec sends more than the service would allow it
  end)

  teardown(function()
    stop()
  end)

  describe("before any request", function()
    it("prints its keys as lines to copy", function()
      for _, line in ipairs({
        "^  export RTC_ENDPOINT=sandbox:" .. sandbox.port .. "$",
        "^  export VOLC_ACCESSKEY=" .. KEY .. "$",
        "^  export VOLC_SECRETKEY=sandbox%-secret%-key$",
        "^  export RTC_APP_ID=" .. APP .. "$",
        "^  export RTC_FROM=server$",
      }) do
        logged(line)
      end
    end)

    it("tells a browser what it is", function()
      local answer = get("/")
      assert.equal(200, answer.status)
      assert.equal("text/plain", answer.headers["content-type"])
      assert.matches("rtc listen --endpoint sandbox:" .. sandbox.port, answer.body, 1, true)
      for action in pairs(actions) do
        assert.matches(action, answer.body, 1, true)
      end
      local head = get("/", "HEAD")
      assert.same({ 200, tostring(#answer.body) }, { head.status, head.headers["content-length"] })
    end)

    it("has nothing at other paths", function()
      local answer = get("/rooms")
      assert.equal(404, answer.status)
      assert.is_string(answer.json.error)
    end)
  end)

  describe("accepts", function()
    for action in pairs(actions) do
      for _, version in ipairs({ "2020-12-01", "2023-07-20" }) do
        it(("%s of version %s"):format(action, version), function()
          local answer = send_by(action, nil, version)
          local metadata = assert_accepted(answer)
          assert.same({ action, version, "rtc", "cn-north-1" }, {
            metadata.Action,
            metadata.Version,
            metadata.Service,
            metadata.Region,
          })
          assert.matches(
            "^20%d%d[01]%d[0-3]%d[0-2]%d[0-5]%d[0-6]%d" .. ("[0-9A-F]"):rep(20) .. "$",
            metadata.RequestId
          )
          assert.equal("application/json", answer.headers["content-type"])
          assert.is_string(answer.headers["x-tt-logid"])
        end)
      end
    end

    it("every set of signed headers that the SDKs use, in their order", function()
      for _, signed in ipairs({
        { "x-date" },
        { "host", "x-date" },
        { "x-content-sha256", "x-date" },
        { "host", "x-date", "x-content-sha256", "content-type" },
      }) do
        assert_accepted(call({ body = fields(), signed = signed }))
      end
    end)

    it("any region, an older request, and a clock a little fast", function()
      assert.equal("ap-singapore-1", assert_accepted(call({ body = fields(), region = "ap-singapore-1" })).Region)
      assert_accepted(call({ body = fields(), date = x_date(-840) }))
      assert_accepted(call({ body = fields(), date = x_date(240) }))
    end)

    for action, limit in pairs(limits) do
      it(("%s of %d bytes, whatever they take on the wire"):format(action, limit), function()
        assert_accepted(send_by(action, { Message = ("x"):rep(limit) }))
        assert_accepted(send_by(action, { Message = ("\1"):rep(limit) }))
        assert_accepted(send_by(action, { Binary = true, Message = base64_of_size(limit) }))
      end)
    end

    it("an empty message and fields that it does not know", function()
      assert_accepted(send({ Message = "" }))
      assert_accepted(send({ Extra = { 1, 2 } }))
    end)

    it("a signature made by openssl's command line", function()
      local body = fields()
      local request, _, string_to_sign = signed_request({ body = body })
      local key = "key:" .. SECRET
      for _, part in ipairs({ request.headers["X-Date"]:sub(1, 8), "cn-north-1", "rtc", "request", string_to_sign }) do
        local run = process.run(
          { "openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", key, "-hex" },
          { stdin = part }
        )
        key = "hexkey:" .. run.stdout:match("(%x+)%s*$")
      end
      local authorization = request.headers.Authorization
      request.headers.Authorization = authorization:gsub("Signature=.*", "Signature=" .. key:match("%x+$"))
      assert_accepted(exchange(request))
    end)

    it("another HTTP client", function()
      local signed = signed_request({ body = fields() })
      local request = http_request.new_from_uri(sandbox.url .. signed.target)
      request.headers:upsert(":method", "POST")
      for name, value in pairs(signed.headers) do
        if name ~= "Host" then
          request.headers:append(name:lower(), value)
        end
      end
      request:set_body(signed.body)
      local headers, stream = request:go(WAIT)
      assert.equal("200", headers:get(":status"))
      assert.equal("Success", cjson.decode(stream:get_body_as_string(WAIT)).Result.Message)
      stream:shutdown()
    end)
  end)

  describe("refuses like the gateway", function()
    it("a request without Action or Version", function()
      for name, query in pairs({ Action = "Version=2020-12-01", Version = "Action=SendRoomUnicast&Version=" }) do
        local message, metadata = assert_refused(call({ query = query }), 400, "MissingParameter", 100002)
        assert.equal(("The request is missing %s parameter."):format(name), message)
        metadata.RequestId, metadata.Error = nil, nil
        assert.same({}, metadata)
      end
    end)

    -- A correct request, spoiled afterwards.
    local function spoiled(spoil)
      local request = signed_request({ body = fields() })
      spoil(request.headers, request)
      return exchange(request)
    end

    it("a request without Authorization", function()
      local answer = spoiled(function(headers)
        headers.Authorization = nil
      end)
      assert_refused(answer, 401, "MissingAuthenticationToken", 100003)
    end)

    it("an Authorization of the wrong shape", function()
      local answer = spoiled(function(headers)
        headers.Authorization = "Bearer abc"
      end)
      assert_refused(answer, 400, "InvalidAuthorization", 100024)
    end)

    it("a malformed credential", function()
      local answer = spoiled(function(headers)
        headers.Authorization = headers.Authorization:gsub("/request,", ",")
      end)
      assert_refused(answer, 400, "InvalidCredential", 100025)
    end)

    it("a missing signature", function()
      local answer = spoiled(function(headers)
        headers.Authorization = headers.Authorization:gsub(", Signature=%x+", "")
      end)
      assert_refused(answer, 401, "MissingSignature", 100005)
    end)

    it("a missing X-Date", function()
      local answer = spoiled(function(headers)
        headers["X-Date"] = nil
      end)
      local message = assert_refused(answer, 400, "MissingRequestInfo", 100004)
      assert.equal("The request is missing X-Date information.", message)
    end)

    it("a time that is past, ahead or unreadable", function()
      for _, date in ipairs({ x_date(-960), x_date(360), "2025-01-02T03:04:05Z" }) do
        assert_refused(call({ body = fields(), date = date, scope_date = "20250102" }), 400, "InvalidTimestamp", 100006)
      end
    end)

    it("a wrong clock, and tells the time by which to set it", function()
      local answer = call({ body = fields(), date = x_date(-7200) })
      assert_refused(answer, 400, "InvalidTimestamp", 100006)
      local now = utc.parse_http(answer.headers.date)
      assert_accepted(call({ body = fields(), date = os.date("!%Y%m%dT%H%M%SZ", now) }))
    end)

    it("an unknown access key, naming it", function()
      local message = assert_refused(call({ body = fields(), key = "AKLTother" }), 401, "InvalidAccessKey", 100009)
      assert.equal("The accesskey [AKLTother] included in the request is invalid.", message)
    end)

    it("a session token, since its keys have none", function()
      local answer = spoiled(function(headers)
        headers["X-Security-Token"] = "STSx"
      end)
      local message = assert_refused(answer, 401, "InvalidSecretToken", 100026)
      assert.equal("Invalid secret token, msg: secret token sequence is broken.", message)
    end)

    it("a wrong secret, and shows what it signed", function()
      local request, canonical, string_to_sign = signed_request({ body = fields(), secret = "wrong" })
      local message = assert_refused(exchange(request), 401, "SignatureDoesNotMatch", 100010)
      assert.matches("^The request signature we calculated does not match", message)
      logged("^compare with: rtc sign %-%-api%-version 2023%-07%-20 %-%-time " .. request.headers["X-Date"] .. " ")
      for line in (canonical .. "\n" .. string_to_sign):gmatch("[^\n]+") do
        logged("^    | " .. line:gsub("%p", "%%%0") .. "$")
      end
    end)

    it("a wrong secret of any action, and says how to sign the same", function()
      for action in pairs(actions) do
        local option = action ~= "SendRoomUnicast" and " --action " .. action or ""
        local date = x_date(-60)
        assert_refused(call({ action = action, secret = "wrong", date = date }), 401, "SignatureDoesNotMatch", 100010)
        local advice = ("compare with: rtc sign%s --api-version 2023-07-20 --time %s … (the rest as for rtc send); if ")
          :format(option, date)
        logged("^" .. advice:gsub("%p", "%%%0"))
      end
      -- What a stranger calls an action is no command to be copied.
      local date = x_date(-120)
      local refused = call({ action = "Send%3Breboot", secret = "wrong", date = date })
      assert_refused(refused, 401, "SignatureDoesNotMatch", 100010)
      logged("^compare with: rtc sign %-%-time " .. date .. " ")
    end)

    it("a body, query or header changed after signing, and says which", function()
      local body = spoiled(function(_, request)
        request.body = request.body:gsub("hello", "jello")
      end)
      assert_refused(body, 401, "SignatureDoesNotMatch", 100010)
      logged("X%-Content%-Sha256 is not the hash of the body that came")
      local query = spoiled(function(_, request)
        request.target = request.target .. "&More=1"
      end)
      assert_refused(query, 401, "SignatureDoesNotMatch", 100010)
      local header = spoiled(function(headers)
        headers["Content-Type"] = nil
      end)
      assert_refused(header, 401, "SignatureDoesNotMatch", 100010)
      logged("SignedHeaders lists a header that did not come: content%-type")
    end)

    it("a scope of another day", function()
      local request = signed_request({ body = fields(), scope_date = "20250102" })
      assert_refused(exchange(request), 401, "SignatureDoesNotMatch", 100010)
      logged("the credential's date, 20250102, is not X%-Date's")
    end)

    it("another service, echoing the scope", function()
      local answer = call({ body = fields(), service = "sts", region = "mars-1" })
      local message, metadata = assert_refused(answer, 404, "ServiceNotFound", 100007)
      assert.equal("This service[sts] not found.", message)
      assert.same({ "sts", "mars-1" }, { metadata.Service, metadata.Region })
    end)

    it("an unknown action or version", function()
      local message = assert_refused(call({ action = "Send" }), 404, "InvalidActionOrVersion", 100008)
      assert.equal("Could not find operation Send for version 2023-07-20.", message)
      assert_refused(call({ version = "2023-11-01" }), 404, "InvalidActionOrVersion", 100008)
    end)

    it("a GET of an action", function()
      assert_refused(call({ method = "GET" }), 405, "MethodNotAllowed", 100020)
    end)

    it("by its first complaint", function()
      -- Everything is wrong here, and is put right from front to back.
      local wrong = { action = "Send", key = "other", secret = "wrong", service = "sts", date = x_date(-2000) }
      assert_refused(call(wrong), 400, "InvalidTimestamp", 100006)
      wrong.date = nil
      assert_refused(call(wrong), 401, "InvalidAccessKey", 100009)
      wrong.key = nil
      assert_refused(call(wrong), 401, "SignatureDoesNotMatch", 100010)
      wrong.secret = nil
      assert_refused(call(wrong), 404, "ServiceNotFound", 100007)
      wrong.service = nil
      assert_refused(call(wrong), 404, "InvalidActionOrVersion", 100008)
      wrong.action = nil
      assert_refused(call(wrong), 400, "InvalidParameter.BodyIsEmpty")
    end)
  end)

  describe("refuses like the service", function()
    local illegal = { "", ("x"):rep(129), "a b", "é", "a\n", "a/b" }

    -- Whether by one version or the other differs in the HTTP status alone.
    local function refused(action, changes, code)
      assert_refused(send_by(action, changes, "2020-12-01"), 200, "InvalidParameter" .. code)
      return (assert_refused(send_by(action, changes, "2023-07-20"), 400, "InvalidParameter" .. code))
    end

    it("an empty body", function()
      assert_refused(call({ body = "" }), 400, "InvalidParameter.BodyIsEmpty")
      assert_refused(call({ body = " \n" }), 400, "InvalidParameter.BodyIsEmpty")
    end)

    it("a body that is not a JSON object", function()
      local surrogate, latin1 = '{"AppId":"\\ud800"}', '{"AppId":"\255"}'
      for _, body in ipairs({ "{", "[]", "null", '"x"', "7", surrogate, latin1, fields() .. "}" }) do
        assert_refused(call({ body = body }), 400, "InvalidParameter.Unmarshal")
      end
    end)

    local codes = { AppId = ".IllegalAppId", RoomId = ".IllegalRoomID", From = ".IllegalFrom", To = ".IllegalTo" }

    for action, limit in pairs(limits) do
      describe(action .. " with", function()
        for field, value in pairs(cjson.decode(fields(nil, action))) do
          local wanted = type(value) == "table" and "list of strings" or type(value)

          it("a number as " .. field, function()
            assert.matches(field .. " is not a " .. wanted, refused(action, { [field] = 12 }, ".Unmarshal"), 1, true)
          end)

          it("no " .. field, function()
            local message = refused(action, { [field] = "absent" }, codes[field] or "")
            assert.equal(message, refused(action, { [field] = cjson.null }, codes[field] or ""))
            assert.matches(field, message)
          end)

          if codes[field] then
            it("a malformed " .. field, function()
              for _, id in ipairs(illegal) do
                refused(action, { [field] = wanted == "string" and id or { "alice", id } }, codes[field])
              end
            end)
          end
        end

        it("a text as Binary", function()
          assert.matches("Binary is not a boolean", refused(action, { Binary = "true" }, ".Unmarshal"))
        end)

        it("an unknown AppId", function()
          refused(action, { AppId = "sandboxapp00000000000002" }, ".NotExistAppId")
        end)

        it("a message that is too large", function()
          local message = refused(action, { Message = ("x"):rep(limit + 1) }, ".SizeOverLimit")
          assert.equal(("The message is %d bytes, the limit is %d."):format(limit + 1, limit), message)
          refused(action, { Binary = true, Message = base64_of_size(limit + 1) }, ".SizeOverLimit")
        end)

        it("binary that is not base64", function()
          refused(action, { Binary = true, Message = "hello" }, ".Unmarshal")
          refused(action, { Binary = true, Message = "AAA" }, ".Unmarshal")
        end)
      end)
    end

    it("a list where one user is meant, and one user where a list is", function()
      for _, action in ipairs({ "SendUnicast", "SendRoomUnicast" }) do
        assert.matches("To is not a string", refused(action, { To = { "alice" } }, ".Unmarshal"))
      end
      assert.matches("To is not a list", refused("BatchSendRoomUnicast", { To = "alice" }, ".Unmarshal"))
    end)

    it("a list of receivers that is empty, or no list of strings", function()
      for list, code in pairs({
        ["[]"] = "IllegalTo",
        ["{}"] = "IllegalTo", -- told from a list by nobody, and no better
        ['{"alice":"bob"}'] = "Unmarshal",
        ['{"1":"alice"}'] = "Unmarshal",
        ['["alice",7]'] = "Unmarshal",
        ['[["alice"]]'] = "Unmarshal",
        ["[null]"] = "Unmarshal",
      }) do
        local body = fields({ To = "@" }, "BatchSendRoomUnicast"):gsub('"@"', list)
        local answer = call({ action = "BatchSendRoomUnicast", body = body })
        assert_refused(answer, 400, "InvalidParameter." .. code)
      end
    end)

    it("more than 600 receivers", function()
      local message = refused("BatchSendRoomUnicast", { To = users(601) }, ".UserCountOverLimit")
      assert.equal("The message is for 601 users, the limit is 600.", message)
    end)
  end)

  describe("delivers", function()
    it("text, byte for byte", function()
      local alice = join("delivery", "alice")
      local quoted = 'a "quoted" \\ text\r\n\r\ndata: x'
      for _, message in ipairs({ "你好, Zoë 👋", quoted, "a\0b\1\127", "", ("é"):rep(32768) }) do
        assert_accepted(send({ RoomId = "delivery", Message = message }))
        assert.same({ "onUserMessageReceived", "server", message }, received(alice))
      end
      alice:close()
    end)

    it("binary, byte for byte", function()
      local alice = join("delivery", "alice")
      for bytes, base64 in pairs(base64_of) do
        assert_accepted(send({ RoomId = "delivery", From = "game@1", Binary = true, Message = base64 }))
        assert.same({ "onUserBinaryMessageReceived", "game@1", bytes }, received(alice))
      end
      alice:close()
    end)

    it("as Server-Sent Events", function()
      local peer = connect()
      -- Compression is offered and must not be taken: it would hold events back.
      peer:write("GET /listen?room_id=sse&user_id=bob HTTP/1.1\r\nHost: x\r\nTE: gzip\r\n\r\n")
      peer:flush()
      local function line()
        return (assert(peer:read("*l")):gsub("\r$", ""))
      end
      assert.equal("HTTP/1.1 200 OK", line())
      local headers = {}
      for header in line do
        if header == "" then
          break
        end
        local name, value = header:match("^([^:]+): (.*)$")
        headers[name:lower()] = value
      end
      assert.equal("text/event-stream", headers["content-type"])
      assert.is_number(utc.parse_http(headers.date))
      local function event()
        local name, data = line(), line()
        assert.equal("", line())
        return name, cjson.decode(data:match("^data: (.*)$"))
      end
      local name, data = event()
      assert.equal("event: joined", name)
      assert.same({ app_id = APP, room_id = "sse", user_id = "bob" }, data)
      assert_accepted(send({ RoomId = "sse", To = "bob", Message = "hi" }))
      name, data = event()
      assert.equal("event: onUserMessageReceived", name)
      assert.same({ app_id = APP, room_id = "sse", uid = "server", message = "hi" }, data)
      assert_accepted(send_by("SendUnicast", { To = "bob", Message = "hi" }))
      name, data = event()
      assert.equal("event: onUserMessageReceivedOutsideRoom", name)
      assert.same({ app_id = APP, uid = "server", message = "hi" }, data)
      peer:close()
    end)

    describe("to whom it is for, and to nobody else:", function()
      local places = {
        { "alice in the hall", "hall", "alice" },
        { "alice in the hall again", "hall", "alice" },
        { "bob in the hall", "hall", "bob" },
        { "alice in the yard", "yard", "alice" },
        { "alice outside", nil, "alice" },
        { "bob outside", nil, "bob" },
      }
      local listeners

      setup(function()
        listeners = {}
        for _, place in ipairs(places) do
          listeners[place[1]] = join(place[2], place[3])
        end
      end)

      teardown(function()
        for _, listener in pairs(listeners) do
          listener:close()
        end
      end)

      -- All that a listener got before the message "end".
      local function messages_of(listener)
        local list = {}
        while true do
          local message = assert(listener:next(WAIT))
          if message.message == "end" then
            return list
          end
          list[#list + 1] = message
        end
      end

      local all_in_the_hall = {
        ["alice in the hall"] = 1,
        ["alice in the hall again"] = 1,
        ["bob in the hall"] = 1,
      }

      for _, case in ipairs({
        {
          action = "SendUnicast",
          changes = { To = "alice" },
          destination = "-> alice",
          reached = {
            ["alice in the hall"] = 1,
            ["alice in the hall again"] = 1,
            ["alice in the yard"] = 1,
            ["alice outside"] = 1,
          },
        },
        { action = "SendUnicast", changes = { To = "carol" }, destination = "-> carol", reached = {} },
        -- The field belongs to other actions, and is one of those that this does not know.
        {
          action = "SendUnicast",
          changes = { To = "bob", RoomId = "hall" },
          destination = "-> bob",
          reached = { ["bob in the hall"] = 1, ["bob outside"] = 1 },
        },
        {
          action = "SendRoomUnicast",
          changes = { RoomId = "hall", To = "alice" },
          destination = "hall -> alice",
          reached = { ["alice in the hall"] = 1, ["alice in the hall again"] = 1 },
        },
        {
          action = "SendRoomUnicast",
          changes = { RoomId = "yard", To = "bob" },
          destination = "yard -> bob",
          reached = {},
        },
        {
          action = "SendBroadcast",
          changes = { RoomId = "hall" },
          destination = "hall",
          reached = all_in_the_hall,
        },
        {
          action = "SendBroadcast",
          changes = { RoomId = "yard", To = "bob" },
          destination = "yard",
          reached = { ["alice in the yard"] = 1 },
        },
        { action = "SendBroadcast", changes = { RoomId = "alice" }, destination = "alice", reached = {} },
        {
          action = "BatchSendRoomUnicast",
          changes = { RoomId = "hall", To = { "alice", "carol", "bob" } },
          destination = "hall -> 3 users",
          reached = all_in_the_hall,
        },
        {
          action = "BatchSendRoomUnicast",
          changes = { RoomId = "yard", To = { "alice" } },
          destination = "yard -> 1 user",
          reached = { ["alice in the yard"] = 1 },
        },
        {
          action = "BatchSendRoomUnicast",
          changes = { RoomId = "hall", To = { "bob", "bob" } },
          destination = "hall -> 2 users",
          reached = { ["bob in the hall"] = 2 },
        },
      }) do
        for _, binary in ipairs({ false, true }) do
          it(("%s %s %s"):format(case.action, case.destination, binary and "binary" or "text"), function()
            local changes = { Binary = binary, Message = binary and "AAH+/w==" or "hello" }
            for field, value in pairs(case.changes) do
              changes[field] = value
            end
            local metadata = assert_accepted(send_by(case.action, changes))
            assert_accepted(send_by("SendUnicast", { To = "alice", Message = "end" }))
            assert_accepted(send_by("SendUnicast", { To = "bob", Message = "end" }))

            local message = {
              callback = callbacks[case.action][binary and "binary" or "text"],
              from = "server",
              message = binary and "\0\1\254\255" or "hello",
              room_id = case.action ~= "SendUnicast" and changes.RoomId or nil,
              binary = binary,
            }
            local total = 0
            for name, listener in pairs(listeners) do
              local expected = {}
              for i = 1, case.reached[name] or 0 do
                expected[i] = message
              end
              assert.same(expected, messages_of(listener), name)
              total = total + #expected
            end
            local line = ("%s %s, %s %d bytes: Success, %d receiver%s, %s"):format(
              case.action,
              case.destination,
              binary and "binary" or "text",
              #message.message,
              total,
              total == 1 and "" or "s",
              metadata.RequestId
            )
            assert.truthy(logged(metadata.RequestId):find(" " .. line .. ", ", 1, true), line)
          end)
        end
      end
    end)

    it("to 600 users at once", function()
      local first, last = join("crowd", "user1"), join("crowd", "user600")
      local largest = ("x"):rep(20480)
      local metadata = assert_accepted(
        send_by("BatchSendRoomUnicast", { RoomId = "crowd", To = users(600), Message = largest })
      )
      assert.matches("crowd %-> 600 users, text 20480 bytes: Success, 2 receivers,", logged(metadata.RequestId))
      for _, listener in ipairs({ first, last }) do
        assert.same({ "onUserMessageReceived", "server", largest }, received(listener))
        listener:close()
      end
    end)

    it("in the order in which it was sent", function()
      local alice = join("order", "alice")
      local sent = { "SendRoomUnicast", "SendUnicast", "SendBroadcast", "BatchSendRoomUnicast", "SendRoomUnicast" }
      for number, action in ipairs(sent) do
        local room_id = actions[action].RoomId and "order"
        assert_accepted(send_by(action, { RoomId = room_id, Message = tostring(number) }))
      end
      for number, action in ipairs(sent) do
        assert.same({ callbacks[action].text, "server", tostring(number) }, received(alice))
      end
      alice:close()
    end)

    it("to every receiver of the same user", function()
      local first, second = join("twice", "alice"), join("twice", "alice")
      local metadata = assert_accepted(send({ RoomId = "twice" }))
      assert.equal("hello", received(first)[3])
      assert.equal("hello", received(second)[3])
      assert.matches("Success, 2 receivers", logged(metadata.RequestId))
      first:close()
      second:close()
    end)

    it("only what came later to who joins late", function()
      local metadata = assert_accepted(send({ RoomId = "late", Message = "too early" }))
      assert.matches("Success, 0 receivers", logged(metadata.RequestId))
      local alice = join("late", "alice")
      assert_accepted(send({ RoomId = "late", Message = "in time" }))
      assert.equal("in time", received(alice)[3])
      alice:close()
    end)

    it("to nobody after they left", function()
      local staying, leaving = join("leave", "alice"), join("leave", "alice")
      leaving:close()
      logged("alice left leave")
      local metadata = assert_accepted(send({ RoomId = "leave" }))
      assert.matches("Success, 1 receiver,", logged(metadata.RequestId))
      assert.equal("hello", received(staying)[3])
      staying:close()
    end)

    it("to nobody after they logged out", function()
      local dora = join(nil, "dora")
      logged("dora logged in$")
      dora:close()
      logged("dora logged out$")
      local metadata = assert_accepted(send_by("SendUnicast", { To = "dora" }))
      assert.matches("Success, 0 receivers,", logged(metadata.RequestId))
    end)

    it("nothing that was refused", function()
      local alice = join("refused", "alice")
      assert_refused(send({ RoomId = "refused", Message = ("x"):rep(65537) }), 400, "InvalidParameter.SizeOverLimit")
      local forged = call({ body = fields({ RoomId = "refused" }), secret = "x" })
      assert_refused(forged, 401, "SignatureDoesNotMatch", 100010)
      assert_accepted(send({ RoomId = "refused", Message = "good" }))
      assert.equal("good", received(alice)[3])
      alice:close()
    end)

    it("and puts out a receiver that does not read, without making the sender wait", function()
      local peer = connect()
      peer:write("GET /listen?room_id=slow&user_id=alice HTTP/1.1\r\nHost: x\r\n\r\n")
      peer:flush()
      logged("alice joined slow")
      local message = ("x"):rep(65536)
      local sender = connect()
      local metadata, line
      for _ = 1, 400 do
        metadata = assert_accepted(send({ RoomId = "slow", Message = message }, nil, sender))
        line = logged(metadata.RequestId)
        if line:find("0 receivers") then
          break
        end
      end
      assert.matches("Success, 0 receivers", line)
      logged("alice put out of slow: it read too slowly")
      sender:close()
      peer:close()
    end)
  end)

  describe("tells a listener", function()
    for name, case in pairs({
      ["that the user is missing"] = { "room_id=r", "user_id is missing" },
      ["of an empty room"] = { "room_id=&user_id=alice", "room_id must be 1 to 128" },
      ["of a misspelt room"] = { "room=r&user_id=alice", "unknown parameter 'room'" },
      ["of a misspelt parameter"] = { "room_id=r&user=alice", "unknown parameter 'user'" },
      ["of an illegal ID"] = { "room_id=a%20b&user_id=alice", "room_id must be 1 to 128" },
      ["of an unknown app"] = { "room_id=r&user_id=alice&app_id=x", "no app_id 'x'" },
    }) do
      it(name, function()
        local answer = get("/listen?" .. case[1])
        assert.equal(400, answer.status)
        assert.matches(case[2], answer.json.error)
      end)
    end

    it("to use GET", function()
      local answer = get("/listen?room_id=r&user_id=u", "POST")
      assert.same({ 405, "GET" }, { answer.status, answer.headers.allow })
    end)
  end)

  describe("'s listener", function()
    it("gives the refusal's text", function()
      local listener, err = listen.open({ endpoint = sandbox.url, room_id = "a b", user_id = "alice" })
      assert.is_nil(listener)
      assert.matches("room_id must be 1 to 128", err)
    end)

    it("says that there is no sandbox", function()
      local listener, err = listen.open({ endpoint = "http://127.0.0.1:1", room_id = "r", user_id = "alice" })
      assert.is_nil(listener)
      assert.matches("is `rtc sandbox` running", err)
    end)

    it("says that an endpoint is none", function()
      local listener, err = listen.open({ endpoint = "sandbox", room_id = "r", user_id = "alice" })
      assert.is_nil(listener)
      assert.matches("is not like http://127.0.0.1:8790", err, 1, true)
    end)

    it("times out, and can go on after that", function()
      local alice = join("timeout", "alice")
      assert.same({ nil, "timeout" }, { alice:next(0.01) })
      assert_accepted(send({ RoomId = "timeout" }))
      local message = assert(alice:next(WAIT))
      assert.same({
        callback = "onUserMessageReceived",
        from = "server",
        message = "hello",
        room_id = "timeout",
        binary = false,
      }, message)
      alice:close()
    end)
  end)

  describe("keeps running", function()
    it("and a connection open, for one request after another", function()
      local peer = connect()
      for _ = 1, 20 do
        assert_accepted(send({ RoomId = "keep-alive" }, nil, peer))
        assert.equal(404, exchange({ method = "GET", target = "/x", headers = { Host = "x" }, body = "" }, peer).status)
      end
      peer:close()
    end)

    -- What a peer wrote, and the status that it got.
    for name, case in pairs({
      ["garbage"] = { "\0\255\1\2garbage\r\n\r\n", 400 },
      ["letters"] = { "hello\r\n\r\n", 400 },
      ["TLS"] = { "\22\3\1\2\0\1\0\1\252\3\3" .. ("\7"):rep(500), 400 },
      ["HTTP/2"] = { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400 },
      ["an endless request line"] = { "GET /" .. ("x"):rep(40000) .. " HTTP/1.1\r\n\r\n", 400 },
      ["a header without a colon"] = { "GET / HTTP/1.1\r\nnonsense\r\n\r\n", 400 },
      ["hundreds of headers"] = { "GET / HTTP/1.1\r\n" .. ("a: b\r\n"):rep(500) .. "\r\n", 400 },
      ["a length that is no number"] = { "POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400 },
      ["a negative length"] = { "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400 },
      ["chunks"] = { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 411 },
      ["an unknown transfer coding"] = { "POST / HTTP/1.1\r\nTransfer-Encoding: ;;\r\n\r\n", 400 },
      ["a body too large"] = { "POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n" .. ("x"):rep(1048577), 413 },
      ["CONNECT"] = { "CONNECT a:1 HTTP/1.1\r\n\r\n", 404 },
      ["a TE header of nonsense"] = { "GET / HTTP/1.1\r\nTE: ;;;\r\n\r\n", 200 },
    }) do
      it("after " .. name, function()
        local peer = connect()
        peer:write(case[1])
        peer:flush()
        assert.equal(case[2], assert(read_answer(peer)).status)
        peer:close()
        assert_accepted(send())
      end)
    end

    for name, bytes in pairs({
      ["nothing at all"] = "",
      ["half a request line"] = "POST /?Act",
      ["half the headers"] = "POST / HTTP/1.1\r\nContent-Le",
      ["half a body"] = "POST /?Action=a HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
      ["half a request behind a listener"] = "GET /listen?room_id=r&user_id=u HTTP/1.1\r\nHost: x\r\n\r\nGET /",
      ["garbage behind a listener"] = "GET /listen?room_id=r&user_id=u HTTP/1.1\r\nHost: x\r\n\r\n\0\0\0\0",
    }) do
      it("after a peer that went away having sent " .. name, function()
        local peer = connect()
        peer:write(bytes)
        peer:flush()
        peer:close()
        assert_accepted(send())
      end)
    end

    it("with no connection left over from any of these", function()
      local function open_sockets()
        local run = process.run({ "sh", "-c", "ls -l /proc/" .. sandbox.process.pid .. "/fd | grep -c socket:" })
        return tonumber(run.stdout)
      end
      local deadline = cqueues.monotime() + WAIT
      while open_sockets() > 1 and cqueues.monotime() < deadline do
        cqueues.sleep(0.02)
      end
      assert.equal(1, open_sockets()) -- the one that listens
    end)

    it("asks for a body that waits to be asked for", function()
      local request = signed_request({ body = fields() })
      request.headers.Expect = "100-continue"
      local body = request.body
      request.body = ""
      local peer = connect()
      peer:write(encode_request(request))
      peer:flush()
      assert.equal(100, read_answer(peer).status)
      peer:write(body)
      peer:flush()
      assert_accepted(read_answer(peer))
      peer:close()
    end)

    it("and escapes what strangers put into the log", function()
      assert_refused(call({ query = "Action=a%0Aforged%1B%5B2J&Version=1" }), 404, "InvalidActionOrVersion", 100008)
      logged("a\\x0Aforged\\x1B%[2J")
      assert.equal(400, get("/listen?room_id=r&user_id=u&%e2%80%aeEVIL=1").status)
      logged("unknown parameter '\\u{202E}EVIL'")
      local answer = call({ query = "Action=%FF&Version=1" })
      local _, metadata = assert_refused(answer, 404, "InvalidActionOrVersion", 100008)
      assert.equal("?", metadata.Action) -- an answer is UTF-8, whatever came
    end)

    it("without a word of the secret in the log", function()
      local request = signed_request({ body = fields() })
      local signature = request.headers.Authorization:match("Signature=(%x+)")
      local metadata = assert_accepted(exchange(request))
      logged(metadata.RequestId)
      for _, line in ipairs(sandbox.lines) do
        assert.is_nil(line:find(signature, 1, true))
        assert.is_true(not line:find(SECRET, 1, true) or line == "  export VOLC_SECRETKEY=" .. SECRET)
      end
    end)
  end)
end)

describe("a sandbox of its own", function()
  after_each(function()
    stop()
  end)

  it("limits an AppId's messages", function()
    start("port=0, rate=5")
    local peer = connect()
    local codes = { Success = 0 }
    for _ = 1, 50 do
      local answer = send(nil, "2020-12-01", peer)
      local err = answer.json.ResponseMetadata.Error
      local code = err and err.Code or "Success"
      codes[code] = (codes[code] or 0) + 1
      assert.equal(200, answer.status)
      assert.is_nil(err and err.CodeN)
    end
    assert.is_true(codes.Success >= 5)
    assert.equal(50 - codes.Success, codes["FlowLimitExceeded.QPSOverLimit"])
    peer:close()
  end)

  it("counts the messages of all actions together", function()
    start("port=0, rate=5")
    local peer = connect()
    local refused
    -- Five of each would be allowed if each had a limit of its own.
    for _ = 1, 5 do
      for action in pairs(actions) do
        local err = send_by(action, nil, nil, peer).json.ResponseMetadata.Error
        refused = refused or err and err.Code
      end
    end
    assert.equal("FlowLimitExceeded.QPSOverLimit", refused)
    peer:close()
  end)

  it("takes a batch for one message", function()
    start("port=0, rate=5")
    assert_accepted(send_by("BatchSendRoomUnicast", { To = users(600) }))
    assert_accepted(send())
  end)

  it("allows 500 at once", function()
    start()
    local peer = connect()
    for _ = 1, 500 do
      assert_accepted(send(nil, nil, peer))
    end
    peer:close()
  end)

  it("sends comments to a silent receiver", function()
    start("port=0, keep_alive=0.05")
    local peer = connect()
    peer:write("GET /listen?room_id=r&user_id=u HTTP/1.1\r\nHost: x\r\n\r\n")
    peer:flush()
    local comments = 0
    while comments < 3 do
      comments = comments + (assert(peer:read("*l")):find("^: keep%-alive") and 1 or 0)
    end
    peer:close()
    logged("u left r")
  end)

  it("closes its listeners and ends when interrupted", function()
    start()
    local alice = join("r", "alice")
    sandbox.process:kill("INT")
    assert.same({ 0, "exited" }, { sandbox.process:wait(WAIT) })
    assert.same({ nil, "closed" }, { alice:next(WAIT) })
    alice:close()
  end)

  it("says that its port is taken", function()
    start()
    local run = ("print(require('rtc.sandbox').run{port=%d})"):format(sandbox.port)
    local second = process.run({ process.lua, "-e", run })
    assert.matches("^nil%s+cannot listen on 127.0.0.1:%d+: .*in use", second.stdout)
  end)

  it("warns when other machines can reach it", function()
    start("port=0, host='127.0.0.1'")
    local open = process.spawn({ process.lua, "-e", "require('rtc.sandbox').run{port=0, host='0.0.0.0'}" })
    local line
    repeat
      line = assert(open:line(WAIT), "no warning")
    until line:find("^WARNING: 0%.0%.0%.0 can be reached from other machines")
    open:close()
    assert_accepted(send())
    for _, printed in ipairs(sandbox.lines) do
      assert.is_nil(printed:find("WARNING"))
    end
  end)

  it("names the library that is missing", function()
    start()
    local run = process.run({
      process.lua,
      "-e",
      "package.preload['http.server'] = function() error('no lua-http here') end print(require('rtc.sandbox').run{})",
    })
    assert.matches("^nil%s+the sandbox needs lua%-http", run.stdout)
    assert.matches("no lua%-http here", run.stdout)
    assert.matches("apt install lua%-http lua%-cqueues lua%-luaossl", run.stdout)
    assert.matches("luarocks install http luaossl cqueues", run.stdout)
  end)

  it("does not take an option that it does not know", function()
    start()
    local run = process.run({ process.lua, "-e", "require('rtc.sandbox').run{prot=1}" })
    assert.equal(1, run.code)
    assert.matches("unknown option 'prot' of the sandbox", run.stderr)
  end)
end)
