-- The sandbox's parts that need no socket.
local base64 = require("rtc.sandbox.base64")
local flow = require("rtc.sandbox.flow")
local id = require("rtc.sandbox.id")
local query = require("rtc.sandbox.query")
local rooms = require("rtc.sandbox.rooms")
local sse = require("rtc.sandbox.sse")
local text = require("rtc.sandbox.text")
local compat = require("spec.support.compat")

local u = compat.unicode

describe("rooms", function()
  local function receiver(all, user, room)
    local wakes = { count = 0 }
    local joined = all:join("app", room or "room", user, function()
      wakes.count = wakes.count + 1
    end)
    return joined, wakes
  end

  local function outsider(all, user)
    return all:join("app", nil, user, function() end)
  end

  it("give a message to every receiver of the user, and to nobody else", function()
    local all = rooms.new(100)
    local one, wakes = receiver(all, "alice")
    local two = receiver(all, "alice")
    local other, elsewhere = receiver(all, "bob"), receiver(all, "alice", "room2")
    assert.equal(2, all:deliver("app", "room", "alice", "hello"))
    assert.equal(1, wakes.count)
    assert.equal("hello", one:take())
    assert.equal("hello", two:take())
    assert.is_nil(other:take())
    assert.is_nil(elsewhere:take())
    assert.equal(0, all:deliver("app2", "room", "alice", "hello"))
  end)

  it("keep the order, and give a message once", function()
    local all = rooms.new(100)
    local one = receiver(all, "alice")
    all:deliver("app", "room", "alice", "1")
    all:deliver("app", "room", "alice", "2")
    assert.equal("12", one:take())
    assert.is_nil(one:take())
  end)

  it("give a user's message to all of their receivers, in whatever room or none", function()
    local all = rooms.new(100)
    local here, elsewhere, outside = receiver(all, "alice"), receiver(all, "alice", "room2"), outsider(all, "alice")
    local other = receiver(all, "bob", "alice")
    assert.equal(3, all:deliver("app", nil, "alice", "hello"))
    for _, one in ipairs({ here, elsewhere, outside }) do
      assert.equal("hello", one:take())
    end
    assert.is_nil(other:take())
    assert.equal(0, all:deliver("app2", nil, "alice", "hello"))
    assert.equal(0, all:deliver("app", nil, "room2", "hello"))
  end)

  it("give a room's message to everybody in it", function()
    local all = rooms.new(100)
    local alice, bob, elsewhere = receiver(all, "alice"), receiver(all, "bob"), receiver(all, "alice", "room2")
    local outside = outsider(all, "room")
    assert.equal(2, all:deliver("app", "room", nil, "hello"))
    assert.equal("hello", alice:take())
    assert.equal("hello", bob:take())
    assert.is_nil(elsewhere:take())
    assert.is_nil(outside:take())
    assert.equal(0, all:deliver("app2", "room", nil, "hello"))
  end)

  it("put out a receiver that does not take, and only that", function()
    local all = rooms.new(10)
    local slow, wakes = receiver(all, "alice")
    local quick = receiver(all, "alice")
    assert.equal(2, all:deliver("app", "room", "alice", "0123456789"))
    quick:take()
    assert.equal(1, all:deliver("app", "room", "alice", "x"))
    assert.is_true(slow.overflowed)
    assert.equal(2, wakes.count)
    assert.is_false(quick.overflowed)
    assert.equal(1, all:deliver("app", "room", "alice", "y"))
    assert.equal("xy", quick:take())
  end)

  it("give nothing more to one that was put out, however it is addressed", function()
    local all = rooms.new(10)
    local slow = receiver(all, "alice")
    assert.equal(0, all:deliver("app", "room", nil, "longer than ten bytes"))
    assert.is_true(slow.overflowed)
    assert.equal(0, all:deliver("app", "room", "alice", "x"))
    assert.equal(0, all:deliver("app", "room", nil, "x"))
    assert.equal(0, all:deliver("app", nil, "alice", "x"))
    assert.is_nil(next(all.groups))
  end)

  it("keep nothing of whoever left", function()
    local all = rooms.new(10)
    local one, two, three = receiver(all, "alice"), receiver(all, "bob"), outsider(all, "alice")
    all:leave(one)
    all:leave(one)
    assert.equal(0, all:deliver("app", "room", "alice", "x"))
    assert.equal(1, all:deliver("app", "room", nil, "x"))
    assert.equal(1, all:deliver("app", nil, "alice", "x"))
    all:leave(two)
    all:leave(three)
    assert.is_nil(next(all.groups))
  end)
end)

