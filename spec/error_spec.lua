local core = require "rtc.core"
local errors = require "rtc.error"
local process = require "spec.support.process"

describe("an error", function()
  it("prints its facts on one line and its advice on the next", function()
    local err = errors.new {
      kind = "service", code = "InvalidParameter.IllegalTo", message = "bad To", http_status = 400, action = "SendIt",
      request_id = "20250102030405ABCDEF", attempts = 2, outcome = "rejected", advice = "Do this.",
    }
    assert.equal("SendIt: InvalidParameter.IllegalTo: bad To "
      .. "(service, HTTP 400, 2 tries, rejected, request 20250102030405ABCDEF)\n  -> Do this.", tostring(err))
    assert.equal("InvalidParameter", err.class)
  end)

  it("says that a message may have been delivered", function()
    local err = errors.new { kind = "timeout", code = "Timeout", message = "no answer", attempts = 1 }
    assert.equal("unknown", err.outcome)
    assert.equal("Timeout: no answer (timeout, outcome unknown: it may have been delivered)", tostring(err))
  end)

  it("prints foreign text on one line, without control characters", function()
    local err = errors.new { kind = "service", code = "A\nB", message = "x\27[2J\r\ny\0 é \255" }
    assert.matches("A\\x0AB: x\\x1B[2J\\x0D\\x0Ay\\x00 ", tostring(err), 1, true)
    assert.is_nil(tostring(err):find("%c"))
    assert.is_nil(core.utf8_error(tostring(err)))
    assert.equal("x\27[2J\r\ny\0 é \255", err.message) -- as it came
  end)

  it("of an argument names the field, and was not sent", function()
    local err = errors.argument("to is missing", "to", "SendIt")
    assert.equal("SendIt: InvalidArgument: to is missing (argument, not sent)", tostring(err))
    assert.equal("to", err.field)
    assert.equal(0, err.attempts)
    assert.is_false(err.retryable)
  end)

  it("made in C prints the same", function()
    local signer = core.signer("key", "secret", nil, "region", "service")
    local signed, err = signer:sign { method = "POST", host = "example.com", query = 5 }
    assert.is_nil(signed)
    assert.equal("query", err.field)
    assert.matches("^InvalidArgument: query .* %(argument, not sent%)$", tostring(err))
  end)

  it("can be joined to strings", function()
    local err = errors.config("no keys")
    assert.equal("failed: " .. tostring(err) .. "!", "failed: " .. err .. "!")
  end)

  -- For lua/rtc/interpreted.lua: a loop that LuaJIT has compiled for strings, at the program's end.
  it("is copied at the program's end, whatever was copied before", function()
    local ended = process.run({ process.lua, "-e", [[
      local errors = require "rtc.error"
      for _ = 1, 200 do errors.copy { kind = "a", code = "b", message = "c" } end
      require "spec.support.collector".litter(function()
        print(errors.copy { kind = "a", code = "b", message = "c", attempts = 1, retryable = true }.attempts)
      end)]] }, { timeout = 10 })
    assert.same({ 0, "1\n", "" }, { ended.code, ended.stdout, ended.stderr })
  end)
end)
