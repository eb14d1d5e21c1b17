--- Checks the fields of a call against api.lua, and writes them as the JSON body.
---
--- Values come from live data, so a bad one is an answer (`nil, problem`), never a raise.

local api = require "rtc.api"
local core = require("rtc.native").load("rtc.core")
-- A private instance: other code may set the shared one to do something else.
local json = require("cjson").new()

local fields = {}

--- Whole numbers up to here are exact as doubles.
local exact = 2 ^ 53

local subtype = rawget(math, "type") -- from Lua 5.3 on there are integers, exact to 2^63

local function article(value)
  return value == nil and "nothing" or "a " .. type(value)
end

--- The number as the text of an ID, or nil. Written the same by every Lua: 42.0 is "42".
local function integral(number)
  if subtype and subtype(number) == "integer" then
    return ("%d"):format(number)
  end
  if number % 1 ~= 0 or number <= -exact or number >= exact then
    return nil
  end
  return number == 0 and "0" or ("%.0f"):format(number) -- or else "-0" for -0.0
end

--- What is wrong with a number that is no ID.
local function not_integral(number)
  if number ~= number then
    return "is not a number: it is NaN"
  elseif number == math.huge or number == -math.huge then
    return "is infinite: an ID is a string or a whole number"
  elseif number % 1 ~= 0 then
    return ("is the number %s: an ID is a string or a whole number; pass it as a string"):format(number)
  end
  return "is beyond 2^53, where numbers lose digits: pass it as a string"
end

local function describe_byte(byte)
  if byte == 32 then
    return "a space"
  elseif byte > 32 and byte < 127 then
    return ("`%c`"):format(byte)
  end
  return ("the byte 0x%02X"):format(byte)
end

--- An ID as a string, or nil and what is wrong with it ("is …", "has …").
---@param value any
---@return string|nil id
---@return string|nil problem
function fields.id(value)
  if type(value) == "number" then
    local text = integral(value)
    if not text then
      return nil, not_integral(value)
    end
    value = text
  elseif type(value) ~= "string" then
    return nil, ("must be a string or a whole number, not %s"):format(article(value))
  end
  if value == "" then
    return nil, "is empty: " .. api.id.rule
  elseif #value > api.id.max then
    return nil, ("has %d characters: %s"):format(#value, api.id.rule)
  elseif not value:find(api.id.pattern) then
    local at = value:find(api.id.other)
    return nil, ("has %s at position %d: %s"):format(describe_byte(value:byte(at)), at, api.id.rule)
  end
  return value
end

--- How many entries a list has; nil when it is none, or has a hole.
local function list_length(value)
  local count = 0
  for _ in next, value do -- without metamethods, which could raise
    count = count + 1
  end
  for i = 1, count do
    if rawget(value, i) == nil then
      return nil
    end
  end
  return count
end

--- A list of IDs as strings, or nil, what is wrong, and with which entry if it is one.
---@param value any
---@param name string  of the field
---@return string[]|nil ids
---@return string|nil problem
---@return string|nil entry  such as "to[3]"
function fields.ids(value, name)
  local count = type(value) == "table" and list_length(value)
  if not count then
    return nil, ("must be a list of IDs, not %s"):format(
      type(value) == "table" and "a table with other keys or holes" or article(value))
  elseif count == 0 then
    return nil, "is empty: name at least one receiver"
  end
  local ids = {}
  for i = 1, count do
    local id, problem = fields.id(rawget(value, i))
    if not id then
      return nil, problem, ("%s[%d]"):format(name, i)
    end
    ids[i] = id
  end
  return ids
end

--- Each type: the value, its field, and all fields of the call -> JSON text, or nil, what is wrong, and of which entry.
local write = {}

function write.id(value)
  local id, problem = fields.id(value)
  if not id then
    return nil, problem
  end
  return '"' .. id .. '"' -- its characters need no escape
end

function write.ids(value, field)
  local ids, problem, entry = fields.ids(value, field.name)
  if not ids then
    return nil, problem, entry
  elseif #ids > field.max then
    return nil, ("has %d entries, and the service takes at most %d in a call: pass split = true")
      :format(#ids, field.max)
  end
  return '["' .. table.concat(ids, '","') .. '"]'
end

function write.boolean(value)
  if type(value) ~= "boolean" then
    return nil, ("must be true or false, not %s"):format(article(value))
  end
  return value and "true" or "false"
end

--- Text goes as it is, raw bytes as base64. Empty messages and NUL in text are the service's to judge: its
--- documentation says nothing of them.
function write.message(value, field, given)
  if type(value) ~= "string" then
    return nil, ("must be a string, not %s: convert it, for example with tostring() or a JSON encoder")
      :format(article(value))
  elseif #value > field.max then
    return nil, ("has %d bytes, and the service takes at most %d: shorten it, or send it in parts")
      :format(#value, field.max)
  end
  if given.binary then
    return '"' .. core.base64(value) .. '"' -- not by cjson, which would write `/` as `\/`
  end
  local at = core.utf8_error(value)
  if at then
    return nil, ("is not valid UTF-8: byte 0x%02X at position %d; pass binary = true to send raw bytes")
      :format(value:byte(at), at)
  end
  return json.encode(value)
end

--- The JSON body of a call, written in wire order: the same fields give the same bytes, and so the same signature.
---@param action rtc.api.Action
---@param given table  fields by their Lua names
---@param defaults table  used for what is not given
---@return string|nil body
---@return string|nil problem  names the field, what is wrong, and the remedy
---@return string|nil field
function fields.encode(action, given, defaults)
  local parts = {}
  for i, field in ipairs(action.fields) do
    local value = given[field.name]
    if value == nil then
      value = defaults[field.name]
    end
    if value == nil then
      value = field.default
    end
    if value == nil then
      return nil, ("%s is missing: %s"):format(field.name, field.remedy or "pass it in the call"), field.name
    end
    local text, problem, entry = write[field.type](value, field, given)
    if not text then
      return nil, ("%s %s"):format(entry or field.name, problem), field.name
    end
    parts[i] = '"' .. field.wire .. '":' .. text
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

return fields
