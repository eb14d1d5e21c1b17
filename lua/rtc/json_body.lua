--- The body of a call of any action, as JSON.

local core = require("rtc.native").load("rtc.core")
local text = require "rtc.text"
-- A private instance: other code may set the shared one to do something else.
local json = require("cjson").new()

local json_body = {}

--- lua-cjson writes 14 digits of a number; a longer whole number would be another one.
local most_digits = 1e14

--- Where in a value stands a whole number that would lose digits. The value has no cycles: it was written already, and
--- without its metatables.
---@return string|nil path
local function imprecise(value, path)
  if type(value) == "number" then
    return (value >= most_digits or value <= -most_digits) and value % 1 == 0 and path or nil
  elseif type(value) ~= "table" then
    return nil
  end
  for name, inner in next, value do
    local where = ("%s%s%s"):format(path, path == "" and "" or ".", text.name(name))
    local found = imprecise(name, where) or imprecise(inner, where)
    if found then
      return found
    end
  end
end

local function write_table(body)
  local ok, written = pcall(json.encode, body)
  if not ok then
    return nil, "cannot be written as JSON: " .. text.raised(written)
  end
  local path = imprecise(body, "")
  local at = core.utf8_error(written)
  if path then
    return nil, ("has a whole number of 15 digits or more as %s, and would lose some: pass it as a string, or the "
      .. "whole body as JSON"):format(path)
  elseif at then
    return nil, ("has a string in it that is not UTF-8 (byte 0x%02X)"):format(written:byte(at))
  end
  return written
end

--- Writes a body.
---@param body table|string|nil  a string is JSON already
---@param method "POST"|"GET"
---@return string|nil written  nil without a problem: none is sent
---@return string|nil problem
function json_body.write(body, method)
  if method == "GET" then
    return nil, body ~= nil and "must be nil with GET: its parameters go into query" or nil
  elseif body == nil then
    return "{}"
  elseif type(body) == "table" then
    return write_table(body)
  elseif type(body) ~= "string" then
    return nil, "must be a table or a JSON string, not a " .. type(body)
  end
  return body
end

return json_body
