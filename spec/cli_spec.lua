-- bin/rtc as people run it: real processes, a real sandbox.

local cjson = require("cjson").new()
local hmac = require "openssl.hmac"
local http = require "socket.http"
local listen = require "rtc.sandbox.listen"
local compat = require("spec.support.compat")
local fault_server = require "spec.support.fault_server"
local ltn12 = require "ltn12"
local socket = require "socket"
local native = require "spec.support.native"
local process = require "spec.support.process"
local tree = require "spec.support.tree"

local act = fault_server.act
local SECRET = "c2VjcmV0LW5vdC1mb3ItZXllcw"

local function all_bytes()
  local bytes = {}
  for byte = 0, 255 do
    bytes[#bytes + 1] = string.char(byte)
  end
  return table.concat(bytes)
end

--- Nothing that a terminal obeys but the end of a line.
local function assert_harmless(text)
  assert.is_nil(text:find("[%z\1-\9\11-\31\127]"), "a control character in: " .. ("%q"):format(text))
  assert.is_nil(text:find("\194[\128-\159]"), "a C1 control character in: " .. ("%q"):format(text))
  assert.is_nil(text:find("\226\128[\168-\174]"), "a change of direction in: " .. ("%q"):format(text))
end

--- What holds for every failure.
local function assert_failed(result, code, pattern)
  assert.equal(code, result.code, result.stderr)
  assert.equal("", result.stdout)
  assert.truthy(result.stderr:find(pattern), result.stderr)
  assert.is_nil(result.stderr:find("traceback", 1, true), result.stderr)
  assert.is_nil(result.stderr:find("%.lua:%d"), result.stderr)
  assert_harmless(result.stderr)
end

describe("rtc", function()
  local sandbox

  setup(function()
    sandbox = tree.sandbox()
  end)

  teardown(function()
    sandbox.process:close()
  end)

  --- Arguments of `send` and `sign`, to the sandbox.
  local function to(user, ...)
    return { "--endpoint", sandbox.endpoint, "send", "--room", "room", "--to", user, ... }
  end

  --- The environment of somebody who has the sandbox's address and keys of his own.
  local function with_keys(changes)
    local env = {
      RTC_ENDPOINT = sandbox.url, VOLC_ACCESSKEY = "AKLTsandbox", VOLC_SECRETKEY = SECRET,
      RTC_APP_ID = "sandboxapp00000000000001", RTC_FROM = "server",
    }
    for name, value in pairs(changes or {}) do
      env[name] = value
    end
    return env
  end

  describe("the command line", function()
    it("prints its version", function()
      local result = tree.run { "--version" }
      assert.same({ 0, require("rtc")._VERSION .. "\n", "" }, { result.code, result.stdout, result.stderr })
    end)

    local options = {
      [""] = { "--version", "--endpoint", "sandbox", "listen", "send", "sign", "credentials", "VOLC_ACCESSKEY",
        "RTC_ENDPOINT" },
      sandbox = { "--host", "--port" },
      listen = { "--endpoint", "--room", "--user", "--app", "--count", "--json", "--raw" },
      send = { "--endpoint", "--room", "--to", "--from", "--app", "--file", "--binary", "text" },
      sign = { "--endpoint", "--room", "--to", "--from", "--app", "--file", "--binary", "text", "--time" },
      credentials = { "--endpoint", "--json" },
    }
    for command, names in pairs(options) do
      it(("explains every option: rtc %s --help"):format(command), function()
        local result = tree.run(command == "" and { "--help" } or { command, "--help" })
        assert.equal(0, result.code)
        assert.equal("", result.stderr)
        for _, name in ipairs(names) do
          assert.truthy(result.stdout:find("\n   " .. name, 1, true) or result.stdout:find(name .. " ", 1, true), name)
        end
      end)
    end

    local wrong = {
      { "no command", {}, "a command is required" },
      { "an unknown command", { "sned" }, "unknown command 'sned'" },
      { "an unknown option", { "send", "--rom", "r" }, "unknown option '%-%-rom'" },
      { "no room", { "send", "--to", "u", "hi" }, "missing option '%-%-room'" },
      { "no user", { "listen", "--room", "r" }, "missing option '%-%-user'" },
      { "no receiver", { "send", "--room", "r", "hi" }, "missing option '%-%-to'" },
      { "two messages", { "send", "--room", "r", "--to", "u", "hi", "there" }, "too many arguments" },
      { "a text and a file", { "--endpoint", "sandbox", "send", "--room", "r", "--to", "u", "--file", "x", "hi" },
        "not both" },
      { "a port that is none", { "sandbox", "--port", "70000" }, "%-%-port: '70000' is not a whole number" },
      { "a count that is none", { "listen", "--room", "r", "--user", "u", "--count", "0" }, "%-%-count: '0'" },
      { "a time that is none", { "sign", "--room", "r", "--to", "u", "--time", "now", "x" }, "%-%-time: 'now'" },
      { "a day that is none", { "sign", "--room", "r", "--to", "u", "--time", "20260230T000000Z", "x" },
        "%-%-time: '20260230T000000Z'" },
      { "plain http to another host", { "send", "--endpoint", "http://example.com", "--room", "r", "--to", "u", "x" },
        "%-%-endpoint is plain http to example.com, [^_]*: use https\n" },
      { "two forms at once", { "listen", "--room", "r", "--user", "u", "--json", "--raw" }, "%-%-raw" },
      { "an endpoint that is none", { "send", "--endpoint", "ftp://x", "--room", "r", "--to", "u", "hi" },
        "%-%-endpoint has the scheme" },
      { "a control character", { "send", "--\27[31m" }, "unknown option '%-%-\\x1B" },
    }
    for _, case in ipairs(wrong) do
      it("refuses " .. case[1], function()
        assert_failed(tree.run(case[2]), 2, case[3])
      end)
    end

    it("says how to begin when nothing is configured", function()
      for _, command in ipairs { "send", "sign" } do
        local result = tree.run { command, "--room", "r", "--to", "u", "hi" }
        assert_failed(result, 1, "rtc %-%-endpoint sandbox send")
        assert.truthy(result.stderr:find("VOLC_ACCESSKEY", 1, true))
      end
    end)

    it("says which half of the keys is missing", function()
      local result = tree.run({ "send", "--room", "r", "--to", "u", "hi" }, { env = { VOLC_ACCESSKEY = "AKLTmine" } })
      assert_failed(result, 1, "VOLC_SECRETKEY is not set")
    end)

    it("takes keys in a file for something configured, be they right or wrong", function()
      for bytes, text in pairs {
        ['{"ak":"AKLTmine","sk":"' .. SECRET .. '"}'] = "%-%-app is missing",
        ['{"ak":"AKLTmine"}'] = "no keys: sk is not set beside ak in [^\n]*/.volc/config",
      } do
        local result = tree.run({ "send", "--room", "r", "--to", "u", "hi" },
          { env = { HOME = tree.home { [".volc/config"] = bytes } } })
        assert_failed(result, 1, text)
      end
    end)

    it("speaks of its own options and of the variables", function()
      local none = { RTC_ENDPOINT = sandbox.url, VOLC_ACCESSKEY = "AKLTsandbox", VOLC_SECRETKEY = SECRET }
      for text, case in pairs {
        ["%-%-room has a space"] = { { "send", "--room", "a b", "--to", "u", "hi" } },
        ["%-%-to is empty"] = { { "send", "--room", "r", "--to", "", "hi" } },
        ["%-%-app is missing: [^\n]*RTC_APP_ID"] = { { "send", "--room", "r", "--to", "u", "hi" }, none },
        ["%-%-from has a space"] = { { "send", "--room", "r", "--to", "u", "--from", "a b", "hi" } },
        ["not valid UTF%-8[^\n]*%-%-binary"] = { { "send", "--room", "r", "--to", "u", "\255" } },
        ["VOLC_SECRETKEY is not set"] = { { "send", "--room", "r", "--to", "u", "hi" }, { VOLC_ACCESSKEY = "AKLTx" } },
        ["VOLC_SECRETKEY is wrong"] = { { "send", "--room", "r", "--to", "u", "hi" }, with_keys() },
        ["set VOLC_ACCESSKEY and VOLC_SECRETKEY"] = {
          { "send", "--endpoint", "https://user@example.com", "--room", "r", "--to", "u", "hi" }, nil, 2 },
      } do
        local result = tree.run(case[1], { env = case[2] or with_keys() })
        assert_failed(result, case[3] or 1, text)
        for _, name in ipairs { "room_id", "app_id", "access_key", "secret_key", "rtc%.new", "binary =" } do
          assert.is_nil(result.stderr:find(name), result.stderr)
        end
      end
    end)

    for module, case in pairs { argparse = { "--version" }, cjson = { "send", "--room", "r", "--to", "u", "hi" } } do
      it(("names the package when %s is missing"):format(module), function()
        local hide = ('package.preload.%s = function() error("hidden") end'):format(module)
        local result = process.run({ "tools/lua", "-e", hide, "bin/rtc", compat.unpack(case) }, { env = with_keys() })
        assert_failed(result, 1, "lua%-" .. module)
        assert.truthy(result.stderr:find("^rtc: [^\n]*apt%-get [^\n]*luarocks install[^\n]*\n$"), result.stderr)
      end)
    end

    for _, arguments in ipairs { { "--help" }, { "send", "--help" }, { "--version" } } do
      it("says so when nobody can read what it prints: " .. table.concat(arguments, " "), function()
        for redirection, why in pairs { [">/dev/full"] = "No space left", [">&-"] = "Bad file descriptor" } do
          local result = process.run { "sh", "-c", 'exec tools/lua bin/rtc "$@" ' .. redirection, "sh",
            compat.unpack(arguments) }
          assert_failed(result, 1, "cannot write to standard output: " .. why)
        end
      end)
    end

    it("names the tool when the module is not where Lua looks", function()
      local result = process.run({ process.lua, "bin/rtc", "--version" },
        { env = { [process.lua_variable("LUA_PATH")] = "?.none" } })
      assert_failed(result, 1, "tools/lua")
    end)
  end)

  describe("send", function()
    local receiver

    setup(function()
      receiver = assert(listen.open { endpoint = sandbox.url, room_id = "room", user_id = "alice" })
    end)

    teardown(function()
      receiver:close()
    end)

    local function assert_received(result, message, binary)
      assert.equal(0, result.code, result.stderr)
      assert.equal("", result.stderr)
      assert.truthy(result.stdout:find("^SendRoomUnicast: accepted [^\n]*\n$"), result.stdout)
      local got = assert(receiver:next(10))
      assert.equal(binary and "onUserBinaryMessageReceived" or "onUserMessageReceived", got.callback)
      assert.is_true(message == got.message, ("%q arrived"):format(got.message))
      return got
    end

    it("takes the text from its argument", function()
      assert_received(tree.run(to("alice", "Grüße, 世界\n")), "Grüße, 世界\n")
    end)

    it("takes a text that begins with a dash", function()
      assert_received(tree.run(to("alice", "--", "-1")), "-1")
    end)

    it("reads standard input to its end without a text, and with -", function()
      local text = ("line\n"):rep(2000) .. "no line end"
      assert_received(tree.run(to("alice"), { stdin = text }), text)
      assert_received(tree.run(to("alice", "-"), { stdin = text }), text)
      assert_received(tree.run(to("alice", "--file", "-"), { stdin = text }), text)
    end)

    it("sends every byte of a file and of standard input", function()
      local bytes = all_bytes():rep(256)
      local path = tree.file_with(bytes)
      assert_received(tree.run(to("alice", "--binary", "--file", path)), bytes, true)
      assert_received(tree.run(to("alice", "--binary"), { stdin = bytes }), bytes, true)
      os.remove(path)
    end)

    it("takes the endpoint before the command, after it and from the environment", function()
      assert_received(tree.run(to("alice", "before")), "before")
      local arguments = { "send", "--room", "room", "--to", "alice", "--endpoint", sandbox.endpoint, "after" }
      assert_received(tree.run(arguments, { env = { RTC_ENDPOINT = "https://127.0.0.1:1" } }), "after")
      arguments = { "send", "--room", "room", "--to", "alice", "around" }
      assert_received(tree.run(arguments, { env = { RTC_ENDPOINT = sandbox.endpoint } }), "around")
    end)

    it("sends in the name of --from, and to --app", function()
      local app = "sandboxapp00000000000001"
      local got = assert_received(tree.run(to("alice", "--from", "referee", "--app", app, "hi")), "hi")
      assert.equal("referee", got.from)
    end)

    it("asks for a message when standard input is a terminal", function()
      local command = ("tools/lua bin/rtc --endpoint %s send --room room --to alice"):format(sandbox.endpoint)
      local result = process.run({ "script", "-qec", command, "/dev/null" }, { env = tree.environment() })
      assert.equal(2, result.code, result.stdout)
      assert.truthy(result.stdout:find("there is no message", 1, true), result.stdout)
    end)

    it("tells exit code 1 for what was not delivered", function()
      assert_failed(tree.run(to("alice", "--file", "/nonexistent")), 1, "/nonexistent: No such file")
      assert_failed(tree.run(to("alice", "--file", "/")), 1, "cannot read /: Is a directory")
      assert_failed(tree.run(to("alice", "\255")), 1, "InvalidArgument: .*UTF%-8.*not sent")
      assert_failed(tree.run(to("alice"), { stdin = ("x"):rep(65537) }), 1, "InvalidArgument: .*65537")
      assert_failed(tree.run(to("al ice", "hi")), 1, "InvalidArgument: %-%-to ")
      assert_failed(tree.run { "--endpoint", "sandbox:1", "send", "--room", "r", "--to", "u", "hi" }, 1,
        "ConnectFailed: .*not sent.*rtc sandbox")
    end)

    it("takes an empty input for a message only when told so", function()
      assert_failed(tree.run(to("alice")), 2, 'standard input is empty[^\n]*"%-"')
      assert_received(tree.run(to("alice", "-")), "")
      assert_received(tree.run(to("alice", "--file", "-")), "")
      assert_received(tree.run(to("alice", "")), "")
    end)

    it("reads no more of an endless input than memory can bear", function()
      local command = "tools/lua bin/rtc --endpoint sandbox:1 send --room r --to u </dev/zero"
      local result = process.run({ "sh", "-c", command }, { env = tree.environment() })
      assert_failed(result, 1, "too much for a message")
    end)

    it("tells exit code 1, and never the secret, when the signature does not match", function()
      local result = tree.run({ "send", "--room", "room", "--to", "alice", "hi" }, { env = with_keys() })
      assert_failed(result, 1, "SignatureDoesNotMatch: .*rejected")
      assert.is_nil((result.stdout .. result.stderr):find(SECRET, 1, true))
    end)

    it("tells exit code 3 when the message may have been delivered", function()
      local server = fault_server.start({})
      server:script({ act.read(), act.close() })
      local result = tree.run({ "send", "--room", "room", "--to", "alice", "hi" },
        { env = with_keys { RTC_ENDPOINT = server.url } })
      server:stop()
      assert_failed(result, 3, "it may have been delivered")
    end)

    it("tells exit code 1 for what went wrong before anything left", function()
      local break_it = [[package.preload["rtc.cli.message"] = function()
        return { fields = function() error("broken before") end }
      end]]
      local result = process.run({ "tools/lua", "-e", break_it, "bin/rtc", compat.unpack(to("alice", "hi")) })
      assert.equal(1, result.code, result.stderr)
      assert.truthy(result.stderr:find("broken before", 1, true), result.stderr)
    end)

    it("tells exit code 3 for what went wrong after something may have left", function()
      local break_it = [[
        local rtc = require "rtc"
        local new = rtc.new
        function rtc.new(...)
          local client = new(...)
          function client.send_room_unicast() error("broken after") end
          return client
        end]]
      local result = process.run({ "tools/lua", "-e", break_it, "bin/rtc", compat.unpack(to("alice", "hi")) })
      assert.equal(3, result.code, result.stderr)
      assert.truthy(result.stderr:find("broken after", 1, true), result.stderr)
    end)

    it("says on Ctrl-C that the message may have been delivered", function()
      local server = fault_server.start({})
      server:script({ act.read(), act.wait() })
      local sender = tree.start({ "send", "--room", "room", "--to", "alice", "hi" },
        { env = with_keys { RTC_ENDPOINT = server.url } })
      server:await(function(state)
        return state.complete > 0
      end)
      sender:kill("INT")
      local code = sender:wait()
      server:stop()
      sender:close()
      assert.equal("rtc: interrupted: the message may have been delivered\n", sender:stderr())
      assert.equal(130, code)
    end)

    it("shows an answer's control characters, and never obeys them", function()
      local server = fault_server.start({})
      server:script({ act.read(), act.answer { status = 502, body = "\27]0;owned\7\27[2J\194\155\226\128\174" } })
      local result = tree.run({ "send", "--room", "room", "--to", "alice", "hi" },
        { env = with_keys { RTC_ENDPOINT = server.url } })
      server:stop()
      assert_failed(result, 3, "owned")
    end)

    for redirection, why in pairs { [">/dev/full"] = "No space left", [">&-"] = "Bad file descriptor" } do
      it("has sent the message even if nobody takes the receipt: " .. redirection, function()
        local command = ("tools/lua bin/rtc --endpoint %s send --room room --to alice hi %s")
          :format(sandbox.endpoint, redirection)
        local result = process.run({ "sh", "-c", command }, { env = tree.environment() })
        assert.equal(0, result.code)
        assert.truthy(result.stderr:find("cannot write to standard output: " .. why, 1, true), result.stderr)
        assert.equal("hi", assert(receiver:next(10)).message)
      end)
    end

    it("has sent the message even if all three descriptors are closed", function()
      local command = ("tools/lua bin/rtc --endpoint %s send --room room --to alice hi <&- >&- 2>&-")
        :format(sandbox.endpoint)
      assert.equal(0, process.run({ "sh", "-c", command }, { env = tree.environment() }).code)
      assert.equal("hi", assert(receiver:next(10)).message)
    end)

    it("says so when its input is closed", function()
      local command = ("tools/lua bin/rtc --endpoint %s send --room room --to alice <&-"):format(sandbox.endpoint)
      assert_failed(process.run({ "sh", "-c", command }, { env = tree.environment() }), 1,
        "cannot read standard input: Bad file descriptor")
    end)
  end)

  describe("listen", function()
    local listener

    local function start(...)
      listener = tree.start { "--endpoint", sandbox.endpoint, "listen", "--room", "hall", "--user", "bob", ... }
      tree.await(function()
        return listener:stderr():find("listens", 1, true) or listener.code
      end, "rtc listen")
    end

    local function send(message, binary)
      local result = tree.run({ "--endpoint", sandbox.endpoint, "send", "--room", "hall", "--to", "bob",
        binary and "--binary" or "-" }, { stdin = message })
      assert.equal(0, result.code, result.stderr)
    end

    after_each(function()
      if listener then
        listener:close()
      end
      listener = nil
    end)

    it("prints a line a message, and ends after --count", function()
      start("--count", "3")
      send("Grüße, 世界")
      send('a "quoted"\\ line\nand\27[31m more\194\155\226\128\174')
      send(all_bytes(), true)
      assert.equal('onUserMessageReceived from server: "Grüße, 世界"', listener:line())
      assert.equal([[onUserMessageReceived from server: "a \"quoted\"\\ line\nand\x1B[31m more\u{9B}\u{202E}"]],
        listener:line())
      assert.equal("onUserBinaryMessageReceived from server: 256 bytes: 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e "
        .. "0f …", listener:line())
      assert.equal(0, (listener:wait()))
      assert.equal("", listener:rest())
      assert.equal("rtc: bob is in room hall and listens\n", listener:stderr())
    end)

    it("prints objects for machines", function()
      start("--count", "2", "--json")
      local text = '"\\/\27\127\194\155\n' .. "世界"
      send(text)
      send(all_bytes(), true)
      local line = listener:line()
      assert_harmless(line)
      assert.same({ callback = "onUserMessageReceived", room_id = "hall", from = "server", message = text },
        cjson.decode(line))
      local object = cjson.decode(listener:line())
      assert.equal("onUserBinaryMessageReceived", object.callback)
      assert.equal((require("mime").b64(all_bytes())), object.message_base64)
      assert.is_nil(object.message)
      assert.equal(0, (listener:wait()))
    end)

    it("prints the bytes alone with --raw", function()
      start("--count", "2", "--raw")
      local text = "no line end \27[31m"
      send(text)
      send(all_bytes(), true)
      assert.equal(0, (listener:wait()))
      assert.is_true(listener:rest() == text .. all_bytes())
      assert.truthy(listener:stderr():find('onUserMessageReceived from server: "no line end \\x1B[31m"', 1, true))
      assert_harmless(listener:stderr())
    end)

    it("ends quietly on Ctrl-C", function()
      start()
      listener:kill("INT")
      assert.equal(130, (listener:wait()))
      assert.equal("", listener:rest())
      assert.equal("rtc: bob is in room hall and listens\n", listener:stderr())
    end)

    for how, ignore in pairs { ["by a signal"] = "", ["by an error"] = "trap '' PIPE; " } do
      it("ends quietly when its reader has gone, told " .. how, function()
        local errors = native.path("listen")
        local command = ("%stools/lua bin/rtc --endpoint %s listen --room hall --user bob 2>%s | head -n 1")
          :format(ignore, sandbox.endpoint, errors)
        local pipeline = process.spawn({ "sh", "-c", command }, { env = tree.environment() })
        local function stderr()
          local file = io.open(errors, "rb")
          local text = file and file:read("*a") or ""
          if file then
            file:close()
          end
          return text
        end
        tree.await(function()
          return stderr():find("listens", 1, true)
        end, "rtc listen")
        send("one")
        assert.equal('onUserMessageReceived from server: "one"', pipeline:line())
        -- `head` has gone, or will before long: some message finds nobody.
        tree.await(function()
          send("more")
          return pipeline:wait(0.05)
        end, "the end of the pipeline")
        pipeline:close()
        assert.equal("rtc: bob is in room hall and listens\n", stderr())
      end)
    end

    describe("without a room", function()
      local function start_outside(...)
        listener = tree.start { "--endpoint", sandbox.endpoint, "listen", "--user", "bob", ... }
        tree.await(function()
          return listener:stderr():find("listens", 1, true) or listener.code
        end, "rtc listen")
      end

      --- Sends to bob wherever he is.
      local function send_unicast(message, binary)
        local defaults = require "rtc.sandbox.defaults"
        local signer = require("rtc").signer {
          access_key = defaults.access_key, secret_key = defaults.secret_key, region = defaults.region, service = "rtc",
        }
        local body = cjson.encode {
          AppId = defaults.app_id, From = "server", To = "bob", Message = message, Binary = binary or false,
        }
        local signed = assert(signer:sign {
          method = "POST", host = sandbox.url:match("^http://(.*)$"), path = "/", body = body,
          query = { { "Action", "SendUnicast" }, { "Version", "2023-07-20" } },
          headers = { { "Content-Type", "application/json" } },
        })
        signed.headers["Content-Length"] = tostring(#body)
        local _, status = http.request {
          url = sandbox.url .. "/?" .. signed.query, method = "POST", headers = signed.headers,
          source = ltn12.source.string(body),
        }
        assert.equal(200, status)
      end

      it("prints what is sent outside of rooms, and nothing else", function()
        start_outside("--count", "2")
        send("in the hall")
        send_unicast("Grüße")
        send_unicast("AAEC", true)
        assert.equal('onUserMessageReceivedOutsideRoom from server: "Grüße"', listener:line())
        assert.equal("onUserBinaryMessageReceivedOutsideRoom from server: 3 bytes: 00 01 02", listener:line())
        assert.equal(0, (listener:wait()))
        assert.equal("", listener:rest())
        assert.equal("rtc: bob is logged in and listens\n", listener:stderr())
      end)

      it("prints objects that have no room", function()
        start_outside("--count", "1", "--json")
        send_unicast("hi")
        assert.same({ callback = "onUserMessageReceivedOutsideRoom", from = "server", message = "hi" },
          cjson.decode(listener:line()))
        assert.equal(0, (listener:wait()))
      end)

      it("gets that in a room, too", function()
        start("--count", "1", "--json")
        send_unicast("hi")
        assert.same({ callback = "onUserMessageReceivedOutsideRoom", from = "server", message = "hi" },
          cjson.decode(listener:line()))
        assert.equal(0, (listener:wait()))
      end)

      it("is not what an empty one means", function()
        assert_failed(tree.run { "--endpoint", sandbox.endpoint, "listen", "--room", "", "--user", "bob" }, 1,
          "room_id must be 1 to 128")
      end)
    end)

    it("says so when the sandbox ends", function()
      local other = tree.sandbox()
      local orphan = tree.start { "--endpoint", other.endpoint, "listen", "--room", "hall", "--user", "bob" }
      tree.await(function()
        return orphan:stderr():find("listens", 1, true)
      end, "rtc listen")
      other.process:close()
      assert.equal(1, (orphan:wait()))
      assert.truthy(orphan:stderr():find("rtc: the sandbox is gone", 1, true), orphan:stderr())
      orphan:close()
    end)

    --- What `rtc listen` makes of a server that joins it to the room and then sends `events`.
    local function listen_to(events, ...)
      local server = fault_server.start({})
      server:script({ act.read(), act.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        .. "Connection: close\r\n\r\nevent: joined\ndata: {}\n\n" .. events), act.close() })
      local result = tree.run { "--endpoint", server.url, "listen", "--room", "r", "--user", "u", ... }
      server:stop()
      return result
    end

    for name, event in pairs {
      ["bad JSON"] = "event: onUserMessageReceived\ndata: {\n\n",
      ["no object"] = "event: onUserMessageReceived\ndata: 7\n\n",
      ["no sender"] = 'event: onUserMessageReceived\ndata: {"room_id":"r","message":"x"}\n\n',
      ["a number as the message"] = 'event: onUserMessageReceived\ndata: {"room_id":"r","uid":"u","message":7}\n\n',
      ["no UTF-8"] = 'event: onUserMessageReceived\ndata: {"room_id":"r","uid":"u","message":"\255"}\n\n',
      ["a number as the room"] = 'event: onUserMessageReceived\ndata: {"room_id":7,"uid":"u","message":"x"}\n\n',
      ["no base64"] = 'event: onUserBinaryMessageReceived\ndata: {"room_id":"r","uid":"u","message":"x"}\n\n',
    } do
      it("says so when what came is no sandbox's: " .. name, function()
        local result = listen_to(event)
        assert_failed(result, 1, "is not a sandbox")
        assert.is_nil(result.stderr:find("should not happen", 1, true))
      end)
    end

    it("says so when the answer is hardly HTTP", function()
      local server = fault_server.start({})
      for _, answer in ipairs { "hello\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: ;;\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\n:x\r\n\r\n" } do
        server:script({ act.read(), act.send(answer), act.close() })
        local result = tree.run { "--endpoint", server.url, "listen", "--room", "r", "--user", "u" }
        assert_failed(result, 1, server.url)
        assert.is_nil(result.stderr:find("should not happen", 1, true), answer .. result.stderr)
      end
      server:stop()
    end)

    it("prints nothing that commands a terminal, whatever a server sends", function()
      local text = "\226\128\174\226\128\168\194\155"
      local event = ('event: on%s\27[2J\ndata: {"room_id":"%s","uid":"%s","message":"%s"}\n\n')
        :format(text, text, text, text)
      for _, form in ipairs { "--json", "--raw", "--count" } do
        local result = listen_to(event, form, form == "--count" and "1" or nil)
        if form ~= "--raw" then
          assert.truthy(result.stdout:find(form == "--json" and "\\u202e" or "\\u{202E}", 1, true), result.stdout)
          assert_harmless(result.stdout)
        end
        assert_harmless(result.stderr)
      end
    end)

    it("says so when there is no sandbox", function()
      assert_failed(tree.run { "--endpoint", "sandbox:1", "listen", "--room", "r", "--user", "u" }, 1,
        "cannot reach http://127%.0%.0%.1:1.*rtc sandbox")
      assert_failed(tree.run { "--endpoint", "https://localhost", "listen", "--room", "r", "--user", "u" }, 1,
        "is no sandbox")
      assert_failed(tree.run({ "listen", "--room", "r", "--user", "u" }, { env = { RTC_ENDPOINT = "http://" } }), 1,
        "RTC_ENDPOINT has")
    end)
  end)

  describe("sign", function()
    --- The text under a heading of `rtc sign`, or of the sandbox's log.
    local function section(text, heading)
      local lines
      for line in text:gmatch("[^\n]+") do
        local content = line:match("^    | (.*)$")
        if lines and content then
          lines[#lines + 1] = content
        elseif lines then
          break
        elseif line:find("^ *" .. heading) then
          lines = {}
        end
      end
      assert(lines, "no " .. heading .. " in:\n" .. text)
      return table.concat(lines, "\n")
    end

    local function sign(time, env)
      local result = tree.run({ "sign", "--room", "room", "--to", "alice", "--time", tostring(time), "Grüße" },
        { env = env })
      assert.equal(0, result.code, result.stderr)
      assert.equal("", result.stderr)
      return result.stdout
    end

    it("shows how the signature came about, and the secret nowhere", function()
      local shown = sign(1735787045, with_keys())
      assert.is_nil(shown:find(SECRET, 1, true))
      assert.equal("20250102/cn-north-1/rtc/request", section(shown, "credential scope"))
      local key = SECRET
      for _, part in ipairs { "20250102", "cn-north-1", "rtc", "request" } do
        key = hmac.new(key, "sha256"):final(part)
      end
      local signature = hmac.new(key, "sha256"):final(section(shown, "string to sign")):gsub(".", function(char)
        return ("%02x"):format(char:byte())
      end)
      assert.equal(signature, section(shown, "signature"))
      assert.equal("HMAC-SHA256 Credential=AKLTsandbox/20250102/cn-north-1/rtc/request, SignedHeaders="
        .. section(shown, "signed headers") .. ", Signature=" .. signature, section(shown, "Authorization"))
      assert.truthy(section(shown, "body"):find('"Message":"Grüße"', 1, true))
    end)

    --- The lines of `rtc sign`, or of the sandbox's log, that are meant to be compared.
    local function comparable(text)
      local lines, block = {}, false
      for line in text:gmatch("[^\n]+") do
        block = line == "canonical request:" or line == "string to sign:" or block and line:find("^    | ")
        if block then
          lines[#lines + 1] = line
        end
      end
      assert(#lines > 10, "nothing to compare in:\n" .. text)
      return lines
    end

    --- Sends with a wrong secret to a sandbox of its own, by way of `url` if given, and does what its log says.
    local function log_and_sign(own, env)
      local arguments = { "--room", "room", "--to", "alice", "Grüße" }
      local log
      local sender = tree.start({ "send", compat.unpack(arguments) }, { env = env })
      if own.relay then
        own.relay()
      end
      sender:wait()
      sender:close()
      assert.equal(1, sender.code, sender:stderr())
      assert.truthy(sender:stderr():find("SignatureDoesNotMatch", 1, true), sender:stderr())
      own.process:kill("TERM")
      own.process:wait()
      log = own.process:rest()
      own.process:close()
      local last = log:match("([^\n]*)\n$")
      local time = last:match("^compare with: tools/lua bin/rtc sign %-%-time (%d+T%d+Z) … "
        .. "%(the rest as for rtc send%)")
      assert(time, log)
      local result = tree.run({ "sign", "--time", time, compat.unpack(arguments) }, { env = env })
      assert.equal(0, result.code, result.stderr)
      return log, comparable(log), comparable(result.stdout)
    end

    it("prints the sandbox's log line by line when only the secret is wrong", function()
      local own = tree.sandbox()
      local log, theirs, ours = log_and_sign(own, with_keys { RTC_ENDPOINT = own.url, VOLC_SECRETKEY = "wrong" })
      assert.same(theirs, ours)
      assert.truthy(log:find("; if none of these lines differs, it is the secret key\n$"), log)
    end)

    it("differs from the sandbox's log where a message was changed on the way", function()
      local own = tree.sandbox()
      local relay = assert(socket.bind("127.0.0.1", 0))
      relay:settimeout(10)
      local _, port = relay:getsockname()
      function own.relay()
        local near = assert(relay:accept())
        local far = assert(socket.connect("127.0.0.1", own.port))
        near:settimeout(10)
        far:settimeout(10)
        local head = {}
        repeat
          head[#head + 1] = assert(near:receive("*l"))
        until head[#head] == ""
        local body = assert(near:receive(tonumber(table.concat(head, "\n"):lower():match("content%-length: (%d+)"))))
        assert(far:send(table.concat(head, "\r\n") .. "\r\n" .. body:gsub("Grüße", "GRüße")))
        local answer = {}
        repeat
          answer[#answer + 1] = assert(far:receive("*l"))
        until answer[#answer] == ""
        local length = tonumber(table.concat(answer, "\n"):match("content%-length: (%d+)"))
        assert(near:send(table.concat(answer, "\r\n") .. "\r\n" .. assert(far:receive(length))))
        near:close()
        far:close()
        relay:close()
      end
      local log, theirs, ours = log_and_sign(own, with_keys { RTC_ENDPOINT = "http://127.0.0.1:" .. port })
      assert.equal(#theirs, #ours)
      local differ = {}
      for i, line in ipairs(theirs) do
        if line ~= ours[i] then
          differ[#differ + 1] = i
        end
      end
      local heading
      for i, line in ipairs(theirs) do
        heading = line == "string to sign:" and i or heading
      end
      -- The hash of the body ends the canonical request, and the hash of that ends the string to sign.
      assert.same({ heading - 1, #theirs }, differ)
      assert.truthy(log:find("X-Content-Sha256 is not the hash of the body that came", 1, true), log)
    end)

    it("takes the time in seconds and as X-Date has it", function()
      local env = with_keys()
      assert.equal(sign(1735787045, env), sign("20250102T030405Z", env))
    end)

    it("takes what send takes, and refuses the same", function()
      assert_failed(tree.run { "--endpoint", "sandbox", "sign", "--room", "r", "--to", "a b", "hi" }, 1,
        "InvalidArgument")
      local result = tree.run({ "--endpoint", "sandbox", "sign", "--room", "r", "--to", "u", "--binary" },
        { stdin = "\0\1" })
      assert.equal(0, result.code)
      assert.truthy(section(result.stdout, "body"):find('"AAE="', 1, true))
    end)
  end)

  describe("credentials", function()
    local VOLC = "the environment: VOLC_ACCESSKEY, VOLC_SECRETKEY"
    local VOLCENGINE = "the environment: VOLCENGINE_ACCESS_KEY, VOLCENGINE_SECRET_KEY"

    --- Runs it with files of keys in a home of their own, and shows that home as ~.
    local function run(case, ...)
      local home = tree.home(case.files)
      local env = { HOME = home }
      for name, value in pairs(case.env or {}) do
        env[name] = value
      end
      local result = tree.run({ "credentials", ... }, { env = env })
      local shown = home:gsub("%p", "%%%0")
      result.stdout = result.stdout:gsub("\\/", "/"):gsub(shown, "~")
      result.stderr = result.stderr:gsub(shown, "~")
      assert_harmless(result.stdout)
      assert_harmless(result.stderr)
      assert.is_nil((result.stdout .. result.stderr):find(SECRET, 1, true))
      return result
    end

    local function lines(...)
      return table.concat({ ... }, "\n") .. "\n"
    end

    local full = {
      env = { VOLCENGINE_ACCESS_KEY = "AKTP0123456789ABCD", VOLCENGINE_SECRET_KEY = SECRET,
        VOLCENGINE_SESSION_TOKEN = SECRET },
      files = {
        [".volc/credentials"] = "[default]\naccess_key_id = AKLT0123456789XYZW\nsecret_access_key = " .. SECRET .. "\n",
        [".volc/config"] = '{"ak" "AKLT0123456789","sk":"' .. SECRET .. '"}',
      },
    }

    it("shows every source in order, which one is used, and no secret", function()
      local result = run(full)
      assert.same({ 0, "" }, { result.code, result.stderr })
      assert.equal(lines("not set   " .. VOLC,
        "used      " .. VOLCENGINE .. " (access key AKTP…ABCD, with a session token)",
        "not used  ~/.volc/credentials (access key AKLT…XYZW, no session token)",
        "wrong     ~/.volc/config is not JSON (at character 7): mend it, or set VOLC_ACCESSKEY and VOLC_SECRETKEY"),
        result.stdout)
    end)

    it("shows the same as JSON, an object a line", function()
      local result = run(full, "--json")
      assert.same({ 0, "" }, { result.code, result.stderr })
      local objects = {}
      for line in result.stdout:gmatch("[^\n]+") do
        objects[#objects + 1] = cjson.decode(line)
      end
      assert.same({
        { source = VOLC, used = false },
        { source = VOLCENGINE, used = true, access_key = "AKTP…ABCD", session_token = true },
        { source = "~/.volc/credentials", used = false, access_key = "AKLT…XYZW", session_token = false },
        { source = "~/.volc/config", used = false,
          error = "~/.volc/config is not JSON (at character 7): mend it, or set VOLC_ACCESSKEY and VOLC_SECRETKEY" },
      }, objects)
    end)

    it("tells exit code 1, and what to do, when there are none", function()
      for _, form in ipairs { {}, { "--json" } } do
        local result = run({}, compat.unpack(form))
        assert.same({ 1, "rtc: no keys: set VOLC_ACCESSKEY and VOLC_SECRETKEY, or write ~/.volc/credentials; or try "
          .. "--endpoint sandbox, with `rtc sandbox` running in another terminal\n" }, { result.code, result.stderr })
        assert.equal(4, select(2, result.stdout:gsub("\n", "")))
        assert.is_nil(result.stdout:find("AK", 1, true))
      end
    end)

    it("tells exit code 1 when the first that are there are wrong, whatever comes after them", function()
      local wrong = { files = full.files, env = { VOLC_SESSIONTOKEN = SECRET } }
      local result = run(wrong)
      assert.same({ 1, "rtc: no keys: VOLC_ACCESSKEY is not set beside VOLC_SESSIONTOKEN: they come as a pair\n" },
        { result.code, result.stderr })
      assert.matches(lines("wrong     VOLC_ACCESSKEY is not set beside VOLC_SESSIONTOKEN: they come as a pair",
        "not set   " .. VOLCENGINE, "not used  ~/.volc/credentials (access key AKLT…XYZW, no session token)"),
        result.stdout, 1, true)
    end)

    it("leaves the names in files as they are there", function()
      for bytes, text in pairs {
        ["[default]\naccess_key_id = x"] = "secret_access_key is not set beside access_key_id in ~/.volc/credentials",
        ["[default]\nsession_token = x"] = "access_key_id is not set beside session_token in ~/.volc/credentials",
        [""] = "~/.volc/credentials has no access_key_id and secret_access_key under [default]",
      } do
        local result = run { files = { [".volc/credentials"] = bytes } }
        assert.matches("rtc: no keys: " .. text, result.stderr, 1, true)
        assert.matches("wrong     " .. text, result.stdout, 1, true)
      end
    end)

    it("knows the sandbox's, which nothing else goes beside", function()
      local expected = { 0, "used      the sandbox's ready-made keys (access key AKLT…, no session token)\n", "" }
      local result = run(full, "--endpoint", "sandbox")
      assert.same(expected, { result.code, result.stdout, result.stderr })
      result = run { files = full.files, env = { RTC_ENDPOINT = "sandbox:1" } }
      assert.same(expected, { result.code, result.stdout, result.stderr })
    end)

    it("refuses an endpoint that is none", function()
      assert_failed(tree.run { "credentials", "--endpoint", "ftp://x" }, 2, "%-%-endpoint has the scheme")
    end)

    it("shows what a message is then signed with", function()
      local files = { [".volc/credentials"] = "[default]\naccess_key_id = AKLTsandbox\n"
        .. "secret_access_key = sandbox-secret-key\n" }
      local env = { HOME = tree.home(files), RTC_ENDPOINT = sandbox.url, RTC_APP_ID = "sandboxapp00000000000001",
        RTC_FROM = "server" }
      assert.matches("\nused      " .. env.HOME .. "/.volc/credentials (access key AKLT…, no session token)\n",
        tree.run({ "credentials" }, { env = env }).stdout, 1, true)
      local result = tree.run({ "send", "--room", "r", "--to", "u", "hi" }, { env = env })
      assert.same({ 0, "" }, { result.code, result.stderr })
    end)
  end)

  describe("the tools:", function()
    it("tools/lua finds the tree through a symbolic link", function()
      local link = native.path("lua")
      assert.equal(0, process.run({ "ln", "-s", process.run({ "readlink", "-f", "tools/lua" }).stdout:gsub("\n$", ""),
        link }).code)
      local result = process.run { link, "bin/rtc", "--version" }
      os.remove(link)
      assert.same({ 0, require("rtc")._VERSION .. "\n", "" }, { result.code, result.stdout, result.stderr })
    end)

    it("tools/build says so when it can't write", function()
      local result = process.run({ "tools/build" }, { env = { RTC_BUILD = "/proc/self" } })
      assert.same({ 1, "build: cannot write to /proc/self; RTC_BUILD=DIR names another folder\n" },
        { result.code, result.stderr })
    end)
  end)

  describe("sandbox", function()
    it("says so when its port is taken", function()
      assert_failed(tree.run { "sandbox", "--port", tostring(sandbox.port) }, 1,
        "cannot listen on 127%.0%.0%.1[^\n]*%-%-port 0")
    end)

    it("does not blame the port for a host that is none", function()
      local result = tree.run { "sandbox", "--host", "192.0.2.1", "--port", "0" }
      assert_failed(result, 1, "cannot listen on 192%.0%.2%.1")
      assert.is_nil(result.stderr:find("--port", 1, true), result.stderr)
    end)

    --- The banner of a sandbox, to its end.
    local function banner(...)
      local own = tree.start { "sandbox", "--port", "0", ... }
      own:line()
      own:kill("TERM")
      assert.equal(0, (own:wait()))
      local text = own:rest()
      own:close()
      return text
    end

    it("prints commands that can be copied", function()
      local own = tree.sandbox()
      local command
      repeat
        command = assert(own.process:line(), "no command")
      until command:find(" send ", 1, true)
      local result = process.run({ "sh", "-c", command }, { env = tree.environment() })
      assert.equal(0, result.code, result.stderr)
      assert.truthy(command:find("^  tools/lua bin/rtc send "), command)
      own.process:close()
      local shown = banner()
      assert.is_nil(shown:find("exports above", 1, true), shown)
    end)

    it("says that the exports are needed where the ready-made keys do not come by themselves", function()
      assert.truthy(banner("--host", "127.0.0.2"):find("A first message, after the exports above", 1, true))
    end)

    it("serves though its output is closed", function()
      local port = assert(socket.bind("127.0.0.1", 0))
      local _, number = port:getsockname()
      port:close()
      local command = ("exec tools/lua bin/rtc sandbox --port %d <&- >&- 2>&-"):format(number)
      local own = process.spawn({ "sh", "-c", command })
      tree.await(function()
        return tree.run({ "send", "--endpoint", "sandbox:" .. number, "--room", "r", "--to", "u", "x" }).code == 0
      end, "the sandbox")
      own:kill("TERM")
      assert.equal(0, (own:wait()))
      own:close()
    end)

    for _, signal in ipairs { "INT", "TERM" } do
      it("ends quietly on SIG" .. signal, function()
        local own = tree.sandbox()
        assert(listen.open { endpoint = own.url, room_id = "room", user_id = "alice" }):close()
        own.process:kill(signal)
        assert.equal(0, (own.process:wait()))
        assert.equal("", own.process:stderr())
        own.process:close()
      end)
    end
  end)
end)
