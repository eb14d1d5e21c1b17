-- The client's own rate limit: its arithmetic, whom it counts together, and what the service's limit makes of it.

local compat = require "spec.support.compat"
local fault_server = require "spec.support.fault_server"
local limit_cases = require "spec.support.limit_cases"
local memory = require "rtc.quota.memory"
local native = require "spec.support.native"
local process = require "spec.support.process"
local rtc = require "rtc"
local service = require "spec.support.service"
local tree = require "spec.support.tree"

describe("the count in memory", function()
  for name, case in pairs(limit_cases.all) do
    it(name, function()
      assert.equal(limit_cases.expected(case), limit_cases.play(case, memory.take, name))
    end)
  end

  it("keeps its pace on a clock that stands still", function()
    for n = 0, 999 do
      assert.equal(n < 25 and 0 or (n - 24) / 512, memory.take("still", 1000, 512, 25, 1000))
    end
  end)

  it("keeps keys apart", function()
    for _, key in ipairs { "one", "another", "" } do
      assert.equal(0, memory.take(key, 0, 1, 1, 0))
      assert.is_nil(memory.take(key, 0, 1, 1, 0))
    end
  end)

  it("forgets keys whose time is over, and only those", function()
    assert.equal(0, memory.take("fresh", 0, 0.001, 1, 0))
    collectgarbage()
    local before = collectgarbage("count")
    for n = 1, 50000 do
      memory.take("key " .. n, n / 100, 4, 1, 0)
    end
    collectgarbage()
    local grown = collectgarbage("count") - before
    assert.is_true(grown < 1000, grown .. " KB more") -- all of them take some 7000
    assert.is_nil(memory.take("fresh", 999, 0.001, 1, 0))
    assert.equal(0, memory.take("fresh", 1000, 0.001, 1, 0))
  end)

  it("takes thousands of keys at one time", function()
    for n = 1, 3000 do
      assert.equal(0, memory.take("many " .. n, 5000, 1, 1, 0))
    end
    for n = 1, 3000 do
      assert.is_nil(memory.take("many " .. n, 5000, 1, 1, 0))
    end
  end)
end)

