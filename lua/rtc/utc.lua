--- Times as the service and HTTP write them, read as Unix time: the same in whatever zone this machine is.

local utc = {}

-- Days from 1970-01-01 to a date of the Gregorian calendar; a month 13 is the next year's first. os.time would read
-- the date in the local zone.
local function days(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  local leap_days = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return 365 * year + leap_days + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

-- Takes numbers or their digits; nil when there is no such time, or no year. A leap second is none: Unix time has
-- no number for it.
local function unix_time(year, month, day, hour, minute, second)
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  if not year or month < 1 or month > 12 or hour > 23 or minute > 59 or second > 59 then
    return nil
  elseif day < 1 or day > days(year, month + 1, 1) - days(year, month, 1) then
    return nil
  end
  return days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
end

--- Reads an ISO 8601 basic time in UTC, as X-Date has it: `20250102T030405Z`.
---@param text string
---@return integer|nil seconds Unix time; nil when the text is not such a time
function utc.parse_basic(text)
  return unix_time(text:match("^(%d%d%d%d)(%d%d)(%d%d)T(%d%d)(%d%d)(%d%d)Z$"))
end

local months = {
  Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11, Dec = 12,
}

local weekdays = { [0] = "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed" } -- by the days since 1970-01-01, modulo 7

--- Reads a date of HTTP, as the header Date has it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7; only
--- the form that servers must send today). The day of the week must be the date's.
---@param text string
---@return integer|nil seconds Unix time; nil when the text is not such a time
function utc.parse_http(text)
  local weekday, day, month, year, hour, minute, second =
    text:match("^(%u%l%l), (%d%d) (%u%l%l) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  local seconds = months[month] and unix_time(year, months[month], day, hour, minute, second)
  return seconds and weekdays[math.floor(seconds / 86400) % 7] == weekday and seconds or nil
end

-- The seconds that a zone like `+08:00` is ahead of UTC.
local function offset(zone)
  if zone == "Z" or zone == "z" then
    return 0
  end
  local sign, hours, minutes = zone:match("^([+-])(%d%d):(%d%d)$")
  hours, minutes = tonumber(hours), tonumber(minutes)
  if not sign or hours > 23 or minutes > 59 then
    return nil
  end
  return (sign == "+" and 1 or -1) * (hours * 3600 + minutes * 60)
end

--- Reads a time of RFC 3339 (section 5.6): `2021-04-12T10:57:09+08:00`, `2021-04-12T02:57:09.125Z`. A fraction of a
--- second is dropped.
---@param text string
---@return integer|nil seconds Unix time; nil when the text is not such a time
function utc.parse_rfc3339(text)
  local year, month, day, hour, minute, second, rest =
    text:match("^(%d%d%d%d)-(%d%d)-(%d%d)[Tt](%d%d):(%d%d):(%d%d)(.*)$")
  local seconds = unix_time(year, month, day, hour, minute, second)
  local ahead = seconds and offset((rest:gsub("^%.%d+", "")))
  return ahead and seconds - ahead
end

return utc
