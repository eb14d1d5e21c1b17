-- The sandbox's verifier against the official SDKs' own output.
local cjson = require("cjson").new()
local verify = require("rtc.sandbox.verify")

local function read_vectors()
  local file = assert(io.open("spec/fixtures/signing.json", "rb"))
  local fixture = cjson.decode(file:read("*a"))
  file:close()
  local list = {}
  for _, vector in ipairs(fixture.vectors) do
    if vector.follows_reference_rules then
      list[#list + 1] = vector
    end
  end
  return list
end

local function percent_encode(s)
  return (s:gsub("[^%w]", function(c)
    return ("%%%02x"):format(c:byte())
  end))
end

-- The request as a server meets it: query in the caller's order, every header that was hashed, raw Host.
local function request_of(vector)
  local input, headers = vector.input, {}
  for line in vector.expected.canonical_request:gmatch("[^\n]+") do
    local name, value = line:match("^([%w-]+):(.*)$")
    if name then
      headers[name] = value
    end
  end
  headers.host = input.host
  local query = {}
  for i, pair in ipairs(input.query) do
    query[i] = percent_encode(pair[1]) .. "=" .. percent_encode(pair[2])
  end
  return {
    method = input.method,
    path = input.path,
    query = table.concat(query, "&"),
    headers = headers,
    body = input.body_utf8,
  }
end

-- Another byte in the middle: a letter or digit stays one, so that the text keeps its form.
local function change(s)
  local middle = math.ceil(#s / 2)
  local other = s:sub(middle, middle) == "7" and "8" or "7"
  return s:sub(1, middle - 1) .. other .. s:sub(middle + 1)
end

describe("the sandbox's signature check", function()
  local vectors = read_vectors()

  it("has the fixtures", function()
    assert.equal(70, #vectors)
  end)

  for _, vector in ipairs(vectors) do
    describe(vector.id, function()
      local expected, secret = vector.expected, vector.input.sk
      local request, authorization

      before_each(function()
        request = request_of(vector)
        authorization = assert(verify.parse(expected.authorization))
      end)

      it("verifies", function()
        local verdict = verify.check(request, authorization, secret)
        assert.equal(expected.canonical_request, verdict.canonical_request)
        assert.equal(expected.string_to_sign, verdict.string_to_sign)
        assert.same({}, verdict.reasons)
        assert.is_true(verdict.ok)
      end)

      it("fails with one byte changed", function()
        local function refused(what)
          assert.is_false(verify.check(request, authorization, secret).ok, what)
          request, authorization = request_of(vector), assert(verify.parse(expected.authorization))
        end
        request.body = #request.body > 0 and change(request.body) or "7"
        refused("body")
        request.query = change(request.query)
        refused("query")
        request.method = change(request.method)
        refused("method")
        request.path = "/7"
        refused("path")
        authorization.signature = change(authorization.signature)
        refused("signature")
        authorization.region = change(authorization.region)
        refused("region")
        for name in expected.signed_headers:gmatch("[^;]+") do
          request.headers[name] = change(request.headers[name])
          refused(name)
          request.headers[name] = nil
          refused("no " .. name)
        end
        assert.is_false(verify.check(request, authorization, change(secret)).ok, "secret key")
      end)
    end)
  end

  local function basic()
    return request_of(vectors[1]), assert(verify.parse(vectors[1].expected.authorization)), vectors[1].input.sk
  end

  it("says which listed header did not come", function()
    local request, authorization, secret = basic()
    request.headers["content-type"] = nil
    local verdict = verify.check(request, authorization, secret)
    assert.equal(1, #verdict.reasons)
    assert.matches("content%-type", verdict.reasons[1])
  end)

  it("says that the body is not the one hashed", function()
    local request, authorization, secret = basic()
    request.body = request.body .. " "
    local verdict = verify.check(request, authorization, secret)
    assert.equal(1, #verdict.reasons)
    assert.matches("X%-Content%-Sha256", verdict.reasons[1])
  end)

  it("wants x-date in the list", function()
    local request, authorization, secret = basic()
    authorization.signed_headers = "host"
    assert.matches("x%-date", verify.check(request, authorization, secret).reasons[1])
  end)

  it("wants the scope's date to be X-Date's", function()
    local request, authorization, secret = basic()
    authorization.date = "20250103"
    local verdict = verify.check(request, authorization, secret)
    assert.is_false(verdict.ok)
    assert.matches("20250103", verdict.reasons[1])
  end)

  it("has no reason to give when only the key can differ", function()
    local request, authorization = basic()
    local verdict = verify.check(request, authorization, "another key")
    assert.is_false(verdict.ok)
    assert.same({}, verdict.reasons)
  end)

  it("does not take a signature that is cut short or empty", function()
    local request, authorization, secret = basic()
    authorization.signature = authorization.signature:sub(1, -2)
    assert.is_false(verify.check(request, authorization, secret).ok)
    authorization.signature = ""
    assert.is_false(verify.check(request, authorization, secret).ok)
  end)

  local good = vectors[1].expected.authorization
  for name, case in pairs({
    ["another algorithm"] = { good:gsub("HMAC%-SHA256", "AWS4-HMAC-SHA256"), "InvalidAuthorization" },
    ["only the algorithm"] = { "HMAC-SHA256", "InvalidAuthorization" },
    ["no credential"] = { good:gsub("Credential=[^,]+, ", ""), "InvalidAuthorization" },
    ["no list of headers"] = { good:gsub("SignedHeaders=[^,]+, ", ""), "InvalidAuthorization" },
    ["two credentials"] = { good .. ", Credential=a/20250102/b/c/request", "InvalidAuthorization" },
    ["free text"] = { "HMAC-SHA256 let me in", "InvalidAuthorization" },
    ["no signature"] = { good:gsub(", Signature=.*", ""), "MissingSignature" },
    ["an empty signature"] = { good:gsub("Signature=.*", "Signature="), "MissingSignature" },
    ["a scope of three parts"] = { good:gsub("/cn%-north%-1", ""), "InvalidCredential" },
    ["another terminator"] = { good:gsub("/request", "/aws4_request"), "InvalidCredential" },
    ["a date of seven digits"] = { good:gsub("/20250102/", "/2025012/"), "InvalidCredential" },
    ["no access key"] = { good:gsub("AKLT%w+", ""), "InvalidCredential" },
  }) do
    it("refuses a header with " .. name, function()
      assert.not_equal(good, case[1])
      local authorization, code = verify.parse(case[1])
      assert.is_nil(authorization)
      assert.equal(case[#case], code)
    end)
  end
end)
