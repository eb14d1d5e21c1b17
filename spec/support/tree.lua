--- This tree's programs as real processes: bin/rtc, and a sandbox to talk to.

local native = require("spec.support.native")
local process = require("spec.support.process")

local tree = {}

local DEADLINE = 20 -- seconds

--- A fresh folder with what a home holds of keys.
---@param files table<string, string>|nil  contents by path
---@return string path
function tree.home(files)
  local home = native.path("home")
  process.sh("mkdir -p " .. home .. "/.volc")
  for path, bytes in pairs(files or {}) do
    local file = assert(io.open(home .. "/" .. path, "wb"))
    assert(file:write(bytes))
    file:close()
  end
  return home
end

local empty_home = tree.home()

--- No variable that the module reads, and no file of keys, whatever the caller has set.
---@param changes table<string, string|false>|nil
---@return table<string, string|false>
function tree.environment(changes)
  local result = {
    VOLC_ACCESSKEY = false, VOLC_SECRETKEY = false, VOLC_SESSIONTOKEN = false,
    VOLCENGINE_ACCESS_KEY = false, VOLCENGINE_SECRET_KEY = false, VOLCENGINE_SESSION_TOKEN = false,
    RTC_APP_ID = false, RTC_FROM = false, RTC_ENDPOINT = false, HOME = empty_home,
  }
  for name, value in pairs(changes or {}) do
    result[name] = value
  end
  return result
end

local function command(arguments)
  local argv = { "tools/lua", "bin/rtc" }
  for _, argument in ipairs(arguments) do
    argv[#argv + 1] = argument
  end
  return argv
end

--- Starts bin/rtc.
---@param arguments string[]
---@param options { env: table<string, string|false>|nil, stdin: string|nil }|nil
---@return Process
function tree.start(arguments, options)
  options = options or {}
  return process.spawn(command(arguments), { env = tree.environment(options.env), stdin = options.stdin })
end

--- Runs bin/rtc to its end.
---@param arguments string[]
---@param options { env: table<string, string|false>|nil, stdin: string|nil }|nil
---@return { code: integer, stdout: string, stderr: string }
function tree.run(arguments, options)
  options = options or {}
  return process.run(command(arguments), { env = tree.environment(options.env), stdin = options.stdin })
end

--- A file with these bytes.
---@param bytes string
---@return string path
function tree.file_with(bytes)
  local path = native.path("file")
  local file = assert(io.open(path, "wb"))
  assert(file:write(bytes))
  file:close()
  return path
end

---@class RunningSandbox
---@field process Process
---@field port integer
---@field url string
---@field endpoint string "sandbox:PORT"

--- Starts a sandbox on a free port.
---@return RunningSandbox
function tree.sandbox()
  local running = tree.start({ "sandbox", "--port", "0" })
  local line = running:line(DEADLINE) or ""
  local url = line:match("^rtc sandbox: listening on (http://%S+)$")
  assert(url, "the sandbox did not start: " .. line .. running:stderr())
  local port = assert(tonumber(url:match("%d+$")))
  return { process = running, port = port, url = url, endpoint = "sandbox:" .. port }
end

--- Waits until `condition` gives a true value, and returns it.
---@param condition fun(): any
---@param what string for the error
---@return any
function tree.await(condition, what)
  local deadline = native.now() + DEADLINE
  while true do
    local result = condition()
    if result then
      return result
    end
    assert(native.now() < deadline, "waited in vain for " .. what)
    native.sleep(0.01)
  end
end

return tree
