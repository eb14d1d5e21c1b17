-- The runtime for skynet, in a service of a real skynet: where RTC_SKYNET names its folder, as spec/support/skynet.lua
-- says, and else nothing.
local fault_server = require "spec.support.fault_server"
local native = require "spec.support.native"
local process = require "spec.support.process"
local service = require "spec.support.service"
local skynet = require "spec.support.skynet"

local act = fault_server.act

local function write(path, bytes)
  local file = assert(io.open(path, "w"))
  assert(file:write(bytes))
  assert(file:close())
end

local function read(path)
  local file = assert(io.open(path))
  local bytes = file:read("*a")
  file:close()
  return bytes
end

local BEGINNING = [[
  local skynet, rtc = require "skynet", require "rtc"
  require "skynet.manager"
  local message = { room_id = "room", to = "user", message = "hello" }
  local function say(...) print("say:", ...) end
]]

local describe_where_it_is = skynet.folder and describe or function() end

describe_where_it_is("the runtime for skynet", function()
  local server, environment

  setup(function()
    environment = skynet.build()
  end)

  before_each(function()
    server = fault_server.start()
  end)

  after_each(fault_server.stop_all)

  --- What a service says that is made of this code.
  local function said(code)
    local folder = native.path("skynet")
    assert(process.run({ "mkdir", folder }).code == 0)
    write(folder .. "/main.lua", BEGINNING .. code)
    write(folder .. "/config", (read("examples/skynet/config"):gsub("%./examples/skynet", folder)))
    local env = service.environment(server, environment)
    local run = process.run({ skynet.folder .. "/skynet", folder .. "/config" }, { env = env })
    assert.same({ 0, "exited" }, { run.code, run.how }, run.stdout)
    local lines = {}
    for line in run.stdout:gmatch("[^\n]+") do
      lines[#lines + 1] = line:match("^say:\t(.*)$")
    end
    return lines, run
  end

  it("sends many at once, while the service goes on with other things", function()
    server:always(nil, { act.read(), act.sleep(0.1), act.answer(service.acceptance()) })
    local lines = said [[
      skynet.start(function()
        local client = rtc.new { quota = false }
        local turns, over = 0, false
        skynet.fork(function()
          while not over do
            skynet.sleep(1)
            turns = turns + 1
          end
        end)
        local messages = {}
        for i = 1, 500 do
          messages[i] = message
        end
        say(client:send_all(messages, { concurrency = 64, on_result = function() end }))
        over = true
        say(turns > 10)
        skynet.abort()
      end)
    ]]
    assert.same({ "500\t0", "true" }, lines)
    assert.equal(64, server:state().most_open)
  end)

  it("says what to do where a service can't wait, and goes on with what it queued there", function()
    server:always(nil, service.accepts())
    local lines = said [[
      local client = rtc.new()
      local _, err = client:send_room_unicast(message)
      say(err.code, err.outcome, err.advice)
      say(client:enqueue(message))
      skynet.init(function()
        say((client:send_room_unicast(message)).message)
      end)
      skynet.start(function()
        say(client:drain(5), client:stats().accepted, client:stats().outbox.accepted)
        say((client:send_room_unicast(message)).message) -- after a time with nothing to look for
        skynet.abort()
      end)
    ]]
    assert.same({
      "NoTask\tnot_sent\tCall it within skynet.start, a message's handler or skynet.fork.",
      "true", "Success", "true\t2\t1", "Success",
    }, lines)
  end)

  it("gives what a task returned or raised, and ends the calls of a client that is closed", function()
    server:always(nil, service.accepts_after("never"))
    local lines, run = said [[
      skynet.start(function()
        local client = rtc.new { retry = false }
        say(client:spawn(function(...) skynet.sleep(1) return ... end, 1, nil, 3):wait())
        say(pcall(function() client:spawn(function() skynet.sleep(1) error("mine", 0) end):wait() end))
        client:spawn(function() error("nobody's", 0) end)
        local sending = client:spawn(client.send_room_unicast, client, message)
        say(select(2, sending:wait(0.3)).code)
        client:close()
        local receipt, err = sending:wait()
        say(receipt, err.code, err.outcome)
        skynet.abort()
      end)
    ]]
    assert.same({ "1\tnil\t3", "false\tmine", "Timeout", "nil\tCancelled\tunknown" }, lines)
    assert.equal("rtc: a task raised: nobody's\n", run.stderr)
  end)
end)