describe("a client's rate limit", function()
  local server, before

  setup(function()
    server = fault_server.start()
    server:always(nil, service.accepts())
  end)

  teardown(fault_server.stop_all)

  before_each(function()
    before = server:state().requests
  end)

  local function requests()
    return server:state().requests - before
  end

  local accounts = 0

  --- A client, of an account of its own unless told otherwise, that has two slots for the time of the test.
  local function open(quota, changes)
    local options = { quota = { rate = 0.001, burst = 2, max_wait = 0 } }
    accounts = accounts + 1
    options.access_key = "AKLTaccount" .. accounts
    for name, value in pairs(quota or {}) do
      options.quota[name] = value
    end
    for name, value in pairs(changes or {}) do
      options[name] = value
    end
    return service.client(server, options)
  end

  local function send(client, changes)
    return client:send_room_unicast(service.message(changes))
  end

  --- What becomes of a message: "sent" or "QuotaExceeded".
  local function fate(client, changes)
    local receipt, err = send(client, changes)
    return receipt and "sent" or err.code
  end

  it("refuses what comes too fast, before it is sent", function()
    local client = open()
    assert(send(client))
    assert(send(client))
    local receipt, err = send(client)
    assert.is_nil(receipt)
    assert.same({ "quota", "QuotaExceeded", "QuotaExceeded", "not_sent", true, 0, "SendRoomUnicast" },
      { err.kind, err.code, err.class, err.outcome, err.retryable, err.attempts, err.action })
    assert.is_true(err.retry_after > 0 and err.retry_after <= 1000)
    assert.matches("0.001 messages a second", err.message, 1, true)
    assert.matches("quota.rate", err.message, 1, true)
    assert.matches("err.retry_after", err.advice, 1, true)
    assert.matches("quota, not sent", tostring(err), 1, true)
    assert.equal(2, requests())
  end)

  it("is shared by the four actions", function()
    local client = open { burst = 4 }
    local unicast = { to = "user", message = "hello" }
    local broadcast = { room_id = "room", message = "hello" }
    local batch = service.message { to = { "user" } }
    assert(client:send_unicast(unicast))
    assert(client:send_room_unicast(service.message()))
    assert(client:send_broadcast(broadcast))
    assert(client:batch_send_room_unicast(batch))
    for method, fields in pairs {
      send_unicast = unicast, send_room_unicast = service.message(), send_broadcast = broadcast,
      batch_send_room_unicast = batch,
    } do
      local _, err = client[method](client, fields)
      assert.equal("QuotaExceeded", err.code)
    end
    assert.equal(4, requests())
  end)

  it("counts a call of a message action, and no other", function()
    local client = open()
    for _ = 1, 5 do
      assert(client:call("BanRoomUser", {}))
      assert(client:call("GetRoomOnlineUsers", nil, { method = "GET" }))
    end
    assert(client:call("SendUnicast", {}))
    assert(client:call("SendBroadcast", "{}"))
    local _, err = client:call("SendUnicast", {})
    assert.same({ "quota", 0 }, { err.kind, err.attempts })
    assert.equal("QuotaExceeded", fate(client))
    assert(client:call("BanRoomUser", {}))
    assert.equal(13, requests())
  end)

  it("counts each try", function()
    server:script(service.refuses("FlowLimitExceeded", { status = 429 }))
    local client = open()
    assert.equal(2, assert(send(client)).attempts)
    assert.equal("QuotaExceeded", fate(client))
  end)

  it("counts each part of a batch", function()
    local to = {}
    for n = 1, 1201 do
      to[n] = "user" .. n
    end
    local _, err = open():batch_send_room_unicast(service.message { to = to, split = true })
    assert.equal("QuotaExceeded", err.parts[3].err.code)
    assert.equal(2, requests())
  end)

  it("does not count what is not sent for another reason", function()
    local client = open()
    for _ = 1, 5 do
      assert.equal("InvalidArgument", fate(client, { to = "a b" }))
    end
    assert.equal("sent", fate(client))
  end)

  -- Two clients, how the messages of each are sent, and whether what both send is one account's.
  for name, case in pairs {
    ["is one for an access key"] = { { access_key = "AKLTshared" }, { access_key = "AKLTshared" }, true },
    ["is not shared by access keys"] = { { access_key = "AKLTone" }, { access_key = "AKLTtwo" }, false },
    ["is one for a name"] = { { key = "name" }, { key = "name" }, true },
    ["is not shared by names"] = { { key = "name1" }, { key = "name2" }, false },
    ["of a name is not an access key's"] = {
      { access_key = "AKLTthree" }, { access_key = "AKLTthree", key = "AKLTthree" }, false,
    },
    ["of a name that looks like one is not an access key's"] = {
      { access_key = "AKLTfour" }, { key = "account:AKLTfour" }, false,
    },
    ["is one for an AppId, if told so"] = {
      { key = "app_id", app_id = "app1" }, { key = "app_id", app_id = "app1" }, true,
    },
    ["is not shared by AppIds, if told so"] = {
      { key = "app_id", app_id = "app2" }, { key = "app_id", app_id = "app3" }, false,
    },
    ["is one for all AppIds, if not"] = {
      { access_key = "AKLTfive", app_id = "app4" }, { access_key = "AKLTfive", app_id = "app5" }, true,
    },
  } do
    it(name, function()
      local clients = {}
      for i = 1, 2 do
        clients[i] = open({ key = case[i].key }, { access_key = case[i].access_key, app_id = case[i].app_id })
      end
      assert.equal("sent", fate(clients[1]))
      assert.equal("sent", fate(clients[1]))
      assert.equal(case[3] and "QuotaExceeded" or "sent", fate(clients[2]))
    end)
  end

  it("by AppId is that of each call, as a string or a number", function()
    local client = open { key = "app_id", burst = 1 }
    assert.equal("sent", fate(client, { app_id = "70001" }))
    assert.equal("QuotaExceeded", fate(client, { app_id = 70001.0 }))
    assert.equal("sent", fate(client, { app_id = "70002" }))
    local _, err = client:call("SendBroadcast", { AppId = "70002" })
    assert.equal("QuotaExceeded", err.code)
    assert(client:call("SendBroadcast", { AppId = "70003" }))
  end)

  it("can be switched off", function()
    local client = service.client(server, { access_key = "AKLToff", quota = false })
    for _ = 1, 30 do
      assert(send(client))
    end
    assert.equal(30, requests())
  end)

  it("lets calls wait for their turn", function()
    local client, start = open { rate = 20, burst = 1, max_wait = 1 }, native.now()
    for _ = 1, 3 do
      assert(send(client))
    end
    assert.is_true(native.now() - start >= 0.1)
  end)

  it("lets no call wait for longer than its timeout", function()
    local client = open({ max_wait = 86400 }, { timeout = 0.5 })
    assert(send(client))
    assert(send(client))
    local _, err = send(client)
    assert.same({ "quota", 0 }, { err.kind, err.attempts })
    assert.is_true(err.retry_after > 0.5)
  end)

  it("lets what is enqueued wait within its timeout, whatever max_wait is", function()
    local client = open { rate = 20, burst = 1, max_wait = 0 }
    for _ = 1, 4 do
      assert(client:enqueue(service.message()))
    end
    assert(client:drain())
    assert.equal(4, client:stats().outbox.accepted)
  end)

  describe("takes for a failure of the store", function()
    for what, take in pairs {
      ["what it raises"] = function() error("it is down") end,
      ["nothing"] = function() end,
      ["a wait that is no number"] = function() return true, 1 end,
      ["a wait as text"] = function() return "0.1", 1 end,
      ["a wait that is longer than asked for"] = function() return 5 end,
      ["an endless wait"] = function() return math.huge end,
      ["a wait that is not a number"] = function() return 0 / 0 end,
      ["a wait before now"] = function() return -1 end,
      ["a time to try again that is not a number"] = function() return nil, 0 / 0 end,
      ["a time to try again that never comes"] = function() return nil, math.huge end,
      ["a time to try again as text"] = function() return nil, "soon" end,
    } do
      it(what, function()
        local _, err = send(open({ store = { take = take }, max_wait = 1 }))
        assert.same({ "config", "QuotaStoreFailed", "not_sent", true, 0 },
          { err.kind, err.code, err.outcome, err.retryable, err.attempts })
        assert.equal(0, requests())
      end)
    end
  end)

  it("is 500 a second with a burst of 25 and a wait of up to 1 s unless told otherwise", function()
    local seen
    local store = { take = function(...) seen = { ... } return 0 end }
    assert(send(service.client(server, { access_key = "AKLTstore", quota = { store = store } })))
    local now = table.remove(seen, 2)
    assert.is_true(now <= native.now())
    assert.same({ "account:AKLTstore", 500, 25, 1 }, seen)
    assert(send(service.client(server, {
      quota = { store = store, key = "my.game", rate = 7.5, burst = 2, max_wait = 0 },
    })))
    assert.same({ "name:my.game", 7.5, 2, 0 }, { seen[1], compat.unpack(seen, 3) })
  end)
end)

