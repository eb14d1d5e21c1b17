--- The limit of calls a second: one token bucket per AppId, as large as a second's worth, for all actions together.
local flow = {}
flow.__index = flow

--- A new limit.
---@param rate number tokens a second, and the size of a bucket
---@param now fun(): number monotonic seconds
function flow.new(rate, now)
  return setmetatable({ rate = rate, now = now, buckets = {} }, flow)
end

--- Takes one token.
---@param app_id string
---@return boolean allowed
function flow:take(app_id)
  local time = self.now()
  local bucket = self.buckets[app_id]
  if not bucket then
    bucket = { tokens = self.rate, time = time }
    self.buckets[app_id] = bucket
  end
  bucket.tokens = math.min(self.rate, bucket.tokens + (time - bucket.time) * self.rate)
  bucket.time = time
  if bucket.tokens < 1 then
    return false
  end
  bucket.tokens = bucket.tokens - 1
  return true
end

return flow
