-- client:call for any action of the service; what rtc itself offers by the default client; and help.

local api = require "rtc.api"
local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local help = require "rtc.help"
local json = require "cjson"
local process = require "spec.support.process"
local rtc = require "rtc"
local service = require "spec.support.service"
local tree = require "spec.support.tree"

local act = fault_server.act

local server, client, before

setup(function()
  server = fault_server.start()
end)

teardown(fault_server.stop_all)

before_each(function()
  before = server:state().requests
  server:always(nil, service.accepts())
  client = service.client(server, { retry = false })
end)

--- What came in this test; well signed, all of it must be.
local function requests()
  local list = { compat.unpack(server:requests(), before + 1) }
  for _, request in ipairs(list) do
    assert.is_true(service.is_signed_well(request))
  end
  return list
end

describe("client:call", function()
  it("posts a table as JSON", function()
    local body = { AppId = "app", Count = 3, Half = 0.5, Deep = { { On = true }, "é😀\0\"\\/" }, Big = 99999999999999 }
    local receipt = assert(client:call("BanRoomUser", body))
    assert.same({ "BanRoomUser", "2020-12-01", 200, 1 },
      { receipt.action, receipt.version, receipt.http_status, receipt.attempts })
    assert.matches("^BanRoomUser: accepted in %d+ ms", tostring(receipt))
    local request = requests()[1]
    assert.equal("POST", request.method)
    assert.equal(service.target "BanRoomUser", request.target)
    assert.equal("application/json", request.headers["content-type"])
    assert.same(body, json.decode(request.body))
    assert.matches('"Big":99999999999999[,}]', request.body)
  end)

  -- given, and what the server gets
  for name, case in pairs {
    ["a string as it is"] = { '{ "Id": 12345678901234567890 }\n', '{ "Id": 12345678901234567890 }\n' },
    ["a string that is no JSON as it is"] = { "\255", "\255" }, ["an empty string"] = { "", "" },
    ["an empty object for nothing"] = { nil, "{}" }, ["an empty object for an empty table"] = { {}, "{}" },
    ["a list"] = { { "a", "b" }, '["a","b"]' }, ["null where it is meant"] = { { json.null }, "[null]" },
    ["a long number that is a string"] = { { Id = "123456789012345678" }, '{"Id":"123456789012345678"}' },
    ["a number of 14 digits"] = { { -99999999999999 }, "[-99999999999999]" },
  } do
    it("posts " .. name, function()
      assert(client:call("BanRoomUser", case[1]))
      local request = requests()[1]
      assert.same({ "POST", case[2], "application/json" },
        { request.method, request.body, request.headers["content-type"] })
    end)
  end

  it("gets without a body, with its parameters in the URL", function()
    local receipt = assert(client:call("GetRoomOnlineUsers", nil, {
      method = "GET", version = "2023-11-01",
      query = { AppId = "app", RoomId = 42, ["a b+"] = "c&d=/~é\0", whole = 7.0, on = true, off = false, none = "" },
    }))
    assert.same({ "GetRoomOnlineUsers", "2023-11-01" }, { receipt.action, receipt.version })
    local request = requests()[1]
    assert.equal("GET", request.method)
    assert.equal("/?Action=GetRoomOnlineUsers&AppId=app&RoomId=42&Version=2023-11-01&a%20b%2B=c%26d%3D%2F~%C3%A9%00"
      .. "&none=&off=false&on=true&whole=7", request.target)
    assert.same({ "", nil }, { request.body, request.headers["content-type"] })
    request.target = request.target:gsub("app", "apq")
    assert.is_false(service.is_signed_well(request)) -- or else it would not have been looked at
  end)

  it("posts with parameters, too", function()
    assert(client:call("BanRoomUser", { AppId = "app" }, { query = { Trace = "x" } }))
    local request = requests()[1]
    assert.equal("/?Action=BanRoomUser&Trace=x&Version=2020-12-01", request.target)
    assert.equal('{"AppId":"app"}', request.body)
  end)

  -- Result in the answer, and in the receipt
  for name, case in pairs {
    ["an object"] = { '{"Users":["a","b"],"Total":2}', { Users = { "a", "b" }, Total = 2 } },
    ["a list"] = { "[1,2]", { 1, 2 } }, ["a string"] = { '"done"', "done" }, ["a number"] = { "7", 7 },
    ["true"] = { "true", true }, ["null"] = { "null", json.null }, ["nothing"] = { false, nil },
  } do
    it("has the answer's result in the receipt: " .. name, function()
      local result = case[1] and (',"Result":' .. case[1]) or ""
      server:script { act.read(), act.answer { body = ('{"ResponseMetadata":{"RequestId":"1"}%s}'):format(result) } }
      assert.same(case[2], assert(client:call("GetRoomOnlineUsers", nil, { method = "GET" })).result)
    end)
  end

  it("has it for message actions, too, which have none by their own methods", function()
    assert.same({ Message = "Success" }, assert(client:call("SendUnicast", {})).result)
    assert.is_nil(assert(client:send_room_unicast(service.message())).result)
  end)

  local cycle = {}
  cycle.again = { cycle }

  -- action, body, settings, the field at fault, what the message must have
  local wrong = {
    { nil, nil, nil, "action", "action must be a string" }, { 42, nil, nil, "action", "not a number" },
    { "", nil, nil, "action", "action is empty" }, { "Ban Room", nil, nil, "action", 'not "Ban Room"' },
    { "1Ban", nil, nil, "action", "the name of an action" }, { "a/b", nil, nil, "action", "the name of an action" },
    { "Bän", nil, nil, "action", "the name of an action" }, { "B\27[2J", nil, nil, "action", 'not "B\\x1B[2J"' },
    { ("x"):rep(129), nil, nil, "action", "the name of an action" },
    { "A&Version=1", nil, nil, "action", "the name of an action" }, { {}, nil, nil, "action", "not a table" },

    { "Act", nil, "GET", nil, "options must be a table, not a string" },
    { "Act", nil, { methd = "GET" }, "methd", "unknown option `methd`: did you mean `method`?" },
    { "Act", nil, { [1] = "GET" }, "1", "unknown option `1`: there are: version, timeout, method, query" },
    { "Act", nil, { method = "PUT" }, "method", 'method must be "GET" or "POST"' },
    { "Act", nil, { method = "get" }, "method", 'method must be "GET" or "POST"' },
    { "Act", nil, { method = {} }, "method", "not a table" },
    { "Act", nil, { version = "latest" }, "version", "version must be a date" },
    { "Act", nil, { timeout = 0 }, "timeout", "timeout must be at least 0.001 seconds" },
    { "Act", nil, { timeout = 0 / 0 }, "timeout", "timeout must be at least 0.001 seconds" },
    { "Act", nil, { query = "a=b" }, "query", "query must be a table of names and values, not a string" },
    { "Act", nil, { query = { "a=b" } }, "query", "has the name 1, and names are strings" },
    { "Act", nil, { query = { [""] = "x" } }, "query", "names are strings" },
    { "Act", nil, { query = { Action = "x" } }, "query", "query must not have Action: it is the call's own" },
    { "Act", nil, { query = { Version = "x" } }, "query", "query must not have Version" },
    { "Act", nil, { query = { a = {} } }, "query", "has as a a value that is no string, whole number or boolean" },
    { "Act", nil, { query = { a = 1.5 } }, "query", "no string, whole number or boolean" },
    { "Act", nil, { query = { a = 0 / 0 } }, "query", "no string, whole number or boolean" },
    { "Act", nil, { query = { a = 2 ^ 60 } }, "query", "no string, whole number or boolean" },

    { "Act", "{}", { method = "GET" }, "body", "body must be nil with GET: its parameters go into query" },
    { "Act", {}, { method = "GET" }, "body", "body must be nil with GET" },
    { "Act", 42, nil, "body", "body must be a table or a JSON string, not a number" },
    { "Act", false, nil, "body", "not a boolean" }, { "Act", print, nil, "body", "not a function" },
    { "Act", { Id = 123456789012345 }, nil, "body", "a whole number of 15 digits or more as Id" },
    { "Act", { a = { { b = -1e15 } } }, nil, "body", "a whole number of 15 digits or more as a.1.b, and would lose" },
    { "Act", { Id = compat.max_integer }, nil, "body", "pass it as a string" },
    { "Act", { Id = -compat.max_integer - 1 }, nil, "body", "pass it as a string" },
    { "Act", { a = 1, [123456789012345] = 2 }, nil, "body", "15 digits or more as 123456789012345" },
    { "Act", { 0 / 0 }, nil, "body", "cannot be written as JSON: " },
    { "Act", { a = math.huge }, nil, "body", "cannot be written as JSON: " },
    { "Act", { a = { print } }, nil, "body", "cannot be written as JSON: .*function" },
    { "Act", { io.stdout }, nil, "body", "cannot be written as JSON: " },
    { "Act", { [true] = 1 }, nil, "body", "cannot be written as JSON: " },
    { "Act", { [1] = 1, [1000000] = 2 }, nil, "body", "cannot be written as JSON: .*sparse" },
    { "Act", cycle, nil, "body", "cannot be written as JSON: .*excessive" },
    { "Act", { "\255" }, nil, "body", "has a string in it that is not UTF-8 (byte 0xFF)" },
    { "Act", { ["\192\128"] = 1 }, nil, "body", "is not UTF-8 (byte 0xC0)" },
    { "Act", { "\237\160\128" }, nil, "body", "is not UTF-8 (byte 0xED)" },
  }
  it("refuses what makes no sense, sends nothing, and never raises", function()
    for number, case in ipairs(wrong) do
      local receipt, err = client:call(case[1], case[2], case[3])
      assert.is_nil(receipt)
      assert.same({ number, "argument", "InvalidArgument", "not_sent", 0, false },
        { number, err.kind, err.code, err.outcome, err.attempts, err.retryable })
      assert.equal(case[4], err.field, case[5])
      assert.equal(case[1] == "Act" and "Act" or nil, err.action)
      if case[5]:find(".*", 1, true) then
        assert.matches(case[5], err.message)
      else
        assert.matches(case[5], err.message, 1, true)
      end
      assert.is_true(#tostring(err) < 700)
    end
    assert.same({}, requests())
  end)

  it("does not raise for a body that runs code when it is looked through", function()
    local body = setmetatable({ Id = "x" }, { __pairs = error, __len = error, __index = error, __tostring = error })
    local receipt, err = client:call("BanRoomUser", body)
    -- lua-cjson 2.1.0 does not look at a metatable. Later ones do, and then what it raises is the reason.
    if receipt then
      assert.equal('{"Id":"x"}', requests()[1].body)
    else
      assert.same({ "argument", "body" }, { err.kind, err.field })
      assert.matches("cannot be written as JSON: a table", err.message, 1, true)
    end
  end)

  it("goes on to write bodies after one that could not be written", function()
    assert(not client:call("BanRoomUser", { a = "long enough to be kept somewhere", b = print }))
    assert(client:call("BanRoomUser", { a = 1 }))
    assert.equal('{"a":1}', requests()[1].body)
  end)

  it("raises when it is called with a dot", function()
    local ok, raised = pcall(function()
      client.call("BanRoomUser")
    end)
    assert.is_false(ok)
    assert.matches("call_spec.lua:%d+: call it with a colon: client:call", raised)
  end)

  for action, words in pairs {
    BanRoomUser = "it may have been carried out", SendUnicast = "it may have been delivered",
  } do
    it(("says of an unknown outcome of %s that %s"):format(action, words), function()
      server:script { act.read(), act.close() }
      local _, err = client:call(action)
      assert.same({ "ConnectionClosed", "unknown", action }, { err.code, err.outcome, err.action })
      assert.matches(words, tostring(err), 1, true)
    end)
  end

  it("has a timeout of its own, or the client's", function()
    local request, left = client.runtime.request, {}
    client.runtime.request = function(req)
      left[#left + 1] = math.ceil(req.timeout)
      return request(req)
    end
    assert(client:call("BanRoomUser"))
    assert(client:call("BanRoomUser", {}, { timeout = 30 }))
    assert.same({ 10, 30 }, left)
    server:script { act.read(), act.wait() }
    local _, err = client:call("BanRoomUser", {}, { timeout = 0.2 })
    assert.same({ "timeout", "unknown" }, { err.kind, err.outcome })
  end)
end)

it("a client gives temporary keys to another one, as STS does", function()
  local sts_server = fault_server.start()
  finally(function() sts_server:stop() end)
  sts_server:always(nil, service.accepts { result = { Credentials = {
    AccessKeyId = "AKTPtemporary", SecretAccessKey = "temporary-secret", SessionToken = "temporary-token",
    ExpiredTime = os.date("!%Y-%m-%dT%H:%M:%S+00:00", os.time() + 3600),
  } } })
  local sts = service.client(sts_server, { service = "sts" })
  local own = rtc.new { endpoint = server.url, app_id = "app", from = "me", credentials = function()
    local receipt, err = sts:call("AssumeRole", nil, { method = "GET", version = "2018-01-01",
      query = { RoleTrn = "trn:iam::1:role/sender", DurationSeconds = 3600 } })
    local keys = receipt and receipt.result.Credentials
    return keys and { access_key = keys.AccessKeyId, secret_key = keys.SecretAccessKey,
      session_token = keys.SessionToken, expires = keys.ExpiredTime }, err
  end }
  for _ = 1, 3 do
    assert(own:send_room_unicast(service.message()))
  end
  assert.equal(1, #sts_server:requests()) -- they last
  local asked = sts_server:requests()[1]
  assert.equal("/?Action=AssumeRole&DurationSeconds=3600&RoleTrn=trn%3Aiam%3A%3A1%3Arole%2Fsender&Version=2018-01-01",
    asked.target)
  assert.matches("/cn-north-1/sts/request,", asked.headers.authorization, 1, true)
  for i = 1, 3 do
    local request = server:requests()[before + i]
    assert.equal("temporary-token", request.headers["x-security-token"])
    assert.is_true(service.is_signed_well(request, "temporary-secret"))
    assert.matches("Credential=AKTPtemporary/", request.headers.authorization, 1, true)
  end
end)

describe("rtc, by its default client,", function()
  local function run(script, env)
    local ended = process.run({ process.lua, "-e", 'local rtc = require "rtc" ' .. script }, { env = env })
    assert.same({ 0, "" }, { ended.code, ended.stderr })
    return ended.stdout
  end

  it("does what a client does", function()
    assert.equal("SendUnicast SendRoomUnicast SendBroadcast BatchSendRoomUnicast BanRoomUser true true\n6\t6\t1\n",
      run([[
        local responses = 0
        rtc.on("response", function() responses = responses + 1 end)
        local function action(receipt, err) io.write(assert(receipt, err).action, " ") end
        action(rtc.send_unicast { to = "u", message = "m" })
        action(rtc.send_room_unicast { room_id = "r", to = "u", message = "m" })
        action(rtc.send_broadcast { room_id = "r", message = "m" })
        action(rtc.batch_send_room_unicast { room_id = "r", to = { "u" }, message = "m" })
        action(rtc.call("BanRoomUser", {}, { version = "2023-11-01" }))
        io.write(tostring(rtc.enqueue { action = "send_unicast", to = "u", message = "m" }), " ")
        print(rtc.drain(10))
        print(rtc.stats().calls, responses, rtc.stats().connections.opened)]], service.environment(server)))
    local targets = {}
    for i, request in ipairs(requests()) do
      targets[i] = request.target
    end
    assert.same({
      service.target "SendUnicast", service.target "SendRoomUnicast", service.target "SendBroadcast",
      service.target "BatchSendRoomUnicast", "/?Action=BanRoomUser&Version=2023-11-01", service.target "SendUnicast",
    }, targets)
  end)

  it("says what is missing to make one, and never raises for that", function()
    local printed = run([[
      for _, name in ipairs { "send_unicast", "send_room_unicast", "send_broadcast", "batch_send_room_unicast", "call",
        "enqueue", "drain", "on", "stats" } do
        local result, err = rtc[name]()
        print(name, result, err.kind, err.outcome, err.action, (err.message:find("VOLC_ACCESSKEY", 1, true)))
      end]], tree.environment())
    local lines = {}
    for name, action in printed:gmatch "([%w_]+)\tnil\tconfig\tnot_sent\t(%w+)\t%d+\n" do
      lines[#lines + 1] = name .. " " .. action
    end
    assert.same({ "send_unicast SendUnicast", "send_room_unicast SendRoomUnicast", "send_broadcast SendBroadcast",
      "batch_send_room_unicast BatchSendRoomUnicast", "call nil", "enqueue nil", "drain nil", "on nil", "stats nil" },
      lines)
  end)

  it("raises for an unknown event, at the caller's line", function()
    -- In PUC 5.1 a tail call leaves no line.
    local line = compat.yields_anywhere and "%(command line%):3: " or ""
    assert.matches("^false\t" .. line .. "client:on: unknown event `respons`: did you mean `response`%?\n$",
      run("\nlocal ok, message = pcall(function()\nrtc.on('respons', print) end)\nprint(ok, message)",
        service.environment(server)))
  end)
end)

describe("rtc.help", function()
  it("prints what there is", function()
    local ended = process.run { process.lua, "-e", 'require "rtc".help() require "rtc".help "send_unicast"' }
    assert.same({ 0, "" }, { ended.code, ended.stderr })
    assert.equal(help.about() .. help.about "send_unicast", ended.stdout)
    for _, action in ipairs(api.messages) do
      assert.matches(("client:%s { … }"):format(action.method), ended.stdout, 1, true)
      assert.matches(action.summary, ended.stdout, 1, true)
    end
    for _, word in ipairs { "client:call(", "client:enqueue", "client:drain()", "client:on(", '"request", "response", '
      .. '"retry", "failure"', "client:stats()", "rtc.signer", 'rtc.new "sandbox"', "err.outcome" } do
      assert.matches(word, ended.stdout, 1, true)
    end
  end)

  local limits = {
    SendUnicast = "65536 bytes", SendRoomUnicast = "65536 bytes", SendBroadcast = "65536 bytes",
    BatchSendRoomUnicast = "20480 bytes",
  }
  for _, action in ipairs(api.messages) do
    it("tells how to use " .. action.method, function()
      local shown = help.about(action.method)
      assert.equal(shown, help.about(action.name))
      assert.matches(("^client:%s { … }   %s %%(%s%%)\n"):format(action.method, action.summary, action.name), shown)
      for _, field in ipairs(action.fields) do
        assert.matches(("\n  %s +%s"):format(field.name, field.summary:gsub("%p", "%%%0")), shown)
      end
      for name, note in pairs {
        app_id = "default: the client's", from = "default: the client's", binary = "default false",
        version = "2020%-12%-01 or 2023%-07%-20", timeout = "default: the client's", message = limits[action.name],
      } do
        assert.matches(("\n  %s +[^\n]*%s\n"):format(name, note), shown)
      end
      for _, word in ipairs { "1 to 128", action.callbacks.text, action.callbacks.binary } do
        assert.matches(word, shown, 1, true)
      end
      local is_batch = action.name == "BatchSendRoomUnicast"
      assert.equal(is_batch, shown:find("600 IDs", 1, true) ~= nil)
      assert.equal(is_batch, shown:find("\n  split ", 1, true) ~= nil)
    end)
  end

  for topic, words in pairs {
    call = { "client:call(action, body, ", "method =", "query =", "timeout =", "`result`" },
    enqueue = { "client:enqueue { action =, … }", '"failure"', "client:drain(", "client:stats().outbox" },
    drain = { "client:drain(seconds)" },
    on = { "client:on(event, fn)", "\n  request ", "\n  response ", "\n  retry ", "\n  failure " },
    stats = { "client:stats()", "calls, accepted, failed", "outbox" },
  } do
    it("tells how to use " .. topic, function()
      local shown = help.about(topic)
      for _, word in ipairs(words) do
        assert.matches(word, shown, 1, true)
      end
    end)
  end

  it("tells what comes with each event, all of it", function()
    local told, came = {}, {}
    client = service.client(server)
    for name, fields in help.about("on"):gmatch "\n  (%l+) +[^:\n]+: ([^\n]+)" do
      told[name], came[name] = {}, {}
      for field in fields:gmatch "[%l_]+" do
        told[name][field] = field ~= "or" or nil
      end
      client:on(name, function(event)
        for field in pairs(event) do
          came[name][field] = true
        end
      end)
    end
    server:script(service.refuses "FlowLimitExceeded", service.accepts(), service.refuses "InvalidAccessKey")
    assert(client:send_room_unicast(service.message()))
    assert(client:enqueue(service.message()))
    assert(client:drain())
    assert.same(told, came)
    assert.is_table(told.failure)
  end)

  local all = "there are: send_unicast, send_room_unicast, send_broadcast, batch_send_room_unicast, send_all, call, "
    .. "enqueue, drain, spawn, connect, close, loop, on, stats\n"
  for topic, expected in pairs {
    send_unicas = "There is no help on `send_unicas`: did you mean `send_unicast`?\n",
    enqeue = "There is no help on `enqeue`: did you mean `enqueue`?\n",
    quux = "There is no help on `quux`: " .. all,
    ["\27[2J\n"] = "There is no help on `\\x1B[2J\\x0A`: " .. all,
    [print] = "There is no help on `a function`: " .. all,
  } do
    it("says what there is help on: " .. expected:match "`(.-)`", function()
      assert.equal(expected, help.about(topic))
    end)
  end
end)
