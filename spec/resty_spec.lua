-- The runtime of nginx's workers: where a call can wait, over which connections it goes, and what is told of them.

local certificates = require "spec.support.certificates"
local fault_server = require "spec.support.fault_server"
local native = require "spec.support.native"
local nginx = require "spec.support.nginx"
local process = require "spec.support.process"
local route = require "rtc.runtime.route"
local service = require "spec.support.service"
local tree = require "spec.support.tree"

local act = fault_server.act

local SYSTEM_STORE = "/etc/ssl/certs/ca-certificates.crt"

--- The options of a client, as Lua; `changes` are Lua, too.
local function options(server, changes)
  return ([[{ endpoint = %q, access_key = %q, secret_key = %q, app_id = "app", from = "server",
    retry = { base = 0, cap = 0 }, %s }]]):format(type(server) == "string" and server or server.url, service.access_key,
    service.secret_key, changes or "")
end

--- Directives that make the client `client`, once a worker.
local function http(server, changes)
  return ([[
    lua_socket_log_errors off;
    init_by_lua_block { client = require "rtc".new %s; message = { room_id = "room", to = "user", message = "hello" } }
  ]]):format(options(server, changes))
end

--- A location that sends, and says what became of it.
local function location(path, phase, code)
  return ([[location = %s { default_type text/plain; %s_by_lua_block { %s } }]]):format(path, phase, code)
end

local SEND = "local receipt, err = client:send_room_unicast(message) ngx.say(tostring(receipt or err))"

describe("the name of a pool of connections", function()
  local function pool(proxy)
    return route.find("https://example.com/", route.proxy(proxy)).pool
  end

  it("is another one for another proxy, name or password, and tells no password", function()
    local seen = {}
    for _, proxy in ipairs {
      "http://a:hidden-1@proxy:1", "http://a:hidden-2@proxy:1", "http://b:hidden-1@proxy:1", "http://proxy:1",
      "http://a:hidden-1@proxy:2",
    } do
      local name = pool(proxy)
      assert.is_nil(seen[name])
      seen[name] = true
      assert.equal(name, pool(proxy))
      assert.no_matches("hidden", name, 1, true)
      assert.no_matches("Basic", name, 1, true)
    end
  end)
end)

