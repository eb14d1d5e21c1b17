--- What the Luas of the specs have under different names, or not at all. No global is changed.

local compat = {}

local is_luajit = rawget(_G, "jit") ~= nil
local is_puc_5_1 = _VERSION == "Lua 5.1" and not is_luajit

--- A coroutine can yield across pcall, metamethods and iterators.
compat.yields_anywhere = not is_puc_5_1

--- os.exit(code, true) closes the Lua state.
compat.exit_closes = not is_puc_5_1

--- An interrupt raises in the main thread, when it is its turn again; LuaJIT raises it in whatever coroutine runs.
compat.interrupts_main = not is_luajit

--- The specs run in a worker of nginx, as tools/nginx_lua does it: rtc.engine is not there, and the worker's other
--- tasks go on only while something waits.
compat.in_nginx = rawget(_G, "ngx") ~= nil

--- `it` or `describe` where a condition holds; what leaves its block out where not.
---@param holds boolean
---@param block function
---@return function
function compat.where(holds, block)
  return holds and block or function() end
end

compat.unpack = table.unpack or unpack -- luacheck: ignore 113 143

--- The values, and `n`, how many they are.
---@return table
function compat.pack(...)
  return { n = select("#", ...), ... }
end

--- "integer" or "float". Where there is one kind of number its value decides.
---@type fun(number: number): string
compat.number_type = rawget(math, "type") or function(number)
  return number == math.floor(number) and "integer" or "float"
end

--- The greatest whole number up to which all are exact.
---@type number
compat.max_integer = rawget(math, "maxinteger") or 2 ^ 53

local function utf8(code)
  local function byte(lead, shift)
    return lead + math.floor(code / 2 ^ shift) % 0x40
  end
  if code < 0x80 then
    return string.char(code)
  elseif code < 0x800 then
    return string.char(byte(0xC0, 6), byte(0x80, 0))
  elseif code < 0x10000 then
    return string.char(byte(0xE0, 12), byte(0x80, 6), byte(0x80, 0))
  end
  return string.char(byte(0xF0, 18), byte(0x80, 12), byte(0x80, 6), byte(0x80, 0))
end

--- Writes each <U+202E> as UTF-8: 5.1 has no escape for that.
---@param text string
---@return string
function compat.unicode(text)
  return (text:gsub("<U%+(%x+)>", function(digits)
    return utf8(tonumber(digits, 16))
  end))
end

return compat
