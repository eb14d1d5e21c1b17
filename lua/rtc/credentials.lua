--- Where the keys come from: given to the constructor, the sandbox's own, the environment, or the files of the official
--- SDKs.
---
--- Always one source for all of them: half a pair from here and half from there signs as nobody.

local environment = require "rtc.environment"
local key_file = require "rtc.key_file"
local options = require "rtc.options"
local sandbox = require "rtc.sandbox.defaults"
local text = require "rtc.text"

local credentials = {}

---@class rtc.Credentials  keys, or the function that gives them
---@field source string  where they were found, for people
---@field access_key string|nil
---@field secret_key string|nil
---@field session_token string|nil  of temporary keys
---@field provider (fun(): rtc.GivenKeys|nil, any)|nil

---@class rtc.Credentials.Source
---@field name string  for people
---@field read fun(): rtc.Credentials|nil, string|nil  the keys (still without `source`), or what is wrong with them;
--- nothing when none are there

local nothing_found = "pass access_key and secret_key (or a function, as credentials) to rtc.new, or set "
  .. "VOLC_ACCESSKEY and VOLC_SECRETKEY, or write ~/.volc/credentials; "
  .. 'or try rtc.new "sandbox", with `rtc sandbox` running in another terminal'

local parts = { "access_key", "secret_key", "session_token" }

--- The whole set of keys that a source has; nothing when it has no part of it.
---@param names table<string, string>  what the source calls the parts
---@param get fun(name: string): any  a part; nil or "": it is not there
---@param where string  what to add to a name in a message
---@return rtc.Credentials|nil
---@return string|nil problem
local function collect(names, get, where)
  local keys, present = {}, nil
  for _, part in ipairs(parts) do
    local name = names[part]
    local value = name and get(name)
    if value ~= nil and value ~= "" then
      local checked, problem = options.one(part, value)
      if not checked then
        return nil, ("%s%s %s"):format(name, where, problem)
      end
      keys[part], present = checked, present or name
    end
  end
  local missing = not keys.access_key and names.access_key or not keys.secret_key and names.secret_key
  if present and missing then
    return nil, ("%s is not set beside %s%s: they come as a pair"):format(missing, present, where)
  end
  return present and keys or nil
end

local function explicit(given)
  local names = { access_key = "access_key", secret_key = "secret_key", session_token = "session_token" }
  return {
    name = "access_key and secret_key, given to rtc.new",
    read = function()
      if given.credentials then
        return nil, "credentials and keys are both given: pass one or the other"
      end
      return collect(names, function(name) return given[name] end, "")
    end,
  }
end

local function from_function(given)
  return {
    name = "the function given to rtc.new as credentials",
    read = function() return { provider = given.credentials } end,
  }
end

local preset = {
  name = "the sandbox's ready-made keys",
  read = function() return { access_key = sandbox.access_key, secret_key = sandbox.secret_key } end,
}

local variables = {
  { -- of volc-sdk-*
    access_key = "VOLC_ACCESSKEY", secret_key = "VOLC_SECRETKEY", session_token = "VOLC_SESSIONTOKEN",
  },
  { -- of the newer volcengine-*-sdk
    access_key = "VOLCENGINE_ACCESS_KEY", secret_key = "VOLCENGINE_SECRET_KEY",
    session_token = "VOLCENGINE_SESSION_TOKEN",
  },
}

local function from_environment(names)
  return {
    name = ("the environment: %s, %s"):format(names.access_key, names.secret_key),
    read = function() return collect(names, environment.get, "") end,
  }
end

--- The files in volc-sdk-python's order, and what each may call the keys. No official SDK reads a session token from
--- `config`.
local files = {
  {
    path = "/.volc/credentials", parse = key_file.ini, lack = "access_key_id and secret_access_key under [default]",
    { access_key = "access_key_id", secret_key = "secret_access_key", session_token = "session_token" },
  },
  {
    path = "/.volc/config", parse = key_file.json, lack = '"ak" and "sk"',
    { access_key = "ak", secret_key = "sk" }, -- Go, Python, Java
    { access_key = "VOLC_ACCESSKEY", secret_key = "VOLC_SECRETKEY" }, -- Node
  },
}

--- The set of keys in a file; nothing when there is no file. One without keys is a mistake.
local function collect_from_file(file, path)
  local shown = text.excerpt(path, 200)
  local values, problem = file.parse(path)
  for _, names in ipairs(values and file or {}) do
    local keys, wrong = collect(names, function(name) return values[name] end, " in " .. shown)
    if keys or wrong then
      return keys, wrong
    end
  end
  if values then
    problem = "has no " .. file.lack
  end
  return nil, problem and ("%s %s: mend it, or set VOLC_ACCESSKEY and VOLC_SECRETKEY"):format(shown, problem)
end

local function from_file(file)
  local home = environment.get("HOME")
  return {
    name = text.excerpt((home or "~") .. file.path, 200),
    read = function()
      if home then
        return collect_from_file(file, home .. file.path)
      end
    end,
  }
end

--- Every place where the keys of a client may be, in the order in which they are looked for. Nothing is read before
--- its `read` is called.
---@param given table  checked options
---@param endpoint rtc.Endpoint
---@return rtc.Credentials.Source[]
function credentials.sources(given, endpoint)
  local sources = {}
  if given.access_key or given.secret_key or given.session_token then
    sources[#sources + 1] = explicit(given)
  end
  if given.credentials then
    sources[#sources + 1] = from_function(given)
  end
  if endpoint.sandbox then
    sources[#sources + 1] = preset
    return sources -- real keys never go there
  end
  for _, names in ipairs(variables) do
    sources[#sources + 1] = from_environment(names)
  end
  for _, file in ipairs(files) do
    sources[#sources + 1] = from_file(file)
  end
  return sources
end

--- The keys for a client: those of the first source that has any. One that has them wrong ends the search, since
--- another's would sign as somebody else than was meant.
---@param given table  checked options
---@param endpoint rtc.Endpoint
---@return rtc.Credentials|nil
---@return string|nil problem  never shows a part of a key
function credentials.find(given, endpoint)
  for _, source in ipairs(credentials.sources(given, endpoint)) do
    local found, problem = source.read()
    if found then
      found.source = source.name
      return found
    elseif problem then
      return nil, "no keys: " .. problem
    end
  end
  return nil, "no keys: " .. nothing_found
end

return credentials
