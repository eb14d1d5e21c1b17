--- Makes the collector work, harder than usual too: each Lua has words of its own for that.

local collector = {}

local function set(name, value)
  if _VERSION < "Lua 5.5" then
    return collectgarbage("set" .. name, value)
  end
  return collectgarbage("param", name, value)
end

--- Lets it begin anew as soon as it is through, and do much at a time. Litter whose finaliser makes litter must come to
--- an end: Lua 5.3 would collect it for ever.
---@return fun() calm  makes it what it was
function collector.hurry()
  local pause, speed = set("pause", 0), set("stepmul", 10000000)
  return function()
    set("pause", pause)
    set("stepmul", speed)
  end
end

--- Leaves something to collect, with a finaliser: in 5.1 tables have none.
---@param finaliser fun()
---@return userdata|table  for who wants to keep it
function collector.litter(finaliser)
  local newproxy = rawget(_G, "newproxy")
  if newproxy then
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = finaliser
    return proxy
  end
  return setmetatable({}, { __gc = finaliser })
end

return collector
