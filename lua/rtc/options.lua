--- The options of constructors and calls as data, and one check for all of them.

local api = require "rtc.api"
local endpoint = require "rtc.endpoint"
local fields = require "rtc.fields"
local runtime = require "rtc.runtime"
local suggest = require "rtc.suggest"
local text = require "rtc.text"
local utc = require "rtc.utc"

require "rtc.interpreted" ()

local options = {}

--- Checks by type: each gives the value to use, or nil and what is wrong with the one given.
local check = {}

function check.string(value)
  if type(value) ~= "string" then
    return nil, "must be a string, not a " .. type(value)
  elseif value == "" then
    return nil, "is empty"
  end
  return value
end

--- Keys and the like: they go into headers, and a blank copied along with one is the commonest reason of a
--- signature that does not match. The value is never shown: it may be a secret.
function check.token(value)
  local token, problem = check.string(value)
  if not token then
    return nil, problem
  end
  local at = token:find("[^\33-\126]")
  if at then
    return nil, ("has white space or another unprintable character at position %d: was it copied with a blank or "
      .. "a line end?"):format(at)
  end
  return token
end

--- A part of the credential scope: written between slashes and commas.
function check.scope(value)
  local part, problem = check.token(value)
  if part and part:find("[/,]") then
    return nil, "must not have `/` or `,` in it"
  end
  return part, problem
end

--- A header's value.
function check.line(value)
  local line, problem = check.string(value)
  if line and line:find("[^\32-\126]") then
    return nil, "must be printable ASCII on one line"
  end
  return line, problem
end

local function check_path(value)
  local path, problem = check.string(value)
  if path and path:find("\0", 1, true) then
    return nil, "has a NUL in it, and no path has" -- C would see what is before it
  end
  return path, problem
end

--- nil when it can be opened, else why not. On folders, too: their "/." can be opened, and that of files can't.
local function unreadable(path)
  local file, why = io.open(path, "rb")
  if not file then
    return text.excerpt(why, 200)
  end
  file:close()
end

--- Looked at now, since libcurl would say no more than that no certificate is good.
function check.file(value)
  local path, problem = check_path(value)
  local why = path and unreadable(path)
  if why then
    return nil, "cannot be read: " .. why
  elseif path and not unreadable(path .. "/.") then
    return nil, "is a folder: name a file, or use ca_path"
  end
  return path, problem
end

function check.folder(value)
  local path, problem = check_path(value)
  local why = path and unreadable(path .. "/.")
  if why then
    return nil, "cannot be read as a folder: " .. why
  end
  return path, problem
end

function check.boolean(value)
  if type(value) ~= "boolean" then
    return nil, "must be true or false, not a " .. type(value)
  end
  return value
end

--- libcurl counts in milliseconds. A day is beyond what anyone waits for a message; more is most likely milliseconds
--- or a mistake.
function check.seconds(value)
  if type(value) ~= "number" then
    return nil, "must be a number of seconds, not a " .. type(value)
  elseif not (value >= 0.001 and value <= 86400) then
    return nil, ("must be at least 0.001 seconds and at most 86400, not %s"):format(value)
  end
  return value
end

function check.bytes(value)
  if type(value) ~= "number" then
    return nil, "must be a number of bytes, not a " .. type(value)
  elseif not (value >= 1 and value <= 2 ^ 30 and value % 1 == 0) then
    return nil, ("must be a whole number of bytes from 1 to 2^30, not %s"):format(value)
  end
  return value
end

function check.func(value)
  if type(value) ~= "function" then
    return nil, "must be a function, not a " .. type(value)
  end
  return value
end

--- A point of time. One beyond the year 9999 is most likely in milliseconds.
function check.time(value)
  if type(value) == "string" then
    value = utc.parse_rfc3339(value)
  end
  if type(value) ~= "number" or not (value >= 0 and value <= 253402300799) then
    return nil, 'must be Unix seconds, or a time like "2021-04-12T10:57:09+08:00"'
  end
  return value
end

