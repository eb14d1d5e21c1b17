--- JSON on a line, for other programs, and safe to look at, too.

local json = require("cjson").new()
local text = require "rtc.text"

--- cjson leaves what commands a terminal beyond ASCII as it is, and writes every `/` as `\/`.
local function write(value)
  return text.without_commands((json.encode(value):gsub("\\/", "/")), "\\u%04x")
end

--- An object whose members stand in this order; those without a value are left out.
---@param members any[][]  { { name, value }, … }
---@return string line  with its end
local function json_line(members)
  local parts = {}
  for _, member in ipairs(members) do
    if member[2] ~= nil then
      parts[#parts + 1] = ("%s:%s"):format(write(member[1]), write(member[2]))
    end
  end
  return "{" .. table.concat(parts, ",") .. "}\n"
end

return json_line
