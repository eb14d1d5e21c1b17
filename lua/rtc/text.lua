--- Foreign text made fit to print: one line, no control characters, not too long.

local core = require("rtc.native").load("rtc.core")

local text = {}

local function escaped(char)
  return ("\\x%02X"):format(char:byte())
end

--- Control characters as `\x1B`; all non-ASCII bytes too when the text is not UTF-8. An answer must not be
--- able to move the cursor of a terminal or to add a line to a log.
---@param s string
---@return string
function text.printable(s)
  s = s:gsub("%c", escaped)
  if core.utf8_error(s) then
    s = s:gsub("[\128-\255]", escaped)
  end
  return s
end

--- The beginning of `s`, printable.
---@param s string
---@param limit integer  bytes of `s` to keep
---@return string
function text.excerpt(s, limit)
  if #s <= limit then
    return text.printable(s)
  end
  -- A cut inside a character would make the whole look like something else than UTF-8.
  local head = s:sub(1, limit):gsub("[\192-\255][\128-\191]*$", "")
  return ("%s… (%d bytes)"):format(text.printable(head), #s)
end

--- `s` without `secret`, for text from elsewhere that may repeat what was sent, as JSON too.
---@param s string
---@param secret string|nil
---@return string
function text.without(s, secret)
  if not secret then
    return s
  end
  for _, spelling in ipairs { secret, (secret:gsub("/", "\\/")) } do
    local pattern = spelling:gsub("[^A-Za-z0-9]", "%%%0")
    s = s:gsub(pattern, "[hidden]")
  end
  return s
end

--- An access key with its middle hidden. It is no secret, but it need not be whole in a log.
---@param key string
---@return string
function text.masked(key)
  if #key >= 12 then
    return key:sub(1, 4) .. "…" .. key:sub(-4)
  end
  return key:sub(1, math.min(4, math.floor(#key / 2))) .. "…"
end

return text
