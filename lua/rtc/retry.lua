--- Whether to try again, and after how long: exponential backoff with full jitter.
---
--- What may be tried again is what cannot deliver twice: nothing was sent, or it was refused for its rate.

local core = require("rtc.native").load("rtc.core")
local utc = require "rtc.utc"

local retry = {}

---@class rtc.Retry
---@field tries integer  of a call, at most
---@field base number  seconds that the first wait has at most; each further one may be twice as long
---@field cap number  seconds that no wait is longer than, but for what the service asks
---@field on_unknown boolean  try again, too, when the message may have been delivered: rather twice than never

---@type rtc.Retry
retry.none = { tries = 1, base = 0, cap = 0, on_unknown = false }

--- Makes a policy.
---@param given table|false|nil  checked; false: one try
---@return rtc.Retry
function retry.new(given)
  if given == false then
    return retry.none
  end
  given = given or {}
  return {
    tries = given.tries or 3, base = given.base or 0.2, cap = given.cap or 5, on_unknown = given.on_unknown or false,
  }
end

--- The service counts by the second: what it throttled waits for another one on average half of it.
local THROTTLED = 1

--- `Retry-After` in seconds: a number of them, or a date (RFC 9110, section 10.2.3).
---@param value string|nil  the header
---@param now integer  Unix seconds
---@return number|nil seconds  nil when there is none that can be read
function retry.read_after(value, now)
  if not value then
    return nil
  elseif value:find("^%d+$") then
    return math.min(tonumber(value), 999999999) -- more than that is for ever, too
  end
  local date = utc.parse_http(value)
  return date and math.max(0, date - now)
end

--- Whether another try of what may have been carried out can go better.
local function can_improve(err)
  local status = err.http_status
  return err.kind ~= "cancelled" and err.code ~= "AnswerTooLarge"
    and (not status or status >= 500 or status == 408 or status == 429 or err.kind == "response" and status < 300)
end

--- Whether a call may be tried again after this error.
---@param policy rtc.Retry
---@param err rtc.Error  of the last try
---@param call rtc.Call
---@return boolean
function retry.allows(policy, err, call)
  if err.outcome == "unknown" then
    -- What reads may be carried out twice, RFC 9110 section 9.2.2.
    return (policy.on_unknown or call.method == "GET") and can_improve(err)
  end
  return err.retryable
end

--- How long to wait before the next try.
---@param policy rtc.Retry
---@param err rtc.Error  of the last try
---@param tries integer  made so far
---@return number seconds
function retry.wait(policy, err, tries)
  local longest = math.min(policy.cap, policy.base * 2 ^ (tries - 1))
  if err.outcome == "rejected" then
    longest = math.max(longest, math.min(policy.cap, THROTTLED))
  end
  return (err.retry_after or 0) + core.random() * longest
end

return retry
