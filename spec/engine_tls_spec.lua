-- TLS in the engine: verification is always on, the trust store is parsed once, and a client may have a certificate.

local engine = require("rtc.engine")
local certificates = require("spec.support.certificates").make()
local child = require("spec.support.child")
local fault_server = require("spec.support.fault_server")
local native = require("spec.support.native")
local process = require("spec.support.process")
local pump = require("spec.support.pump")

local act = fault_server.act
local answered = pump.answered

describe("the engine's TLS", function()
  local engines

  local function start(tls)
    return fault_server.start({ tls = tls })
  end

  local function new(options)
    local made = engine.new(options)
    engines[#engines + 1] = made
    return made
  end

  before_each(function() engines = {} end)

  after_each(function()
    for _, each in ipairs(engines) do each:close() end
    fault_server.stop_all()
  end)

  local function request(url, changes)
    local result = { url = url, method = "POST", body = "secret", timeout = 20, try_timeout = 20, connect_timeout = 20,
      headers = { { "Authorization", "secret" } } }
    for name, value in pairs(changes or {}) do result[name] = value end
    return result
  end

  local function refused(exchange, code)
    assert.equal("network", exchange.kind)
    assert.equal(code or "CertificateFailed", exchange.code, exchange.message)
    assert.is_false(exchange.sent)
    assert.is_true(#exchange.message > 0)
  end

  local function copy_of_ca()
    local path = native.path("trust.pem")
    local file = assert(io.open(path, "wb"))
    file:write(certificates.ca_pem)
    file:close()
    return path
  end

  it("trusts what the authority signed, by address and by name", function()
    local server, e = start(certificates.good), new({ ca_file = certificates.ca_file })
    assert.equal("/a", answered(pump.one(e, request(server.url .. "/a"))).target)
    assert.equal("/b", answered(pump.one(e, request(("https://localhost:%d/b"):format(server.port)))).target)
  end)

  for _, name in ipairs({ "untrusted", "self_signed", "wrong_host", "expired" }) do
    it("refuses a certificate that is " .. name:gsub("_", " ") .. ", and sends nothing", function()
      local good, bad = start(certificates.good), start(certificates[name])
      local e = new({ ca_file = certificates.ca_file })
      local fate = {}
      for _ = 1, 4 do
        fate[e:submit(request(good.url))] = answered
        fate[e:submit(request(bad.url))] = refused
      end
      for _, exchange in ipairs((pump.finish(e, 8))) do fate[exchange.id](exchange) end
      assert.equal(4, good:state().requests)
      assert.equal(0, bad:state().requests)
      assert.is_true(bad:state().connections > 0)
      bad:await(function(state) return state.open == 0 end)
    end)
  end

  it("does not trust an unknown authority by default", function()
    local server = start(certificates.good)
    refused(pump.one(new(), request(server.url)))
    assert.equal(0, server:state().requests)
  end)

  it("cannot be told not to verify", function()
    local server = start(certificates.untrusted)
    for _, name in ipairs({ "verify", "insecure", "ssl_verify", "verify_peer", "verify_host" }) do
      for _, value in ipairs({ false, true, 0 }) do
        local ok, made = pcall(engine.new, { [name] = value, ca_file = certificates.ca_file })
        if ok then
          engines[#engines + 1] = made
          refused(pump.one(made, request(server.url)))
        end
        local e = new({ ca_file = certificates.ca_file })
        if e:submit(request(server.url, { [name] = value })) then refused(pump.finish(e, 1)[1]) end
        e:close()
      end
    end
    assert.equal(0, server:state().requests)
  end)

  it("refuses a server that does not speak TLS", function()
    local server = start()
    local url = "https://127.0.0.1:" .. server.port .. "/"
    for _ = 1, 2 do refused(pump.one(new({ ca_file = certificates.ca_file }), request(url)), "TLSFailed") end
    assert.equal(0, server:state().requests)
  end)

  it("refuses a handshake that ends or is garbage", function()
    local server = start(certificates.good)
    server:on_accept({ act.close() }, { act.reset() }, { act.send("HTTP/1.1 400 Bad Request\r\n\r\n"), act.close() },
      { act.send(("\0"):rep(100)), act.drain() })
    local e = new({ ca_file = certificates.ca_file })
    for _ = 1, 4 do
      local exchange = pump.one(e, request(server.url))
      assert.equal("network", exchange.kind)
      assert.is_true(exchange.code == "TLSFailed" or exchange.code == "ConnectFailed", exchange.code)
      assert.is_false(exchange.sent)
    end
    answered(pump.one(e, request(server.url)))
  end)

  describe("trust store", function()
    local function trusting(change)
      local path = copy_of_ca()
      local server = start(certificates.good)
      local e = new({ ca_file = path, connections = 8 })
      answered(pump.one(e, request(server.url .. "/first")))
      change(path)
      server:await(function(state) return state.idle == 1 end)
      server:idle(act.close())
      server:await(function(state) return state.open == 0 end)
      server:always("/held", { act.read(), act.wait(), act.echo() })
      for _ = 1, 8 do assert(e:submit(request(server.url .. "/held"))) end
      pump.await(e, function() return server:state().waiting == 8 end)
      server:release()
      for _, exchange in ipairs((pump.finish(e, 8))) do answered(exchange) end
      assert.equal(9, server:state().connections)
      return path, server
    end

    local function garbage(path)
      local file = assert(io.open(path, "wb"))
      file:write("this is no certificate\n")
      file:close()
    end

    it("is parsed once: connections verify after the file became garbage", function()
      local path, server = trusting(garbage)
      refused(pump.one(new({ ca_file = path }), request(server.url)))
    end)

    it("is parsed once: connections verify after the file went away", function()
      local path, server = trusting(os.remove)
      local ok, made = pcall(new, { ca_file = path })
      if ok then
        refused(pump.one(made, request(server.url)))
      else
        assert.truthy(tostring(made):find("ca_file", 1, true), tostring(made))
      end
    end)

    it("still refuses after that", function()
      local path = copy_of_ca()
      local good, bad = start(certificates.good), start(certificates.untrusted)
      local e = new({ ca_file = path })
      answered(pump.one(e, request(good.url)))
      garbage(path)
      for _ = 1, 3 do refused(pump.one(e, request(bad.url))) end
      assert.equal(0, bad:state().requests)
    end)

    it("may be a folder as c_rehash makes it", function()
      local folder = native.path("trust")
      process.sh(("mkdir %s && cp %s %s/ca.pem && openssl rehash %s 2>/dev/null"):format(folder,
        certificates.ca_file, folder, folder))
      local good, bad = start(certificates.good), start(certificates.untrusted)
      local e = new({ ca_path = folder })
      answered(pump.one(e, request(good.url)))
      refused(pump.one(e, request(bad.url)))
    end)

    it("belongs to its engine alone", function()
      local server = start(certificates.good)
      local trusting_one, other = new({ ca_file = certificates.ca_file }), new()
      answered(pump.one(trusting_one, request(server.url)))
      refused(pump.one(other, request(server.url)))
      answered(pump.one(trusting_one, request(server.url)))
      assert.equal(2, server:state().requests)
    end)
  end)

  describe("client certificate", function()
    local function contents(path)
      local file = assert(io.open(path, "rb"))
      local text = file:read("*a")
      file:close()
      return text
    end

    --- A file with both texts in it.
    local function together(one, other)
      local path = native.path("both.pem")
      local file = assert(io.open(path, "wb"))
      file:write(contents(one), contents(other))
      file:close()
      return path
    end

    local function asking(version)
      return start({ cert = certificates.good.cert, key = certificates.good.key, client_ca = certificates.ca_file,
        version = version })
    end

    local function showing(cert, key)
      return new({ ca_file = certificates.ca_file, cert_file = cert, key_file = key })
    end

    local mine = certificates.client

    for version, missed in pairs({ TLSv1_2 = "TLSFailed", TLSv1_3 = "CertificateFailed" }) do
      describe("over " .. version, function()
        local server

        before_each(function() server = asking(version) end)

        it("goes to a server that asks for it", function()
          answered(pump.one(showing(mine.cert, mine.key), request(server.url)))
          assert.equal("/CN=client", server:connections()[1].client)
        end)

        it("stands in one file with its key", function()
          answered(pump.one(showing(together(mine.cert, mine.key)), request(server.url)))
          assert.equal("/CN=client", server:connections()[1].client)
        end)

        it("is missed by a server that asks for one", function()
          local exchange = pump.one(new({ ca_file = certificates.ca_file }), request(server.url))
          assert.same({ "network", missed }, { exchange.kind, exchange.code }, exchange.message)
          assert.equal(0, server:state().requests)
        end)

        it("is refused by a server that does not know its authority", function()
          local exchange = pump.one(showing(certificates.untrusted.cert, certificates.untrusted.key),
            request(server.url))
          assert.same({ "network", "CertificateFailed" }, { exchange.kind, exchange.code }, exchange.message)
          assert.equal(0, server:state().requests)
        end)
      end)
    end

    it("stays where it is when no server asks for it", function()
      local server = start(certificates.good)
      answered(pump.one(showing(mine.cert, mine.key), request(server.url)))
      assert.is_nil(server:connections()[1].client)
    end)

    for reason, files in pairs({
      ["without a key"] = { mine.cert },
      ["with another's key"] = { mine.cert, certificates.good.key },
      ["that is not there"] = { "/no/such/certificate", mine.key },
      ["whose key is not there"] = { mine.cert, "/no/such/key" },
      ["that is none"] = { mine.key, mine.key },
    }) do
      it("can't be used " .. reason .. ", and nothing is sent", function()
        local server = asking()
        local exchange = pump.one(showing(files[1], files[2]), request(server.url))
        refused(exchange)
        assert.matches("cert_file or key_file can't be used", exchange.message, 1, true)
        assert.equal(0, server:state().requests)
      end)
    end

    -- OpenSSL would ask for the password at the terminal, or else by standard error and input, and wait.
    for form, command in pairs({ ["PKCS #8"] = "pkey", ["the older form"] = "ec" }) do
      it("with an encrypted key, in " .. form .. ", fails without asking for a password", function()
        local server = asking()
        local encrypted = native.path("encrypted.key")
        local made = process.run({ "openssl", command, "-in", mine.key, "-aes128", "-passout", "pass:secret", "-out",
          encrypted })
        assert.equal(0, made.code, made.stderr)
        assert.matches("ENCRYPTED", contents(encrypted), 1, true)
        local asked = child.start([[
          for _, files in ipairs({ { arg[3], arg[4] }, { arg[5] } }) do
            local e = engine.new({ ca_file = arg[2], cert_file = files[1], key_file = files[2] })
            local exchange = pump.one(e, { url = arg[1], timeout = 20, try_timeout = 20, connect_timeout = 20 })
            say(exchange.code, exchange.sent)
          end
        ]], { server.url, certificates.ca_file, mine.cert, encrypted, together(mine.cert, encrypted) },
          { stdin = "pipe" })
        finally(function() asked:close() end)
        assert.equal("CertificateFailed\tfalse", asked:line())
        assert.equal("CertificateFailed\tfalse", asked:line())
        assert.equal(0, asked:wait())
        assert.equal("", asked:stderr())
        assert.equal(0, server:state().requests)
      end)
    end

    it("is no certificate when there is only a key", function()
      local ok, err = pcall(engine.new, { key_file = mine.key })
      assert.is_false(ok)
      assert.matches("key_file .*cert_file", err)
    end)
  end)
end)
