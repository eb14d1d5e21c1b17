-- What the client says of a message, held against what its receiver got. Between the two stand a server that fails at
-- every stage of the way, once for each message, and a sandbox, to which it sends on what it does not lose.

local certificates = require("spec.support.certificates").make()
local defaults = require "rtc.sandbox.defaults"
local compat = require("spec.support.compat")
local fault_server = require "spec.support.fault_server"
local listen = require "rtc.sandbox.listen"
local rtc = require "rtc"
local tree = require "spec.support.tree"

local act = fault_server.act

local DEADLINE = 20 -- seconds

local function code(status, name)
  return act.answer { status = status, body =
    ('{"ResponseMetadata":{"RequestId":"1","Error":{"Code":"%s","Message":"m"}}}'):format(name) }
end

local page = act.answer { status = 502, body = "<html>Bad Gateway</html>" }
local garbage = act.send("garbage, for once\r\n\r\n")

---@class Fault
---@field [1] string what the server does
---@field [2] table by the default policy: what the caller is told, and how often the receiver has the message
---@field [3] table the same with `retry.on_unknown`, and whether the receipt says that it may have it twice
---@field before table[]|nil the server's actions when it has read the request
---@field after table[]|nil its actions when it has sent the request on; without any it does not
---@field on_accept table[]|nil instead: its steps for the next connections, before TLS
---@field lies boolean|nil it says what is not: then nobody can tell the truth

---@type Fault[]
local faults = {
  { "breaks the handshake", { "receipt", 1 }, { "receipt", 1 }, on_accept = { { act.close() } } },
  { "breaks every handshake", { "not_sent", 0 }, { "not_sent", 0 },
    on_accept = { { act.close() }, { act.reset() }, { act.close() } } },

  { "closes", { "unknown", 0 }, { "receipt", 1, true }, before = { act.close() } },
  { "resets", { "unknown", 0 }, { "receipt", 1, true }, before = { act.reset() } },
  { "refuses", { "rejected", 0 }, { "rejected", 0 }, before = { code(401, "InvalidAccessKey") } },
  { "refuses with HTTP 200", { "rejected", 0 }, { "rejected", 0 },
    before = { code(200, "InvalidParameter.IllegalTo") } },
  { "throttles", { "receipt", 1 }, { "receipt", 1 }, before = { code(429, "FlowLimitExceeded") } },
  { "has trouble", { "unknown", 0 }, { "receipt", 1, true }, before = { code(500, "InternalError") } },
  { "shows a page", { "unknown", 0 }, { "receipt", 1, true }, before = { page } },

  { "sends on and answers", { "receipt", 1 }, { "receipt", 1 }, after = { act.relay() } },
  { "sends on and closes", { "unknown", 1 }, { "receipt", 2, true }, after = { act.close() } },
  { "sends on and resets", { "unknown", 1 }, { "receipt", 2, true }, after = { act.reset() } },
  { "sends on and is silent", { "unknown", 1 }, { "receipt", 2, true }, after = { act.wait("late"), act.close() } },
  { "is silent and sends on much later", { "unknown", 1 }, { "receipt", 2, true },
    before = { act.wait("late") }, after = { act.relay() } },
  { "sends on and closes in the status line", { "unknown", 1 }, { "receipt", 2, true },
    after = { act.relay(10), act.close() } },
  { "sends on and closes in the answer", { "unknown", 1 }, { "receipt", 2, true },
    after = { act.relay(250), act.close() } },
  { "sends on and resets in the answer", { "unknown", 1 }, { "receipt", 2, true },
    after = { act.relay(250), act.reset() } },
  { "sends on and answers garbage", { "unknown", 1 }, { "receipt", 2, true }, after = { garbage, act.close() } },
  { "sends on and shows a page", { "unknown", 1 }, { "receipt", 2, true }, after = { page } },
  { "sends on and has trouble", { "unknown", 1 }, { "receipt", 2, true }, after = { code(500, "InternalError") } },
  { "sends on and answers a code that nobody knows", { "unknown", 1 }, { "unknown", 1 },
    after = { code(400, "NeverHeard.OfIt") } },

  -- These show that the judge sees it when a message comes twice, or against the word.
  { "sends on and throttles", { "receipt", 2 }, { "receipt", 2 }, after = { code(429, "FlowLimitExceeded") },
    lies = true },
  { "sends on and refuses", { "rejected", 1 }, { "rejected", 1 }, after = { code(401, "InvalidAccessKey") },
    lies = true },
}

