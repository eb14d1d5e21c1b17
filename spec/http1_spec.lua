-- HTTP/1.1 as rtc.core frames it: src/http1.c by the tests in C, and what Lua sees of it.
local core = require("rtc.core")
local collector = require("spec.support.collector")
local native = require("spec.support.native")
local process = require("spec.support.process")

local function cc(arguments)
  -- A sanitizer that the specs run under is not for the compiler.
  return process.run({ "sh", "-c", (os.getenv("CC") or "cc") .. " " .. arguments }, { env = { LD_PRELOAD = false } })
end

--- Compiles the tests in C, with the sanitizers if the compiler has them.
---@return string path of the program
local function compile()
  local program = native.path("http1_test")
  local arguments = "-std=c11 -O1 -g -Wall -Wextra -Wshadow -Wconversion -Werror -Isrc "
    .. "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc spec/c/http1_test.c src/http1.c -o " .. program
  local ran = cc("-fsanitize=address,undefined -fno-sanitize-recover=undefined " .. arguments)
  if ran.code ~= 0 then ran = cc(arguments) end
  return assert(ran.code == 0 and program, ran.stderr)
end

describe("src/http1.c", function()
  local ran = process.run({ compile() }, { env = { LD_PRELOAD = false, ASAN_OPTIONS = false } })
  local count = 0
  for line in ran.stdout:gmatch("[^\n]+") do
    local name, why = line:match("^ok (.*)"), nil
    if not name then
      name, why = line:match("^not ok (.-): (.*)")
    end
    if name then
      count = count + 1
      it(name, function() assert(not why, why) end)
    end
  end

  it("comes to the end of its tests", function()
    assert.equal("", ran.stderr)
    assert.matches(("\n%d tests, %%d+ failed\n$"):format(count), ran.stdout)
    assert.equal(ran.stdout:find("not ok", 1, true) and 1 or 0, ran.code)
  end)
end)

local HOST = { "Host", "example.com" }

describe("core.http1_request", function()
  it("gives a request's bytes", function()
    assert.equal("POST /?A=b HTTP/1.1\r\nHost: example.com\r\nX-A: 1\r\nContent-Length: 3\r\n\r\na\0b",
      core.http1_request { method = "POST", target = "/?A=b", headers = { { "X-A", "1" }, HOST }, body = "a\0b" })
    assert.equal("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
      core.http1_request { method = "CONNECT", target = "a:443", headers = { { "Host", "a:443" } } })
  end)

  it("writes a body of megabytes", function()
    local body = ("0123456789abcdef"):rep(262144)
    local bytes = core.http1_request { method = "POST", target = "/", headers = { HOST }, body = body }
    assert.is_true(bytes == "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4194304\r\n\r\n" .. body)
  end)

  local function with(change)
    local request = { method = "POST", target = "/", headers = { HOST } }
    for name, value in pairs(change) do
      request[name] = value
    end
    return request
  end

  local many = { HOST }
  for i = 2, 65 do
    many[i] = { "X-" .. i, "" }
  end
  local bad = {
    { "a request that is no table", "POST", "request", "must be a table" },
    { "a field that is not known", with { path = "/" }, "request", "known are method, target, headers and body" },
    { "a method that is no string", with { method = 1 }, "method", "must be a string" },
    { "a method that is none", with { method = "post" }, "method", "upper case" },
    { "a target that is no string", with { target = {} }, "target", "must be a string" },
    { "a target that is none", with { target = "a b" }, "target", "percent%-encode" },
    { "no target", { method = "POST", headers = { HOST } }, "target", "must be given" },
    { "no method", { target = "/", headers = { HOST } }, "method", "must be an HTTP method" },
    { "no headers", { method = "POST", target = "/" }, "headers", "must hold Host once" },
    { "headers that are no list", with { headers = "Host: a" }, "headers", "must be a list" },
    { "headers in a map", with { headers = { Host = "a" } }, "headers", "not a map" },
    { "a header that is no pair", with { headers = { "Host: a" } }, "headers", "pairs" },
    { "a header's number", with { headers = { HOST, { "X", 1 } } }, "headers", "tostring" },
    { "too many headers", with { headers = many }, "headers", "64" },
    { "a header with a line end", with { headers = { HOST, { "X", "a\r\nY: b" } } }, "headers", "headers%[2%]" },
    { "a header that frames", with { headers = { HOST, { "content-Length", "3" } } }, "headers", "leave them out" },
    { "a body that is no string", with { body = 12 }, "body", "must be a string" },
    { "a body of HEAD", with { method = "HEAD", body = "a" }, "body", "must be empty" },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1], function()
      local bytes, err = core.http1_request(case[2])
      assert.is_nil(bytes)
      assert.equal("InvalidArgument", err.code)
      assert.equal(case[3], err.field)
      assert.matches(case[4], err.message)
      assert.equal(1, err.message:find(case[3], 1, true))
    end)
  end

  it("shows no header's value in an error", function()
    local _, err = core.http1_request(with { headers = { HOST, { "Authorization", "hunter2\r\n" } } })
    assert.is_nil(err.message:find("hunter", 1, true))
  end)

  it("reads the table with raw access", function()
    local request = setmetatable({}, { __index = with {} })
    assert.equal("method", select(2, core.http1_request(request)).field)
  end)
