--- What the URL of a proxy has that nobody may see: a name and a password.

local core = require("rtc.native").load("rtc.core")
local environment = require "rtc.environment"
local text = require "rtc.text"

local proxy = {}

local function decoded(s)
  return (s:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

--- The name and the password in a proxy's URL, as "name:password", without percent-encoding.
---@param url string
---@return string|nil pair
function proxy.credentials(url)
  local pair = url:gsub("^%a[%w+.-]*://", ""):match("^([^/]*)@")
  return pair and decoded(pair)
end

--- Makes a function that hides them, for text from a proxy, which may repeat what it was told.
---@param given string|nil  the URL; "" for no proxy; nil: the environment's
---@param scheme "https"|"http"  of what is asked for
---@return fun(text: string): string
function proxy.hider(given, scheme)
  local variable = environment.proxy(scheme)
  local pair = proxy.credentials(given or variable and environment.get(variable) or "")
  if not pair then
    return function(s)
      return s
    end
  end
  local basic, password = core.base64(pair), pair:match(":(.*)$")
  return function(s)
    s = text.without(text.without(s, basic), pair)
    return password and #password >= 8 and text.without(s, password) or s
  end
end

return proxy
