--- Base64 as the sandbox needs it: how long is what this encodes, and what is it.
local base64 = {}

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local values = { ["="] = 0 }
for i = 1, #alphabet do
  values[alphabet:sub(i, i)] = i - 1
end

--- The size of the decoded bytes, without decoding them.
---@param s string
---@return integer|nil size in bytes; nil when this is not padded standard base64 (RFC 4648, section 4)
function base64.decoded_size(s)
  local padding = s:match("^[A-Za-z0-9+/]*(=?=?)$")
  if not padding or #s % 4 ~= 0 then
    return nil
  end
  return #s / 4 * 3 - #padding
end

local function decode_four(a, b, c, d)
  local n = ((values[a] * 64 + values[b]) * 64 + values[c]) * 64 + values[d]
  return string.char(math.floor(n / 65536), math.floor(n / 256) % 256, n % 256)
end

--- Decodes base64.
---@param s string
---@return string|nil bytes nil when this is not padded standard base64
function base64.decode(s)
  local size = base64.decoded_size(s)
  return size and s:gsub("(.)(.)(.)(.)", decode_four):sub(1, size)
end

return base64
