--- Foreign text made fit to print: on one line, harmless to a terminal, not too long, and without our secrets.

local core = require("rtc.native").load("rtc.core")

local text = {}

--- Characters that command a terminal, end a line or turn the direction of writing, as UTF-8: C1 controls, U+061C,
--- U+200E and U+200F, U+2028 to U+202E, U+2066 to U+2069, U+FEFF.
local commanding = {
  "\194[\128-\159]", "\216\156", "\226\128[\142\143\168-\174]", "\226\129[\166-\169]", "\239\187\191",
}

local function escaped_byte(char)
  return ("\\x%02X"):format(char:byte())
end

--- Writes every character beyond ASCII that commands a terminal as its code point.
---@param s string  UTF-8
---@param format string  for the code point: `\u{%X}`, or `\u%04x` in JSON
---@return string
function text.without_commands(s, format)
  for _, pattern in ipairs(commanding) do
    s = s:gsub(pattern, function(bytes)
      local code = bytes:byte() % (#bytes == 2 and 32 or 16)
      for i = 2, #bytes do
        code = code * 64 + bytes:byte(i) % 64
      end
      return format:format(code)
    end)
  end
  return s
end

--- ASCII's control characters as `\x1B`, the other commanding ones as `\u{202E}`; all non-ASCII bytes as `\xFF` when
--- the text is not UTF-8. An answer must not be able to move the cursor of a terminal, to add a line to a log, or to
--- hide a part of a line by writing it from right to left. Backslashes stay as they are: it is for reading, not for
--- telling the bytes.
---@param s string
---@return string
function text.printable(s)
  s = s:gsub("%c", escaped_byte)
  if core.utf8_error(s) then
    return (s:gsub("[\128-\255]", escaped_byte))
  end
  return text.without_commands(s, "\\u{%X}")
end

local short = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

--- Printable and in quotes; from it the bytes can be told exactly.
---@param s string
---@return string
function text.quoted(s)
  return '"' .. text.printable(s:gsub('[\n\r\t\\"]', short)) .. '"'
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

--- A name that somebody gave, which can be anything: `tostring` of a table can run its code, which can raise.
---@param value any
---@return string
function text.name(value)
  local kind = type(value)
  if kind == "string" then
    return text.excerpt(value, 64)
  end
  if kind == "number" then
    local shown = tostring(value)
    -- Where all numbers are floats a long whole one would lose its digits.
    return shown:find("e+", 1, true) and math.abs(value) <= 2 ^ 53 and ("%.0f"):format(value) or shown
  end
  return kind == "boolean" and tostring(value) or "a " .. kind
end

--- What was raised, or given as a reason: `tostring` of it may run code that raises.
---@param value any
---@return string
function text.raised(value)
  local metatable = type(value) == "table" and getmetatable(value)
  if type(metatable) == "table" and metatable.__tostring then
    local ok, shown = pcall(tostring, value)
    value = ok and shown or value
  end
  return type(value) == "string" and text.excerpt(value, 200) or value == nil and "nil" or text.name(value)
end

--- How an answer may spell a character of what was sent: in JSON, a URL or HTML.
local spellings = {
  { "^\\+u(%x%x%x%x)", 16 }, { "^%%(%x%x)", 16 }, { "^&#[xX]0*(%x%x?);", 16 }, { "^&#0*(%d%d?%d?);", 10 },
}

--- The byte that `s` spells at `at`, and where its spelling ends. Backslashes before it are left out: JSON within JSON
--- writes `/` as `\\\/`.
local function spelt(s, at)
  for _, spelling in ipairs(spellings) do
    local _, last, digits = s:find(spelling[1], at)
    if last then
      return string.char(tonumber(digits, spelling[2]) % 256), last
    end
  end
  local _, last = s:find("^\\*[^\\]", at)
  return s:sub(last or at, last or at), last or at
end

--- `s` without escapes; and where in `s` the spelling of each byte ends, or nil when nothing is escaped.
local function unescaped(s)
  -- Three plain searches: a pattern takes many times as long on a token of 400 bytes.
  if not (s:find("\\", 1, true) or s:find("%", 1, true) or s:find("&", 1, true)) then
    return s
  end
  local bytes, ends, at = {}, {}, 1
  while at <= #s do
    local n = #bytes + 1
    bytes[n], ends[n] = spelt(s, at)
    at = ends[n] + 1
  end
  return table.concat(bytes), ends
end

--- No piece of a secret that is this long is shown. What has fewer bytes is found by chance in other words.
local piece_length = 8

--- `s` without `secret`, for text from elsewhere that may repeat what was sent: whole or in pieces, as it is or
--- escaped. A shorter secret than `piece_length` is looked for as a whole.
---@param s string
---@param secret string|nil
---@return string
function text.without(s, secret)
  if not secret then
    return s
  end
  secret = unescaped(secret)
  local plain, ends = unescaped(s)
  local length = math.min(piece_length, #secret)
  if not core.shares(plain, secret, length) then
    return s -- nearly always, so the rest may take its time
  end
  local kept, hidden_to, seen_to = {}, 0, 0
  for i = 1, #plain do
    local last = ends and ends[i] or i
    local piece = plain:sub(i, i + length - 1)
    if #piece == length and secret:find(piece, 1, true) then
      kept[#kept + 1] = i > hidden_to and "[hidden]" or nil
      hidden_to = i + length - 1
    elseif i > hidden_to then
      kept[#kept + 1] = s:sub(seen_to + 1, last)
    end
    seen_to = last
  end
  return table.concat(kept)
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