end)

local LENGTH_3 = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"

describe("core.http1_reader", function()
  local function reader(options)
    options = options or {}
    return core.http1_reader { method = options.method or "POST", max_body = options.max_body or 1000 }
  end

  it("gives a whole answer, however its bytes come", function()
    local bytes = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Type: text/plain\r\nx-a: 2\r\n"
      .. "Transfer-Encoding: chunked\r\nKeep-Alive: timeout=5\r\nX-a:\r\n\r\n3\r\na\0c\r\n0\r\n\r\n"
    local expected = { status = 200, body = "a\0c", beyond = 0, keep_alive = true, keep_alive_timeout = 5, headers = {
      ["x-a"] = "1, 2, ", ["content-type"] = "text/plain", ["transfer-encoding"] = "chunked",
      ["keep-alive"] = "timeout=5" } }
    for size = 1, #bytes do
      local answer = reader()
      for at = 1, #bytes, size do
        assert.equal(at + size > #bytes, answer:feed(bytes:sub(at, at + size - 1)))
      end
      assert.same(expected, answer:answer())
      assert.same(expected, answer:answer())
    end
  end)

  it("gives an empty body, no timeout, and whether the connection can be kept", function()
    local answer = reader()
    assert.is_true(answer:feed("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
    assert.same({ status = 204, body = "", beyond = 0, keep_alive = false, headers = { connection = "close" } },
      answer:answer())
  end)

  it("does not keep a connection on which bytes came beyond the answer, with it or later", function()
    local answer = reader()
    assert.is_true(answer:feed(LENGTH_3 .. "abc"))
    assert.is_true(answer:answer().keep_alive)
    assert.is_true(answer:feed(""))
    assert.is_true(answer:answer().keep_alive)
    assert.is_true(answer:feed("d"))
    assert.is_false(answer:answer().keep_alive)
    assert.equal(1, answer:answer().beyond)
    assert.equal("abc", answer:answer().body)
  end)

  it("reads up to the connection's end", function()
    local answer = reader()
    assert.is_false(answer:feed(""))
    assert.is_false(answer:feed("HTTP/1.1 200 OK\r\n\r\nabc"))
    assert.is_true(answer:finish())
    assert.is_true(answer:finish())
    assert.same({ status = 200, body = "abc", beyond = 0, keep_alive = false, headers = {} }, answer:answer())
  end)

  it("goes by the method", function()
    assert.is_true(reader({ method = "HEAD" }):feed(LENGTH_3))
    assert.is_true(reader({ method = "CONNECT" }):feed("HTTP/1.1 200 OK\r\n\r\n"))
    assert.is_false(reader({ method = "GET" }):feed(LENGTH_3))
  end)

  local failures = {
    { "BadAnswer", "SSH-2.0-OpenSSH\r\n", "what came is no HTTP/1.0 or HTTP/1.1 answer" },
    { "AnswerTooLarge", "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
      "the answer is longer than 1000 bytes (max_response)" },
    { "AnswerTooLarge", "HTTP/1.1 200 OK\r\nX: " .. ("x"):rep(65536),
      "the answer's headers are longer than 65536 bytes" },
  }
  for n, case in ipairs(failures) do
    it(("says what is wrong, and stays with it: case %d, %s"):format(n, case[1]), function()
      local answer = reader()
      local expected = { n = 3, nil, case[3], case[1] }
      local function all(...) return { n = select("#", ...), ... } end
      assert.same(expected, all(answer:feed(case[2])))
      assert.same(expected, all(answer:feed(LENGTH_3 .. "abc")))
      assert.same(expected, all(answer:finish()))
      assert.error_matches(function() answer:answer() end, "the answer is not whole")
    end)
  end

  it("says that the connection was closed, and where", function()
    local expected = { [""] = "before an answer came", ["HTTP/1.1"] = "within the answer's headers",
      [LENGTH_3 .. "a"] = "after 1 of the 3 bytes of the answer's body" }
    for bytes, where in pairs(expected) do
      local answer = reader()
      assert.is_false(answer:feed(bytes))
      local ok, problem, code = answer:finish()
      assert.is_nil(ok)
      assert.equal("the connection was closed " .. where, problem)
      assert.equal("ConnectionClosed", code)
    end
  end)

  it("raises when it is asked for an answer that is not whole", function()
    local answer = reader()
    assert.error_matches(function() answer:answer() end, "the answer is not whole")
    answer:feed(LENGTH_3)
    assert.error_matches(function() answer:answer() end, "the answer is not whole")
  end)

  it("raises when it is used wrongly", function()
    local function refused(options, why)
      assert.error_matches(function() core.http1_reader(options) end, why)
    end
    refused("POST", "table expected")
    refused({ method = "POST" }, "method and max_body must be given")
    refused({ max_body = 1 }, "method and max_body must be given")
    refused({ method = 1, max_body = 1 }, "method must be a string")
    for _, most in ipairs({ -1, 0.5, 2 ^ 31, 0 / 0, "1" }) do
      refused({ method = "POST", max_body = most }, "max_body must be a whole number")
    end
    refused({ method = "POST", max_body = 1, max_size = 1 }, "known are method and max_body")
    local answer = reader()
    assert.error_matches(function() answer:feed(1) end, "string expected")
    assert.error_matches(function() answer:feed() end, "string expected")
    assert.error_matches(function() answer.feed({}, "") end, "rtc.http1_reader")
    assert.error_matches(function() answer.feed(core.signer("a", "b", nil, "c", "d"), "") end, "rtc.http1_reader")
  end)

  it("shows nothing of itself, and can't be collected by hand", function()
    local answer = reader()
    assert.matches("^rtc.http1_reader: ", tostring(answer))
    assert.is_false(getmetatable(answer))
    assert.is_nil(answer.__gc)
  end)

  it("raises when it is used after it was collected", function()
    local seen
    do
      local newproxy, answer = rawget(_G, "newproxy") -- a table has no finaliser in Lua 5.1
      local function finaliser()
        seen = { pcall(answer.feed, answer, "") }
      end
      if newproxy then
        getmetatable(newproxy(true)).__gc = finaliser
      else
        setmetatable({}, { __gc = finaliser })
      end
      answer = reader() -- made later: finalised first
    end
    collectgarbage()
    collectgarbage()
    assert.is_false(seen[1])
    assert.matches("collected", seen[2])
  end)
end)

it("http1 works under a collector that never rests", function()
  finally(collector.hurry())
  local body = ("x"):rep(5000)
  local bytes = "HTTP/1.1 200 OK\r\nX: a\r\nContent-Length: 5000\r\n\r\n" .. body
  for n = 1, 200 do
    local request = assert(core.http1_request { method = "POST", target = "/" .. n,
      headers = { { "Host", "h" .. n }, { "X-" .. n, ("v"):rep(n) } }, body = ("b"):rep(n) })
    assert.equal(("POST /%d HTTP/1.1\r\nHost: h%d\r\nX-%d: %s\r\nContent-Length: %d\r\n\r\n%s"):format(n, n, n,
      ("v"):rep(n), n, ("b"):rep(n)), request)
    local answer, at = core.http1_reader { method = "POST", max_body = 5000 }, 1
    while at <= #bytes do
      answer:feed(bytes:sub(at, at + n))
      at = at + n + 1
    end
    local whole = answer:answer()
    assert.is_true(whole.status == 200 and whole.body == body and whole.headers.x == "a")
    core.http1_request { method = "POST", target = "/" }
    core.http1_reader({ method = "POST", max_body = 5000 }):feed(bytes:sub(1, n)) -- left unfinished
  end
end)
