-- The rockspec, as LuaRocks takes it: built from a clean copy of the tree, installed into a tree of its own, and used
-- by a Lua that knows nothing of this one.

local native = require "spec.support.native"
local openssl_copy = require "spec.support.openssl_copy"
local process = require "spec.support.process"
local tree = require "spec.support.tree"

local PATH = "/usr/local/bin:/usr/bin:/bin"

describe("the rockspec", function()
  local copy, rocks, sandbox, made

  local function sh(script)
    local result = process.run({ "sh", "-ec", script }, { timeout = 300, env = { LD_PRELOAD = false } })
    assert(result.code == 0, result.stdout .. result.stderr)
    return result
  end

  local function make(version, into, variables)
    return sh(("cd %s; %s LUAROCKS_CONFIG=config.lua luarocks --lua-version %s --tree %s make *.rockspec 2>&1")
      :format(copy, variables or "", version, into))
  end

  setup(function()
    sandbox = tree.sandbox()
    copy = native.path("rock")
    rocks = copy .. "/tree"
    sh(("mkdir %s; cp -R CMakeLists.txt LICENSE *.rockspec src lua bin %s"):format(copy, copy))
    -- What Debian's packages provide LuaRocks does not know of; it need not fetch it.
    sh(([[echo 'rocks_provided = { ["lua-cjson"] = "2.1.0-1", argparse = "0.7.1-1" }' >%s/config.lua]]):format(copy))
    made = make("5.4", rocks)
  end)

  teardown(function()
    sandbox.process:close()
    os.execute("rm -rf '" .. copy .. "'")
  end)

  --- Runs a command with nothing in its environment but where LuaRocks installed.
  local function alone(...)
    return process.run { "env", "-i", "PATH=" .. PATH, "HOME=" .. copy, "RTC_ENDPOINT=" .. sandbox.endpoint,
      ("LUA_PATH=%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua;/usr/share/lua/5.4/?.lua"):format(rocks, rocks),
      ("LUA_CPATH=%s/lib/lua/5.4/?.so;/usr/lib/x86_64-linux-gnu/lua/5.4/?.so;;"):format(rocks), ... }
  end

  it("is found sound by LuaRocks", function()
    local result = process.run { "luarocks", "lint", "volcengine-rtc-scm-1.rockspec" }
    assert.equal(0, result.code, result.stdout .. result.stderr)
  end)

  it("names each thing that the module needs, and LuaRocks finds it", function()
    assert.truthy(made.stdout:find("depends on lua-cjson", 1, true), made.stdout)
    assert.truthy(made.stdout:find("depends on argparse", 1, true), made.stdout)
  end)

  it("installs modules that load and send", function()
    local result = alone("lua5.4", "-e", [[
      local rtc = require "rtc"
      for _, name in ipairs { "rtc", "rtc.core", "rtc.engine" } do
        require(name)
        print(name, package.searchpath(name, package.path) or package.searchpath(name, package.cpath))
      end
      print(assert(rtc.send_room_unicast { room_id = "room", to = "alice", message = "hi" }))]])
    assert.equal(0, result.code, result.stderr)
    local expected = ("rtc\t%s/share/lua/5.4/rtc.lua\nrtc.core\t%s/lib/lua/5.4/rtc/core.so\n"
      .. "rtc.engine\t%s/lib/lua/5.4/rtc/engine.so\nSendRoomUnicast: accepted"):format(rocks, rocks, rocks)
    assert.equal(expected, result.stdout:sub(1, #expected))
  end)

  it("builds for another Lua and with another OpenSSL, in the same folder", function()
    local other, openssl = copy .. "/tree51", openssl_copy()
    make("5.1", other, "OPENSSL_ROOT_DIR=" .. openssl)
    local linked = process.run { "ldd", other .. "/lib/lua/5.1/rtc/core.so" }
    assert.truthy(linked.stdout:find(openssl .. "/lib/libcrypto", 1, true), linked.stdout)
    local result = process.run { "env", "-i", "PATH=" .. PATH, "RTC_ENDPOINT=" .. sandbox.endpoint,
      ("LUA_PATH=%s/share/lua/5.1/?.lua;;"):format(other), ("LUA_CPATH=%s/lib/lua/5.1/?.so;;"):format(other),
      "lua5.1", "-e", [[print(_VERSION, assert(require("rtc").send_room_unicast {
        room_id = "room", to = "alice", message = "hi" }))]] }
    assert.equal(0, result.code, result.stderr)
    assert.truthy(result.stdout:find("^Lua 5.1\tSendRoomUnicast: accepted"), result.stdout)
  end)

  it("installs every Lua file of the tree and no other", function()
    local function files(folder)
      return sh(("cd %s; find . -name '*.lua' | LC_ALL=C sort"):format(folder)).stdout
    end
    assert.equal(files("lua"), files(rocks .. "/share/lua/5.4"))
  end)

  it("installs the command, which finds its modules by itself", function()
    local command = { "env", "-i", "PATH=" .. PATH, "HOME=" .. copy, rocks .. "/bin/rtc" }
    local result = process.run { command[1], command[2], command[3], command[4], command[5], "--version" }
    assert.same({ 0, require("rtc")._VERSION .. "\n" }, { result.code, result.stdout }, result.stderr)
    result = process.run { command[1], command[2], command[3], command[4], command[5],
      "--endpoint", sandbox.endpoint, "send", "--room", "room", "--to", "alice", "hi" }
    assert.equal(0, result.code, result.stderr)
    assert.truthy(result.stdout:find("accepted", 1, true))
  end)
end)
