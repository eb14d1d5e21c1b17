-- rtc.core's functions on text, and chance.
local core = require("rtc.core")
local mime = require("mime")
local compat = require("spec.support.compat")
local native = require("spec.support.native")
local process = require("spec.support.process")

describe("core.base64", function()
  it("gives the examples of RFC 4648 section 10", function()
    local examples = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=",
      foobar = "Zm9vYmFy" }
    for bytes, encoded in pairs(examples) do
      assert.equal(encoded, core.base64(bytes))
    end
  end)

  it("agrees with another encoder on every byte value and on 64 KB", function()
    local all = {}
    for i = 0, 255 do
      all[#all + 1] = string.char(i)
    end
    all = table.concat(all)
    for _, bytes in ipairs({ all, all:rep(256), all .. "x", all .. "xy" }) do
      assert.equal((mime.b64(bytes)), core.base64(bytes))
    end
  end)
end)

describe("core.utf8_error", function()
  it("finds nothing wrong with text", function()
    for _, text in ipairs({ "", "abc", "a\0b", "h\195\169llo", "\228\189\160\229\165\189", "\240\159\152\128",
      "\194\128\223\191\224\160\128\237\159\191\238\128\128\239\191\191\240\144\128\128\244\143\191\191" }) do
      assert.is_nil(core.utf8_error(text))
    end
  end)

  local bad = {
    { "a lone continuation byte", "ab\128", 3 },
    { "an overlong form of two bytes", "\192\175", 1 },
    { "an overlong form of three bytes", "\224\159\191", 1 },
    { "an overlong form of four bytes", "\240\143\191\191", 1 },
    { "a surrogate", "x\237\160\128", 2 },
    { "what is above U+10FFFF", "\244\144\128\128", 1 },
    { "a lead byte that is none", "\245\128\128\128", 1 },
    { "0xFF", "ok\255", 3 },
    { "text cut in the middle of a character", "h\195", 2 },
    { "three bytes of four", "\240\159\152", 1 },
    { "a lead byte followed by text", "\228\189a", 1 },
    { "a bad byte after a character of four", "\240\159\152\128\254", 5 },
  }
  for _, case in ipairs(bad) do
    it("points at " .. case[1], function()
      assert.equal(case[3], core.utf8_error(case[2]))
    end)
  end

  local utf8 = rawget(_G, "utf8") -- since 5.3
  if utf8 then
    it("agrees with Lua's own decoder on every string of two bytes", function()
      for a = 0, 255 do
        for b = 0, 255 do
          local text = string.char(a, b)
          local _, at = utf8.len(text)
          assert.equal(at, core.utf8_error(text), ("%02x %02x"):format(a, b))
        end
      end
    end)
  end
end)

describe("core.shares", function()
  local cases = {
    { "abcdefgh", "abcdefgh", 8, true }, { "xxabcdefghyy", "--abcdefgh--", 8, true },
    { "abcdefg", "abcdefg", 8, false }, { "abcdefgh", "abcdefgH", 8, false }, { "abcdefgh", "bcdefgha", 8, false },
    { "", "abc", 1, false }, { "abc", "", 1, false }, { "abc", "xcx", 1, true }, { "abc", "xyz", 1, false },
    { "a\0b", "x\0b", 2, true }, { "end", "the end", 3, true }, { "a", "a", 2 ^ 31 - 1, false },
  }
  for n, case in ipairs(cases) do
    it(("tells whether two texts have %d bytes in common: case %d"):format(case[3], n), function()
      assert.equal(case[4], core.shares(case[1], case[2], case[3]))
      assert.equal(case[4], core.shares(case[2], case[1], case[3]))
    end)
  end

  it("raises for a length that is none", function()
    assert.error_matches(function() core.shares("a", "a", 0) end, "at least 1")
    assert.error_matches(function() core.shares("a", "a", 0 / 0) end, "at least 1")
  end)
end)

describe("core.random", function()
  it("gives numbers from 0 on and below 1, of 53 bits that are each 0 and 1", function()
    local seen = { [0] = {}, {} } -- by a bit's value and number
    for _ = 1, 200 do
      local number = core.random()
      assert.equal("float", compat.number_type(number))
      local bits = number * 2 ^ 53
      assert.is_true(bits % 1 == 0 and bits >= 0 and bits < 2 ^ 53, tostring(number))
      for bit = 1, 53 do
        seen[bits % 2][bit] = true
        bits = math.floor(bits / 2)
      end
    end
    assert.same({ 53, 53 }, { #seen[0], #seen[1] })
  end)

  it("gives others in every process, a forked one too, and asks math.random for none", function()
    local code = [[
      local core, native = require("rtc.core"), require("spec.support.native")
      math.randomseed(7)
      local function say() print(("%.17g"):format(core.random())) io.stdout:flush() end
      say()
      local pid = native.fork()
      say()
      if pid == 0 then native.leave(0) end
      native.await_end(pid)
      local number = math.random()
      math.randomseed(7)
      print(number == math.random() and "untouched")]]
    local count, seen = 0, {}
    for _ = 1, 2 do
      local ran = process.run({ process.lua, "-e", code })
      assert.equal("", ran.stderr)
      assert.matches("\nuntouched\n$", ran.stdout)
      for number in ran.stdout:gmatch("[%d.e-]+\n") do
        assert.is_nil(seen[number], number)
        seen[number], count = true, count + 1
      end
    end
    assert.equal(6, count)
  end)

  it("raises when OpenSSL has no random bytes", function()
    local path = native.path("openssl.cnf")
    local file = assert(io.open(path, "w"))
    file:write("openssl_conf = all\n[all]\nrandom = chance\n[chance]\nrandom = NO-SUCH-GENERATOR\n")
    file:close()
    local ran = process.run({ process.lua, "-e", [[print(pcall(require("rtc.core").random))]] },
      { env = { OPENSSL_CONF = path } })
    assert.equal("false\trtc.core: OpenSSL has no random bytes\n", ran.stdout)
  end)
end)

it("core has a clock that does not go back", function()
  local last = core.now()
  assert.equal("float", compat.number_type(last))
  for _ = 1, 1000 do
    local now = core.now()
    assert.is_true(now >= last)
    last = now
  end
  assert.is_true(math.abs(core.now() - native.now()) < 60)
end)

it("core says in which process it is, in a forked child too", function()
  local ran = process.run({ process.lua, "-e", [[
    local core, native = require("rtc.core"), require("spec.support.native")
    local before, pid = core.pid(), native.fork()
    if pid == 0 then native.leave(core.pid() ~= before and core.pid() == native.getpid() and 0 or 1) end
    print(native.await_end(pid), before == native.getpid(), core.pid() == before)]] })
  assert.equal("0\ttrue\ttrue\n", ran.stdout .. ran.stderr)
end)

-- A sanitizer needs libraries of its own.
if not os.getenv("RTC_PRELOAD") then
  it("core needs libcrypto and the C library, and nothing else", function()
    local read = process.run({ "readelf", "-d", assert(os.getenv("RTC_BUILD")) .. "/rtc/core.so" })
    local needed = {}
    for library in read.stdout:gmatch "%(NEEDED%)[^%[]*%[([^%]]*)%]" do
      needed[#needed + 1] = library:match "^lib%a+"
    end
    table.sort(needed)
    assert.same({ "libc", "libcrypto" }, needed, read.stdout)
  end)
end

it("core says its version", function()
  assert.matches("^%d+%.%d+%.%d+$", core.version)
end)
