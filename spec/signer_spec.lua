-- The signer against known answers: what the official SDKs signed, with a fixed clock and keys that are no keys.
local core = require("rtc.core")
local cjson = require("cjson")
local collector = require("spec.support.collector")

local function read_file(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- "20250102T030405Z" to Unix seconds, by the civil calendar and not by this machine's time zone.
local function unix_time(date)
  local year, month, day, hour, minute, second = date:match("^(%d%d%d%d)(%d%d)(%d%d)T(%d%d)(%d%d)(%d%d)Z$")
  local y = tonumber(year) - (tonumber(month) <= 2 and 1 or 0)
  local m = (tonumber(month) + 9) % 12
  local days = 365 * y + math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400)
    + math.floor((153 * m + 2) / 5) + tonumber(day) - 1 - 719468
  return days * 86400 + tonumber(hour) * 3600 + tonumber(minute) * 60 + tonumber(second)
end

local function split(text, separator)
  local parts = {}
  for part in (text .. separator):gmatch("(.-)" .. separator) do
    parts[#parts + 1] = part
  end
  return parts
end

local function signer_of(input)
  local token = input.session_token ~= "" and input.session_token or nil
  return core.signer(input.ak, input.sk, token, input.region, input.service)
end

-- The vector's request. A header that an SDK added by itself stands in canonical_headers only.
local function request_of(vector)
  local input, given = vector.input, {}
  local headers = {}
  for _, pair in ipairs(input.headers) do
    headers[#headers + 1] = { pair[1], pair[2] }
    given[pair[1]:lower()] = true
  end
  for _, pair in ipairs(vector.expected.canonical_headers or {}) do
    if pair[1] == "content-type" and not given["content-type"] then
      headers[#headers + 1] = { "Content-Type", pair[2] }
    end
  end
  return {
    method = input.method,
    host = input.host,
    path = input.path,
    query = input.query,
    headers = headers,
    body = input.body_utf8,
    time = unix_time(input.date),
    signed_headers = split(vector.expected.signed_headers, ";"),
  }
end

local vectors = cjson.decode(read_file("spec/fixtures/signing.json")).vectors

describe("the signer on the official SDKs' answers", function()
  local followed = 0
  for _, vector in ipairs(vectors) do
    if vector.follows_reference_rules then
      followed = followed + 1
      it("agrees with " .. vector.id, function()
        local signer, request, expected = signer_of(vector.input), request_of(vector), vector.expected
        local explained = assert(signer:explain(request))
        assert.equal(expected.canonical_request, explained.canonical_request)
        assert.equal(expected.string_to_sign, explained.string_to_sign)
        assert.equal(expected.signed_headers, explained.signed_headers)
        assert.equal(expected.signature, explained.signature)
        local signed = assert(signer:sign(request))
        assert.equal(expected.authorization, signed.headers.Authorization)
        assert.equal(vector.input.date, signed.headers["X-Date"])
        local body_hash = expected.canonical_request:match("[^\n]+$")
        assert.equal(body_hash, signed.headers["X-Content-Sha256"])
        if expected.canonical_query then
          assert.equal(expected.canonical_query, signed.query)
        end
      end)
    end
  end

  it("has all 70 of them", function()
    assert.equal(70, followed)
  end)
end)

describe("signer:sign", function()
  local TIME = 1735787045 -- 2025-01-02T03:04:05Z
  local signer

  local function request(changes)
    local made = {
      method = "POST",
      host = "rtc.volcengineapi.com",
      path = "/",
      query = { { "Action", "SendRoomUnicast" }, { "Version", "2020-12-01" } },
      headers = { { "Content-Type", "application/json" } },
      body = "{}",
      time = TIME,
    }
    for key, value in pairs(changes or {}) do
      made[key] = value
    end
    return made
  end

  before_each(function()
    signer = core.signer("AKLTtest", "c2VjcmV0", nil, "cn-north-1", "rtc")
  end)

  it("signs every header given, the host, the body's hash and the date, sorted", function()
    local explained = assert(signer:explain(request({ headers = { { "X-Zeta", "1" }, { "Content-Type", "a/b" } } })))
    assert.equal("content-type;host;x-content-sha256;x-date;x-zeta", explained.signed_headers)
    assert.equal("20250102/cn-north-1/rtc/request", explained.credential_scope)
  end)

  it("gives every header to send, and signs the session token", function()
    local with_token = core.signer("AKLTtest", "c2VjcmV0", "token-1", "cn-north-1", "rtc")
    local signed = assert(with_token:sign(request()))
    local names = {}
    for name in pairs(signed.headers) do
      names[#names + 1] = name
    end
    table.sort(names)
    assert.same({ "Authorization", "Content-Type", "Host", "X-Content-Sha256", "X-Date", "X-Security-Token" }, names)
    assert.equal("token-1", signed.headers["X-Security-Token"])
    assert.truthy(signed.headers.Authorization:find("x%-date;x%-security%-token,"))
  end)

  it("uses the present time when none is given", function()
    local before = os.date("!%Y%m%dT%H%M%SZ")
    local signed = assert(signer:sign({ method = "POST", host = "h", body = "" }))
    local after = os.date("!%Y%m%dT%H%M%SZ")
    assert.is_true(before <= signed.headers["X-Date"] and signed.headers["X-Date"] <= after)
  end)

  it("derives a new key when the day changes, and the old one again", function()
    local first = assert(signer:sign(request())).headers.Authorization
    local other = assert(signer:sign(request({ time = TIME + 86400 }))).headers.Authorization
    assert.is_not.equal(first, other)
    assert.equal(first, assert(signer:sign(request())).headers.Authorization)
    local fresh = core.signer("AKLTtest", "c2VjcmV0", nil, "cn-north-1", "rtc")
    assert.equal(other, assert(fresh:sign(request({ time = TIME + 86400 }))).headers.Authorization)
  end)

  it("goes on after a request that it refused", function()
    local first = assert(signer:sign(request())).headers.Authorization
    assert.is_nil((signer:sign(request({ host = "a b" }))))
    assert.equal(first, assert(signer:sign(request())).headers.Authorization)
  end)

  it("signs a body of several megabytes, and one with NUL bytes", function()
    local big = string.rep("x", 8 * 1024 * 1024)
    assert.equal(64, #assert(signer:sign(request({ body = big }))).headers["X-Content-Sha256"])
    local one = assert(signer:sign(request({ body = "a\0b" }))).headers["X-Content-Sha256"]
    assert.is_not.equal(one, assert(signer:sign(request({ body = "a" }))).headers["X-Content-Sha256"])
  end)

  it("takes a computed header that says the same, and refuses one that differs", function()
    local first = assert(signer:sign(request())).headers.Authorization
    local same = request({ headers = { { "Content-Type", "application/json" }, { "x-date", "20250102T030405Z" },
      { "HOST", "rtc.volcengineapi.com:443" } } })
    assert.equal(first, assert(signer:sign(same)).headers.Authorization)
    local signed, err = signer:sign(request({ headers = { { "X-Date", "20250102T030406Z" } } }))
    assert.is_nil(signed)
    assert.equal("headers", err.field)
    assert.truthy(err.message:find("X-Date", 1, true))
  end)

  local refused = {
    { "no host", { host = "" }, "host" },
    { "a host with a scheme", { host = "https://rtc.volcengineapi.com" }, "host" },
    { "a host with a line break", { host = "a\r\nX: y" }, "host" },
    { "a host that is a number", { host = 42 }, "host" },
    { "an empty method", { method = "" }, "method" },
    { "a method with a blank", { method = "PO ST" }, "method" },
    { "a path without its slash", { path = "v1" }, "path" },
    { "a body that is a table", { body = {} }, "body" },
    { "a time before 1970", { time = -1 }, "time" },
    { "a time after the year 9999", { time = 253402300800 }, "time" },
    { "a time that is not a number", { time = 0 / 0 }, "time" },
    { "a time in a string", { time = "now" }, "time" },
    { "a query of maps", { query = { { Action = "x" } } }, "query" },
    { "a query that is a map", { query = { Action = "x" } }, "query" },
    { "headers that are a map", { headers = { ["Content-Type"] = "x" } }, "headers" },
    { "headers that are a list and a map", { headers = { { "X-Y", "1" }, ["X-Z"] = "2" } }, "headers" },
    { "signed headers that are a map", { signed_headers = { ["x-date"] = true } }, "signed_headers" },
    { "a query value that is a number", { query = { { "Count", 3 } } }, "query" },
    { "a query without a name", { query = { { "", "x" } } }, "query" },
    { "a query that is a string", { query = "Action=x" }, "query" },
    { "a header name with a blank", { headers = { { "X Y", "1" } } }, "headers" },
    { "a header value with a line break", { headers = { { "X-Y", "1\r\nX-Z: 2" } } }, "headers" },
    { "a header value with a NUL", { headers = { { "X-Y", "1\0002" } } }, "headers" },
    { "a header given twice", { headers = { { "X-Y", "1" }, { "x-y", "1" } } }, "headers" },
    { "an Authorization of the caller's own", { headers = { { "authorization", "x" } } }, "headers" },
    { "a signed header that is not there", { signed_headers = { "x-date", "x-none" } }, "signed_headers" },
    { "a signed header in upper case", { signed_headers = { "x-date", "Host" } }, "signed_headers" },
    { "a signed header named twice", { signed_headers = { "x-date", "host", "x-date" } }, "signed_headers" },
    { "signed headers without the date", { signed_headers = { "host" } }, "signed_headers" },
    { "signed headers that are no list", { signed_headers = "host" }, "signed_headers" },
    { "signed headers that are no strings", { signed_headers = { true } }, "signed_headers" },
    { "a field that is not known", { querry = {} }, "request" },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. case[1] .. ", naming the field", function()
      local signed, err = signer:sign(request(case[2]))
      assert.is_nil(signed)
      assert.equal("argument", err.kind)
      assert.equal("not_sent", err.outcome)
      assert.equal(case[3], err.field)
      assert.truthy(err.message:find(case[3], 1, true))
    end)
  end

  it("takes 64 query pairs and 64 headers, and refuses one more", function()
    local pairs_of = function(count)
      local list = {}
      for i = 1, count do
        list[i] = { "X-" .. i, "v" }
      end
      return list
    end
    assert.truthy(signer:sign(request({ query = pairs_of(64), headers = pairs_of(64) })))
    local _, err = signer:sign(request({ query = pairs_of(65) }))
    assert.equal("query", err.field)
    _, err = signer:sign(request({ headers = pairs_of(65) }))
    assert.equal("headers", err.field)
  end)

  it("refuses a request that is no table", function()
    for _, value in ipairs({ "x", 1, true }) do
      local signed, err = signer:sign(value)
      assert.is_nil(signed)
      assert.equal("request", err.field)
    end
  end)

  it("raises on credentials that could break up the header", function()
    assert.error_matches(function() core.signer("a b", "s", nil, "r", "rtc") end, "access_key")
    assert.error_matches(function() core.signer("a\r\nX: y", "s", nil, "r", "rtc") end, "access_key")
    assert.error_matches(function() core.signer("a", "", nil, "r", "rtc") end, "secret_key")
    assert.error_matches(function() core.signer("a", "s", "t\n", "r", "rtc") end, "session_token")
    assert.error_matches(function() core.signer("a", "s", nil, "", "rtc") end, "region")
    assert.error_matches(function() core.signer("a", "s", nil, "r", "r/c") end, "service")
  end)

  -- A finaliser runs wherever Lua allocates: also while the results of another call are turned into tables.
  for _, method in ipairs { "sign", "explain" } do
    it(("%ss right although a finaliser signs meanwhile"):format(method), function()
      local right = assert(signer[method](signer, request()))
      local other = request({ body = "other", headers = { { "X-Other", string.rep("o", 2000) } } })
      local working, amid
      local tries = 0
      repeat -- where much else is in the state, a collection does not always get so far
        tries = tries + 1
        local given = request()
        collectgarbage()
        collectgarbage("stop")
        collector.litter(function()
          if working then
            amid = signer:sign(other)
          end
        end)
        local calm = collector.hurry()
        collectgarbage("restart") -- the next allocation collects
        working = true
        local made = signer[method](signer, given)
        working = false
        calm()
        assert.same(right, made)
      until amid and tries >= 20 or tries == 500
      assert.truthy(amid)
    end)
  end

  it("raises when it is used after it was collected", function()
    local seen
    do
      local owned
      collector.litter(function()
        seen = { pcall(owned.sign, owned, request()) }
      end)
      owned = core.signer("AKLTtest", "c2VjcmV0", nil, "cn-north-1", "rtc") -- made later: finalised first
    end
    collectgarbage()
    collectgarbage()
    assert.is_false(seen[1])
    assert.matches("collected", seen[2])
  end)

  it("does not show its secret, and can't be collected by hand", function()
    assert.is_nil(tostring(signer):find("c2VjcmV0", 1, true))
    assert.is_false(getmetatable(signer))
  end)
end)
