--- A member of a JSON object as it is written, since decoding and encoding it again would not give the same: numbers
--- lose digits, and an empty list becomes an object.

local function string_end(json, at)
  repeat
    at = json:find('["\\]', at + 1)
    local escape = json:sub(at, at) == "\\"
    at = escape and at + 1 or at
  until not escape
  return at
end

--- Where the value that begins at `at` ends.
local function value_end(json, at)
  local first = json:sub(at, at)
  if first == '"' then
    return string_end(json, at)
  elseif first ~= "{" and first ~= "[" then
    return (json:find("[%s,}%]]", at) or #json + 1) - 1
  end
  local depth = 0
  repeat
    at = json:find('["{}%[%]]', at)
    local char = json:sub(at, at)
    if char == '"' then
      at = string_end(json, at)
    else
      depth = depth + ((char == "{" or char == "[") and 1 or -1)
    end
    at = at + 1
  until depth == 0
  return at - 1
end

--- The text of a member's value.
---@param json string  an object, and well-formed: it was decoded before
---@param name string  a name that needs no escapes
---@return string|nil text
local function json_member(json, name)
  local at = json:find('["}]', json:find("{", 1, true) + 1)
  while json:sub(at, at) == '"' do
    local name_end = string_end(json, at)
    local value = json:find("[^%s:]", name_end + 1)
    local last = value_end(json, value)
    if json:sub(at + 1, name_end - 1) == name then
      return json:sub(value, last)
    end
    at = json:find('["}]', last + 1)
  end
end

return json_member