--- A version that is not known here may be newer than this module: only its form is checked.
function check.version(value)
  if type(value) ~= "string" or not value:find("^[0-9][0-9][0-9][0-9]%-[0-9][0-9]%-[0-9][0-9]$") then
    return nil, ('must be a date like "2020-12-01", not %s'):format(
      type(value) == "string" and ('"%s"'):format(text.excerpt(value, 32)) or "a " .. type(value))
  end
  return value
end

check.id = fields.id

function check.name(value)
  local name, problem = check.string(value)
  if name and not name:find("^[A-Za-z0-9_.:@-]+$") or name and #name > 128 then
    return nil, "must be 1 to 128 of A-Z a-z 0-9 _ . : @ -"
  end
  return name, problem
end

--- The name of an action of the service, known here or not.
---@param value any
---@return string|nil action
---@return string|nil problem
function options.action(value)
  local action, problem = check.string(value)
  if action and not action:find("^%a[A-Za-z0-9]*$") or action and #action > 128 then
    return nil, ('must be the name of an action, like "BanRoomUser", not "%s"'):format(text.excerpt(action, 64))
  end
  return action, problem
end

function check.method(value)
  if value ~= "GET" and value ~= "POST" then
    return nil, ('must be "GET" or "POST", the service has no other, not %s'):format(text.name(value))
  end
  return value
end

local function parameter(value)
  local kind = type(value)
  if kind == "number" then
    return fields.id(value)
  end
  return kind == "string" and value or kind == "boolean" and tostring(value) or nil
end

