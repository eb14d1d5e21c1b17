--- Where the keys come from: given to the constructor, the sandbox's own, or the environment.
---
--- Always one source for all of them: half a pair from here and half from there signs as nobody.

local environment = require "rtc.environment"
local options = require "rtc.options"
local sandbox = require "rtc.sandbox.defaults"

local credentials = {}

---@class rtc.Credentials
---@field access_key string
---@field secret_key string
---@field session_token string|nil

local how_to_get = "pass access_key and secret_key to rtc.new, or set VOLC_ACCESSKEY and VOLC_SECRETKEY; "
  .. 'or try rtc.new "sandbox", with `rtc sandbox` running in another terminal'

local function explicit(given)
  if not given.access_key then
    return nil, ("access_key is missing beside %s: explicit keys come as a pair")
      :format(given.secret_key and "secret_key" or "session_token")
  elseif not given.secret_key then
    return nil, "secret_key is missing beside access_key: explicit keys come as a pair"
  end
  return { access_key = given.access_key, secret_key = given.secret_key, session_token = given.session_token }
end

local function from_environment()
  local keys = {}
  for _, pair in ipairs { { "access_key", "VOLC_ACCESSKEY" }, { "secret_key", "VOLC_SECRETKEY" } } do
    local option, variable = pair[1], pair[2]
    local value = environment.get(variable)
    if not value then
      return nil, ("no keys: %s is not set; %s"):format(variable, how_to_get)
    end
    local checked, problem = options.one(option, value)
    if not checked then
      return nil, ("%s %s"):format(variable, problem)
    end
    keys[option] = checked
  end
  return keys
end

--- The keys for a client.
---@param given table  checked options
---@param endpoint rtc.Endpoint
---@return rtc.Credentials|nil
---@return string|nil problem
function credentials.find(given, endpoint)
  if given.access_key or given.secret_key or given.session_token then
    return explicit(given)
  elseif endpoint.sandbox then
    return { access_key = sandbox.access_key, secret_key = sandbox.secret_key } -- real keys never go there
  end
  return from_environment()
end

return credentials
