--- A small program for each runtime: see bench/send_all.lua. One for skynet can't be here, since skynet starts the
--- program.

local native = require "spec.support.native"

local hosts = {}

--- Seconds of a frame at 60 Hz, and how many of them the loop's tasks may have.
local FRAME, BUDGET = 1 / 60, 0.004

function hosts.blocking()
  return {
    runtime = "blocking",
    run = function(main) main() end,
    spawn = function(client, fn) client:spawn(fn) end,
    sleep = function(client, seconds) client.runtime.sleep(seconds) end,
  }
end

--- A loop that waits when there is nothing to do.
local function tick(turn)
  local loop = require "rtc".loop()
  return {
    runtime = loop,
    run = function(main)
      loop:spawn(main)
      local due = native.now()
      while loop:pending() > 0 do
        due = turn(loop, due)
      end
    end,
    spawn = function(_, fn) loop:spawn(fn) end,
    sleep = function(_, seconds) loop:sleep(seconds) end,
  }
end

hosts["tick, wait"] = function()
  return tick(function(loop)
    loop:wait()
    loop:step()
  end)
end

--- A game's loop, which sleeps for the rest of each frame.
hosts["tick, 60 Hz"] = function()
  return tick(function(loop, due)
    loop:step(BUDGET)
    due = due + FRAME
    native.sleep(math.max(0, due - native.now()))
    return due
  end)
end

function hosts.luv()
  local uv = require "luv"
  return {
    runtime = "luv",
    run = function(main)
      coroutine.wrap(main)()
      uv.run()
    end,
    spawn = function(_, fn) coroutine.wrap(fn)() end,
    sleep = function(_, seconds)
      local co, timer = coroutine.running(), uv.new_timer()
      uv.update_time() -- libuv counts from when its turn began
      timer:start(math.ceil(seconds * 1000), 0, function()
        timer:close()
        assert(coroutine.resume(co))
      end)
      coroutine.yield()
    end,
  }
end

function hosts.cqueues()
  local cqueues = require "cqueues"
  local controller = cqueues.new()
  return {
    runtime = "cqueues",
    run = function(main)
      controller:wrap(main)
      assert(controller:loop())
    end,
    spawn = function(_, fn) controller:wrap(fn) end,
    sleep = function(_, seconds) cqueues.sleep(seconds) end,
  }
end

return hosts
