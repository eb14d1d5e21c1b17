-- The commands that send, beside `rtc send`: real processes, a real sandbox.

local json = require("cjson").new()
local compat = require("spec.support.compat")
local fault_server = require "spec.support.fault_server"
local listen = require "rtc.sandbox.listen"
local process = require "spec.support.process"
local tree = require "spec.support.tree"

local act = fault_server.act

--- One list after the other.
local function joined(first, ...)
  local all = { compat.unpack(first) }
  for _, more in ipairs { ... } do
    all[#all + 1] = more
  end
  return all
end

describe("rtc", function()
  local sandbox

  setup(function()
    sandbox = tree.sandbox()
  end)

  teardown(function()
    sandbox.process:close()
  end)

  after_each(fault_server.stop_all)

  local function run(arguments, options)
    options = options or {}
    options.env = options.env or { RTC_ENDPOINT = sandbox.endpoint }
    return tree.run(arguments, options)
  end

  local function succeeds(arguments, options)
    local result = run(arguments, options)
    assert.same({ 0, "" }, { result.code, result.stderr })
    return result.stdout
  end

  local function fails(code, pattern, arguments, options)
    local result = run(arguments, options)
    assert.same({ code, "" }, { result.code, result.stdout }, result.stderr)
    assert.matches(pattern, result.stderr)
    assert.is_nil(result.stderr:find("%.lua:%d"), result.stderr)
    return result.stderr
  end

  --- The environment of a client of a fault server.
  local function keys_for(server)
    return { env = {
      RTC_ENDPOINT = server.url, VOLC_ACCESSKEY = "AKLTkey", VOLC_SECRETKEY = "hunter2", RTC_APP_ID = "app",
      RTC_FROM = "me",
    } }
  end

  describe("reaches whom it is to:", function()
    local people

    setup(function()
      people = {}
      for name, room in pairs { alice = "hall", bob = "hall", carol = false } do
        people[name] = assert(listen.open { endpoint = sandbox.url, room_id = room or nil, user_id = name })
      end
    end)

    teardown(function()
      for _, person in pairs(people) do
        person:close()
      end
    end)

    for command, expected in pairs {
      ["unicast --to carol"] = { "carol", "onUserMessageReceivedOutsideRoom" },
      ["unicast --to alice --binary"] = { "alice", "onUserBinaryMessageReceivedOutsideRoom" },
      ["send --room hall --to bob"] = { "bob", "onUserMessageReceived" },
      ["broadcast --room hall"] = { "alice bob", "onRoomMessageReceived" },
      ["broadcast --room hall --binary --api-version 2023-07-20"] = { "alice bob", "onRoomBinaryMessageReceived" },
      ["batch --room hall --to alice,bob"] = { "alice bob", "onUserMessageReceived" },
      ["batch --room hall --to alice --to bob --binary"] = { "alice bob", "onUserBinaryMessageReceived" },
    } do
      it(command, function()
        local arguments = {}
        for word in command:gmatch("%S+") do
          arguments[#arguments + 1] = word
        end
        assert.matches("^%u%a+: accepted in %d+ ms %(HTTP 200, cn%-north%-1, request %w+%)\n$",
          succeeds(joined(arguments, "this is " .. command)))
        for name in expected[1]:gmatch("%a+") do
          local got = assert(people[name]:next(10))
          assert.same({ expected[2], "this is " .. command, "server" }, { got.callback, got.message, got.from })
        end
      end)
    end

    it("batch, with receivers of a file", function()
      succeeds { "batch", "--room", "hall", "--to", "alice", "--to-file", tree.file_with("bob\r\n\nnobody\n"),
        "from a file" }
      for _, name in ipairs { "alice", "bob" } do
        assert.equal("from a file", assert(people[name]:next(10)).message)
      end
    end)
  end)

  describe("batch", function()
    local function many(count)
      local lines = {}
      for i = 1, count do
        lines[i] = "player" .. i
      end
      return tree.file_with(table.concat(lines, "\n"))
    end

    it("takes 600 receivers, and 601 only in parts", function()
      succeeds { "batch", "--room", "hall", "--to-file", many(600), "hello" }
      fails(1, "%-%-to has 601 entries, and the service takes at most 600 in a call: pass %-%-split",
        { "batch", "--room", "hall", "--to-file", many(601), "hello" })
      assert.matches("accepted in %d+ ms %(HTTP 200, cn%-north%-1, 2 parts%)",
        succeeds { "batch", "--room", "hall", "--to-file", many(601), "--split", "hello" })
    end)

    it("says which part failed", function()
      local server = fault_server.start()
      server:script({ act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } },
        { act.read(), act.answer { status = 403,
          body = '{"ResponseMetadata":{"Error":{"CodeN":100013,"Code":"AccessDenied","Message":"no"}}}' } })
      local arguments = { "batch", "--room", "hall", "--to-file", many(601), "--split", "hello" }
      local told = fails(3, "1 of 2 parts failed, the first of them: no", arguments, keys_for(server))
      assert.matches("part 2, player601 … player601 (1 receivers): BatchSendRoomUnicast: AccessDenied: no", told, 1,
        true)
    end)

    it("gives the parts as JSON", function()
      local printed = succeeds { "batch", "--room", "hall", "--to-file", many(601), "--split", "--json", "hello" }
      local told = json.decode(printed)
      assert.same({ true, 2, 600, "player601", true },
        { told.ok, #told.parts, #told.parts[1].to, told.parts[2].to[1], told.parts[2].ok })
    end)
  end)

  describe("with --json", function()
    it("prints a receipt", function()
      local printed = succeeds { "unicast", "--to", "alice", "--json", "hello" }
      assert.matches('^{"ok":true,"action":"SendUnicast","version":"2020%-12%-01",[^\n]*}\n$', printed)
      local told = json.decode(printed)
      assert.same({ 200, 1, 34, "Success" }, { told.http_status, told.attempts, #told.request_id, told.message })
    end)

    it("prints an error on standard output, too, and keeps the exit code", function()
      local result = run { "unicast", "--to", "al ice", "--json", "hello" }
      assert.same({ 1, "" }, { result.code, result.stderr })
      local told = json.decode(result.stdout)
      assert.same({ false, "argument", "InvalidArgument", "to", "not_sent", false, 0 },
        { told.ok, told.kind, told.code, told.field, told.outcome, told.retryable, told.attempts })
      assert.matches("^%-%-to has a space", told.message)
    end)

    it("prints nothing that commands a terminal", function()
      local server = fault_server.start()
      server:always(nil, { act.read(), act.answer { status = 400,
        body = '{"ResponseMetadata":{"Error":{"Code":"A\\u202e","Message":"\\u001b[2J\\u2028"}}}' } })
      local result = run({ "unicast", "--to", "alice", "--json", "hello" }, keys_for(server))
      assert.equal(3, result.code)
      assert.is_nil(result.stdout:find("[%z\1-\9\11-\31\127\226]"), result.stdout)
    end)
  end)

  it("exits with 3 when the message may have been delivered", function()
    local server = fault_server.start()
    server:always(nil, { act.read(), act.close() })
    fails(3, "may have been delivered", { "broadcast", "--room", "hall", "hello" }, keys_for(server))
    assert.equal(1, #server:requests())
  end)

  it("exits by what became of the message, also when nobody can read of it", function()
    local server = fault_server.start()
    server:always(nil, { act.read(), act.close() })
    local env = tree.environment(keys_for(server).env)
    for output, ignore in pairs { ["/dev/full"] = "", ["| true"] = "trap '' PIPE; " } do
      local script = ignore .. "set -o pipefail; tools/lua bin/rtc unicast --to alice --json hello "
        .. (output:find("|") and output or ">" .. output)
      local result = process.run({ "bash", "-c", script }, { env = env })
      assert.equal(3, result.code, output .. result.stderr)
    end
  end)

  it("ends a call after --timeout seconds", function()
    local server = fault_server.start()
    server:always(nil, { act.read(), act.wait() })
    fails(3, "timed out after 0%.2", { "unicast", "--timeout", "0.2", "--to", "alice", "hello" }, keys_for(server))
  end)

  describe("call", function()
    it("prints the receipt and the result", function()
      local server = fault_server.start()
      server:always(nil, { act.read(), act.answer {
        body = '{"ResponseMetadata":{"RequestId":"1"},"Result":{"Users":["a\\u202e"]}}' } })
      assert.matches('^GetRoomOnlineUsers: accepted in %d+ ms %(HTTP 200, cn%-north%-1, request 1%)\n{"Users":'
        .. '%["a\\u202e"%]}\n$', succeeds({ "call", "GetRoomOnlineUsers", "--method", "GET", "--api-version",
          "2023-11-01", "--query", "AppId=app", "--query", "RoomId=a=b" }, keys_for(server)))
      local request = server:requests()[1]
      assert.same({ "GET", "/?Action=GetRoomOnlineUsers&AppId=app&RoomId=a%3Db&Version=2023-11-01" },
        { request.method, request.target })
      assert.equal('{"Users":["a\\u202e"]}', json.encode(json.decode(succeeds(
        { "call", "GetRoomOnlineUsers", "--method", "GET", "--json" }, keys_for(server))).result)
        :gsub("\226\128\174", "\\u202e"))
    end)

    it("prints a result as it came, and nothing that commands a terminal", function()
      local came = '{"id": 1234567890123456, "none": [], "text": "a/b\\"}\\u202e\226\128\174", "list": [1, [{}], true]}'
      for _, case in ipairs { { came, (came:gsub("\226\128\174", "\\u{202E}")) }, { "false", "false" },
        { "null", "null" }, { '"\155"', '"\\x9B"' }, { "-1.5e3", "-1.5e3" } } do
        local server = fault_server.start()
        server:always(nil, { act.read(), act.answer {
          body = ('{"Other":{"Result":"]}"},"ResponseMetadata":{"RequestId":"1"}, "Result" : %s\n}'):format(case[1]),
        } })
        local printed = succeeds({ "call", "Anything" }, keys_for(server))
        assert.equal(case[2] .. "\n", printed:match("\n(.*)$"))
        local line = succeeds({ "call", "Anything", "--json" }, keys_for(server))
        assert.is_nil(line:find("[%z\1-\9\11-\31\127]"), line)
        local expected = case[1]:gsub("\226\128\174", "\\u202e"):gsub("\155", "\\ufffd")
        assert.equal(expected, line:match('"result":(.*)}\n$'))
        assert.is_not_nil(json.decode(line).result)
      end
    end)

    it("takes its body from the argument, a file or standard input, or sends {}", function()
      local server = fault_server.start()
      server:always(nil, { act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } })
      succeeds({ "call", "KickUser", '{"a":1}' }, keys_for(server))
      succeeds({ "call", "KickUser", "--file", tree.file_with('{"a":2}') }, keys_for(server))
      local options = keys_for(server)
      options.stdin = '{"a":3}'
      succeeds({ "call", "KickUser", "-" }, options)
      options.stdin = "not asked for"
      succeeds({ "call", "KickUser" }, options)
      succeeds({ "call", "KickUser" }, keys_for(server))
      local bodies = {}
      for i, request in ipairs(server:requests()) do
        bodies[i] = request.body
      end
      assert.same({ '{"a":1}', '{"a":2}', '{"a":3}', "{}", "{}" }, bodies)
    end)

    it("says what the service says of an action that it does not have", function()
      fails(1, "InvalidActionOrVersion", { "call", "NoSuchThing" })
    end)
  end)

  for what, case in pairs {
    ["a broadcast without a room"] = { 2, "missing option '%-%-room'", { "broadcast", "hello" } },
    ["a unicast without a receiver"] = { 2, "missing option '%-%-to'", { "unicast", "hello" } },
    ["a room for a unicast"] = { 2, "unknown option '%-%-room'", { "unicast", "--room", "r", "--to", "u", "x" } },
    ["a batch without receivers"] = { 2, "missing option '%-%-to'", { "batch", "--room", "r", "x" } },
    ["a wrong receiver of a batch"] = { 1, "%-%-to%[2%] has a space",
      { "batch", "--room", "r", "--to", "a,b c", "x" } },
    ["a timeout that is none"] = { 2, "malformed argument 'soon'",
      { "unicast", "--timeout", "soon", "--to", "u", "x" } },
    ["a timeout of nothing"] = { 1, "%-%-timeout must be at least", { "unicast", "--timeout", "0", "--to", "u", "x" } },
    ["a version that is none"] = { 1, "%-%-api%-version must be a date",
      { "unicast", "--api-version", "new", "--to", "u", "x" } },
    ["no action to call"] = { 2, "missing argument 'action'", { "call" } },
    ["an action that is none"] = { 1, "action must be the name of an action", { "call", "Ban User" } },
    ["a method that is none"] = { 1, '%-%-method must be "GET" or "POST"', { "call", "A", "--method", "PUT" } },
    ["a parameter twice"] = { 2, "%-%-query: 'x' is given twice",
      { "call", "A", "--query", "x=1", "--query", "x=2" } },
    ["a parameter without a value"] = { 2, "%-%-query: 'x' is not name=value", { "call", "A", "--query", "x" } },
    ["a body with GET"] = { 1, "body must be nil with GET", { "call", "A", "--method", "GET", "{}" } },
    ["a parameter that is the call's own"] = { 1, "%-%-query must not have Action",
      { "call", "A", "--query", "Action=B" } },
    ["an action that is no message"] = { 2, "'SendBroadcats' is no message action: did you mean `SendBroadcast`",
      { "sign", "--action", "SendBroadcats", "x" } },
    ["several receivers where one is meant"] = { 2, "reaches one receiver",
      { "sign", "--action", "SendUnicast", "--to", "a,b", "x" } },
  } do
    it("refuses " .. what, function()
      fails(case[1], case[2], case[3])
    end)
  end

  it("signs every message action", function()
    for arguments, body in pairs {
      ["--action SendUnicast --to u"] = '"From":"server","To":"u","Binary":false,"Message":"x"}',
      ["--action send_broadcast --room r --binary"] = '"RoomId":"r","From":"server","Binary":true,"Message":"eA=="}',
      ["--action BatchSendRoomUnicast --room r --to a --to b"] = '"To":["a","b"],"Binary":false,"Message":"x"}',
      ["--api-version 2023-07-20 --room r --to u"] = '"RoomId":"r","From":"server","To":"u",',
    } do
      local all = { "sign" }
      for word in arguments:gmatch("%S+") do
        all[#all + 1] = word
      end
      local shown = succeeds(joined(all, "x"))
      assert.matches(body, shown, 1, true)
      assert.equal(arguments:find("2023", 1, true) ~= nil, shown:find("Version=2023-07-20", 1, true) ~= nil)
    end
  end)

  it("is told by the sandbox's log how to sign the same call", function()
    local own = tree.sandbox()
    local env = { RTC_ENDPOINT = own.url, VOLC_ACCESSKEY = "AKLTsandbox", VOLC_SECRETKEY = "wrong",
      RTC_APP_ID = "sandboxapp00000000000001", RTC_FROM = "server" }
    fails(1, "SignatureDoesNotMatch", { "broadcast", "--room", "r", "--api-version", "2023-07-20", "x" }, { env = env })
    own.process:kill("TERM")
    own.process:wait()
    local log = own.process:rest()
    own.process:close()
    local options = log:match("compare with: tools/lua bin/rtc sign (.-) … %(the rest as for rtc send%)")
    local arguments = { "sign" }
    for word in options:gmatch("%S+") do
      arguments[#arguments + 1] = word
    end
    local shown = succeeds(joined(arguments, "--room", "r", "x"), { env = env })
    assert.equal(log:match("canonical request:\n(.-)compare with"), shown:match("canonical request:\n(.-)signature:"))
  end)
end)
