--- A function that does not raise, for schedulers that run it themselves.

local text = require "rtc.text"

--- PUC Lua 5.1 can't yield across `pcall`. (To try it would be to yield within `require`, which fails in nginx.)
local can_yield = _VERSION ~= "Lua 5.1" or rawget(_G, "jit") ~= nil

---@param fn function
---@param died fun(problem: string, raised: any)
---@return function  in PUC Lua 5.1 `fn` as it is: what it raises is the scheduler's to tell
return function(fn, died)
  if not can_yield then
    return fn
  end
  return function()
    local ok, raised = pcall(fn)
    if not ok then
      died("raised: " .. text.raised(raised), raised)
    end
  end
end
