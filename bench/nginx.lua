--- See bench/nginx.

local core = require("rtc.native").load("rtc.core")
local cqueues = require "cqueues"
local distribution = require "bench.distribution"
local json = require "cjson"
local machine = require "bench.machine"
local native = require "spec.support.native"
local nginx = require "spec.support.nginx"
local rtc = require "rtc"
local server = require "bench.server"
local service = require "spec.support.service"

local REQUESTERS = 16
local TOKEN = "0123456789abcdef"
local PAUSE = 0.005 -- seconds between two looks at the other location
local USAGE = "usage: sh bench/nginx [--quick] [--runs=N] [--seconds=N]"

local function read_arguments()
  local given = { runs = 3, seconds = 10 }
  for _, argument in ipairs(arg) do
    local name, value = argument:match("^%-%-(%a+)=([%d.]+)$")
    if argument == "--quick" then
      given.runs, given.seconds = 1, 0.5
    else
      assert(name and given[name] and tonumber(value), USAGE)
      given[name] = tonumber(value)
    end
  end
  return given
end

local order = service.message { message = ("m"):rep(200) }

--- The bytes of a request like those of the client.
local function request_bytes(url)
  local host = url:match("^http://(.*)$")
  local body = json.encode { AppId = "app", RoomId = order.room_id, From = "server", To = order.to, Binary = false,
    Message = order.message }
  local signed = assert(rtc.signer {
    access_key = service.access_key, secret_key = service.secret_key, region = "cn-north-1", service = "rtc",
  }:sign { method = "POST", host = host, path = "/", body = body,
    query = { { "Action", "SendRoomUnicast" }, { "Version", "2020-12-01" } },
    headers = { { "Content-Type", "application/json" } } })
  local headers = { { "User-Agent", "rtc-lua/" .. core.version } }
  for name, value in pairs(signed.headers) do
    headers[#headers + 1] = { name, value }
  end
  return assert(core.http1_request {
    method = "POST", target = "/?" .. signed.query, headers = headers, body = body,
  })
end

--- The location without a client.
local function bare_location(url)
  return ([[
    location = /bare {
      client_body_buffer_size 256k;
      content_by_lua_block {
        ngx.req.read_body()
        local socket = ngx.socket.tcp()
        assert(socket:connect("127.0.0.1", %d, { pool = "bare", pool_size = 64 }))
        assert(socket:send(ngx.decode_base64 "%s"))
        local answer = assert(socket:receiveuntil "\r\n0\r\n\r\n" ()) -- it comes in chunks
        assert(answer:find("Success", 1, true))
        socket:setkeepalive(10000, 64)
        ngx.say(answer)
      }
    }
  ]]):format(url:match("%d+$"), core.base64(request_bytes(url)))
end

--- Starts examples/nginx, with one worker.
local function start_nginx(url)
  return nginx.start_example {
    env = service.environment({ url = url }, { NOTIFY_TOKEN = TOKEN }), command = machine.on_the_other_core {},
    changes = { ["nginx.conf"] = {
      ["worker_processes 2;"] = "worker_processes 1;",
      ["location = /metrics {"] = bare_location(url) .. "location = /metrics {",
    } },
  }
end

--- Seconds of CPU that the worker took so far.
local function worker_cpu(running)
  local pid = assert(running:get("/metrics"):match('worker="(%d+)"'))
  local file = assert(io.open("/proc/" .. pid .. "/schedstat"))
  local nanoseconds = file:read("n")
  file:close()
  return nanoseconds / 1e9
end

--- Posts to a path again and again.
local function requester(running, path, over)
  local request = { path = path, method = "POST", body = json.encode(order), headers = {
    ["Authorization"] = "Bearer " .. TOKEN, ["Content-Type"] = "application/json",
  } }
  local answered = 0
  while not over() do
    local answer = running:request(request)
    assert(answer.status == 200, answer.body)
    answered = answered + 1
  end
  return answered
end

--- How long the other location takes, again and again.
local function neighbour(running, over)
  local took = {}
  while not over() do
    local began = native.now()
    assert(running:get "/healthz" == "ok\n")
    took[#took + 1] = native.now() - began
    cqueues.sleep(PAUSE)
  end
  return took
end

---@param path string|nil  nil: nothing but the other location is asked for
---@return { rate: number, cpu: number, took: number[] }
local function measure(running, path, seconds)
  local controller, measured, answered, left = cqueues.new(), {}, 0, path and REQUESTERS or 0
  local cpu, began = worker_cpu(running), native.now()
  local function time_is_over()
    return native.now() >= began + seconds
  end
  for _ = 1, left do
    controller:wrap(function()
      local own = requester(running, path, time_is_over)
      answered, left = answered + own, left - 1
    end)
  end
  controller:wrap(function()
    measured.took = neighbour(running, function() return left == 0 and time_is_over() end)
  end)
  assert(controller:loop())
  measured.rate = answered / (native.now() - began)
  measured.cpu = (worker_cpu(running) - cpu) / math.max(1, answered)
  return measured
end

--- The median over the runs of what `value` says of one.
local function median(runs, value)
  local values = {}
  for i, measured in ipairs(runs) do
    values[i] = value(measured)
  end
  return distribution.median(values)
end

--- Milliseconds that the other location took.
local function latency(runs)
  local text = ""
  for _, share in ipairs { 0.5, 0.99, 1 } do
    text = text .. (" %9.2f"):format(median(runs, function(measured)
      return distribution.at(measured.took, share) * 1e3
    end))
  end
  return text
end

local given = read_arguments()
nginx.make()
local cores = machine.keep_to_one_core()
local slow = server.start()
local running = start_nginx(slow.url)
local ideal = REQUESTERS / server.delay
local rows = { { "idle" }, { "bare cosocket", "/bare" }, { "/notify", "/notify" } }
for _ = 1, given.runs do -- one after the other, so that what else the machine does meets all
  for _, row in ipairs(rows) do
    row.runs = row.runs or {}
    table.insert(row.runs, measure(running, row[2], given.seconds))
  end
end

print(("one worker, %d requesters, answers after %g ms; medians of %d run(s) of %g s; %s; load %s"):format(REQUESTERS,
  server.delay * 1e3, given.runs, given.seconds, cores:gsub("client", "requesters"), machine.load()))
print(("%-14s %9s %9s %15s   %s"):format("", "a second", "of ideal", "CPU/request, us",
  "another location, ms: median, p99, worst"))
print(("%-14s %9.1f %9.2f"):format("ideal", ideal, 1))
for _, row in ipairs(rows) do
  local numbers = ("%9s %9s %15s"):format("-", "-", "-")
  if row[2] then
    local rate = median(row.runs, function(measured) return measured.rate end)
    local cpu = median(row.runs, function(measured) return measured.cpu end)
    numbers = ("%9.1f %9.3f %15.0f"):format(rate, rate / ideal, cpu * 1e6)
  end
  print(("%-14s %s   %s"):format(row[1], numbers, latency(row.runs)))
end
running:close()
slow.process:close()
