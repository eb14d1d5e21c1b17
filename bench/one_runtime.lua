--- tools/lua bench/one_runtime.lua NAME URL COUNT CONCURRENCY: one run of bench/runtimes, in a process of its own. NAME
--- is one of bench/hosts.lua, or "engine" for a bare loop over the engine. Prints a line of JSON; skynet's program
--- would print the same.

local core = require("rtc.native").load("rtc.core")
local engines = require("rtc.native").load("rtc.engine")
local hosts = require "bench.hosts"
local json = require "cjson"
local send_all = require "bench.send_all"
local service = require "spec.support.service"

--- The least that anything on this engine can do: no signature, no JSON, no tasks.
local function bare(url, message, count, concurrency)
  local request = {
    url = url .. "/", headers = { { "Content-Type", "application/json" } }, body = json.encode(message), proxy = "",
  }
  local engine = engines.new { connections = concurrency }
  local submitted, accepted, failed = 0, 0, 0
  local cpu, began = os.clock(), core.now()
  while accepted + failed < count do
    while submitted < count and engine:pending() < concurrency do
      assert(engine:submit(request))
      submitted = submitted + 1
    end
    engine:wait()
    engine:step()
    local exchange = engine:next()
    while exchange do
      accepted, failed = accepted + (exchange.status and 1 or 0), failed + (exchange.status and 0 or 1)
      exchange = engine:next()
    end
  end
  return { wall = core.now() - began, cpu = os.clock() - cpu, accepted = accepted, failed = failed, lateness = {} }
end

local name, url, count, concurrency = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4])
local message = service.message { message = ("m"):rep(200) }
local result
if name == "engine" then
  result = bare(url, message, count, concurrency)
else
  result = send_all.measure(hosts[name](), service.options({ url = url }), message, count, concurrency)
end
print(json.encode(result))
