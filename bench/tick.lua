--- See bench/tick.

local certificates = require "spec.support.certificates"
local core = require("rtc.native").load("rtc.core")
local distribution = require "bench.distribution"
local machine = require "bench.machine"
local native = require "spec.support.native"
local rtc = require "rtc"
local server = require "bench.server"
local service = require "spec.support.service"

local FRAME = 1 / 60
local SYSTEM_STORE = "/etc/ssl/certs/ca-certificates.crt"
local USAGE = "usage: sh bench/tick [--quick] [--budget=MS] [--pool=N] [--calls=N] [--seconds=N]"

local function read_arguments()
  local given = { budget = 1, pool = 64, calls = 1000, seconds = 10, handshakes = 20 }
  for _, argument in ipairs(arg) do
    local name, value = argument:match("^%-%-(%a+)=([%d.]+)$")
    if argument == "--quick" then
      given.seconds, given.handshakes = given.seconds / 10, 3
    else
      assert(name and given[name] and tonumber(value), USAGE)
      given[name] = tonumber(value)
    end
  end
  given.budget = given.budget / 1e3
  return given
end

--- Runs frames until `over()`; in each does its work, and sleeps for the rest.
---@param work fun()
---@param over fun(): any
---@return { took: number[], cpu: number[], late: number[] }  seconds, of each frame
local function frames(work, over)
  local took, cpu, late = {}, {}, {}
  local due = native.now()
  while not over() do
    local began, used = native.now(), os.clock()
    late[#late + 1] = began - due
    work()
    cpu[#cpu + 1] = os.clock() - used
    took[#took + 1] = native.now() - began
    due = math.max(due + FRAME, native.now())
    native.sleep(due - native.now())
  end
  return { took = took, cpu = cpu, late = late }
end

local function for_seconds(seconds)
  local time = native.now() + seconds
  return function() return native.now() >= time end
end

local function row(title, values, count)
  local text = ("%-34s"):format(title)
  for _, share in ipairs { 0.5, 0.99, 0.999, 1 } do
    text = text .. (" %8.3f"):format(distribution.at(values, share) * 1e3)
  end
  print(text .. (count and "   " .. count or ""))
end

local function over_budget(values, budget)
  local list, count = {}, 0
  for i, seconds in ipairs(values) do
    list[i] = math.max(0, seconds - budget)
    count = count + (seconds > budget and 1 or 0)
  end
  return list, ("%d of %d were over it"):format(count, #values)
end

local function report(title, measured, budget)
  row(title .. ": step", measured.took)
  row(title .. ": over budget", over_budget(measured.took, budget))
  row(title .. ": over budget, CPU", over_budget(measured.cpu, budget))
  row(title .. ": frame late", measured.late)
end

local function concatenated(paths)
  local path = native.path "bundle.crt"
  local bundle = assert(io.open(path, "wb"))
  for _, part in ipairs(paths) do
    local file = assert(io.open(part, "rb"))
    assert(bundle:write(file:read "*a"))
    file:close()
  end
  bundle:close()
  return path
end

local given = read_arguments()
local budget = given.budget
local made = certificates.make()
local bundle = concatenated { made.ca_file, SYSTEM_STORE }
local cores = machine.keep_to_one_core()
local running = server.start(made.good)

local function new_client(loop)
  return rtc.new(service.options(running, {
    runtime = loop, quota = false, ca_file = bundle, pool_size = given.pool, timeout = 60, try_timeout = 30,
  }))
end

--- Opens connections; each step is as short as it can be.
local function connect(loop, client, count)
  local future = loop:spawn(function() return assert(client:connect(count)) end)
  local longest = 0
  while not future:done() do
    loop:wait()
    local began = native.now()
    loop:step(0)
    longest = math.max(longest, native.now() - began)
  end
  future:wait()
  return longest
end

--- The longest step of a client's first connection, and those of further ones, one at a time.
local function handshakes()
  local loop = rtc.loop()
  local client = new_client(loop)
  local first, longest = connect(loop, client, 1), {}
  for i = 1, given.handshakes do
    longest[i] = connect(loop, client, 1)
  end
  client:close()
  return first, longest
end

print(("%g ms of budget, %d calls in flight, %d connections, answers after %g ms; %s; load %s"):format(budget * 1e3,
  given.calls, given.pool, server.delay * 1e3, cores, machine.load()))
print(("%-34s %8s %8s %8s %8s"):format("ms", "p50", "p99", "p99.9", "worst"))
report("a spin", frames(function()
  local time = core.now() + budget
  repeat until core.now() >= time
end, for_seconds(given.seconds)), budget)

local first, longest = handshakes()
row("trust store's load: longest step", { first })
row("a handshake: longest step", longest, #longest .. " of them")

local loop = rtc.loop()
local client = new_client(loop)
connect(loop, client, 1) -- which loads the trust store
local function step()
  loop:step(budget)
end
local opening = loop:spawn(function() return assert(client:connect(given.pool)) end)
report("connect", frames(step, function() return opening:done() end), budget)
opening:wait()

local message = service.message { message = ("m"):rep(200) }
local ended = 0
local function call()
  assert(client:send_room_unicast(message))
  ended = ended + 1
  loop:spawn(call)
end
for _ = 1, given.calls do
  loop:spawn(call)
end
while ended < given.calls do -- each connection is in use, and each call in its place
  loop:step()
  loop:wait()
end

local function measure(title)
  local before = ended
  report(title, frames(step, for_seconds(given.seconds)), budget)
  print(("%s: %.0f calls ended a second"):format(title, (ended - before) / given.seconds))
end
measure("steady")
collectgarbage("incremental", 0, 0, 6)
measure("steady, small GC")
collectgarbage "stop"
measure("steady, no GC")

running.process:close()
os.exit(0, false) -- with a thousand calls on their way
