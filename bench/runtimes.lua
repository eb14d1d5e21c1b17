--- See bench/runtimes.

local distribution = require "bench.distribution"
local json = require "cjson"
local machine = require "bench.machine"
local process = require "spec.support.process"
local server = require "bench.server"

local CONCURRENCY = 64

local function read_arguments()
  local count, runs = 1000, 3
  for _, argument in ipairs(arg) do
    if argument == "--quick" then
      count, runs = 2 * CONCURRENCY, 1
    else
      runs = assert(tonumber(argument:match("^%-%-runs=(%d+)$")), "usage: sh bench/runtimes [--quick] [--runs=N]")
    end
  end
  return count, runs
end

--- What is run, in this order, by which command; it prints what bench/one_runtime.lua prints.
local programs = {}
for i, name in ipairs { "engine", "blocking", "tick, wait", "tick, 60 Hz", "luv", "cqueues" } do
  programs[i] = { name = name, argv = { "tools/lua", "bench/one_runtime.lua", name } }
end

local function run(program, url, count)
  local argv = { table.unpack(program.argv) }
  for _, argument in ipairs { url, tostring(count), tostring(CONCURRENCY) } do
    table.insert(argv, argument)
  end
  local result = process.run(argv, { timeout = 120 })
  assert(result.code == 0, result.stderr)
  local numbers = json.decode(result.stdout)
  assert(numbers.accepted == count, ("%s: %d of %d were accepted"):format(program.name, numbers.accepted, count))
  return numbers
end

--- The medians of some runs; the lateness is that of all of them together.
local function measure(program, url, count, runs)
  local wall, cpu, late = {}, {}, {}
  for i = 1, runs do
    local numbers = run(program, url, count)
    wall[i], cpu[i] = numbers.wall, numbers.cpu
    table.move(numbers.lateness, 1, #numbers.lateness, #late + 1, late)
  end
  return distribution.median(wall), distribution.median(cpu), late
end

local function lateness(late)
  if #late == 0 then
    return ("%9s %9s %9s"):format("-", "-", "-")
  end
  return ("%9.2f %9.2f %9.2f"):format(distribution.median(late) * 1e3, distribution.at(late, 0.99) * 1e3,
    distribution.at(late, 1) * 1e3)
end

local count, runs = read_arguments()
local ideal = math.ceil(count / CONCURRENCY) * server.delay
local cores = machine.keep_to_one_core()
local running = server.start()
print(("%d sends, %d in flight, answers after %g ms; medians of %d run(s); %s; load %s"):format(count, CONCURRENCY,
  server.delay * 1e3, runs, cores, machine.load()))
print(("%-12s %9s %9s %9s %12s   %s"):format("", "wall, s", "of ideal", "CPU, s", "CPU/send, us",
  "another task of 10 ms is late by, ms: median, p99, worst"))
print(("%-12s %9.3f %9.2f"):format("ideal", ideal, 1))
for _, program in ipairs(programs) do
  local wall, cpu, late = measure(program, running.url, count, runs)
  print(("%-12s %9.3f %9.2f %9.3f %12.0f   %s"):format(program.name, wall, wall / ideal, cpu, cpu / count * 1e6,
    lateness(late)))
end
running.process:close()
