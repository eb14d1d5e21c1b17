--- Loads the C modules, and says how to build one that is missing.

local native = {}

local needs = { ["rtc.core"] = "libssl-dev", ["rtc.engine"] = "libcurl4-openssl-dev" }

--- Like `require`, with advice when the module cannot be loaded.
---@param name "rtc.core"|"rtc.engine"
---@return table module
function native.load(name)
  local ok, module = pcall(require, name)
  if ok then
    return module
  end
  local abi = _VERSION:match("%d+%.%d+")
  error(("the C module %s cannot be loaded in %s. Build it with `luarocks make`, or in the source tree with "
    .. "`cmake -S . -B build/%s -DRTC_LUA=%s && cmake --build build/%s` (Debian: cmake, a C compiler, %s), and "
    .. "have it on package.cpath. What Lua said: %s"):format(name, _VERSION, abi, abi, abi, needs[name],
    tostring(module)), 0)
end

return native
