local endpoint = require "rtc.endpoint"
local printable = require("rtc.text").printable

describe("an endpoint", function()
  local good = {
    -- text, url, host header, loopback
    { nil, "https://rtc.volcengineapi.com", "rtc.volcengineapi.com", false },
    { "https://example.com", "https://example.com", "example.com", false },
    { "https://example.com/", "https://example.com", "example.com", false },
    { "HTTPS://Example.COM", "https://example.com", "example.com", false },
    { "https://example.com:443", "https://example.com", "example.com", false },
    { "https://example.com:80", "https://example.com:80", "example.com:80", false },
    { "example.com", "https://example.com", "example.com", false },
    { "example.com:8443", "https://example.com:8443", "example.com:8443", false },
    { "http://127.0.0.1:80", "http://127.0.0.1", "127.0.0.1", true },
    { "http://127.255.0.9:8790", "http://127.255.0.9:8790", "127.255.0.9:8790", true },
    { "http://localhost:443", "http://localhost:443", "localhost:443", true },
    { "http://[::1]:8790", "http://[::1]:8790", "[::1]:8790", true },
    { "https://[2001:DB8::1]", "https://[2001:db8::1]", "[2001:db8::1]", false },
    { "https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443", "[2001:db8::1]:8443", false },
  }
  for _, case in ipairs(good) do
    it("takes " .. tostring(case[1]), function()
      local target = assert(endpoint.parse(case[1]))
      assert.equal(case[2], target.url)
      assert.equal(case[3], target.host_header)
      assert.equal(case[4], target.loopback)
      assert.is_false(target.sandbox)
    end)
  end

  it("may be the sandbox, at its own port or another", function()
    local target = assert(endpoint.parse("sandbox"))
    assert.equal("http://127.0.0.1:8790", target.url)
    assert.is_true(target.sandbox)
    assert.is_true(target.loopback)
    assert.equal("http://127.0.0.1:9001", assert(endpoint.parse("sandbox:9001")).url)
    for _, text in ipairs { "Sandbox", "SANDBOX", "sandBox:8790" } do
      target = assert(endpoint.parse(text))
      assert.is_true(target.sandbox)
      assert.equal("http://127.0.0.1:8790", target.url)
    end
  end)

  for _, host in ipairs { "sandbx", "sand-box", "Sandbox1", "sandbox/", "sand", "snadbox:9001" } do
    it("may have been meant to be the sandbox: " .. host, function()
      local target, problem = endpoint.parse(host)
      assert.is_nil(target)
      assert.matches('did you mean "sandbox"?', problem, 1, true)
      local name = host:lower():match("^[^/:]+")
      assert.matches("https://" .. name, problem, 1, true) -- for who has a host of that name
      assert.equal(name, assert(endpoint.parse("https://" .. host)).host)
    end)
  end

  it("is a host when it only begins like the sandbox", function()
    for _, host in ipairs { "sandbox.example.com", "gateway", "localhost" } do
      assert.equal(host, assert(endpoint.parse(host)).host)
    end
  end)

  it("tells what is this machine", function()
    for _, host in ipairs { "127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]" } do
      assert.is_true(endpoint.is_loopback(host))
    end
    for _, host in ipairs { "127.0.0.1.example.com", "127.0.0.256", "127.1", "0.0.0.0", "::2", "" } do
      assert.is_false(endpoint.is_loopback(host))
    end
  end)

  local bad = {
    { "ftp://example.com", 'the scheme "ftp"' },
    { "example.com\n", "host" },
    { "https://", "host" },
    { "", "host" },
    { "exa mple.com", "host" },
    { "https://example..com", "host" },
    { "https://例え.jp", "host" },
    { "https://[2001:db8::1", "host" },
    { "https://[example]", "host" },
    { "2001:db8::1", "brackets" },
    { "https://example.com:", "port" },
    { "https://example.com:0", "port" },
    { "https://example.com:65536", "port" },
    { "https://example.com:8e3", "port" },
    { "https://[::1]8790", "port" },
    { "sandbox:", "port" },
    { "sandbox:0", "port" },
    { "https://example.com/path", "path" },
    { "https://example.com?a=b", "query" },
    { "https://example.com#a", "fragment" },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. printable(case[1]), function()
      local target, problem = endpoint.parse(case[1])
      assert.is_nil(target)
      assert.matches(case[2], problem, 1, true)
    end)
  end

  it("shows only the beginning of what is too long", function()
    for _, text in ipairs { ("x"):rep(5000), ("x"):rep(5000) .. "://a", "http://" .. ("x."):rep(120) .. "x" } do
      local _, problem = endpoint.parse(text)
      assert.is_true(#problem < 500)
    end
  end)

  for _, text in ipairs { "https://user:hunter2@example.com", "user:hunter2@example.com", "ftp://user:hunter2@a" } do
    it("refuses credentials without showing them: " .. text, function()
      local target, problem = endpoint.parse(text)
      assert.is_nil(target)
      assert.is_nil(problem:find("hunter2", 1, true))
    end)
  end

  -- Names that only look like this machine.
  for _, host in ipairs { "example.com", "127.0.0.1.example.com", "127.0.0.256", "localhost.example.com", "128.0.0.1",
    "[::2]" } do
    it("refuses plain http to " .. host .. " unless asked for", function()
      local target, problem = endpoint.parse("http://" .. host)
      assert.is_nil(target)
      assert.matches("allow_http", problem, 1, true)
      target = assert(endpoint.parse("http://" .. host, true))
      assert.equal("http://" .. host, target.url)
      assert.is_false(target.loopback)
    end)
  end
end)