--- Parameters of a URL, as pairs for the signer.
function check.query(value)
  if type(value) ~= "table" then
    return nil, "must be a table of names and values, not a " .. type(value)
  end
  local pairs_list = {}
  for name, given in pairs(value) do
    local shown = text.name(name)
    local written = parameter(given)
    if type(name) ~= "string" or name == "" then
      return nil, ("has the name %s, and names are strings"):format(shown)
    elseif name == "Action" or name == "Version" then
      return nil, ("must not have %s: it is the call's own"):format(name)
    elseif not written then
      return nil, ("has as %s a value that is no string, whole number or boolean"):format(shown)
    end
    pairs_list[#pairs_list + 1] = { name, written }
  end
  return pairs_list
end

--- A proxy's address. It may hold a password: the value is never shown. `false` is for none at all.
function check.proxy(value)
  if value == false then
    return ""
  elseif type(value) ~= "string" then
    return nil, "must be a URL, or false for no proxy at all, not a " .. type(value)
  end
  local scheme, rest = value:match("^(%a[%w]*)://([\33-\126]+)$")
  local known = { http = true, https = true, socks4 = true, socks4a = true, socks5 = true, socks5h = true }
  local authority = rest and (rest:match("^[^@/?#]*@([^@/?#]+)/?$") or rest:match("^([^@/?#]+)/?$"))
  -- With a NUL in its password libcurl would do without the proxy.
  if not authority or not known[scheme:lower()] or rest:find("%00", 1, true)
    or not endpoint.authority(authority, 1080) then
    return nil, 'must be "http://[name:password@]host[:port]", with %40 for an @ in the password and so on; https, '
      .. "socks4, socks4a, socks5 and socks5h are schemes, too"
  end
  return value
end

--- Seconds that may be 0.
---@param value any
---@return number|nil seconds
---@return string|nil problem
function options.pause(value)
  if value == 0 then
    return value
  end
  return check.seconds(value)
end

--- How long an idle connection is kept; `false`: not at all.
function check.keep_alive(value)
  if value == false then
    return 0
  elseif type(value) ~= "number" or not (value >= 1 and value <= 86400 and value % 1 == 0) then
    return nil, "must be whole seconds from 1 to 86400, or false to use each connection once"
  end
  return value
end

--- A whole number.
---@param most integer
local function count(most)
  return function(value)
    if type(value) ~= "number" or not (value >= 1 and value <= most and value % 1 == 0) then
      return nil, ("must be a whole number from 1 to %d, not %s"):format(most, text.name(value))
    end
    return value
  end
end

function check.rate(value)
  if type(value) ~= "number" or not (value >= 0.001 and value <= 1e6) then
    return nil, ("must be a number of messages a second, at least 0.001, not %s"):format(text.name(value))
  end
  return value
end

function check.store(value)
  if type(value) ~= "table" or type(value.take) ~= "function" then
    return nil, "must be a table with a function `take`"
  end
  return value
end

--- Options within an option. `false` switches the matter off.
---@param specification table[]
---@param off boolean|nil  whether it can be
local function group(specification, off)
  return function(value)
    if value == false and off then
      return false
    elseif type(value) ~= "table" then
      return nil, ("must be a table%s, not a %s"):format(off and ", or false to switch it off" or "", type(value))
    end
    local checked, problem = options.check(specification, value)
    return checked, problem and "is wrong: " .. problem
  end
end

options.retry = {
  { "tries", count(10) }, { "base", options.pause }, { "cap", options.pause }, { "on_unknown", check.boolean },
}

options.quota = {
  { "rate", check.rate }, { "burst", count(1000000) }, { "max_wait", options.pause }, { "key", check.name },
  { "store", check.store },
}

--- How many there may be at once.
options.count = count

--- The name of a message action: gives the client's.
local function check_action(value)
  local action = api.find(value)
  if not action then
    return nil, "is not the name of a message action: " .. suggest.hint(value, api.method_names)
  end
  return action.method
end

options.send_all = {
  { "concurrency", count(1024) }, { "action", check_action }, { "ordered", check.boolean },
  { "on_result", check.func },
}

local function check_full(value)
  if value ~= "refuse" and value ~= "drop_oldest" then
    return nil, ('must be "refuse" (the new message) or "drop_oldest", not %s'):format(
      type(value) == "string" and text.quoted(value) or text.name(value))
  end
  return value
end

options.outbox = {
  { "entries", count(1000000) }, { "bytes", check.bytes }, { "concurrency", count(1024) }, { "full", check_full },
}

---@class rtc.Options  every one may be left out
---@field access_key string|nil  with `secret_key`; else both come from `credentials`, the environment or ~/.volc
---@field secret_key string|nil
---@field session_token string|nil  of temporary keys
---@field credentials (fun(): rtc.GivenKeys|nil, any)|nil  gives keys, or nil and why not; asked anew before they
--- expire. It may yield where the program's own scheduler resumes it, and not in PUC Lua 5.1
---@field app_id string|number|nil  default of each call; else RTC_APP_ID
---@field from string|number|nil  default of each call; else RTC_FROM
---@field endpoint string|nil  "https://host[:port]", "host", "byteplus", "singapore", "sandbox" or "sandbox:PORT"; else
--- RTC_ENDPOINT
---@field region string|nil  in the credential scope; default: the endpoint's
---@field version string|nil  default of each call; default "2020-12-01"
---@field timeout number|nil  seconds for a whole call; default 10
---@field try_timeout number|nil  seconds for one try; default 5
---@field connect_timeout number|nil  seconds to connect; default 3
---@field max_response integer|nil  bytes of an answer's body; default 1048576
---@field ca_file string|nil  trusted certificates, PEM
---@field ca_path string|nil  trusted certificates, a directory hashed by OpenSSL's `rehash`
---@field allow_http boolean|nil  plain http to other hosts than this one; default false
---@field cert_file string|nil  a certificate to show to the server, PEM
---@field key_file string|nil  its private key, PEM, not encrypted; default: in the certificate's file
---@field proxy string|false|nil  a proxy's URL; false: none; default: what the environment says
---@field keep_alive integer|false|nil  seconds that an idle connection is kept; false: each is used once; default 10
---@field pool_size integer|nil  connections at once, at most; default 64
---@field retry rtc.Retry|false|nil  default { tries = 3, base = 0.2, cap = 5, on_unknown = false }
---@field quota rtc.Quota.Options|false|nil  the client's own rate limit; default 500 a second for the account
---@field outbox rtc.Outbox.Options|nil  bounds of what is enqueued, and what happens beyond them
---@field runtime "blocking"|"luv"|"cqueues"|"skynet"|"resty"|rtc.Loop|rtc.Scheduler|nil  how to wait; default: "resty"
--- inside nginx, "skynet" in a skynet service, "cqueues" for a client made in a coroutine of a cqueues controller, else
--- "blocking"
---@field max_pending integer|nil  calls at once, at most; default 10000
---@field service string|nil  in the credential scope; default "rtc"
---@field user_agent string|nil  default "rtc-lua/VERSION"

--- Options by name, in the order in which they are checked.
options.client = {
  { "access_key", check.scope }, { "secret_key", check.token }, { "session_token", check.token },
  { "credentials", check.func },
  { "app_id", check.id }, { "from", check.id },
  { "endpoint", check.string }, { "region", check.scope }, { "version", check.version },
  { "timeout", check.seconds }, { "try_timeout", check.seconds }, { "connect_timeout", check.seconds },
  { "max_response", check.bytes }, { "ca_file", check.file }, { "ca_path", check.folder },
  { "cert_file", check.file }, { "key_file", check.file }, { "proxy", check.proxy },
  { "keep_alive", check.keep_alive }, { "pool_size", count(1024) }, { "retry", group(options.retry, true) },
  { "quota", group(options.quota, true) }, { "outbox", group(options.outbox) }, { "runtime", runtime.check },
  { "max_pending", count(1000000) }, { "service", check.scope },
  { "allow_http", check.boolean }, { "user_agent", check.line },
}

options.signer = {
  { "access_key", check.scope }, { "secret_key", check.token }, { "session_token", check.token },
  { "region", check.scope }, { "service", check.scope },
}

---@class rtc.GivenKeys  what the option `credentials` gives
---@field access_key string
---@field secret_key string
---@field session_token string|nil  of temporary keys
---@field expires number|string|nil  Unix seconds, or a time of RFC 3339, as STS gives it; default: never

options.keys = {
  { "access_key", check.scope }, { "secret_key", check.token }, { "session_token", check.token },
  { "expires", check.time },
}

--- What a message may set besides its fields.
options.message = { { "version", check.version }, { "timeout", check.seconds }, { "split", check.boolean } }

--- What a call of any action may set.
options.any_call = {
  { "version", check.version }, { "timeout", check.seconds }, { "method", check.method },
  { "query", check.query },
}

---@param specification table[]
---@return string[]
function options.names(specification)
  local names = {}
  for i, option in ipairs(specification) do
    names[i] = option[1]
  end
  return names
end

--- The name of an entry that `specification` does not have, or nil.
local function unknown(specification, given)
  local known = {}
  for _, option in ipairs(specification) do
    known[option[1]] = true
  end
  for name in pairs(given) do
    if not known[name] then
      return name
    end
  end
end

--- The known options of `given`, checked. Others are not looked at.
---@param specification table[]
---@param given table
---@return table|nil checked  a fresh table
---@return string|nil problem  names the option
---@return string|nil name
function options.values(specification, given)
  local checked = {}
  for _, option in ipairs(specification) do
    local name, check_value = option[1], option[2]
    if given[name] ~= nil then
      local value, problem = check_value(given[name])
      if value == nil then
        return nil, ("%s %s"):format(name, problem), name
      end
      checked[name] = value
    end
  end
  return checked
end

--- All options of `given`, checked; an unknown one is a problem.
---@param specification table[]
---@param given any
---@return table|nil checked  a fresh table
---@return string|nil problem  names the option
---@return string|nil name
function options.check(specification, given)
  if type(given) ~= "table" then
    return nil, ("options must be a table, not %s"):format(given == nil and "nothing" or "a " .. type(given))
  end
  local name = unknown(specification, given)
  if name ~= nil then
    return nil, ("unknown option `%s`: %s"):format(text.name(name),
      suggest.hint(name, options.names(specification))), text.name(name)
  end
  return options.values(specification, given)
end

--- One value by an option's check, for values from elsewhere (the environment).
---@param name string
---@param value any
---@param specification table[]|nil  default: the client's options
---@return any|nil checked
---@return string|nil problem
function options.one(name, value, specification)
  for _, option in ipairs(specification or options.client) do
    if option[1] == name then
      return option[2](value)
    end
  end
end

return options
