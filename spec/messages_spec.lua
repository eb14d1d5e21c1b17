-- Each action, text and binary, from the client through the sandbox to its receivers: at its limits and one past them.

local listen = require "rtc.sandbox.listen"
local rtc = require "rtc"
local tree = require "spec.support.tree"

-- Written out here apart from lua/rtc/api.lua, which is under test.
local actions = {
  {
    method = "send_unicast", name = "SendUnicast", to = "alice", receivers = { "alice" }, max = 65536,
    text = "onUserMessageReceivedOutsideRoom", binary = "onUserBinaryMessageReceivedOutsideRoom",
  },
  {
    method = "send_room_unicast", name = "SendRoomUnicast", room = true, to = "alice", receivers = { "alice" },
    max = 65536, text = "onUserMessageReceived", binary = "onUserBinaryMessageReceived",
  },
  {
    method = "send_broadcast", name = "SendBroadcast", room = true, receivers = { "alice", "bob" }, max = 65536,
    text = "onRoomMessageReceived", binary = "onRoomBinaryMessageReceived",
  },
  {
    method = "batch_send_room_unicast", name = "BatchSendRoomUnicast", room = true, to = { "bob", "alice" },
    receivers = { "alice", "bob" }, max = 20480,
    text = "onUserMessageReceived", binary = "onUserBinaryMessageReceived",
  },
}

describe("a message", function()
  local sandbox, client, people

  setup(function()
    sandbox = tree.sandbox()
    client = rtc.new { endpoint = sandbox.endpoint }
    people = {}
    for _, name in ipairs { "alice", "bob", "carol" } do
      people[name] = assert(listen.open { endpoint = sandbox.url, room_id = name == "carol" and "other" or "hall",
        user_id = name })
    end
  end)

  teardown(function()
    for _, person in pairs(people) do
      person:close()
    end
    sandbox.process:close()
  end)

  local function fields(action, message, binary)
    return { room_id = action.room and "hall" or nil, to = action.to, message = message, binary = binary }
  end

  --- What comes next for somebody. All that comes is asked for, so anything unexpected shows at the next question.
  local function next_of(name)
    local got = assert(people[name]:next(20))
    return { got.callback, #got.message, got.message }
  end

  --- Carol is in another room: she gets nothing but this, so nothing went to her before.
  local function nobody_else_got_any()
    assert(client:send_unicast { to = "carol", message = "for carol" })
    assert.same({ "onUserMessageReceivedOutsideRoom", 9, "for carol" }, next_of "carol")
  end

  local function arrives(action, message, binary, version)
    local given = fields(action, message, binary)
    given.version = version
    local receipt = assert(client[action.method](client, given))
    assert.same({ action.name, version, "Success" }, { receipt.action, receipt.version, receipt.message })
    for _, name in ipairs(action.receivers) do
      assert.same({ binary and action.binary or action.text, #message, message }, next_of(name))
    end
    nobody_else_got_any()
  end

  for _, action in ipairs(actions) do
    for _, version in ipairs { "2020-12-01", "2023-07-20" } do
      describe(("by %s of %s"):format(action.method, version), function()
        for binary, largest in pairs { [false] = ("é"):rep(action.max / 2), [true] = ("\0\255"):rep(action.max / 2) } do
          local kind = binary and "binary" or "text"

          it("reaches just its receivers, small and as large as can be: " .. kind, function()
            arrives(action, binary and "\0\1\254\255" or "Grüße, 世界", binary, version)
            arrives(action, largest, binary, version)
          end)

          it("is refused by the client when it is a byte larger: " .. kind, function()
            local given = fields(action, largest .. "x", binary)
            given.version = version
            local receipt, err = client[action.method](client, given)
            assert.is_nil(receipt)
            assert.same({ "argument", "message", "not_sent", 0 }, { err.kind, err.field, err.outcome, err.attempts })
            assert.matches(("message has %d bytes, and the service takes at most %d"):format(action.max + 1,
              action.max), err.message, 1, true)
            arrives(action, "the next", false, version)
          end)
        end

        it("is refused by the service when it is a byte larger", function()
          local body = { AppId = "sandboxapp00000000000001", RoomId = "hall", From = "server", To = action.to,
            Binary = false, Message = ("x"):rep(action.max + 1) }
          local receipt, err = client:call(action.name, body, { version = version })
          assert.is_nil(receipt)
          assert.same({ "service", "InvalidParameter.SizeOverLimit", "InvalidParameter", "rejected", false },
            { err.kind, err.code, err.class, err.outcome, err.retryable })
          arrives(action, "the next", false, version)
        end)
      end)
    end
  end

  describe("to many", function()
    local function many(count)
      local ids = { "alice", "bob" }
      for i = 3, count do
        ids[i] = i
      end
      return ids
    end

    it("reaches 600, and 601 only in parts", function()
      local action = actions[4]
      action.to = many(600)
      arrives(action, "600", false, "2020-12-01")
      local receipt, err = client:batch_send_room_unicast { room_id = "hall", to = many(601), message = "601" }
      assert.is_nil(receipt)
      assert.same({ "argument", "to", "not_sent" }, { err.kind, err.field, err.outcome })
      assert.matches("to has 601 entries, and the service takes at most 600 in a call: pass split = true", err.message,
        1, true)
      receipt = assert(client:batch_send_room_unicast { room_id = "hall", to = many(601), message = "split",
        split = true })
      assert.same({ 2, 600, 1, "601" },
        { #receipt.parts, #receipt.parts[1].to, #receipt.parts[2].to, receipt.parts[2].to[1] })
      for _, name in ipairs(action.receivers) do
        assert.same({ action.text, 5, "split" }, next_of(name))
      end
    end)

    it("is refused by the service for 601", function()
      local ids = {}
      for i = 1, 601 do
        ids[i] = "u" .. i
      end
      local _, err = client:call("BatchSendRoomUnicast", { AppId = "sandboxapp00000000000001", RoomId = "hall",
        From = "server", To = ids, Binary = false, Message = "x" })
      assert.same({ "service", "InvalidParameter.UserCountOverLimit", "rejected" }, { err.kind, err.code, err.outcome })
      assert.matches("split = true", err.advice, 1, true)
    end)
  end)
end)
