--- Runs a piece of Lua in a process of its own, for what a spec cannot do to the test runner.

local native = require("spec.support.native")
local process = require("spec.support.process")

local child = {}

local prelude = [[
local engine, pump, native, json = require("rtc.engine"), require("spec.support.pump"), require("spec.support.native"),
  require("cjson")
local function say(...) print(...) io.stdout:flush() end
local function exists(path) local f = io.open(path) if f then f:close() end return f ~= nil end
]]

--- Starts the code; it sees `engine`, `pump`, `native`, `json`, `say` (print and flush), `exists` (of a path) and its
--- arguments in `arg`.
---@param code string
---@param arguments table|nil
---@param options table|nil see process.spawn
---@return Process
function child.start(code, arguments, options)
  local path = native.path("child.lua")
  local file = assert(io.open(path, "wb"))
  assert(file:write((prelude:gsub("\n", " ")), code))
  file:close()
  local argv = { process.lua, path }
  for _, argument in ipairs(arguments or {}) do argv[#argv + 1] = tostring(argument) end
  return process.spawn(argv, options)
end

return child
