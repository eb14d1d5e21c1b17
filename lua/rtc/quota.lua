--- The client's own rate limit: it waits a little, or refuses, before the service would.
---
--- The service takes 500 messages a second, summed over the four message actions. Its pages of 2024 count per AppId,
--- those since 2025 per account, and for all AppIds of an account together: the account is the default here.

local errors = require "rtc.error"
local fields = require "rtc.fields"
local memory = require "rtc.quota.memory"
local text = require "rtc.text"

local quota = {}

---@class rtc.Quota.Options
---@field rate number|nil  messages a second; default 500
---@field burst integer|nil  messages that may go out at once; default 25. A second sees at most `rate + burst`
---@field max_wait number|nil  seconds that a call waits for its turn, within its timeout; default 1
---@field key string|nil  what the limit is counted by: "account" (the access key; the default), "app_id" (the AppId of
--- each call), or another name, which all clients that give it share
---@field store rtc.QuotaStore|nil  where the count is kept. Default: in this Lua state; inside nginx, in the dict that
--- `lua_shared_dict rtc_quota` declares, for all workers together, and without one `rate` and `burst` are divided by
--- their number

---@class rtc.Quota.Sharing  whom the runtime has the limit shared with
---@field workers integer|nil  processes that send for the account, each for itself; default 1
---@field store rtc.QuotaStore|nil  that all of them have

---@class rtc.Quota
local methods = {}
local metatable = { __index = methods, __name = "rtc.quota" }

local SHARE = "Let nginx's workers share one limit: write `lua_shared_dict rtc_quota 1m;` into the http block of "
  .. "nginx.conf. "

local function refused(self, call, retry_after)
  local divided = self.workers > 1
  local who, share = divided and "worker" or "client", divided and " divided by the number of workers" or ""
  return errors.new {
    kind = "quota", code = "QuotaExceeded", action = call.action, retry_after = retry_after,
    message = ("the %s sends %g messages a second already (quota.rate%s), and the next slot is free in %.3f seconds")
      :format(who, self.rate, share, retry_after),
    advice = (divided and SHARE or "")
      .. "Try again after err.retry_after seconds, or let calls wait for longer (quota.max_wait, timeout). If "
      .. "another limit was agreed on with the service, set quota.rate; quota = false switches this one off.",
    outcome = "not_sent", retryable = true,
  }
end

local function store_failed(call, problem)
  return errors.new {
    kind = "config", code = "QuotaStoreFailed", action = call.action, outcome = "not_sent", retryable = true,
    message = "the store of the rate limit (quota.store) " .. problem,
  }
end

--- A store's `take` that gives what is wrong with it as a third value.
local function guarded(take)
  return function(...)
    local max_wait = select(5, ...)
    local ok, wait, retry_after = pcall(take, ...)
    if not ok then
      return nil, nil, "raised: " .. text.raised(wait)
    elseif type(wait) == "number" and wait >= 0 and wait <= max_wait and wait < math.huge then
      return wait
    elseif not wait and type(retry_after) == "number" and retry_after >= 0 and retry_after < math.huge then
      return nil, retry_after
    end
    return nil, nil, "gave neither seconds to wait, up to max_wait, nor nil and seconds after which to try again"
  end
end

--- Waits for a slot.
---@param runtime rtc.Runtime
---@param call rtc.Call
---@param left number  seconds that the call may still take
---@return rtc.Error|nil err  when none comes in time
function methods:take(runtime, call, left)
  local key = self.key == "app_id" and "app_id:" .. (fields.id(call.app_id) or "") or self.key
  local max_wait = call.patient and left or math.min(self.max_wait, left)
  local wait, retry_after, problem = self.take_slot(key, runtime.now(), self.rate, self.burst, max_wait)
  if problem then
    return store_failed(call, problem)
  elseif not wait then
    return refused(self, call, retry_after)
  elseif wait > 0 then
    runtime.sleep(wait)
  end
end

--- Makes a limit.
---@param given rtc.Quota.Options|false|nil  checked; false: there is none
---@param account string  names the account
---@param sharing rtc.Quota.Sharing|nil
---@return rtc.Quota|nil
function quota.new(given, account, sharing)
  if given == false then
    return nil
  end
  given = given or {}
  local key = given.key or "account"
  if key == "account" then
    key = "account:" .. account
  elseif key ~= "app_id" then
    key = "name:" .. key
  end
  sharing = sharing or {}
  local store = given.store or sharing.store
  local workers = not store and sharing.workers or 1
  return setmetatable({
    rate = (given.rate or 500) / workers, burst = math.max(1, math.floor((given.burst or 25) / workers)),
    max_wait = given.max_wait or 1, key = key, workers = workers,
    take_slot = store and guarded(store.take) or memory.take,
  }, metatable)
end

return quota
