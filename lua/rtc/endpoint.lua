--- Where to send: "https://host[:port]", a bare host, a site by its name, or "sandbox[:port]".

local api = require "rtc.api"
local defaults = require "rtc.sandbox.defaults"
local suggest = require "rtc.suggest"
local text = require "rtc.text"

local endpoint = {}

--- The short names.
local presets = { "sandbox" }
for name in pairs(api.sites) do
  presets[#presets + 1] = name
end

local standard_port = { https = 443, http = 80 }

---@class rtc.Endpoint
---@field url string  scheme, host and port; no slash at the end
---@field scheme "https"|"http"
---@field host string  lower case; an IPv6 address in brackets
---@field port integer
---@field host_header string  the Host to send and to sign: without the scheme's own port
---@field region string  what the host's region is, as far as known
---@field loopback boolean  this machine: never through a proxy
---@field sandbox boolean  the preset, and not just an address at which a sandbox may listen

--- 127.0.0.0/8, ::1 or localhost. Whole addresses only: 127.0.0.1.example.com is somebody else's.
---@param host string  lower case; an IPv6 address with or without brackets
---@return boolean
function endpoint.is_loopback(host)
  if host == "localhost" or host == "[::1]" or host == "::1" then
    return true
  end
  local a, b, c, d = host:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  return a == "127" and tonumber(b) < 256 and tonumber(c) < 256 and tonumber(d) < 256
end

local function valid_port(digits)
  local port = digits:find("^[0-9]+$") and #digits <= 5 and tonumber(digits)
  if port and port >= 1 and port <= 65535 then
    return port
  end
end

local function valid_host(host)
  if host:sub(1, 1) == "[" then
    return host:find("^%[[0-9a-f:.]+%]$") and host:find(":", 1, true)
  end
  return #host <= 253 and host:find("^[a-z0-9_%-%.]+$") and not host:find("%.%.") and not host:find("^%.")
end

--- "host:port" in two. A bare IPv6 address needs its brackets, or else its last group would be the port.
---@param authority string
---@param default_port integer
---@return string|nil host  in lower case
---@return integer|string port  or what is wrong
function endpoint.authority(authority, default_port)
  local host, port_text = authority:match("^(%[[^%]]*%])(.*)$")
  if not host then
    host, port_text = authority:match("^([^:]*)(.*)$")
  end
  host = host:lower()
  if not valid_host(host) then
    return nil, ('has the host "%s": a name in ASCII, an IPv4 address, or an IPv6 address in brackets')
      :format(text.excerpt(host, 64))
  end
  if port_text == "" then
    return host, default_port
  end
  local port = valid_port(port_text:sub(2))
  if port_text:sub(1, 1) ~= ":" or not port then
    return nil, "has a port that is not a number from 1 to 65535 (write it as host:port, and an IPv6 address "
      .. "in brackets)"
  end
  return host, port
end

local function make(scheme, host, port)
  local host_header = port == standard_port[scheme] and host or ("%s:%d"):format(host, port)
  return {
    scheme = scheme, host = host, port = port, host_header = host_header,
    url = scheme .. "://" .. host_header, region = api.regions[host] or api.default_region,
    loopback = endpoint.is_loopback(host), sandbox = false,
  }
end

local function sandbox(port_text)
  local port = defaults.port
  if port_text ~= "" then
    port = valid_port(port_text:sub(2))
    if not port then
      return nil, 'has a port that is not a number from 1 to 65535: write "sandbox" or "sandbox:PORT"'
    end
  end
  local target = make("http", defaults.host, port)
  target.sandbox, target.region = true, defaults.region
  return target
end

--- Reads an endpoint.
---@param given string|nil  default: the service's own host. A bare host without a dot that looks like "sandbox" or a
--- site is refused: it would be asked for by https, and get a request that real keys signed
---@param allow_http boolean|nil  plain http to hosts other than this one
---@return rtc.Endpoint|nil
---@return string|nil problem  what is wrong; never shows credentials that the text may hold
function endpoint.parse(given, allow_http)
  given = given or api.default_host
  local sandbox_port = given:lower():match("^sandbox(.*)$")
  if sandbox_port == "" or sandbox_port and sandbox_port:sub(1, 1) == ":" then
    return sandbox(sandbox_port)
  end
  given = api.sites[given:lower()] or given
  local scheme, rest = given:match("^([A-Za-z][A-Za-z0-9+.%-]*)://(.*)$")
  scheme, rest = (scheme or "https"):lower(), rest or given
  if not standard_port[scheme] then
    return nil, ('has the scheme "%s": use "https://host[:port]"'):format(text.excerpt(scheme, 64))
  elseif rest:find("@", 1, true) then
    return nil, "has credentials in it: leave them out, and pass access_key and secret_key"
  end
  local authority, tail = rest:match("^([^/?#]*)(.*)$")
  if tail ~= "" and tail ~= "/" then
    return nil, 'has a path, query or fragment: it is only "https://host[:port]"'
  end
  local host, port = endpoint.authority(authority, standard_port[scheme])
  if not host then
    return nil, port
  end
  local meant = rest == given and not host:find("[.%[]") and suggest.nearest(host, presets)
  if meant then
    return nil, ('has the host "%s": did you mean "%s"? If it is a host\'s name, write "https://%s"')
      :format(text.excerpt(host, 64), meant, text.excerpt(host, 64))
  end
  local target = make(scheme, host, port)
  if scheme == "http" and not target.loopback and not allow_http then
    return nil, ("is plain http to %s, which anyone on the way can read and change: use https, or pass "
      .. "allow_http = true"):format(text.excerpt(host, 64))
  end
  return target
end

return endpoint