describe("the flow limit", function()
  local now, limit

  before_each(function()
    now = 1000
    limit = flow.new(500, function()
      return now
    end)
  end)

  local function allowed(app_id, tries)
    local count = 0
    for _ = 1, tries do
      count = count + (limit:take(app_id) and 1 or 0)
    end
    return count
  end

  it("allows 500 at once, then 500 a second", function()
    assert.equal(500, allowed("a", 700))
    now = now + 0.5
    assert.equal(250, allowed("a", 700))
    now = now + 3600
    assert.equal(500, allowed("a", 700))
  end)

  it("counts each AppId by itself", function()
    assert.equal(500, allowed("a", 501))
    assert.equal(500, allowed("b", 501))
  end)
end)

describe("text", function()
  it("knows UTF-8", function()
    local edges = u "<U+7FF><U+800><U+D7FF><U+E000><U+FFFF><U+10000><U+10FFFF>"
    for _, good in ipairs({ "", "abc\0", "ß", "你好", edges }) do
      assert.is_true(text.is_utf8(good), good)
    end
    for _, bad in ipairs({
      "\128", -- a continuation byte alone
      "\195", -- cut short
      "\195\169\169",
      "\228\189",
      "\192\128", -- overlong
      "\224\159\191",
      "\240\143\191\191",
      "\237\160\128", -- a surrogate
      "\244\144\128\128", -- past U+10FFFF
      "\245\128\128\128",
      "\255",
      "\228\195\169\189\160", -- one sequence inside another
    }) do
      assert.is_false(text.is_utf8(bad), (bad:gsub(".", "%0 ")))
    end
  end)
end)

describe("base64", function()
  it("decodes every byte, at every length", function()
    assert.equal("", base64.decode(""))
    assert.equal("f", base64.decode("Zg=="))
    assert.equal("fo", base64.decode("Zm8="))
    assert.equal("foo", base64.decode("Zm9v"))
    assert.equal("foob", base64.decode("Zm9vYg=="))
    assert.equal("\0\16\131\16\81\135", base64.decode("ABCDEFGH"))
    assert.equal("\255\255\255\251\239\190", base64.decode("////++++"))
  end)

  it("tells the size without decoding", function()
    assert.equal(0, base64.decoded_size(""))
    assert.equal(4, base64.decoded_size("Zm9vYg=="))
    assert.equal(5, base64.decoded_size("Zm9vYmE="))
  end)

  it("refuses what is not base64", function()
    for _, wrong in ipairs({ "hello", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9\n", "Zm-_", "Zm9v\0" }) do
      assert.is_nil(base64.decode(wrong), wrong)
    end
  end)
end)

describe("a query", function()
  it("is read", function()
    assert.same(
      { { "a b", "c d" }, { "é", "" }, { "k", "v=w" }, { "k", "%" } },
      query.parse("a+b=c%20d&%c3%A9&k=v=w&&k=%")
    )
    assert.same({ k = "1" }, query.first(query.parse("k=1&k=2")))
  end)

  it("has one canonical form", function()
    assert.equal("A=&a=1&a=2&a%20b=%2A~", query.canonical(query.parse("a+b=*~&a=2&A&a=1")))
  end)
end)

describe("an ID", function()
  it("is 1 to 128 of the allowed characters", function()
    assert.is_true(id.is_valid("aZ09@._-"))
    assert.is_true(id.is_valid(("x"):rep(128)))
    for _, wrong in ipairs({ "", ("x"):rep(129), "a b", "a\n", "a\0", "é", "a/b", 7, false }) do
      assert.is_false(id.is_valid(wrong))
    end
    assert.is_false(id.is_valid(nil))
  end)
end)

describe("server-sent events", function()
  it("come out as they went in, in pieces of any size", function()
    local bytes = sse.event("one", '{"a":1}') .. sse.keep_alive .. sse.event("two", "") .. sse.event("three", "x")
    for size = 1, #bytes do
      local reader, events = sse.reader(), {}
      for first = 1, #bytes, size do
        reader:feed(bytes:sub(first, first + size - 1))
        for event in reader.next, reader do
          events[#events + 1] = event
        end
      end
      assert.same({
        { name = "one", data = '{"a":1}' },
        { name = "two", data = "" },
        { name = "three", data = "x" },
      }, events)
    end
  end)
end)
