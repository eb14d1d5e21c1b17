-- How a client reaches the service: proxies, certificates, connections.

local certificates = require "spec.support.certificates"
local fault_server = require "spec.support.fault_server"
local process = require "spec.support.process"
local rtc = require "rtc"

local act = fault_server.act

local accepted = { act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } }
local call = { room_id = "room", to = "user", message = "hello" }

local function open(changes)
  local options = { access_key = "AKLTkey", secret_key = "secret", app_id = "app", from = "me", retry = false }
  for name, value in pairs(changes) do
    options[name] = value
  end
  return rtc.new(options)
end

after_each(fault_server.stop_all)

describe("a proxy", function()
  local proxy

  before_each(function()
    proxy = fault_server.start()
    proxy:always(nil, accepted)
  end)

  it("that the option names gets plain http as a whole URL", function()
    assert(open { endpoint = "http://service.test", allow_http = true, proxy = proxy.url }:send_room_unicast(call))
    local request = proxy:requests()[1]
    assert.equal("http://service.test/?Action=SendRoomUnicast&Version=2020-12-01", request.target)
    assert.equal("service.test", request.headers.host)
  end)

  it("that the option names is asked for a tunnel, and gets its password and nothing of the message", function()
    proxy:always("service.test:443", { act.read(), act.answer { status = 503 } })
    local client = open { endpoint = "https://service.test", proxy = proxy.url:gsub("//", "//me:hunter2@") }
    local _, err = client:send_room_unicast(call)
    assert.same({ "network", "ProxyFailed", "not_sent", true }, { err.kind, err.code, err.outcome, err.retryable })
    local request = proxy:requests()[1]
    assert.same({ "CONNECT", "service.test:443", "Basic bWU6aHVudGVyMg==" },
      { request.method, request.target, request.headers["proxy-authorization"] })
    assert.is_nil(request.headers.authorization)
    assert.matches("The option proxy names a proxy", err.advice, 1, true)
    assert.is_nil((tostring(err) .. tostring(client)):find("hunter2", 1, true))
  end)

  it("that wants a password is not asked again", function()
    proxy:always("service.test:443", { act.read(), act.answer { status = 407 } })
    local _, err = open { endpoint = "https://service.test", proxy = proxy.url, retry = { tries = 3 } }
      :send_room_unicast(call)
    assert.same({ "ProxyFailed", "not_sent", false, 1 }, { err.code, err.outcome, err.retryable, err.attempts })
    assert.matches("http://name:password@host:port", err.advice, 1, true)
    assert.equal(1, #proxy:requests())
  end)

  it("that lets through to a server whose handshake breaks is asked again", function()
    proxy:always("service.test:443", { act.read(), act.send("HTTP/1.1 200 OK\r\n\r\n"), act.close() })
    local _, err = open { endpoint = "https://service.test", proxy = proxy.url, retry = { base = 0 } }
      :send_room_unicast(call)
    assert.same({ "TLSFailed", "not_sent", true, 3 }, { err.code, err.outcome, err.retryable, err.attempts })
    assert.equal(3, #proxy:requests())
  end)

  it("is never between a client and its own machine", function()
    local server = fault_server.start()
    server:always(nil, accepted)
    assert(open { endpoint = server.url, proxy = proxy.url }:send_room_unicast(call))
    assert.same({ 0, 1 }, { #proxy:requests(), #server:requests() })
  end)

  it("that repeats what it was told shows no password", function()
    local url = proxy.url:gsub("//", "//me:hunter2hunter%%32@")
    for _, repeated in ipairs { "Basic bWU6aHVudGVyMmh1bnRlcjI=", "me:hunter2hunter2", "you are hunter2hunter2" } do
      proxy:script { act.read(), act.answer { status = 407, body = "<p>" .. repeated } }
      local client = open { endpoint = "http://service.test", allow_http = true, proxy = url }
      local _, err = client:send_room_unicast(call)
      assert.same({ "BadAnswer", 407, "unknown" }, { err.code, err.http_status, err.outcome })
      assert.matches("[hidden]", err.message, 1, true)
      assert.is_nil(tostring(err):find("hunter", 1, true) or tostring(err):find("bWU6", 1, true))
    end
    assert.equal("Basic bWU6aHVudGVyMmh1bnRlcjI=", proxy:requests()[1].headers["proxy-authorization"])
  end)

  describe("of the environment", function()
    --- What becomes of a call in a process with these variables.
    local function send(options, env, print)
      local all = { https_proxy = false, HTTPS_PROXY = false, http_proxy = false, HTTP_PROXY = false,
        all_proxy = false, ALL_PROXY = false, no_proxy = false, NO_PROXY = false }
      for name, value in pairs(env) do
        all[name] = value
      end
      local child = process.run({ process.lua, "-e", ([[
        local client = require "rtc".new { endpoint = "http://service.test", allow_http = true, access_key = "k",
          secret_key = "s", app_id = "a", from = "f", retry = false, %s }
        local receipt, err = client:send_room_unicast { room_id = "r", to = "u", message = "m" }
        %s]]):format(options, print or 'print(receipt and "accepted" or err.code)') }, { env = all })
      assert.equal("", child.stderr)
      return child.stdout
    end

    it("is used", function()
      assert.equal("accepted\n", send("", { http_proxy = proxy.url }))
      assert.equal(1, #proxy:requests())
    end)

    for _, variable in ipairs { "no_proxy", "NO_PROXY" } do
      it("is not used for what " .. variable .. " names", function()
        assert.equal("DNSFailed\n", send("", { http_proxy = proxy.url, [variable] = "other.test,service.test" }))
        assert.equal(0, #proxy:requests())
      end)
    end

    it("that is no URL is told of without its password", function()
      for _, url in ipairs { "http://me:hunter2/x@proxy.test:80", "ftp://me:hunter2@proxy.test",
        "http://me:hunter2@proxy.test:80x", "http://me:hun ter2@proxy.test" } do
        local said = send("", { http_proxy = url }, "print(err)")
        assert.is_nil(said:find("hun", 1, true), said)
        assert.matches("^SendRoomUnicast: ProxyFailed: .*%(network, not sent%)\n  %-> The environment's http_proxy "
          .. "names a proxy", said)
      end
    end)

    it("that repeats what it was told shows no password, with a scheme in its URL or without", function()
      proxy:always(nil, { act.read(), act.answer { status = 407, body = "Basic bXktdXNlcjpodW50ZXIyaHVudGVyMg==" } })
      local authority = "my-user:hunter2hunter2@" .. proxy.url:match("//(.*)")
      for _, url in ipairs { authority, "http://" .. authority } do
        local said = send("", { http_proxy = url }, "print(err)")
        assert.matches("Basic [hidden]", said, 1, true)
        assert.is_nil(said:find("aHVudGVyMg", 1, true), said)
      end
      assert.equal("Basic bXktdXNlcjpodW50ZXIyaHVudGVyMg==", proxy:requests()[1].headers["proxy-authorization"])
    end)

    it("is not used with proxy = false, and gives way to the option", function()
      assert.equal("DNSFailed\n", send("proxy = false", { http_proxy = proxy.url }))
      assert.equal(0, #proxy:requests())
      assert.equal("accepted\n", send(("proxy = %q"):format(proxy.url),
        { http_proxy = "http://127.0.0.1:1", no_proxy = "service.test" }))
      assert.equal(1, #proxy:requests())
    end)
  end)
end)

it("a client shows its certificate to a server that asks for one", function()
  local tls = certificates.make()
  tls.good.client_ca = tls.authority
  local server = fault_server.start { tls = tls.good }
  server:always(nil, accepted)
  local target = { endpoint = "https://localhost:" .. server.port, ca_file = tls.ca_file }
  local _, err = open(target):send_room_unicast(call)
  assert.same({ "network", 0 }, { err.kind, #server:requests() })
  target.cert_file, target.key_file = tls.client.cert, tls.client.key
  assert(open(target):send_room_unicast(call))
end)

describe("connections", function()
  local server

  before_each(function()
    server = fault_server.start()
    server:always(nil, accepted)
  end)

  local function connections(changes)
    changes.endpoint = server.url
    local client = open(changes)
    for _ = 1, 3 do
      assert(client:send_room_unicast(call))
    end
    return server:state().connections, client:stats().connections
  end

  it("are kept, and used again", function()
    local opened, counted = connections {}
    assert.equal(1, opened)
    assert.same({ opened = 1, reused = 2 }, counted)
  end)

  it("are used once with keep_alive = false", function()
    local opened, counted = connections { keep_alive = false }
    assert.equal(3, opened)
    assert.same({ opened = 3, reused = 0 }, counted)
  end)

  it("are at most as many as pool_size", function()
    server:always(nil, { act.read(), act.wait("all"), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } })
    local client = open { endpoint = server.url, pool_size = 2 }
    for _ = 1, 6 do
      assert(client:enqueue(call))
    end
    server:await(function(state)
      client.runtime.progress()
      return state.waiting == 2
    end)
    server:release("all")
    assert(client:drain())
    assert.same({ 2, 6 }, { server:state().most_open, #server:requests() })
  end)

  it("carry the client's name", function()
    assert(open { endpoint = server.url }:send_room_unicast(call))
    assert.equal("rtc-lua/" .. rtc._VERSION, server:requests()[1].headers["user-agent"])
  end)
end)
