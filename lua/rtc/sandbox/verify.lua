--- Checks a Volcengine HMAC-SHA256 signature, from the server's side.
--- It shares nothing with the client's signer, so that each can prove the other wrong.
local digest = require("openssl.digest")
local hmac = require("openssl.hmac")
local query = require("rtc.sandbox.query")

local verify = {}

local function hex(bytes)
  return (bytes:gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end))
end

local function sha256(bytes)
  return hex(digest.new("sha256"):final(bytes))
end

local function mac(key, bytes)
  return hmac.new(key, "sha256"):final(bytes)
end

-- Looks at every byte whatever it finds, so that the time taken says nothing about where they differ.
local function same(a, b)
  if #a ~= #b then
    return false
  end
  local difference = 0
  for i = 1, #a do
    difference = difference + math.abs(a:byte(i) - b:byte(i))
  end
  return difference == 0
end

---@class rtc.sandbox.Authorization
---@field access_key string
---@field date string     eight digits
---@field region string
---@field service string
---@field signed_headers string  as sent, for example "host;x-date"
---@field signature string

--- Reads an Authorization header:
--- `HMAC-SHA256 Credential=AK/DATE/REGION/SERVICE/request, SignedHeaders=a;b, Signature=hex`.
---@param header string
---@return rtc.sandbox.Authorization|nil
---@return string|nil err the gateway's code: InvalidAuthorization, InvalidCredential or MissingSignature
function verify.parse(header)
  local parts = {}
  local rest = header:match("^HMAC%-SHA256 +(.+)$")
  if not rest then
    return nil, "InvalidAuthorization"
  end
  for part in rest:gmatch("[^,]+") do
    local name, value = part:match("^%s*(%a+)=(%S*)%s*$")
    if not name or parts[name] then
      return nil, "InvalidAuthorization"
    end
    parts[name] = value
  end
  if not parts.Credential or not parts.SignedHeaders or parts.SignedHeaders == "" then
    return nil, "InvalidAuthorization"
  end
  local access_key, date, region, service =
    parts.Credential:match("^([^/]+)/(%d%d%d%d%d%d%d%d)/([^/]+)/([^/]+)/request$")
  if not access_key then
    return nil, "InvalidCredential"
  end
  if not parts.Signature or parts.Signature == "" then
    return nil, "MissingSignature"
  end
  return {
    access_key = access_key,
    date = date,
    region = region,
    service = service,
    signed_headers = parts.SignedHeaders,
    signature = parts.Signature,
  }
end

-- Like most official SDKs: a default port is not part of the signed host. Inner white space stays as it came (the
-- SDKs differ here, so a careful client sends none that could be collapsed).
local function canonical_value(name, value)
  if name == "host" then
    value = value:gsub(":80$", ""):gsub(":443$", "")
  end
  return (value:gsub("^%s+", ""):gsub("%s+$", ""))
end

-- The client's own list in the client's own order: the official SDKs sign different sets, some unsorted.
local function canonical_headers(headers, signed_headers)
  local lines, absent = {}, {}
  for listed in signed_headers:gmatch("[^;]+") do
    local name = listed:lower()
    if not headers[name] then
      absent[#absent + 1] = name
    end
    lines[#lines + 1] = name .. ":" .. canonical_value(name, headers[name] or "") .. "\n"
  end
  return table.concat(lines), absent
end

---@class rtc.sandbox.Request
---@field method string
---@field path string      as on the request line, without the query
---@field query string     raw
---@field headers table<string, string>  by lower-case name
---@field body string

---@class rtc.sandbox.Verdict
---@field ok boolean
---@field canonical_request string
---@field string_to_sign string
---@field reasons string[]  what is known to be wrong; empty when only the key or the text signed can differ

--- Verifies a request's signature. What is checked beyond the signature itself: every listed header came,
--- X-Date is listed, X-Content-Sha256 (if sent) is the body's hash, the scope's date is X-Date's.
---@param request rtc.sandbox.Request
---@param authorization rtc.sandbox.Authorization as `parse` gives it
---@param secret_key string
---@return rtc.sandbox.Verdict
function verify.check(request, authorization, secret_key)
  local headers = request.headers
  local x_date = headers["x-date"] or ""
  local body_hash = sha256(request.body)
  local header_lines, absent = canonical_headers(headers, authorization.signed_headers)
  local canonical_request = table.concat({
    request.method,
    request.path,
    query.canonical(query.parse(request.query)),
    header_lines,
    authorization.signed_headers,
    body_hash,
  }, "\n")
  local date, region, service = x_date:sub(1, 8), authorization.region, authorization.service
  local string_to_sign = table.concat({
    "HMAC-SHA256",
    x_date,
    table.concat({ date, region, service, "request" }, "/"),
    sha256(canonical_request),
  }, "\n")

  local reasons = {}
  local function wrong(condition, reason, ...)
    if condition then
      reasons[#reasons + 1] = reason:format(...)
    end
  end
  wrong(#absent > 0, "SignedHeaders lists a header that did not come: %s", table.concat(absent, ", "))
  wrong(
    not (";" .. authorization.signed_headers:lower() .. ";"):find(";x-date;", 1, true),
    "SignedHeaders does not list x-date"
  )
  wrong(
    headers["x-content-sha256"] and headers["x-content-sha256"] ~= body_hash,
    "X-Content-Sha256 is not the hash of the body that came (%d bytes): changed after signing?",
    #request.body
  )
  -- Which of two codes the service gives here is unknown; this one comes by itself, as the key differs.
  wrong(authorization.date ~= date, "the credential's date, %s, is not X-Date's, %s", authorization.date, date)

  local key = mac(mac(mac(mac(secret_key, date), region), service), "request")
  local signed = same(hex(mac(key, string_to_sign)), authorization.signature)
  return {
    ok = signed and #reasons == 0,
    canonical_request = canonical_request,
    string_to_sign = string_to_sign,
    reasons = reasons,
  }
end

return verify
