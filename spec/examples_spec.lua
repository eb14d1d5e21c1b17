-- The examples, as somebody would run them: programs of their own, a real sandbox, and real peers.
local json = require("cjson").new()
local http_request = require "http.request"
local listen = require "rtc.sandbox.listen"
local compat = require "spec.support.compat"
local process = require "spec.support.process"
local skynet = require "spec.support.skynet"
local socket = require "cqueues.socket"
local tree = require "spec.support.tree"

local where = compat.where

local WAIT = 20 -- seconds after which something awaited is a failure

describe("the example", function()
  local sandbox, log, program

  before_each(function()
    sandbox, log = tree.sandbox(), {}
  end)

  after_each(function()
    if program then
      program:close()
      program = nil
    end
    sandbox.process:close()
  end)

  --- Takes what the sandbox logged: a pipe that nobody empties would stop it.
  local function read_log()
    local line
    repeat
      line = sandbox.process:line(0)
      log[#log + 1] = line
    until not line
  end

  --- How many messages of an action the sandbox accepted.
  local function accepted(action)
    read_log()
    local count = 0
    for _, line in ipairs(log) do
      count = count + (line:find("^[%d:]+ " .. action .. " .*: Success, ") and 1 or 0)
    end
    return count
  end

  --- The sandbox accepted so many; it logs a message when it has answered it.
  local function assert_accepted(count, action)
    tree.await(function() return accepted(action) >= count end, count .. " messages")
    assert.equal(count, accepted(action))
  end

  local function start(argv, env)
    env = tree.environment(env)
    env.RTC_ENDPOINT = sandbox.endpoint
    program = process.spawn(argv, { env = env })
  end

  --- The program's output, when it has come to a good end.
  local function output()
    tree.await(function()
      read_log()
      return program:wait(0)
    end, "the program's end")
    local printed = program:rest()
    assert.same({ 0, "exited", "" }, { program.code, program.how, program:stderr() }, printed)
    return printed
  end

  --- Starts a server, and gives the port that it listens on.
  local function start_server(path)
    start { "tools/lua", path, "0" }
    local line = assert(program:line(WAIT), program:stderr())
    return assert(tonumber(line:match("^listening on .*:(%d+)$")), line)
  end

  local function receiver(name)
    return assert(listen.open { endpoint = sandbox.url, room_id = "42", user_id = name })
  end

  --- Messages on their way are through before a server ends.
  local function ends_well()
    program:kill("TERM")
    assert.equal("all sent\n", output())
  end

  it("first_message.lua sends a text and bytes", function()
    start { "tools/lua", "examples/first_message.lua" }
    local printed = output()
    assert.equal(2, select(2, printed:gsub("SendRoomUnicast: accepted", "")), printed)
  end)

  it("tick_loop.lua tells the players of each round, and all of them that the game is over", function()
    start { "tools/lua", "examples/tick_loop.lua", "1" }
    local printed = output()
    assert.matches("^round 1: 250 players told, 0 not%s", printed)
    assert.matches("\n60 frames, %d+ missed; 0 rounds skipped; all sent\n$", printed)
    assert_accepted(250, "SendRoomUnicast")
    assert_accepted(250, "SendBroadcast")
  end)

  describe("luv_relay.lua", function()
    local port

    before_each(function()
      port = start_server("examples/luv_relay.lua")
    end)

    local function connect()
      local peer = assert(socket.connect("127.0.0.1", port))
      peer:settimeout(WAIT)
      peer:setmode("b", "bn")
      assert(peer:connect())
      return peer
    end

    local function assert_let_go(peer)
      local line, why = peer:read("*l")
      assert.same({}, { line = line, why = why })
    end

    it("answers each line, bad ones too, in their order", function()
      local alice, peer = receiver("alice"), connect()
      peer:write("42 alice your turn\r\n", "hello\n", "42 al/ice hello\n", "42 alice \255\n", "42 alice and ag")
      assert.matches("^accepted %w+$", peer:read("*l"))
      assert.equal("failed not_sent: write `room user text`", peer:read("*l"))
      assert.matches("^failed not_sent: to has `/`", peer:read("*l"))
      assert.matches("^failed not_sent: message is not valid UTF%-8", peer:read("*l"))
      peer:write("ain\n")
      assert.matches("^accepted %w+$", peer:read("*l"))
      assert.equal("your turn", assert(alice:next(WAIT)).message)
      assert.equal("and again", assert(alice:next(WAIT)).message)
      ends_well()
      assert_let_go(peer)
      alice:close()
      peer:close()
    end)

    it("goes on when a peer goes away in the middle, or sends a line without end", function()
      local gone, endless, peer = connect(), connect(), connect()
      gone:write(("42 alice hello\n"):rep(50))
      assert.matches("^accepted ", gone:read("*l"))
      gone:close() -- with answers unread: what the relay writes next comes to nobody
      endless:write(("x"):rep(70001))
      assert.equal("failed not_sent: the line is too long", endless:read("*l"))
      assert_let_go(endless)
      for _ = 1, 50 do
        peer:write("42 bob hello\n")
        assert.matches("^accepted ", peer:read("*l"))
      end
      ends_well()
      endless:close()
      peer:close()
    end)

    it("lets go a peer that is one too many", function()
      local peers = {}
      for i = 1, 200 do
        peers[i] = connect()
      end
      peers[1]:write("42 alice hello\n")
      assert.matches("^accepted ", peers[1]:read("*l"))
      assert_let_go(connect())
      for _, peer in ipairs(peers) do
        peer:close()
      end
    end)
  end)

  where(compat.yields_anywhere, describe)("cqueues_service.lua", function()
    local url

    before_each(function()
      url = ("http://127.0.0.1:%d/notify"):format(start_server("examples/cqueues_service.lua"))
    end)

    local function post(body, method, target)
      local request = http_request.new_from_uri(target or url)
      request.headers:upsert(":method", method or "POST")
      if body then
        request:set_body(body)
      end
      local headers, stream = assert(request:go(WAIT))
      local answer = json.decode((assert(stream:get_body_as_string(WAIT))))
      stream:shutdown()
      return tonumber(headers:get(":status")), answer
    end

    it("sends to all users that it is given, and tells what became of each", function()
      local bob = receiver("bob")
      assert.same({ 200, { outcomes = { "accepted", "accepted" } } },
        { post('{ "room": "42", "users": ["alice", "bob"], "message": "your turn" }') })
      assert.equal("your turn", assert(bob:next(WAIT)).message)
      bob:close()
      local status, answer = post('{ "room": "42", "users": ["alice", "b/b"], "message": "your turn" }')
      assert.equal(502, status)
      assert.equal("accepted", answer.outcomes[1])
      assert.matches("^not_sent: to has `/`", answer.outcomes[2])
      ends_well()
    end)

    it("refuses what it does not understand", function()
      for _, body in ipairs { "", "x", '"x"', "[]", '{"users":[]}', '{"users":"bob"}', (" "):rep(200001) .. "{}" } do
        local status, answer = post(body)
        assert.same({ 400, "string" }, { status, type(answer.error) }, body:sub(-20))
      end
      assert.equal(405, (post(nil, "GET")))
      assert.equal(404, (post("{}", "POST", (url:gsub("notify$", "other")))))
      ends_well()
    end)

    it("sends all of a request that is on its way when it is to end, and answers it", function()
      local users = {}
      for i = 1, 400 do
        users[i] = "user" .. i
      end
      local body = json.encode { room = "42", users = users, message = "good night" }
      local peer = assert(socket.connect("127.0.0.1", tonumber(url:match(":(%d+)/"))))
      peer:settimeout(WAIT)
      peer:setmode("b", "bn")
      peer:write(("POST /notify HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
      tree.await(function() return accepted("SendRoomUnicast") > 0 end, "the first message")
      program:kill("TERM")
      assert.matches("^HTTP/1%.1 200", peer:read("*l"))
      assert.equal("all sent\n", output())
      assert.equal(400, select(2, assert(peer:read("*a")):gsub('"accepted"', "")))
      assert_accepted(400, "SendRoomUnicast")
      peer:close()
    end)
  end)

  local it_where_skynet_is = skynet.folder and it or function() end

  it_where_skynet_is("skynet/ tells users something by a service, of which many ask at once", function()
    start({ skynet.folder .. "/skynet", "examples/skynet/config" }, skynet.build())
    local printed = output()
    assert.matches("\n100 accepted, 0 failed\n", printed)
    assert.matches("\nall sent\n", printed)
    assert_accepted(200, "SendRoomUnicast")
  end)
end)
