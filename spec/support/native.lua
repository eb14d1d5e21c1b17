--- Compiles native.c into the run's temporary folder and loads it: the system calls behind the other helpers.
--- A process started by the specs loads the library that its parent compiled.

local here = debug.getinfo(1, "S").source:match("^@(.*)[/\\][^/\\]*$") or "."

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function output_of(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read("*a")
  local ok = pipe:close()
  return ok and text, text
end

--- Where the headers of the running Lua are: Debian's folders, or RTC_LUA_INCLUDE.
local function include_folder()
  local name = rawget(_G, "jit") and "luajit-2.1" or ("lua" .. _VERSION:match("%d%.%d"))
  return os.getenv("RTC_LUA_INCLUDE") or ("/usr/include/" .. name)
end

--- Compiles a C file of this folder into a shared library.
---@param folder string where the library goes
---@param name string the file's name without `.c`; also the library's
---@return string path of the library
local function compile(folder, name)
  local library = folder .. "/" .. name .. ".so"
  -- A sanitizer that the specs run under is not for the compiler.
  local ok, text = output_of(("LD_PRELOAD= %s -O1 -Wall -Wextra -shared -fPIC -I%s -o %s %s -ldl -pthread"):format(
    os.getenv("CC") or "cc", quote(include_folder()), quote(library), quote(here .. "/" .. name .. ".c")))
  if not ok or not io.open(library, "rb") then error("cannot compile " .. name .. ".c: " .. text) end
  return library
end

local function load(library)
  return assert(package.loadlib(library, "luaopen_native"))()
end

-- busted loads each spec file's modules anew; one library, one folder and one guard are enough for all of them.
local registry = debug.getregistry()
local KEY = "rtc.spec.native"
if registry[KEY] then return registry[KEY] end

local inherited = os.getenv("RTC_SPEC_FOLDER")
local native

if inherited then
  native = load(inherited .. "/native.so")
  native.folder = inherited
else
  local folder = assert(output_of("mktemp -d")):gsub("%s+$", "")
  native = load(compile(folder, "native"))
  native.folder = folder
  assert(native.start_guard(folder))
end
registry[KEY] = native

--- Compiles a C file of this folder, once a run.
---@param name string
---@return string path of the library
function native.compile(name)
  local library = native.folder .. "/" .. name .. ".so"
  local file = io.open(library, "rb")
  if file then
    file:close()
    return library
  end
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