local function append(list, more)
  for _, action in ipairs(more or {}) do
    list[#list + 1] = action
  end
end

--- The server's step for the message that meets the fault.
local function step_of(fault, port)
  local step = { act.read() }
  append(step, fault.before)
  append(step, fault.after and { act.forward(port) })
  append(step, fault.after)
  return step
end

local policies = {
  { "by the default policy", { base = 0.001, cap = 0.01 }, 2 },
  { "when rather twice than never was asked for", { base = 0.001, cap = 0.01, on_unknown = true }, 3 },
}

for _, policy in ipairs(policies) do
  local name, retry, column = compat.unpack(policy)

  describe("a message, " .. name .. ", whose server", function()
    local sandbox, server, client, receiver
    local told, got = {}, {} -- by the message's text

    --- Sends a text, and notes what is said of it.
    local function send(text)
      local receipt, err = client:send_room_unicast { room_id = "room", to = "alice", message = text }
      told[text] = { receipt and "receipt" or err.outcome, possible_duplicate = receipt and receipt.possible_duplicate }
      return receipt, err
    end

    --- Sends a message to which the fault happens: on a connection used before, or else on new ones.
    local function meet(fault)
      if fault.on_accept then
        server:await(function(state) return state.idle == state.open end) -- what is about to be idle is closed, too
        server:idle(act.close())
        server:await(function(state) return state.open == 0 end)
        server:on_accept(compat.unpack(fault.on_accept))
      else
        assert(send("before it " .. fault[1]))
        server:script(step_of(fault, sandbox.port))
      end
      send(fault[1])
    end

    setup(function()
      sandbox = tree.sandbox()
      server = fault_server.start { tls = certificates.good }
      server:always(nil, { act.read(), act.forward(sandbox.port), act.relay() })
      client = rtc.new {
        endpoint = server.url, ca_file = certificates.ca_file, access_key = defaults.access_key,
        secret_key = defaults.secret_key, app_id = defaults.app_id, from = "server", retry = retry, try_timeout = 0.5,
      }
      receiver = assert(listen.open { endpoint = sandbox.url, room_id = "room", user_id = "alice" })
      for _, fault in ipairs(faults) do
        meet(fault)
      end
      server:release("late")
      server:await(function(state) return state.waiting == 0 and state.open == state.idle end)
      assert(send("the last"))
      repeat
        local message = assert(receiver:next(DEADLINE)).message
        got[message] = (got[message] or 0) + 1
      until message == "the last"
    end)

    teardown(function()
      receiver:close()
      server:stop()
      sandbox.process:close()
    end)

    for _, fault in ipairs(faults) do
      it(fault[1], function()
        local says, times, twice = compat.unpack(fault[column])
        local text = fault[1]
        assert.same({ says, possible_duplicate = twice }, told[text])
        assert.equal(times, got[text] or 0)
        if not fault.lies then
          assert.is_true(times <= 1 or twice)
          assert.is_true(says ~= "receipt" or times >= 1)
          assert.is_true(says == "receipt" or says == "unknown" or times == 0)
        end
      end)
    end

    it("is well in between", function()
      for text in pairs(told) do
        if text:find("^before it ") or text == "the last" then
          assert.same({ "receipt" }, told[text])
          assert.equal(1, got[text])
        end
      end
    end)

    it("makes up no messages", function()
      for text in pairs(got) do
        assert.is_table(told[text], text)
      end
    end)
  end)
end
