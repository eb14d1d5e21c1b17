-- Making clients: options, environment, keys.

local compat = require "spec.support.compat"
local assert_no_secret = require "spec.support.assert_no_secret"
local fault_server = require "spec.support.fault_server"
local process = require "spec.support.process"
local rtc = require "rtc"
local text = require "rtc.text"
local tree = require "spec.support.tree"

local act = fault_server.act

--- What a script prints, run by a Lua of its own with just these variables of ours set.
local function run(script, env)
  local child = process.run({ process.lua, "-e", 'local rtc = require "rtc" ' .. script },
    { env = tree.environment(env) })
  assert.equal("", child.stderr)
  return child.stdout
end

local function options(changes)
  local given = { access_key = "AKLTkey", secret_key = "hunter2", endpoint = "https://example.com" }
  for name, value in pairs(changes) do
    given[name] = value
  end
  return given
end

describe("rtc.new", function()
  it("makes a client that prints without secrets", function()
    local client = rtc.new(options { access_key = "AKLT0123456789XYZW", session_token = "hunter3" })
    assert.equal("rtc.client(https://example.com, access key AKLT…XYZW)", tostring(client))
    assert_no_secret(client)
  end)

  local request = { method = "POST", host = "h", time = 1735787045 }

  it("hands keys that stay to the client as a signer", function()
    local keys = rtc.new(options { access_key = "AKLT0123456789XYZW", region = "ap-singapore-1" }).keys
    assert.equal("AKLT…XYZW", keys:label())
    assert.matches("Credential=AKLT0123456789XYZW/20250102/ap-singapore-1/rtc/request",
      keys:signer():sign(request).headers.Authorization, 1, true)
  end)

  it("takes a function that gives the keys, asks it when they are needed, and keeps no secret", function()
    local asked = 0
    local client = rtc.new { endpoint = "https://example.com", region = "ap-singapore-1", credentials = function()
      asked = asked + 1
      return { access_key = "AKTP0123456789XYZW", secret_key = "hunter2", session_token = "hunter3" }
    end }
    assert.same({ 0, "from a function" }, { asked, client.keys:label() })
    for _ = 1, 2 do
      local headers = client.keys:signer(client.runtime, client.runtime.now() + 10):sign(request).headers
      assert.matches("Credential=AKTP0123456789XYZW/20250102/ap-singapore-1/rtc/request", headers.Authorization, 1,
        true)
      assert.equal("hunter3", headers["X-Security-Token"])
    end
    assert.same({ 1, "AKTP…XYZW" }, { asked, client.keys:label() })
    assert_no_secret(client)
  end)

  it("takes either keys or a function", function()
    for _, key in ipairs { "access_key", "secret_key", "session_token" } do
      assert.error_matches(function() rtc.new { [key] = "hunter2", credentials = function() end } end,
        "no keys: credentials and keys are both given: pass one or the other")
    end
  end)

  -- option, value, what the message must have
  local wrong = {
    { "acces_key", "x", "unknown option `acces_key`: did you mean `access_key`?" },
    { "appId", "x", "unknown option `appId`: did you mean `app_id`?" },
    { "quux", 1, "unknown option `quux`: there are: access_key, secret_key" },
    { 1, "x", "unknown option `1`" },
    { "access_key", "", "access_key is empty" },
    { "access_key", "a/b", "access_key must not have `/`" },
    { "secret_key", 42, "secret_key must be a string, not a number" },
    { "secret_key", "hunter2\n", "secret_key has white space" },
    { "session_token", " x", "session_token has white space" },
    { "credentials", { access_key = "k" }, "credentials must be a function, not a table" },
    { "app_id", "a b", "app_id has a space" },
    { "from", {}, "from must be a string" },
    { "endpoint", "http://example.com", "endpoint is plain http to example.com" },
    { "endpoint", "https://hunter2:hunter2@example.com", "endpoint has credentials" },
    { "endpoint", 42, "endpoint must be a string" },
    { "region", "cn north", "region has white space" },
    { "version", "latest", "version must be a date" },
    { "version", 2020, "version must be a date" },
    { "version", "v2020-12-01", "version must be a date" },
    { "version", "2020-12-01\n", "version must be a date" },
    { "timeout", "10", "timeout must be a number of seconds" },
    { "timeout", 0, "timeout must be at least 0.001 seconds" },
    { "timeout", -1, "timeout must be at least 0.001 seconds" },
    { "timeout", 0 / 0, "timeout must be at least 0.001 seconds" },
    { "try_timeout", math.huge, "try_timeout must be at least 0.001 seconds" },
    { "connect_timeout", 100000, "connect_timeout must be at least 0.001 seconds" },
    { "max_response", 0, "max_response must be a whole number" },
    { "max_response", 1.5, "max_response must be a whole number" },
    { "ca_file", true, "ca_file must be a string" },
    { "ca_file", "/nonexistent/ca.pem", "ca_file cannot be read: /nonexistent/ca.pem" },
    { "ca_path", "", "ca_path is empty" },
    { "ca_file", "/", "ca_file is a folder" },
    { "ca_file", "/etc/passwd\0", "ca_file has a NUL" },
    { "ca_path", "/nonexistent", "ca_path cannot be read" },
    { "ca_path", "/etc/passwd", "ca_path cannot be read as a folder" },
    { "ca_path", "/\0", "ca_path has a NUL" },
    { "ca_file", "/" .. ("x"):rep(5000), "ca_file cannot be read" },
    { "timeout", 0.0009, "timeout must be at least 0.001 seconds" },
    { "version", ("9"):rep(5000), "version must be a date" },
    { "version", "2020\n\27[2J", 'version must be a date like "2020-12-01", not "2020\\x0A\\x1B[2J"' },
    { ("x"):rep(5000), 1, "unknown option `xxxx" },
    { "a\27[2J\n", 1, "unknown option `a\\x1B[2J\\x0A`" },
    { setmetatable({}, { __tostring = error }), 1, "unknown option `a table`" },
    { "allow_http", "yes", "allow_http must be true or false" },
    { "service", "r/tc", "service must not have `/`" },
    { "cert_file", "/nonexistent/me.pem", "cert_file cannot be read" },
    { "key_file", "/", "key_file is a folder" },
    { "key_file", "/etc/passwd", "key_file needs cert_file" },
    { "proxy", "proxy.example:3128", 'proxy must be "http://[name:password@]host[:port]"' },
    { "proxy", "ftp://hunter2@proxy.example", "proxy must be" },
    { "proxy", "http://hunter2:x@proxy.example/path", "proxy must be" },
    { "proxy", "http://me:hunter2@proxy.example:99999", "proxy must be" },
    { "proxy", "http://me:hunter2@proxy.example:80x", "proxy must be" },
    { "proxy", "http://me:hunter2@", "proxy must be" },
    { "proxy", "http://me:hunter2@:80", "proxy must be" },
    { "proxy", "http://me:hunter2@[::1", "proxy must be" },
    { "proxy", "http://me:hunter2@a@proxy.example", "proxy must be" },
    { "proxy", "http://me:hunter2%00x@proxy.example", "proxy must be" },
    { "proxy", "http://hunter2 x@proxy.example", "proxy must be" },
    { "proxy", true, "proxy must be a URL, or false for no proxy at all, not a boolean" },
    { "keep_alive", 0, "keep_alive must be whole seconds from 1 to 86400, or false" },
    { "keep_alive", true, "keep_alive must be whole seconds" },
    { "keep_alive", 1.5, "keep_alive must be whole seconds" },
    { "pool_size", 0, "pool_size must be a whole number from 1 to 1024, not 0" },
    { "pool_size", 1025, "pool_size must be a whole number from 1 to 1024, not 1025" },
    { "pool_size", "8", "pool_size must be a whole number from 1 to 1024, not 8" },
    { "retry", true, "retry must be a table, or false to switch it off, not a boolean" },
    { "retry", { on_unkown = true }, "retry is wrong: unknown option `on_unkown`: did you mean `on_unknown`?" },
    { "retry", { tries = 0 }, "retry is wrong: tries must be a whole number from 1 to 10, not 0" },
    { "retry", { base = -1 }, "retry is wrong: base must be at least 0.001 seconds" },
    { "retry", { on_unknown = 1 }, "retry is wrong: on_unknown must be true or false" },
    { "quota", 500, "quota must be a table, or false to switch it off, not a number" },
    { "quota", { rate = 0 }, "quota is wrong: rate must be a number of messages a second, at least 0.001, not 0" },
    { "quota", { rate = 1e-320 }, "quota is wrong: rate must be a number" },
    { "quota", { burst = 2.5 }, "quota is wrong: burst must be a whole number" },
    { "quota", { max_wait = "1" }, "quota is wrong: max_wait must be a number of seconds" },
    { "quota", { key = "a b" }, "quota is wrong: key must be 1 to 128 of" },
    { "quota", { store = {} }, "quota is wrong: store must be a table with a function `take`" },
    { "outbox", false, "outbox must be a table, not a boolean" },
    { "outbox", { size = 1 }, "outbox is wrong: unknown option `size`: there are: entries, bytes, concurrency, full" },
    { "outbox", { concurrency = 0 }, "outbox is wrong: concurrency must be a whole number" },
    { "outbox", { full = "drop" }, 'full must be "refuse" (the new message) or "drop_oldest", not "drop"' },
    { "outbox", { full = true }, 'full must be "refuse" (the new message) or "drop_oldest", not true' },
    { "user_agent", "a\r\nb: c", "user_agent must be printable" },
  }
  for _, case in ipairs(wrong) do
    it(("raises for %s = %s"):format(text.name(case[1]), text.name(case[2])), function()
      local ok, message = pcall(function()
        return (rtc.new(options { [case[1]] = case[2] }))
      end)
      assert.is_false(ok)
      assert.matches("rtc_spec.lua:%d+: rtc.new: ", message) -- the caller's line
      assert.matches(case[3], message, 1, true)
      assert.is_nil(message:find("hunter", 1, true))
      assert.is_true(#message < 700)
    end)
  end

  -- In nginx that is for its configuration to say.
  compat.where(not compat.in_nginx, it)("takes certificates from a file or a folder", function()
    local client = rtc.new(options { ca_file = "/etc/passwd", ca_path = "/etc" })
    assert.matches("https://example.com", tostring(client), 1, true)
  end)

  it("raises for what is no options at all", function()
    for _, value in ipairs { 42, true } do
      assert.error_matches(function() rtc.new(value) end,
        "options must be a table, or an endpoint as a string, not a " .. type(value))
    end
  end)

  it("takes keys as a pair only", function()
    for _, given in ipairs { { access_key = "k" }, { secret_key = "s" }, { session_token = "t" },
      { access_key = "k", session_token = "t" }, { endpoint = "sandbox", access_key = "k" } } do
      assert.error_matches(function() rtc.new(given) end, "no keys: .* is not set beside .*: they come as a pair")
    end
  end)

  it("takes an endpoint alone as a string", function()
    assert.equal("rtc.client(http://127.0.0.1:8790, access key AKLT…)", tostring(rtc.new "sandbox"))
    assert.equal("rtc.client(http://127.0.0.1:9001, access key AKLT…)", tostring(rtc.new "sandbox:9001"))
    assert.error_matches(function() rtc.new "sandbox:x" end, "endpoint has a port")
  end)

  it("knows the sites and their regions", function()
    for endpoint, expected in pairs {
      byteplus = { "https://open.byteplusapi.com", "ap-singapore-1" },
      BytePlus = { "https://open.byteplusapi.com", "ap-singapore-1" },
      ["https://open.byteplusapi.com"] = { "https://open.byteplusapi.com", "ap-singapore-1" },
      singapore = { "https://open-ap-singapore-1.volcengineapi.com", "ap-singapore-1" },
      ["open-ap-singapore-1.volcengineapi.com"] = { "https://open-ap-singapore-1.volcengineapi.com", "ap-singapore-1" },
      ["rtc.volcengineapi.com"] = { "https://rtc.volcengineapi.com", "cn-north-1" },
    } do
      local client = rtc.new(options { endpoint = endpoint })
      assert.same(expected, { client.endpoint.url, client.region })
    end
    assert.equal("ap-southeast-1", rtc.new(options { endpoint = "singapore", region = "ap-southeast-1" }).region)
    assert.error_matches(function() rtc.new(options { endpoint = "byteplsu" }) end, 'did you mean "byteplus"')
  end)

  it("signs for another service when asked", function()
    local shown = assert(rtc.new(options { service = "sts", app_id = "a", from = "f" })
      :explain("SendUnicast", { to = "u", message = "m" }, 1735787045))
    assert.equal("20250102/cn-north-1/sts/request", shown.credential_scope)
  end)

  it("allows plain http when asked", function()
    local client = rtc.new(options { endpoint = "http://example.com", allow_http = true })
    assert.equal("http://example.com", client.endpoint.url)
  end)
end)

describe("rtc", function()
  it("says how to build a C module that is missing", function()
    local child = process.run({ process.lua, "-e", 'print(pcall(require, "rtc"))' },
      { env = { LUA_CPATH = "/none/?.so", [process.lua_variable("LUA_CPATH")] = "/none/?.so" } })
    assert.matches("^false\t.*the C module rtc.core cannot be loaded in " .. _VERSION
      .. ". Build it with `luarocks make`", child.stdout)
  end)

  it("states its version", function()
    assert.matches("^%d+%.%d+%.%d+$", rtc._VERSION)
  end)
end)

describe("rtc.signer", function()
  it("raises for what it cannot sign with", function()
    for message, given in pairs {
      ["access_key is missing"] = { secret_key = "s" }, ["secret_key is missing"] = { access_key = "k" },
      ["did you mean `secret_key`"] = { access_key = "k", secretkey = "s" }, ["must be a table"] = "k",
      ["region must not have"] = { access_key = "k", secret_key = "s", region = "a/b" },
    } do
      local ok, raised = pcall(function()
        return (rtc.signer(given))
      end)
      assert.is_false(ok)
      assert.matches("rtc_spec.lua:%d+: rtc.signer: ", raised)
      assert.matches(message, raised, 1, true)
    end
  end)

  it("signs for cn-north-1 and rtc unless told otherwise, and shows no secret", function()
    local signer = rtc.signer { access_key = "k", secret_key = "hunter2" }
    assert.equal("20250102/cn-north-1/rtc/request",
      signer:explain({ method = "POST", host = "h", time = 1735787045 }).credential_scope)
    signer = rtc.signer { access_key = "k", secret_key = "hunter2", region = "r", service = "s" }
    assert.equal("20250102/r/s/request",
      signer:explain({ method = "POST", host = "h", time = 1735787045 }).credential_scope)
    assert.is_nil(tostring(signer):find("hunter", 1, true))
  end)

  it("needs no libcurl", function()
    assert.equal("false\n", run [[
      rtc.signer { access_key = "k", secret_key = "s" }
      print(package.loaded["rtc.engine"] ~= nil)]])
  end)
end)

describe("the environment", function()
  local server

  setup(function()
    server = fault_server.start()
    server:always(nil, { act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } })
  end)

  teardown(function()
    server:stop()
  end)

  local function last_request()
    local requests = server:requests()
    return requests[#requests]
  end

  local send = 'print(rtc.send_room_unicast { room_id = "r", to = "u", message = "m" })'

  local function full(changes)
    local env = { VOLC_ACCESSKEY = "AKLTenv", VOLC_SECRETKEY = "hunter2", RTC_APP_ID = "envapp", RTC_FROM = "envfrom",
      RTC_ENDPOINT = server.url }
    for name, value in pairs(changes or {}) do
      env[name] = value
    end
    return env
  end

  it("gives the default client all it needs", function()
    assert.matches("^SendRoomUnicast: accepted", run(send, full()))
    local request = last_request()
    assert.equal('{"AppId":"envapp","RoomId":"r","From":"envfrom","To":"u","Binary":false,"Message":"m"}', request.body)
    assert.matches("Credential=AKLTenv/", request.headers.authorization, 1, true)
    assert.matches("^rtc%-lua/%d", request.headers["user-agent"])
  end)

  it("gives a client of its own only what it was not given", function()
    run([[assert(rtc.new { app_id = "mine", from = "me", access_key = "AKLTmine", secret_key = "s" }
      :send_room_unicast { room_id = "r", to = "u", message = "m" })]], full())
    local request = last_request()
    assert.matches('"AppId":"mine","RoomId":"r","From":"me"', request.body, 1, true)
    assert.matches("Credential=AKLTmine/", request.headers.authorization, 1, true)
  end)

  it("never completes keys that were given", function()
    local printed = run('print(pcall(rtc.new, { access_key = "AKLTmine" }))', full())
    assert.matches("secret_key is not set beside access_key", printed, 1, true)
  end)

  --- What the default client, and one that is made by hand, say when they lack keys.
  local function complaints(changes)
    local printed = run([[
      local receipt, err = rtc.send_room_unicast { room_id = "r", to = "u", message = "m" }
      print(receipt, err.kind, err.outcome, err.attempts, err)
      print(pcall(rtc.new))]], full(changes))
    assert.is_nil(printed:find("hunter", 1, true))
    local first, second = printed:match("^(.-)\n(.-)\n$")
    assert.matches("^nil\tconfig\tnot_sent\t0\tSendRoomUnicast: InvalidConfig: no keys: ", first)
    assert.matches("^false\trtc.new: no keys: ", second)
    return { first, second }
  end

  for state, value in pairs { ["not set"] = false, ["set to nothing"] = "" } do
    it("without keys says what to do: " .. state, function()
      for _, line in ipairs(complaints { VOLC_ACCESSKEY = value, VOLC_SECRETKEY = value }) do
        assert.matches("pass access_key and secret_key (or a function, as credentials) to rtc.new, or set "
          .. "VOLC_ACCESSKEY and VOLC_SECRETKEY, or write ~/.volc/credentials; or try rtc.new \"sandbox\", with "
          .. "`rtc sandbox` running in another terminal", line, 1, true)
      end
    end)

    for missing, other in pairs { VOLC_ACCESSKEY = "VOLC_SECRETKEY", VOLC_SECRETKEY = "VOLC_ACCESSKEY" } do
      it(("with half of the keys names the other half: %s %s"):format(missing, state), function()
        for _, line in ipairs(complaints { [missing] = value }) do
          assert.matches(("no keys: %s is not set beside %s: they come as a pair"):format(missing, other), line, 1,
            true)
        end
      end)
    end
  end

  it("that is set to nothing counts as not set", function()
    local empty = full { RTC_ENDPOINT = "", RTC_APP_ID = "", RTC_FROM = "" }
    assert.equal("rtc.client(https://rtc.volcengineapi.com, access key AKL…)\tnil\tnil\n",
      run("local client = rtc.new() print(client, client.defaults.app_id, client.defaults.from)", empty))
  end)

  it("is read again after it lacked something", function()
    -- os.getenv is the only door to the environment that a script has to change it
    assert.matches("^config\nSendRoomUnicast: accepted", run([[
      local real = os.getenv
      os.getenv = function(name) if name ~= "VOLC_SECRETKEY" then return real(name) end end
      local call = { room_id = "r", to = "u", message = "m" }
      print(select(2, rtc.send_room_unicast(call)).kind)
      os.getenv = real
      print((rtc.send_room_unicast(call)))]], full()))
  end)

  for name, case in pairs {
    RTC_ENDPOINT = { "http://example.com", "RTC_ENDPOINT is plain http" },
    RTC_APP_ID = { "a b", "RTC_APP_ID has a space" },
    RTC_FROM = { "a/b", "RTC_FROM has `/`" },
    VOLC_SECRETKEY = { "hunter2 ", "VOLC_SECRETKEY has white space" },
  } do
    it("is named when it is wrong: " .. name, function()
      local printed = run(send, full { [name] = case[1] })
      assert.matches(case[2], printed, 1, true)
      assert.matches("(config, not sent)", printed, 1, true)
      assert.is_nil(printed:find("hunter", 1, true))
    end)
  end

  it("may lack IDs that each call gives; a call that does not is told where to", function()
    local env = full { RTC_APP_ID = false, RTC_FROM = false }
    local printed = run(send, env)
    assert.matches("app_id is missing: pass it in the call or to rtc.new, or set RTC_APP_ID", printed, 1, true)
    assert.matches("^SendRoomUnicast: accepted", run([[
      print(rtc.send_room_unicast { app_id = "a", from = "f", room_id = "r", to = "u", message = "m" })]], env))
  end)

  it("never reaches the sandbox: neither keys nor IDs", function()
    local printed = run([[
      for _, client in ipairs { rtc.new "sandbox", rtc.new { endpoint = "sandbox", from = "me" } } do
        print(client, client.defaults.app_id, client.defaults.from)
      end]], full())
    assert.equal("rtc.client(http://127.0.0.1:8790, access key AKLT…)\tsandboxapp00000000000001\tserver\n"
      .. "rtc.client(http://127.0.0.1:8790, access key AKLT…)\tsandboxapp00000000000001\tme\n", printed)
    assert.matches("^rtc.client%(http://127.0.0.1:9001, access key AKLT…%)\n$",
      run("print(rtc.new())", full { RTC_ENDPOINT = "sandbox:9001" }))
  end)
end)
