--- What signs a client's calls: one signer for good, or one after the other, of keys that a function gives.

local errors = require "rtc.error"
local options = require "rtc.options"
local text = require "rtc.text"

local provider = {}

--- Seconds before their end at which keys are renewed, as the official SDKs do; half their life when that is less.
local EARLY = 60
--- Seconds from a failure of the function on for which it is not asked again.
local PAUSE = 1
--- Seconds between two looks at whether the function has returned to another call.
local STEP = 0.02
--- Seconds after which a call that is still in the function counts as gone, and another may ask it: nginx, for one, can
--- end a request in the midst of it.
local LOST = 60

---@class rtc.Keys  the signer that a call is signed with. It has the keys, and nothing here gives them away
---@field signer fun(self: rtc.Keys, runtime: rtc.Runtime, deadline: number): rtc.Signer|nil, rtc.Error|nil  may wait
--- until `deadline`, which is a time of `runtime.now()`
---@field label fun(self: rtc.Keys): string  for printing: the access key, masked

local static = {}
local static_mt = { __index = static, __name = "rtc.keys" }

function static:signer()
  return self.made
end

function static:label()
  return self.masked
end

--- Keys that stay.
---@param signer rtc.Signer
---@param label string  the access key, masked
---@return rtc.Keys
function provider.static(signer, label)
  return setmetatable({ made = signer, masked = label }, static_mt)
end

---@class rtc.RenewedKeys: rtc.Keys
---@field ask fun(): rtc.GivenKeys|nil, any
---@field make_signer fun(keys: rtc.GivenKeys): rtc.Signer|nil, string|nil
---@field now fun(): number  Unix seconds
---@field made rtc.Signer|nil  of the present keys
---@field masked string|nil  their access key
---@field expires number|nil  Unix seconds
---@field renew_at number|nil  Unix seconds
---@field asked_at number|nil  when the call that is in the function now went in, by the runtime's clock
---@field failure string|nil  why the function gave no keys when it was asked last
---@field failed_at number|nil  by the runtime's clock
local renewing = {}
local renewing_mt = { __index = renewing, __name = "rtc.keys" }

--- Asks the function, and takes what it gives.
---@return string|nil problem
local function fetch(self)
  local given, reason = self.ask()
  if given == nil then
    return "gave no keys: " .. text.raised(reason)
  elseif type(given) ~= "table" then
    return ("returned a %s: it must return { access_key = …, secret_key = … }, or nil and why not"):format(type(given))
  end
  local signer
  local keys, problem = options.values(options.keys, given)
  if keys then
    signer, problem = self.make_signer(keys)
  end
  if not signer then
    return "gave keys that can't be used: " .. problem
  end
  local life = keys.expires and keys.expires - self.now()
  if life and life <= 0 then
    return ("gave keys that expired %.0f seconds ago"):format(math.abs(life))
  end
  self.made, self.masked, self.expires = signer, text.masked(keys.access_key), keys.expires
  self.renew_at = life and keys.expires - math.min(EARLY, life / 2)
end

--- Fetches keys, and notes whether that failed.
local function renew(self, runtime)
  local mine = runtime.now()
  self.asked_at = mine
  local ok, problem = pcall(fetch, self)
  if not ok then
    problem = "raised: " .. text.raised(problem)
  end
  self.failure, self.failed_at = problem, problem and runtime.now()
  if self.asked_at == mine then
    self.asked_at = nil
  end
end

local function failed(problem)
  return errors.new {
    kind = "config", code = "CredentialsFailed", message = "the function given as credentials " .. problem,
    outcome = "not_sent",
  }
end

local function timed_out()
  return errors.new {
    kind = "timeout", code = "Timeout", outcome = "not_sent", retryable = true,
    message = "another call still waits for keys from the function given as credentials",
  }
end

function renewing:signer(runtime, deadline)
  while true do
    local time, tick = self.now(), runtime.now()
    local usable = self.made and not (self.expires and time >= self.expires) and self.made or nil
    if usable and not (self.renew_at and time >= self.renew_at) then
      return usable
    elseif self.asked_at and tick < self.asked_at + LOST then
      if usable then
        return usable
      elseif tick >= deadline then
        return nil, timed_out()
      end
      runtime.sleep(math.min(STEP, deadline - tick))
    elseif self.failure and tick < self.failed_at + PAUSE then
      return usable, not usable and failed(self.failure) or nil
    else
      renew(self, runtime)
      if not self.failure then
        return self.made
      end
    end
  end
end

function renewing:label()
  return self.masked or "from a function"
end

--- Keys that a function gives, and gives anew before they expire. It is never asked twice at once: while a call is in
--- it, others go on with the present keys, or wait. When it fails, the present keys are used as long as they last.
---@param ask fun(): rtc.GivenKeys|nil, any  may yield (in PUC Lua 5.1 it can't) and raise
---@param make_signer fun(keys: rtc.GivenKeys): rtc.Signer|nil, string|nil  or what is wrong with the keys
---@param now fun(): number  Unix seconds
---@return rtc.Keys
function provider.renewing(ask, make_signer, now)
  return setmetatable({ ask = ask, make_signer = make_signer, now = now }, renewing_mt)
end

return provider
