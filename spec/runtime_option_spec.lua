-- The option `runtime`: which one is taken, and what is said when it can't be.

local child = require "spec.support.child"
local cqueues = require "cqueues"
local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local own_scheduler = require "spec.support.own_scheduler"
local process = require "spec.support.process"
local rtc = require "rtc"
local service = require "spec.support.service"
local tree = require "spec.support.tree"

local where = compat.where

describe("the option runtime", function()
  local server

  before_each(function()
    server = fault_server.start()
    server:always(nil, service.accepts())
  end)

  after_each(fault_server.stop_all)

  -- What is given, and what the error must have.
  for name, case in pairs {
    ["a slip in a name"] = { "cquues", "did you mean `cqueues`?" },
    ["an unknown name"] = { "asyncio", "there are: blocking, luv, cqueues, skynet" },
    ["a name that only looks like a file"] = { "condition", "there are: blocking" },
    ["a number"] = { 42, "must be a loop of rtc.loop(), a scheduler, or a name, not a number" },
    ["a boolean"] = { true, "not a boolean" },
    ["an empty table"] = { {}, "is a table without the function `current`" },
    ["a scheduler without a function"] = {
      setmetatable({ unwatch = 42 }, { __index = own_scheduler.new() }), "without the function `unwatch`",
    },
    ["nothing that terminals would show"] = { "\27[2J", [["\x1B[2J"]] },
  } do
    it("refuses " .. name .. ", at the caller's line", function()
      local ok, raised = pcall(function() rtc.new(service.options(server, { runtime = case[1] })) end)
      assert.is_false(ok)
      assert.matches("^spec/runtime_option_spec.lua:%d+: rtc.new: runtime ", raised)
      assert.matches(case[2], raised, 1, true)
    end)
  end

  -- Inside nginx it is always resty.
  where(not compat.in_nginx, it)("is cqueues by itself in a controller, and blocking elsewhere", function()
    local outside, over = service.client(server), 0
    local controller = cqueues.new()
    controller:wrap(function()
      local inside = service.client(server)
      server:always(service.target "SendUnicast", service.accepts_after "released")
      controller:wrap(function()
        server:release "released" -- which a call that blocks would wait for in vain
      end)
      assert(inside:send_unicast { to = "user", message = "hello", timeout = 3 })
      over = over + 1
    end)
    assert(controller:loop(20))
    assert.equal(1, over)
    assert(outside:send_room_unicast(service.message()))
  end)

  --- Runs a program that does not find modules beside the tree's own and cjson.
  local function without_modules(name)
    return process.run({ process.lua, "-e", ([[
      require "cjson"
      package.cpath = os.getenv("RTC_BUILD") .. "/?.so"
      package.path = "lua/?.lua;lua/?/init.lua"
      print(pcall(require "rtc".new, { endpoint = "sandbox", runtime = "%s" }))
      print(pcall(require "rtc".new, { endpoint = "sandbox" }))
    ]]):format(name) }, { env = tree.environment() })
  end

  for name, advice in pairs {
    luv = 'runtime "luv" needs the Lua module luv (Debian: lua-luv; LuaRocks: luv)',
    cqueues = 'runtime "cqueues" needs the Lua module cqueues (Debian: lua-cqueues; LuaRocks: cqueues)',
    skynet = 'runtime "skynet" needs the Lua module skynet, which only its services have',
  } do
    it("says where to get the module " .. name, function()
      local ended = without_modules(name)
      assert.equal(0, ended.code, ended.stderr)
      assert.matches("false\t.-rtc.new: " .. advice:gsub("%p", "%%%0"), ended.stdout)
      assert.matches("\ntrue\trtc.client%(", ended.stdout)
    end)
  end

  where(not compat.in_nginx, it)("may be one loop for several clients", function()
    local loop, over = rtc.loop(), 0
    local clients = {}
    for n = 1, 3 do
      clients[n] = service.client(server, { runtime = loop })
      loop:spawn(function()
        assert(clients[n]:send_room_unicast(service.message()))
        over = over + 1
      end)
    end
    while loop:pending() > 0 do
      loop:step()
      loop:wait(0.01)
    end
    assert.equal(3, over)
  end)

  where(compat.exit_closes, it)("tells who enqueued of what luv can no longer send at the program's end", function()
    local program = child.start([[
      local rtc = require "rtc"
      local client = rtc.new { runtime = "luv" }
      client:on("failure", function(event) say(event.err.code, event.err.outcome) end)
      assert(client:enqueue { room_id = "r", to = "u", message = "x" })
      os.exit(0, true)
    ]], {}, { env = service.environment(server) })
    finally(function() program:close() end)
    assert.equal("Cancelled\tunknown", program:line(), program:stderr())
    assert.equal(0, program:wait())
  end)
end)
