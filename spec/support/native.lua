--- Compiles native.c into the run's temporary folder and loads it: the system calls behind the other helpers.
--- A process started by the specs loads the library that its parent compiled, or compiles one for its own Lua.

local here = debug.getinfo(1, "S").source:match("^@(.*)[/\\][^/\\]*$") or "."

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- What a command prints, and whether it succeeded: in 5.1 closing the pipe does not tell.
local function output_of(command)
  local pipe = assert(io.popen("{ " .. command .. "; } 2>&1 && printf +"))
  local text = pipe:read("*a")
  pipe:close()
  local output = text:match("^(.*)%+$")
  return output, text
end

--- The running Lua: "luajit", or its version.
local lua_name = rawget(_G, "jit") and "luajit" or _VERSION:match("%d%.%d")

--- Where its headers are: Debian's folders, or RTC_LUA_INCLUDE if it is the Lua that the specs run on.
local function include_folder()
  local debian = "/usr/include/" .. (lua_name == "luajit" and "luajit-2.1" or "lua" .. lua_name)
  return not os.getenv("RTC_SPEC_FOLDER") and os.getenv("RTC_LUA_INCLUDE") or debian
end

--- Compiles a C file of this folder into a shared library, once a run and Lua.
---@param folder string where the library goes
---@param name string the file's name without `.c`
---@return string path of the library
local function compile(folder, name)
  local library = ("%s/%s-%s.so"):format(folder, name, lua_name)
  local file = io.open(library, "rb")
  if file then
    file:close()
    return library
  end
  -- A sanitizer that the specs run under is not for the compiler. Two processes may come here at once.
  local output, problem = output_of(
    ("LD_PRELOAD= %s -O1 -Wall -Wextra -shared -fPIC -I%s -o %s.$$ %s -ldl -pthread && mv %s.$$ %s"):format(
      os.getenv("CC") or "cc", quote(include_folder()), quote(library), quote(here .. "/" .. name .. ".c"),
      quote(library), quote(library)))
  if not output then error("cannot compile " .. name .. ".c: " .. problem) end
  return library
end

-- busted loads each spec file's modules anew; one library, one folder and one guard are enough for all of them.
local registry = debug.getregistry()
local KEY = "rtc.spec.native"
if registry[KEY] then return registry[KEY] end

local inherited = os.getenv("RTC_SPEC_FOLDER")
local folder = inherited or assert(output_of("mktemp -d")):gsub("%s+$", "")
local native = assert(package.loadlib(compile(folder, "native"), "luaopen_native"))()
native.folder = folder
if not inherited then
  assert(native.start_guard(folder))
end
registry[KEY] = native

-- Inside nginx, which waits for all children, and goes on with others while a spec sleeps, but not within `require`.
local ngx = rawget(_G, "ngx")
if ngx then
  assert(native.keep_children())
  local block = native.sleep
  function native.sleep(seconds)
    return (native.can_yield() and ngx.sleep or block)(seconds)
  end
end

--- Compiles a C file of this folder, once a run.
---@param name string
---@return string path of the library
function native.compile(name)
  return compile(native.folder, name)
end

--- Waits for the end of a process that `fork` made.
---@param pid integer
---@return integer code exit code, or 128 + the signal's number
function native.await_end(pid)
  local code
  repeat
    native.sleep(0.005)
    code = native.reap(pid)
  until code
  native.forget(pid)
  return code
end

local counter = 0

--- A path in the run's temporary folder that nobody uses yet. The folder goes away with the run.
---@param name string|nil
---@return string path
function native.path(name)
  counter = counter + 1
  return ("%s/%d-%d-%s"):format(native.folder, native.getpid(), counter, name or "file")
end

return native
