--- Sends messages by client:send_all while another task keeps its own time. What runs it is a host, so that each
--- runtime does the same.

local core = require("rtc.native").load("rtc.core")
local rtc = require "rtc"

local send_all = {}

--- Seconds between two times at which the other task wants to go on.
local PERIOD = 0.01

---@class BenchHost  a program that goes by a runtime
---@field runtime string|rtc.Loop  for rtc.new
---@field run fun(main: fun())  runs a function as a task, and with it what it spawned, to their end
---@field spawn fun(client: rtc.Client, fn: fun())  the program's own way to begin another task
---@field sleep fun(client: rtc.Client, seconds: number)  and to let time pass in one

--- Wakes every so often, and notes how late it was, until `over()`.
local function keep_time(host, client, lateness, over)
  local due = core.now() + PERIOD
  while not over() do
    host.sleep(client, math.max(0, due - core.now()))
    local now = core.now()
    lateness[#lateness + 1] = now - due
    due = math.max(due + PERIOD, now) -- what was missed is not made up for
  end
end

---@param host BenchHost
---@param options rtc.Options  of the client
---@param message table
---@param count integer  how many
---@param concurrency integer  on their way at once
---@return { wall: number, cpu: number, accepted: integer, failed: integer, lateness: number[] }  seconds
function send_all.measure(host, options, message, count, concurrency)
  options.runtime, options.quota = host.runtime, false
  local client = rtc.new(options)
  local result, lateness = nil, {}
  local sent = 0
  local function next_message()
    sent = sent + 1
    return sent <= count and message or nil
  end
  host.run(function()
    host.spawn(client, function()
      keep_time(host, client, lateness, function() return result end)
    end)
    local cpu, began = os.clock(), core.now()
    local accepted, failed = client:send_all(next_message, { concurrency = concurrency, on_result = function() end })
    result = {
      wall = core.now() - began, cpu = os.clock() - cpu, accepted = accepted, failed = failed, lateness = lateness,
    }
  end)
  client:close()
  return result
end

return send_all
