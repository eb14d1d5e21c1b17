--- The store of the rate limit for one Lua state: GCRA in a table.

local gcra = require "rtc.quota.gcra"

local memory = {}

---@class rtc.QuotaStore  where the count is kept
---@field take fun(key: string, now: number, rate: number, burst: integer, max_wait: number): number|nil, number|nil
--- takes one slot of `key`'s: the seconds until it comes; or nil, and after how many seconds one is free for somebody
--- who does not wait, when that is more than `max_wait`; then none is taken

--- So many keys at most wait to be forgotten.
local MANY = 1000

--- By key, when the next message is due.
local due, count = {}, 0

local function forget_the_old(now)
  for key, time in pairs(due) do
    if time <= now then
      due[key] = nil
      count = count - 1
    end
  end
end

--- Takes a slot.
---@param key string
---@param now number  monotonic seconds
---@param rate number  slots a second
---@param burst integer  slots that may be taken at once
---@param max_wait number  seconds
---@return number|nil wait  seconds until the slot comes
---@return number|nil retry_after  seconds, when none was taken
function memory.take(key, now, rate, burst, max_wait)
  local wait, next_due = gcra.next(due[key], now, rate, burst)
  if wait > max_wait then
    return nil, wait
  end
  if not due[key] then
    if count >= MANY then
      forget_the_old(now)
    end
    count = count + 1
  end
  due[key] = next_due
  return wait
end

return memory
