--- Certificates for the specs, made anew for each run: an authority, servers good and bad, and a client.

local altname = require("openssl.x509.altname")
local name = require("openssl.x509.name")
local pkey = require("openssl.pkey")
local x509 = require("openssl.x509")
local native = require("spec.support.native")

local certificates = {}

local DAY = 86400

local function write(file, text)
  local path = native.path(file)
  local handle = assert(io.open(path, "wb"))
  assert(handle:write(text))
  handle:close()
  return path
end

local serial = 0

local function certificate(options)
  local subject = name.new():add("CN", options.name)
  local key = pkey.new({ type = "EC", curve = "prime256v1" })
  local self = x509.new()
  serial = serial + 1
  self:setVersion(3)
  self:setSerial(os.time() * 1000 + serial)
  self:setSubject(subject)
  self:setIssuer(options.issuer and options.issuer.subject or subject)
  self:setPublicKey(key)
  self:setLifetime(os.time() + options.from * DAY, os.time() + options.to * DAY)
  self:setBasicConstraints({ CA = options.authority or false })
  self:setBasicConstraintsCritical(true)
  if not options.authority then
    local names = altname.new()
    for _, host in ipairs(options.hosts) do
      names:add(host:match("^[%d.]+$") and "IP" or "DNS", host)
    end
    self:setSubjectAlt(names)
  end
  self:sign(options.issuer and options.issuer.key or key)
  return { subject = subject, key = key, pem = self:toPEM() }
end

--- Makes an authority, or takes the one in the folder RTC_SPEC_CA: inside nginx its configuration has to say beforehand
--- whom its sockets trust.
local function authority()
  local folder = os.getenv("RTC_SPEC_CA")
  if not folder then
    return certificate({ name = "Spec CA", authority = true, from = -1, to = 30 })
  end
  local function read(file)
    local handle = assert(io.open(folder .. "/" .. file, "rb"))
    local text = handle:read("*a")
    handle:close()
    return text
  end
  local made = x509.new(read("ca.crt"))
  return { subject = made:getSubject(), key = pkey.new(read("ca.key")), pem = made:toPEM() }
end

--- The paths of a certificate and its private key, as a server or a client needs them.
local function pair(label, made)
  return { cert = write(label .. ".crt", made.pem), key = write(label .. ".key", made.key:toPEM("private")) }
end

--- Writes an authority into a folder: for RTC_SPEC_CA.
---@param folder string
function certificates.write_authority(folder)
  local made = certificate({ name = "Spec CA", authority = true, from = -1, to = 30 })
  for file, text in pairs({ ["ca.crt"] = made.pem, ["ca.key"] = made.key:toPEM("private") }) do
    local handle = assert(io.open(folder .. "/" .. file, "wb"))
    assert(handle:write(text))
    handle:close()
  end
end

--- Makes one set of certificates, good for `localhost` and 127.0.0.1 unless said otherwise.
---@param host string|nil  another name that they are good for
---@return { authority: string, ca_file: string|nil, ca_pem: string, good: table, wrong_host: table, expired: table,
--- self_signed: table, untrusted: table, client: table } `authority` (the one that signs) and each pair's `cert` and
--- `key` are paths; `ca_file` is the option of clients that trust it, and nil inside nginx, where it is none
function certificates.make(host)
  local hosts = { "localhost", "slow.test", "127.0.0.1", host }
  local ca = authority()
  local ca_file = write("ca.crt", ca.pem)
  local other = certificate({ name = "Another CA", authority = true, from = -1, to = 30 })
  local function server(options)
    options.name = options.name or "localhost"
    options.hosts = options.hosts or hosts
    options.from, options.to = options.from or -1, options.to or 30
    return certificate(options)
  end
  return {
    ca_pem = ca.pem,
    authority = ca_file,
    ca_file = not rawget(_G, "ngx") and ca_file or nil,
    good = pair("good", server({ issuer = ca })),
    wrong_host = pair("wrong", server({ issuer = ca, name = "other.test", hosts = { "other.test", "127.0.0.9" } })),
    expired = pair("expired", server({ issuer = ca, from = -30, to = -1 })),
    self_signed = pair("self", server({})),
    untrusted = pair("untrusted", server({ issuer = other })),
    client = pair("client", server({ issuer = ca, name = "client" })),
  }
end

return certificates
