--- Text from strangers: is it UTF-8?
local text = {}

-- Every well-formed sequence of more than one byte (RFC 3629, section 4). A lead byte is never a
-- continuation byte, so taking the sequences out in any order can't make or break another one.
local sequences = {
  "[\194-\223][\128-\191]",
  "\224[\160-\191][\128-\191]",
  "[\225-\236\238\239][\128-\191][\128-\191]",
  "\237[\128-\159][\128-\191]", -- the rest of \237 are UTF-16 surrogates
  "\240[\144-\191][\128-\191][\128-\191]",
  "[\241-\243][\128-\191][\128-\191][\128-\191]",
  "\244[\128-\143][\128-\191][\128-\191]",
}

--- Is this valid UTF-8? (The `utf8` library does not exist in Lua 5.1.)
---@param s string
---@return boolean
function text.is_utf8(s)
  for _, sequence in ipairs(sequences) do
    if not s:find("[\128-\255]") then
      return true
    end
    s = s:gsub(sequence, ".") -- a placeholder, so that the neighbours don't become one sequence
  end
  return not s:find("[\128-\255]")
end

--- The same text when it is UTF-8, otherwise with `?` for every byte outside ASCII: fit for a JSON answer.
---@param s string
---@return string
function text.to_utf8(s)
  if text.is_utf8(s) then
    return s
  end
  return (s:gsub("[\128-\255]", "?"))
end

return text
