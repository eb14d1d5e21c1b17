--- The client's wall clock: this machine's, corrected by what the service says when it refuses a request for its time.

local utc = require "rtc.utc"

local clock = {}

---@class rtc.Clock
---@field offset integer  seconds that are added to this machine's time
local methods = {}
local metatable = { __index = methods, __name = "rtc.clock" }

--- A difference that can't be why a request was refused: the answer's date is in whole seconds and took its time.
local TOLERANCE = 2

---@return integer seconds  Unix time
function methods:now()
  return os.time() + self.offset
end

--- Takes the time from an answer.
---@param date string|nil  its Date header, RFC 9110 section 6.6.1
---@return boolean corrected  false when there is no such date, or when it says what the clock does
function methods:correct(date)
  local time = date and utc.parse_http(date)
  if not time or math.abs(time - self:now()) <= TOLERANCE then
    return false
  end
  self.offset = time - os.time()
  return true
end

---@return rtc.Clock
function clock.new()
  return setmetatable({ offset = 0 }, metatable)
end

return clock
