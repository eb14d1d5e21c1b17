--- Real processes for the specs: spawn one, read its lines, wait for it, kill it.
---
--- Each process leads its own group, and no group outlives the test run: the group is killed when its object is
--- closed or collected, and by the guard (native.c) when the runner itself ends in whatever way.

local collector = require("spec.support.collector")
local native = require("spec.support.native")

local process = {}

--- The Lua that runs the specs, for a process of the same (tools/env.sh).
process.lua = os.getenv("RTC_LUA") or "lua5.4"

--- The Lua of the programs that answer the specs: in PUC 5.1 nothing can wait across pcall or an iterator.
process.server_lua = "lua5.4"

--- The environment variable that this Lua reads: LUA_PATH_5_4 of "LUA_PATH", but 5.1 and LuaJIT have none of their own.
---@param name string
---@return string
function process.lua_variable(name)
  if _VERSION == "Lua 5.1" then
    return name
  end
  return name .. "_" .. _VERSION:match("%d%.%d"):gsub("%.", "_")
end

local DEADLINE = 20

---@class Process
---@field pid integer
---@field code integer|nil exit code once it ended; 128 + the signal's number if a signal ended it
---@field how string|nil "exited" or "killed" once it ended
local methods = {}

local signals = { TERM = 15, KILL = 9, INT = 2, HUP = 1, STOP = 19, CONT = 18, USR1 = 10, USR2 = 12, PIPE = 13 }

local function environment(changes)
  local result = {}
  for _, entry in ipairs(native.environment()) do
    local name = entry:match("^[^=]*")
    if (changes or {})[name] == nil then result[#result + 1] = entry end
  end
  for name, value in pairs(changes or {}) do
    if value then result[#result + 1] = name .. "=" .. value end
  end
  result[#result + 1] = "RTC_SPEC_FOLDER=" .. native.folder
  return result
end

local function file_contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local metatable = { __index = methods, __name = "process" }

--- Starts a process. Its standard input is empty unless `options.stdin` is given.
---@param argv string[] the program (looked for in PATH) and its arguments
---@param options { env: table<string, string|false>|nil, stdin: string|nil }|nil `env` changes the runner's
--- environment (false removes a name); `stdin` is what the process will read; "pipe" lets `write` feed it
---@return Process
function process.spawn(argv, options)
  options = options or {}
  local self = { partial = "", error_path = native.path("stderr") }
  local stdin
  if options.stdin == "pipe" then
    stdin, self.input = native.pipe()
  elseif options.stdin then
    local path = native.path("stdin")
    local file = assert(io.open(path, "wb"))
    assert(file:write(options.stdin))
    file:close()
    stdin = assert(native.open(path, "r"))
    os.remove(path)
  else
    stdin = assert(native.open("/dev/null", "r"))
  end
  -- Standard error goes to a file, so that a process which writes much of it never waits for us.
  local stderr = assert(native.open(self.error_path, "w"))
  local stdout
  self.output, stdout = native.pipe()
  self.pid = assert(native.spawn(argv, environment(options.env), stdin, stdout, stderr))
  native.close(stdin)
  native.close(stdout)
  native.close(stderr)
  self.collected = collector.litter(function() self:close() end)
  return setmetatable(self, metatable)
end

--- Takes what came on standard output within `seconds`. Returns false when nothing came, nil at the end.
local function fill(self, seconds)
  if not self.output then return nil end
  if not native.readable(self.output, seconds) then return false end
  local bytes = native.read(self.output)
  if not bytes or bytes == "" then
    native.close(self.output)
    self.output = nil
    return nil
  end
  self.partial = self.partial .. bytes
  return true
end

--- The next line of its standard output, without the newline.
---@param timeout number|nil seconds
---@return string|nil line
---@return string|nil why "timeout" or "eof"
function methods:line(timeout)
  local deadline = native.now() + (timeout or DEADLINE)
  while true do
    local line, rest = self.partial:match("^([^\n]*)\n(.*)$")
    if line then
      self.partial = rest
      return line
    end
    local came = fill(self, math.max(0, deadline - native.now()))
    if came == nil then
      if self.partial == "" then return nil, "eof" end
      line, self.partial = self.partial, ""
      return line
    end
    if came == false then return nil, "timeout" end
  end
end

--- Waits for its end. What it still writes is kept for `line` and `rest`.
---@param timeout number|nil seconds
---@return integer|nil code exit code, or 128 + the signal's number
---@return string how "exited", "killed"; "timeout" when there is no code
function methods:wait(timeout)
  local deadline = native.now() + (timeout or DEADLINE)
  while not self.code do
    self.code, self.how = native.reap(self.pid)
    if not self.code then
      if native.now() > deadline then return nil, "timeout" end
      if fill(self, 0.01) == nil then native.sleep(0.002) end
    end
  end
  return self.code, self.how
end

--- What is left of its standard output; call it after `wait`.
---@return string
function methods:rest()
  while fill(self, 0) do end
  local text = self.partial
  self.partial = ""
  return text
end

--- What it has written to its standard error so far.
---@return string
function methods:stderr()
  return self.error_text or file_contents(self.error_path)
end

--- Feeds a process started with stdin = "pipe".
---@param bytes string
function methods:write(bytes)
  return native.write(self.input, bytes)
end

--- Ends the input of a process started with stdin = "pipe".
function methods:close_input()
  if self.input then native.close(self.input) end
  self.input = nil
end

--- Sends a signal to the process and whatever it started.
---@param signal string|integer|nil a name such as "TERM", or a number; KILL by default
function methods:kill(signal)
  if self.code then return end
  return native.kill(-self.pid, signals[signal] or signal or signals.KILL)
end

--- Kills the process and its whole group, and frees everything. Safe to call twice.
function methods:close()
  if self.closed then return end
  self.closed = true
  native.kill(-self.pid, signals.KILL)
  if not self.code then self:wait() end
  native.forget(self.pid)
  self:close_input()
  if self.output then native.close(self.output) end
  self.output = nil
  self.error_text = file_contents(self.error_path)
  os.remove(self.error_path)
end


--- Runs a process to its end.
---@param argv string[]
---@param options { stdin: string|nil, env: table<string, string|false>|nil, timeout: number|nil }|nil timeout in
--- seconds, after which the process is killed and an error raised
---@return { code: integer, how: string, stdout: string, stderr: string }
function process.run(argv, options)
  local child = process.spawn(argv, options)
  local code, how = child:wait(options and options.timeout)
  local stdout = child:rest()
  child:close()
  if not code then
    error(("%s did not end in time; stdout: %q; stderr: %q"):format(argv[1], stdout, child:stderr()), 2)
  end
  return { code = code, how = how, stdout = stdout, stderr = child:stderr() }
end

--- Runs a script by sh, which must succeed.
---@param script string
function process.sh(script)
  local result = process.run({ "sh", "-ec", script })
  assert(result.code == 0, result.stdout .. result.stderr)
end

return process
