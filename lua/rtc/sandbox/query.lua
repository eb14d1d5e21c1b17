--- The query of a URL: reading it, and writing it in canonical form.
local query = {}

-- A `+` is a space, as Go's net/url (and every browser) reads it; a plus sign travels as %2B.
local function decode(s)
  return (s:gsub("+", " "):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

--- Reads a raw query into decoded name and value pairs, in the order they came.
---@param raw string what follows the `?`
---@return string[][] pairs { {name, value}, … }
function query.parse(raw)
  local list = {}
  for part in raw:gmatch("[^&]+") do
    local name, value = part:match("^(.-)=(.*)$")
    list[#list + 1] = { decode(name or part), decode(value or "") }
  end
  return list
end

--- The first value of each name.
---@param list string[][] as `parse` gives it
---@return table<string, string>
function query.first(list)
  local values = {}
  for _, pair in ipairs(list) do
    if values[pair[1]] == nil then
      values[pair[1]] = pair[2]
    end
  end
  return values
end

local function encode(s)
  return (s:gsub("[^A-Za-z0-9%-_.~]", function(byte)
    return ("%%%02X"):format(byte:byte())
  end))
end

local function before(a, b)
  if a[1] ~= b[1] then
    return a[1] < b[1]
  end
  return a[2] < b[2]
end

--- The canonical query of a signature: raw names and values sorted by byte, then percent-encoded.
--- (Sorted before encoding, like the official SDKs in Go, Java, PHP and Node. The order is by byte only in
--- the C locale, which is Lua's unless a program calls os.setlocale.)
---@param list string[][] as `parse` gives it
---@return string
function query.canonical(list)
  local sorted = {}
  for i, pair in ipairs(list) do
    sorted[i] = pair
  end
  table.sort(sorted, before)
  for i, pair in ipairs(sorted) do
    sorted[i] = encode(pair[1]) .. "=" .. encode(pair[2])
  end
  return table.concat(sorted, "&")
end

return query
