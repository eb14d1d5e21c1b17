--- JSON on a line, for other programs, and safe to look at, too.

local core = require("rtc.native").load("rtc.core")
local json = require("cjson").new()
local text = require "rtc.text"

--- JSON without what commands a terminal, or ends a line, and in UTF-8 in any case.
local function harmless(written)
  if core.utf8_error(written) then
    written = written:gsub("[\128-\255]", "\\ufffd")
  end
  return text.without_commands((written:gsub("\127", "\\u007f"):gsub("%c", " ")), "\\u%04x")
end

--- cjson writes every `/` as `\/`.
local function write(value)
  return harmless((json.encode(value):gsub("\\/", "/")))
end

--- An object whose members stand in this order; those without a value are left out.
---@param members any[][]  { { name, value }, … }, or { name, nil, JSON }
---@return string line  with its end
local function json_line(members)
  local parts = {}
  for _, member in ipairs(members) do
    local name, value, written = member[1], member[2], member[3]
    if value ~= nil or written then
      parts[#parts + 1] = ("%s:%s"):format(write(name), written and harmless(written) or write(value))
    end
  end
  return "{" .. table.concat(parts, ",") .. "}\n"
end

return json_line