describe("inside nginx a client", function()
  local server, running

  setup(nginx.make)

  before_each(function()
    server = fault_server.start()
    server:always(nil, service.accepts())
  end)

  after_each(function()
    nginx.stop_all()
    fault_server.stop_all()
  end)

  local function start(pieces)
    pieces.env = tree.environment(pieces.env)
    running = nginx.start(pieces)
    return running
  end

  it("sends, and the worker goes on with others meanwhile", function()
    server:always(nil, service.accepts_after "released")
    start { http = http(server), server = location("/send", "content", SEND)
      .. location("/other", "content", "ngx.print(client:stats().pending)") }
    local sending = running:begin { path = "/send" }
    server:await(function(state) return state.waiting == 1 end)
    assert.equal("1", running:get "/other")
    server:release "released"
    assert.matches("^SendRoomUnicast: accepted in ", nginx.read_answer(sending).body)
    sending:close()
    assert.equal("0", running:get "/other")
    assert.is_true(service.is_signed_well(server:requests()[1]))
  end)

  for phase, code in pairs {
    rewrite = SEND, access = SEND, content = SEND,
    timer = "",
  } do
    it("can wait in " .. phase, function()
      if phase == "timer" then
        start { http = http(server), server = location("/", "content", [[
          local done = require "ngx.semaphore".new()
          local said
          ngx.timer.at(0, function()
            local receipt, err = client:send_room_unicast(message)
            said = ngx.get_phase() .. " " .. tostring(receipt or err)
            done:post()
          end)
          done:wait(10)
          ngx.print(said)]]) }
        assert.matches("^timer SendRoomUnicast: accepted in ", running:get())
      else
        start { http = http(server), server = location("/", phase, code .. " ngx.exit(200)") }
        assert.matches("^SendRoomUnicast: accepted in ", running:get())
      end
    end)
  end

  -- Where a phase's code stands, and what it is called by ngx.get_phase.
  for name, place in pairs {
    set = { "server", "set_by_lua_block $said { CODE return 1 }" },
    header_filter = { "server", "header_filter_by_lua_block { CODE }" },
    body_filter = { "server", "body_filter_by_lua_block { CODE }" },
    log = { "server", "log_by_lua_block { CODE }" },
    init_worker = { "http", "init_worker_by_lua_block { CODE }" },
  } do
    it("says where it can send instead of in " .. name .. ", and takes it there for later", function()
      local code = place[2]:gsub("CODE", function()
        return [[
          local receipt, err = client:send_room_unicast(message)
          local told = ngx.shared.told
          if told:add("said", tostring(err)) then
            told:set("receipt", tostring(receipt))
            told:set("code", err.code .. " " .. err.kind .. " " .. err.outcome)
            told:set("queued", tostring(client:enqueue(message)))
          end]]
      end)
      start {
        http = http(server) .. "lua_shared_dict told 100k; " .. (place[1] == "http" and code or ""),
        server = "location / { " .. (place[1] == "server" and code or "")
          .. [[ content_by_lua_block { ngx.print "hello" } } ]]
          .. location("/told", "content", "ngx.print(ngx.shared.told:get(ngx.var.arg_key))"),
      }
      running:get()
      server:await(function(state) return state.complete == 1 end)
      assert.equal("nil", running:get "/told?key=receipt")
      assert.equal("NoTask config not_sent", running:get "/told?key=code")
      assert.matches(("nginx's phase %s"):format(name), running:get "/told?key=said", 1, true)
      assert.matches("client:enqueue", running:get "/told?key=said", 1, true)
      assert.equal("true", running:get "/told?key=queued")
    end)
  end

  it("tells a handler of what gives way in the log phase, where there are no coroutines", function()
    server:always(nil, service.accepts_after "released")
    start {
      http = http(server, "outbox = { entries = 1, concurrency = 1 }") .. [[
        lua_shared_dict told 100k;
        init_worker_by_lua_block {
          client:on("failure", function(event) ngx.shared.told:set("code", event.err.code) error "in the handler" end)
        }]],
      server = [[location / {
        content_by_lua_block { ngx.print(ngx.shared.told:get "code" or "nothing") }
        log_by_lua_block { assert(client:enqueue(message)) }
      }]],
    }
    assert.equal("nothing", running:get())
    server:await(function(state) return state.waiting == 1 end)
    for _ = 1, 2 do
      assert.equal("nothing", running:get())
    end
    assert.equal("OutboxFull", running:get())
    assert.matches("a handler of the event `failure` raised: [^\n]*in the handler", running:log())
    assert.no_matches("failed to run log_by_lua", running:log(), 1, true)
  end)

  it("can be made in init, and says that it can neither send nor queue there", function()
    start { http = [[
      init_by_lua_block {
        client = require "rtc".new ]] .. options(server) .. [[
        message = { room_id = "room", to = "user", message = "hello" }
        local _, err = client:send_room_unicast(message)
        local _, refused = client:enqueue(message)
        said, refused_with = tostring(err), tostring(refused)
      }]], server = location("/", "content", "ngx.say(said) ngx.say(refused_with)" .. SEND) }
    local first, second, third, fourth, fifth = running:get():match("^(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n$")
    assert.matches("NoTask: nothing can wait in nginx's phase init", first, 1, true)
    assert.matches("send from init_worker_by_lua on", second, 1, true)
    assert.matches("NoTask: nginx has no timers in its phase init", third, 1, true)
    assert.matches("each worker sends for itself", fourth, 1, true)
    assert.matches("accepted", fifth, 1, true)
  end)

  describe("keeps connections", function()
    local function connections(changes, keep_alive)
      server:always(nil, service.accepts { headers = keep_alive and { { "Keep-Alive", keep_alive } } })
      start { http = http(server, changes), server = location("/", "content", SEND)
        .. location("/stats", "content", [[
          local counted = client:stats().connections
          ngx.print(counted.opened, " ", counted.reused)]]) }
      for _ = 1, 3 do
        assert.matches("accepted", running:get(), 1, true)
      end
      return server:state().connections, running:get "/stats"
    end

    it("and uses them again", function()
      local opened, counted = connections()
      assert.same({ 1, "1 2" }, { opened, counted })
    end)

    it("but not with keep_alive = false", function()
      local opened, counted = connections "keep_alive = false"
      assert.same({ 3, "3 0" }, { opened, counted })
    end)

    it("but not when the server is about to close them", function()
      local opened = connections(nil, "timeout=1")
      assert.equal(3, opened)
    end)

    it("and takes another one when a kept one is dead", function()
      start { http = http(server), server = location("/", "content", SEND) }
      running:get()
      server:idle(act.reset())
      server:await(function(state) return state.idle == 0 end)
      assert.matches("accepted", running:get(), 1, true)
      assert.equal(2, #server:requests())
    end)
  end)

  it("has at most pool_size of them", function()
    server:always(nil, service.accepts_after "released")
    start { http = http(server, "pool_size = 2"), server = location("/", "content", SEND) }
    local sending = {}
    for i = 1, 6 do
      sending[i] = running:begin {}
    end
    server:await(function(state) return state.waiting == 2 end)
    server:release "released"
    for _, connection in ipairs(sending) do
      assert.matches("accepted", nginx.read_answer(connection).body, 1, true)
      connection:close()
    end
    assert.same({ 2, 6 }, { server:state().most_open, #server:requests() })
  end)

  it("has as many of them as it may, beside a client that may have fewer", function()
    server:always(nil, service.accepts_after "released")
    start { http = http(server, "pool_size = 1"), server = location("/", "content", SEND)
      .. location("/more", "content", ("local client = require 'rtc'.new %s "):format(options(server, "pool_size = 2"))
      .. SEND) }
    local sending = {}
    for i, path in ipairs { "/", "/more", "/more" } do
      sending[i] = running:begin { path = path }
    end
    server:await(function(state) return state.waiting == 3 end)
    server:release "released"
    for _, connection in ipairs(sending) do
      assert.matches("accepted", nginx.read_answer(connection).body, 1, true)
      connection:close()
    end
  end)

  it("sends nothing when its time is over by when it is connected", function()
    start { http = http(server, "timeout = 0.2, retry = false"), server = location("/", "content", [[
      local sending = client:spawn(client.send_room_unicast, client, message)
      os.execute "sleep 0.4" -- the worker can't look at its timers
      local _, err = sending:wait()
      ngx.print(err.code, " ", err.outcome)]]) }
    assert.equal("Timeout not_sent", running:get())
    assert.same({}, server:requests())
  end)

  it("leaves no error in nginx's log while it waits for an answer", function()
    server:always(nil, { act.read(), act.sleep(0.3), act.answer(service.acceptance()) })
    start { http = http(server):gsub("lua_socket_log_errors off;", ""), server = location("/", "content", SEND) }
    assert.matches("accepted", running:get(), 1, true)
    assert.no_matches("[error]", running:log(), 1, true)
  end)

  it("leaves no warning there for a long message", function()
    start { http = http(server), server = location("/", "content", [[
      message.message = ("x"):rep(60000)
      ]] .. SEND) }
    assert.matches("accepted", running:get(), 1, true)
    assert.no_matches("[warn]", running:log(), 1, true)
  end)

  it("opens connections ahead", function()
    server:always("/", { act.read(), act.answer { status = 404, body = "", length = 0 } })
    start { http = http(server), server = location("/connect", "content", [[
      local opened, err = client:connect(3)
      ngx.print(tostring(opened or err))]])
      .. location("/", "content", SEND) }
    assert.equal("3", running:get "/connect")
    assert.matches("accepted", running:get(), 1, true)
    assert.equal(3, server:state().connections)
  end)

  it("sends many at once, in tasks of the request", function()
    start { http = http(server), server = location("/", "content", [[
      local messages = {}
      for i = 1, 100 do
        messages[i] = { room_id = "room", to = "user", message = tostring(i) }
      end
      local accepted = 0
      for index, receipt, err in client:send_all(messages, { concurrency = 8 }) do
        accepted = accepted + (receipt and 1 or 0)
      end
      local future = client:spawn(function(...) ngx.sleep(0.001) return ... end, "a", "b")
      ngx.say(accepted, " ", future:wait())]]) }
    assert.equal("100 ab\n", running:get())
    assert.is_true(server:state().most_open <= 8)
  end)

  it("never says of a long message that has gone out whole that it was not sent", function()
    server:always(nil, service.refuses("InternalError", { status = 500 }))
    start { http = http(server), server = location("/", "content", [[
      message.message = ("x"):rep(20000)
      local outcomes = {}
      for _ = 1, 20 do
        local _, err = client:send_room_unicast(message)
        outcomes[err.outcome] = (outcomes[err.outcome] or 0) + 1
      end
      ngx.print(require "cjson".encode(outcomes))]]) }
    assert.equal('{"unknown":20}', running:get())
  end)

  it("gives a long message all the time of a try to get out", function()
    server = fault_server.start { receive_buffer = 4096 }
    server:script { act.read_head(), act.wait "released", act.read(), act.answer(service.acceptance()) }
    start { http = http(server), server = location("/", "content", [[
      local receipt, err = client:call("SendRoomUnicast", '{"Message":"' .. ("x"):rep(16000000) .. '"}')
      ngx.print(tostring(receipt or err))]]) }
    local sending = running:begin {}
    server:await(function(state) return state.waiting == 1 end)
    native.sleep(1.5) -- more than between two looks at whether the client was closed
    server:release "released"
    assert.matches("accepted", nginx.read_answer(sending).body, 1, true)
    sending:close()
  end)

  it("goes on with what is enqueued after a handler has ended the outbox's tasks by ngx.exit", function()
    server:script(service.refuses "InvalidAccessKey")
    start {
      http = http(server, "outbox = { concurrency = 1 },")
        .. [[init_worker_by_lua_block { client:on("failure", function() ngx.exit(200) end) }]],
      server = location("/", "content", [[
        for _ = 1, 3 do
          assert(client:enqueue(message))
        end]]) .. location("/one", "content", [[
        collectgarbage()
        assert(client:enqueue(message))]]) .. location("/in_flight", "content", [[
        local outbox = client:stats().outbox
        ngx.print(outbox.in_flight, " ", outbox.waiting, " ", outbox.accepted)]]),
    }
    running:get()
    server:await(function(state) return state.complete == 1 end)
    tree.await(function()
      running:get "/one"
      return server:state().complete > 1
    end, "the others to be sent")
    tree.await(function() return running:get "/in_flight":find "^0 0 " end, "the outbox to be empty")
    assert.equal(tonumber(running:get "/in_flight":match "%d+$"), server:state().complete - 1)
  end)

  it("forgets calls of requests that nginx ended", function()
    server:always(nil, service.accepts_after "released")
    start { http = http(server, "timeout = 1"), server = location("/", "content", [[
      ngx.on_abort(function() ngx.exit(499) end)]] .. SEND)
      .. location("/pending", "content", "ngx.print(client:stats().pending)")
      .. location("/drain", "content", "ngx.print(tostring((client:drain(10))))")
      .. "lua_check_client_abort on;" }
    local sending = running:begin {}
    server:await(function(state) return state.waiting == 1 end)
    assert.equal("1", running:get "/pending")
    sending:close()
    assert.equal("true", running:get "/drain")
    assert.equal("0", running:get "/pending")
  end)

  describe("over TLS", function()
    -- A name of this machine that is none of loopback's.
    local name = process.run({ "hostname" }).stdout:gsub("%s+$", ""):lower()
    local tls = certificates.make(name)

    local function send(pair, directives, changes, host)
      local secure = fault_server.start { tls = pair }
      secure:always(nil, service.accepts())
      start { http = http(("https://%s:%d"):format(host or "localhost", secure.port), changes) .. directives,
        server = location("/", "content", [[
          local receipt, err = client:send_room_unicast(message)
          ngx.say(receipt and "accepted" or err.code .. " " .. err.outcome .. " " .. tostring(err.retryable))
          ngx.say(tostring(receipt or err))]]) }
      local first, text = running:get():match("^(.-)\n(.*)$")
      return first, text, secure
    end

    local function trusting(file)
      return ("lua_ssl_trusted_certificate %s; lua_ssl_verify_depth 2;"):format(file)
    end

    it("verifies, and keeps connections by the name", function()
      local first, _, secure = send(tls.good, trusting(tls.ca_file))
      assert.equal("accepted", first)
      assert.matches("^accepted\n", running:get())
      assert.equal(1, secure:state().connections)
    end)

    for what, case in pairs {
      ["another authority's"] = { tls.untrusted, trusting(tls.ca_file) },
      ["an expired one"] = { tls.expired, trusting(tls.ca_file) },
      ["one for another host"] = { tls.wrong_host, trusting(tls.ca_file) },
      ["any without lua_ssl_trusted_certificate"] = { tls.good, "" },
      ["one of ours by the system's store"] = { tls.good, trusting(SYSTEM_STORE) },
    } do
      it("refuses " .. what .. ", and names the directives", function()
        local first, text, secure = send(case[1], case[2])
        assert.equal("CertificateFailed not_sent false", first)
        assert.matches("lua_ssl_trusted_certificate", text, 1, true)
        assert.matches("lua_ssl_verify_depth", text, 1, true)
        assert.equal(0, #secure:requests())
      end)
    end

    it("says that plain http is no TLS", function()
      start { http = http("https://localhost:" .. server.port) .. trusting(tls.ca_file),
        server = location("/", "content", SEND) }
      assert.matches("TLSFailed", running:get(), 1, true)
    end)

    it("shows its certificate to a server that asks for one", function()
      tls.good.client_ca = tls.authority
      finally(function() tls.good.client_ca = nil end)
      local first, _, secure = send(tls.good, trusting(tls.ca_file),
        ("cert_file = %q, key_file = %q,"):format(tls.client.cert, tls.client.key))
      assert.equal("accepted", first)
      assert.equal("/CN=client", secure:connections()[1].client)
    end)

    it("goes through a proxy's tunnel", function()
      local proxy, secure = fault_server.start(), fault_server.start { tls = tls.good }
      secure:always(nil, service.accepts())
      proxy:always(nil, { act.read(), act.tunnel() })
      start { http = http(("https://%s:%d"):format(name, secure.port), ("proxy = %q"):format(proxy.url))
        .. trusting(tls.ca_file), server = location("/", "content", SEND) }
      for _ = 1, 2 do
        assert.matches("accepted", running:get(), 1, true)
      end
      assert.same({ 1, 2 }, { #proxy:requests(), #secure:requests() })
      assert.equal(("%s:%d"):format(name, secure.port), proxy:requests()[1].target)
    end)

    it("takes nothing from a proxy for the server's, whatever the size of nginx's buffer", function()
      local proxy = fault_server.start()
      local head = "HTTP/1.1 200 OK\r\n\r\n"
      for _, padding in ipairs { 0, 65536 - #head } do
        local answer = fault_server.bytes(service.acceptance())
        proxy:always(nil, { act.read(), act.send(head .. ("x"):rep(padding) .. answer), act.drain() })
        start { http = http("https://" .. name, ("retry = false, proxy = %q"):format(proxy.url))
          .. trusting(tls.ca_file) .. "lua_socket_buffer_size 256k;", server = location("/", "content", SEND) }
        assert.matches("ProxyFailed: the proxy sent more than its answer to CONNECT", running:get(), 1, true)
        running:close()
      end
    end)
  end)

  it("names the directive `resolver` when it is missing", function()
    start { http = http "https://service.test", server = location("/", "content", SEND) }
    local text = running:get()
    assert.matches("DNSFailed", text, 1, true)
    assert.matches("directive `resolver`", text, 1, true)
  end)

  it("says when nobody listens, and needs no resolver for localhost", function()
    start { http = http "http://localhost:1", server = location("/", "content", SEND) }
    local text = running:get()
    assert.matches("ConnectFailed: connection refused (localhost:1)", text, 1, true)
    assert.matches("3 tries, not sent", text, 1, true)
  end)

  for name, case in pairs {
    ["ca_file"] = { ("ca_file = %q"):format(SYSTEM_STORE), "lua_ssl_trusted_certificate" },
    ["ca_path"] = { 'ca_path = "/etc/ssl/certs"', "lua_ssl_trusted_certificate" },
    ["a proxy of another kind"] = { 'proxy = "socks5://127.0.0.1:1080"', "only http:// ones" },
    ["a certificate that is none"] = { 'cert_file = "/etc/hostname"', "PEM" },
  } do
    it("refuses " .. name .. ", and says what there is instead", function()
      local said = nginx.run(([[
        local made, problem = pcall(require "rtc".new, %s)
        ngx.print(tostring(made), " ", tostring(problem))]]):format(options(server, case[1])))
      assert.matches("^false .*rtc.new: ", said)
      assert.matches(case[2], said, 1, true)
    end)
  end
end)
