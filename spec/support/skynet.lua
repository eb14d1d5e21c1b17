--- skynet, where RTC_SKYNET names its folder, built; LUA_CPATH_5_5 (or 5_4) finds lua-cjson for its Lua.

local process = require "spec.support.process"

local skynet = {}

local BUILD = "build/skynet"

---@type string|nil
skynet.folder = os.getenv("RTC_SKYNET")

--- Builds the C for its Lua.
---@return table<string, string>  the environment that examples/skynet/config wants
function skynet.build()
  local built = process.run({ "sh", "tools/build", "-DRTC_LUA=",
    "-DRTC_LUA_INCLUDE_DIR=" .. skynet.folder .. "/3rd/lua" }, { env = { RTC_BUILD = BUILD }, timeout = 120 })
  assert(built.code == 0, built.stdout .. built.stderr)
  return {
    SKYNET = skynet.folder, LUA_PATH = "lua/?.lua",
    LUA_CPATH = BUILD .. "/?.so;" .. (os.getenv("LUA_CPATH_5_5") or os.getenv("LUA_CPATH_5_4")),
  }
end

return skynet
