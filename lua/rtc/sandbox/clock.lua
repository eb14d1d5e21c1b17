--- X-Date, as Unix time.
local clock = {}

-- Days from 1970-01-01 to a date of the Gregorian calendar. os.time would read the date in the local zone.
local function days(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  local leap_days = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return 365 * year + leap_days + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

--- Reads an ISO 8601 basic time in UTC, `20250102T030405Z`.
---@param text string
---@return integer|nil seconds Unix time; nil when the text is not such a time
function clock.parse(text)
  local year, month, day, hour, minute, second = text:match("^(%d%d%d%d)(%d%d)(%d%d)T(%d%d)(%d%d)(%d%d)Z$")
  if not year then
    return nil
  end
  local seconds = days(tonumber(year), tonumber(month), tonumber(day)) * 86400
    + tonumber(hour) * 3600
    + tonumber(minute) * 60
    + tonumber(second)
  -- A date that does not exist, like the 31st of June, comes back as another one.
  if os.date("!%Y%m%dT%H%M%SZ", seconds) ~= text then
    return nil
  end
  return seconds
end

return clock