describe("a rate limit that several workers share", function()
  local keys = 0

  --- How many messages a limit lets through at once, and the error after them.
  local function burst_of(given, sharing)
    keys = keys + 1
    given.max_wait, given.key = 0, "workers" .. keys
    local limit, count = require("rtc.quota").new(given, "account", sharing), 0
    while true do
      local err = limit:take({ now = function() return 0 end }, { action = "SendBroadcast" }, 10)
      if err then
        return count, err
      end
      count = count + 1
    end
  end

  it("is divided by their number when nothing counts for all", function()
    local count, err = burst_of({ rate = 4, burst = 8 }, { workers = 4 })
    assert.same({ 2, "QuotaExceeded", 1 }, { count, err.code, err.retry_after })
    assert.matches("the worker sends 1 messages a second already (quota.rate divided by the number of workers)",
      err.message, 1, true)
    assert.matches("`lua_shared_dict rtc_quota 1m;`", err.advice, 1, true)
    assert.equal(6, (burst_of({}, { workers = 4 })))
  end)

  it("leaves each at least one at once", function()
    local count, err = burst_of({ rate = 4, burst = 2 }, { workers = 4 })
    assert.same({ 1, 1 }, { count, err.retry_after })
  end)

  it("is whole for one, who needs no other's count", function()
    for _, sharing in ipairs { {}, { workers = 1 } } do
      local count, err = burst_of({ rate = 4, burst = 8 }, sharing)
      assert.same({ 8, 0.25 }, { count, err.retry_after })
      assert.no_matches("worker", tostring(err))
    end
  end)

  for whose, stores in pairs {
    ["the runtime's"] = { nil, "whole" }, ["a given"] = { "whole", nil },
    ["a given one rather than the runtime's"] = { "whole", "other" },
  } do
    it("is whole in " .. whose .. " store", function()
      local function store(name)
        return name and {
          take = function(_, _, rate, burst)
            return nil, name == "whole" and rate == 4 and burst == 8 and 0.25 or 99
          end,
        }
      end
      local count, err = burst_of({ rate = 4, burst = 8, store = store(stores[1]) },
        { workers = 4, store = store(stores[2]) })
      assert.same({ 0, 0.25 }, { count, err.retry_after })
      assert.no_matches("worker", tostring(err))
    end)
  end
end)

describe("the service's rate limit", function()
  local sandbox, endpoint

  before_each(function()
    -- Its log goes to a file: nobody reads as fast as it writes.
    sandbox = process.spawn { process.lua, "-e", 'assert(require "rtc.sandbox".run { port = 0, log = io.stderr })' }
    endpoint = "sandbox:" .. tree.await(function()
      return sandbox:stderr():match("listening on http://%S+:(%d+)\n")
    end, "the sandbox")
  end)

  after_each(function()
    sandbox:close()
  end)

  --- Sends so many messages as fast as they go, until one is refused.
  local function send_fast(count, quota)
    local client = rtc.new { endpoint = endpoint, quota = quota, retry = false, outbox = { full = "refuse" } }
    local refused
    client:on("failure", function(event)
      refused = refused or event.err
    end)
    local queued = 0
    while queued < count and not refused do
      local ok, err = client:enqueue(service.message())
      queued = queued + (ok and 1 or 0)
      assert(ok or err.code == "OutboxFull", err)
      if not ok then
        client:drain(0.05)
      end
    end
    assert(client:drain(60))
    return client, refused
  end

  it("is met by who sends without one", function()
    local _, err = send_fast(20000, false)
    assert.same({ "FlowLimitExceeded.QPSOverLimit", "service", "rejected", true, 1 },
      { err.code, err.kind, err.outcome, err.retryable, err.attempts })
  end)

  it("is not met by 5000 messages as fast as the client lets them", function()
    local client, err = send_fast(5000)
    assert.is_nil(err)
    local stats = client:stats()
    assert.same({ 5000, 5000, 0 }, { stats.accepted, stats.tries, stats.failed })
  end)
end)
