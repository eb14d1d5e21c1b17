--- Where the programs of a measurement run, and that the numbers say so.

local native = require "spec.support.native"
local process = require "spec.support.process"

local machine = {}

local function contents(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

--- The processors that this process may use: "0-1,4" in the kernel's words.
local function cores()
  local list = {}
  for range in contents("/proc/self/status"):match("Cpus_allowed_list:%s*(%S+)"):gmatch("[^,]+") do
    local first, last = range:match("^(%d+)%-?(%d*)$")
    for core = tonumber(first), tonumber(last) or tonumber(first) do
      list[#list + 1] = core
    end
  end
  return list
end

local found = cores()

--- The command, to run on the second core; as it is where there is only one.
---@param argv string[]
---@return string[]
function machine.on_the_other_core(argv)
  return found[2] and { "taskset", "-c", tostring(found[2]), table.unpack(argv) } or argv
end

--- Keeps this process, and what it starts from now on, to the first core.
---@return string  what became of it, for the reader of the numbers
function machine.keep_to_one_core()
  if not found[2] then
    return "one core for all"
  end
  local result = process.run { "taskset", "-cp", tostring(found[1]), tostring(native.getpid()) }
  assert(result.code == 0, result.stderr)
  return ("client on core %d, server on core %d"):format(found[1], found[2])
end

--- The load of the machine, others' included.
---@return string
function machine.load()
  return contents("/proc/loadavg"):match("^%S+")
end

return machine
