local api = require "rtc.api"
local fields = require "rtc.fields"
local json = require "cjson"
local printable = require("rtc.text").printable
local compat = require "spec.support.compat"

local u = compat.unicode

local action = api.actions.SendRoomUnicast

local function encode(changes, defaults)
  local given = { app_id = "app", room_id = "room", from = "server", to = "user", message = "hello" }
  for name, value in pairs(changes) do
    given[name] = value
  end
  return fields.encode(action, given, defaults or {})
end

describe("the body of a call", function()
  it("has the fields in wire order, so that the same call has the same bytes", function()
    assert.equal('{"AppId":"app","RoomId":"room","From":"server","To":"user","Binary":false,"Message":"hello"}',
      encode {})
  end)

  it("has defaults for what the call does not give", function()
    local body = fields.encode(action, { room_id = "room", to = "user", from = "me", message = "" },
      { app_id = "A", from = "B" })
    assert.equal('{"AppId":"A","RoomId":"room","From":"me","To":"user","Binary":false,"Message":""}', body)
  end)

  for name, message in pairs {
    ["JSON's own characters"] = '"quoted" \\ / </script>', ["control characters"] = "\0\1\t\n\r\27\127",
    ["all lengths of UTF-8"] = u "é 你好 😀 <U+10FFFF>", ["line separators"] = u "<U+2028><U+2029>", nothing = "",
  } do
    it("carries text with " .. name, function()
      local decoded = json.decode(encode { message = message })
      assert.equal(message, decoded.Message)
      assert.is_false(decoded.Binary)
    end)
  end

  it("carries raw bytes as base64", function()
    local decoded = json.decode(encode { message = "\255\254\253\0", binary = true })
    assert.equal("//79AA==", decoded.Message)
    assert.is_true(decoded.Binary)
    assert.equal("", json.decode(encode { message = "", binary = true }).Message)
  end)

  it("takes text and raw bytes of 65536 bytes, and not one more", function()
    local most = ("é"):rep(32768)
    assert.equal(most, json.decode(encode { message = most }).Message)
    assert.is_string(encode { message = ("\255"):rep(65536), binary = true })
    for _, binary in ipairs { false, true } do
      local body, problem, field = encode { message = ("x"):rep(65537), binary = binary }
      assert.is_nil(body)
      assert.equal("message", field)
      assert.matches("65537 bytes", problem, 1, true)
      assert.matches("65536", problem, 1, true)
    end
  end)
end)

describe("an ID", function()
  for written, value in pairs {
    ["42"] = 42, ["43"] = 43.0, ["0"] = -0.0, ["-7"] = -7, ["9007199254740991"] = 2 ^ 53 - 1,
    ["9223372036854775807"] = rawget(math, "maxinteger"), ["a_B@9-."] = "a_B@9-.", [("x"):rep(128)] = ("x"):rep(128),
  } do
    it("may be " .. written:sub(1, 20), function()
      assert.equal(written, fields.id(value))
    end)
  end

  local bad = {
    { "", "is empty" }, { ("x"):rep(129), "129 characters" }, { "a b", "a space at position 2" },
    { "a/b", "`/` at position 2" }, { "a\n", "0x0A at position 2" }, { "\0", "0x00 at position 1" },
    { "é", "0xC3 at position 1" }, { 1.5, "1.5" }, { 0 / 0, "is not a number" }, { math.huge, "is infinite" },
    { -math.huge, "is infinite" },
    { 2.0 ^ 53, "is beyond 2^53, where numbers lose digits: pass it as a string" }, { -1e300, "is beyond 2^53" },
    { true, "a boolean" }, { {}, "a table" }, { print, "a function" },
    { json.null, "a userdata" },
  }
  for i, case in ipairs(bad) do
    it(("must not be %s (%d)"):format(type(case[1]), i), function()
      for _, name in ipairs { "app_id", "room_id", "from", "to" } do
        local body, problem, field = encode { [name] = case[1] }
        assert.is_nil(body)
        assert.equal(name, field)
        assert.equal(name, problem:match("^%S+"))
        assert.matches(case[2], problem, 1, true)
      end
    end)
  end
end)

describe("a field's value", function()
  for _, name in ipairs { "app_id", "room_id", "from", "to", "message" } do
    it("must be there: " .. name, function()
      local given = { app_id = 1, room_id = 1, from = 1, to = 1, message = "" }
      given[name] = nil
      local body, problem, field = fields.encode(action, given, {})
      assert.is_nil(body)
      assert.equal(name, field)
      assert.matches(name .. " is missing: pass it in the call", problem, 1, true)
    end)
  end

  for _, value in ipairs { 0, "true", {}, json.null } do
    it("for binary must be a boolean, not a " .. type(value), function()
      local body, problem, field = encode { binary = value }
      assert.is_nil(body)
      assert.equal("binary", field)
      assert.matches("must be true or false, not a " .. type(value), problem, 1, true)
    end)
  end

  for _, value in ipairs { 42, true, {}, json.null } do
    it("for message must be a string, not a " .. type(value), function()
      local body, problem, field = encode { message = value }
      assert.is_nil(body)
      assert.equal("message", field)
      assert.matches("must be a string, not a " .. type(value), problem, 1, true)
    end)
  end

  -- RFC 3629: lone and missing continuation bytes, overlong forms, surrogates, beyond U+10FFFF.
  for text, at in pairs {
    ["\128"] = 1, ["ok\255"] = 3, ["é\195"] = 3, ["\192\175"] = 1, ["\224\128\175"] = 1, ["a\237\160\128"] = 2,
    ["\244\144\128\128"] = 1, ["\248\136\128\128\128"] = 1,
  } do
    it("for text must be UTF-8: " .. printable(text), function()
      local body, problem, field = encode { message = text }
      assert.is_nil(body)
      assert.equal("message", field)
      assert.matches(("at position %d;"):format(at), problem, 1, true)
      assert.matches("binary = true", problem, 1, true)
      assert.is_string(encode { message = text, binary = true })
    end)
  end
end)
