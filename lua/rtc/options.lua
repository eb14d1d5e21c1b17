--- The options of constructors as data, and one check for all of them.

local fields = require "rtc.fields"
local suggest = require "rtc.suggest"
local text = require "rtc.text"
local utc = require "rtc.utc"

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

---@class rtc.Options  every one may be left out
---@field access_key string|nil  with `secret_key`; else both come from `credentials`, the environment or ~/.volc
---@field secret_key string|nil
---@field session_token string|nil  of temporary keys
---@field credentials (fun(): rtc.GivenKeys|nil, any)|nil  gives keys, or nil and why not; asked anew before they
--- expire. It may yield, but not in PUC Lua 5.1
---@field app_id string|number|nil  default of each call; else RTC_APP_ID
---@field from string|number|nil  default of each call; else RTC_FROM
---@field endpoint string|nil  "https://host[:port]", "host", "sandbox" or "sandbox:PORT"; else RTC_ENDPOINT
---@field region string|nil  in the credential scope; default "cn-north-1"
---@field version string|nil  default of each call; default "2020-12-01"
---@field timeout number|nil  seconds for a whole call; default 10
---@field try_timeout number|nil  seconds for one try; default 5
---@field connect_timeout number|nil  seconds to connect; default 3
---@field max_response integer|nil  bytes of an answer's body; default 1048576
---@field ca_file string|nil  trusted certificates, PEM
---@field ca_path string|nil  trusted certificates, a directory hashed by OpenSSL's `rehash`
---@field allow_http boolean|nil  plain http to other hosts than this one; default false
---@field user_agent string|nil  default "rtc-lua/VERSION"

--- Options by name, in the order in which they are checked.
options.client = {
  { "access_key", check.scope }, { "secret_key", check.token }, { "session_token", check.token },
  { "credentials", check.func },
  { "app_id", check.id }, { "from", check.id },
  { "endpoint", check.string }, { "region", check.scope }, { "version", check.version },
  { "timeout", check.seconds }, { "try_timeout", check.seconds }, { "connect_timeout", check.seconds },
  { "max_response", check.bytes }, { "ca_file", check.file }, { "ca_path", check.folder },
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

--- What a single call may set besides its fields.
options.call = { { "version", check.version }, { "timeout", check.seconds } }

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
function options.check(specification, given)
  if type(given) ~= "table" then
    return nil, ("options must be a table, not %s"):format(given == nil and "nothing" or "a " .. type(given))
  end
  local name = unknown(specification, given)
  if name ~= nil then
    return nil, ("unknown option `%s`: %s"):format(text.name(name),
      suggest.hint(name, options.names(specification)))
  end
  return options.values(specification, given)
end

--- One value by an option's check, for values from elsewhere (the environment).
---@param name string
---@param value any
---@return any|nil checked
---@return string|nil problem
function options.one(name, value)
  for _, option in ipairs(options.client) do
    if option[1] == name then
      return option[2](value)
    end
  end
end

return options
