--- rtc credentials: shows each place where the keys are looked for, and which one wins. Nothing secret, and nothing is
--- sent.

local credentials = require "rtc.credentials"
local json_line = require "rtc.cli.json_line"
local target = require "rtc.cli.target"
local terminal = require "rtc.cli.terminal"
local text = require "rtc.text"
local words = require "rtc.cli.words"

---@class rtc.cli.Place  a source of keys, and what became of it
---@field source string
---@field used boolean
---@field access_key string|nil  masked
---@field session_token boolean|nil  whether there is one
---@field error string|nil  what is wrong with it

--- The places, in the order in which they are looked at.
---@param found rtc.Credentials|nil
---@param at rtc.Endpoint
---@return rtc.cli.Place[]
local function places(found, at)
  local list = {}
  for i, source in ipairs(credentials.sources({}, at)) do
    local keys, problem = source.read()
    list[i] = {
      source = source.name, used = found ~= nil and found.source == source.name,
      access_key = keys and text.masked(keys.access_key), session_token = keys and keys.session_token ~= nil,
      error = problem and words.translate(problem),
    }
  end
  return list
end

local function line(place)
  if place.error then
    return ("wrong     %s\n"):format(place.error) -- which names the place
  elseif not place.access_key then
    return ("not set   %s\n"):format(place.source)
  end
  return ("%-9s %s (access key %s, %s session token)\n"):format(place.used and "used" or "not used", place.source,
    place.access_key, place.session_token and "with a" or "no")
end

local function as_json(place)
  return json_line {
    { "source", place.source }, { "used", place.used }, { "error", place.error }, { "access_key", place.access_key },
    { "session_token", place.session_token },
  }
end

---@param given table  the command line's options
---@return integer exit code
return function(given)
  local at = target.endpoint(given)
  local found, problem = credentials.find({}, at)
  for _, place in ipairs(places(found, at)) do
    terminal.write(given.json and as_json(place) or line(place))
  end
  if not found then
    terminal.finish(terminal.FAILED, words.translate(problem))
  end
  return terminal.DONE
end
