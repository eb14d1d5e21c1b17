--- Where a request's bytes go, directly or by a proxy, and which kept connections serve as well.

local core = require("rtc.native").load("rtc.core")
local endpoint = require "rtc.endpoint"
local proxies = require "rtc.proxy"
local text = require "rtc.text"

local route = {}

---@class rtc.Proxy  of plain http: with CONNECT for https, and else with the whole URL
---@field host string
---@field port integer
---@field authorization string|nil

---@class rtc.Route
---@field host string  to connect to
---@field port integer
---@field address string  the same for a person
---@field is_tls boolean
---@field name string  that the server's certificate must have
---@field authority string  host and port of the server
---@field proxy rtc.Proxy|nil
---@field pool string  the same for all whose connections are interchangeable

local standard_port = { https = 443, http = 80 }

--- Reads a proxy's URL, which the options have checked.
---@param url string
---@return rtc.Proxy|nil
---@return string|nil problem
function route.proxy(url)
  local scheme, authority = url:match("^(%w+)://([^/]+)")
  local pair = proxies.credentials(url)
  if scheme:lower() ~= "http" then
    return nil, ("is a %s proxy: inside nginx only http:// ones can be used"):format(text.excerpt(scheme, 16))
  end
  local host, port = endpoint.authority(authority:match("[^@]*$"), 1080)
  return { host = host, port = port, authorization = pair and "Basic " .. core.base64(pair) or nil }
end

--- nginx knows no name without its resolver, and this one needs none (RFC 6761, section 6.3).
local function address(host)
  return host == "localhost" and "127.0.0.1" or host
end

local numbers, last = {}, 0

--- A number instead of a secret: nginx writes the names of pools to its log, at level debug.
local function number(secret)
  if not numbers[secret] then
    last = last + 1
    numbers[secret] = last
  end
  return numbers[secret]
end

--- Finds the route for a URL.
---@param url string  http or https
---@param proxy rtc.Proxy|nil
---@param identity string|nil  names the certificate that is shown to the server
---@return rtc.Route
---@return string target  for the request line
function route.find(url, proxy, identity)
  local scheme, authority, target = url:match("^(https?)://([^/]+)(/.*)$")
  local host, port = endpoint.authority(authority, standard_port[scheme])
  local is_tls, to = scheme == "https", proxy or { host = host, port = port }
  return {
    host = address(to.host), port = to.port, address = ("%s:%d"):format(to.host, to.port), is_tls = is_tls,
    name = host, authority = ("%s:%d"):format(host, port), proxy = proxy,
    pool = table.concat({ "rtc", scheme, host, port, "verified", identity or "",
      proxy and ("%s:%d %d"):format(to.host, to.port, number(proxy.authorization or "")) or "" }, "|"),
  }, proxy and not is_tls and url or target
end

return route
