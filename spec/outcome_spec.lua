-- What became of a message is told of the whole call. Each row is a fault at one stage of the exchange, at a real
-- socket and under the default policy of three tries; the server's record of what came is the judge.

local certificates = require("spec.support.certificates").make()
local compat = require("spec.support.compat")
local fault_server = require "spec.support.fault_server"
local rtc = require "rtc"

local act = fault_server.act

--- The default's tries. Its waits would only make this slow.
local policy = { base = 0.001, cap = 0.01 }
local rather_twice = { base = 0.001, cap = 0.01, on_unknown = true }

local message = { room_id = "room", to = "user", message = "hello" }

--- A message fits whole into the kernel's buffers for loopback. This body of `call`, on the same way, does not: it is
--- twice what a socket holds unless the kernel was told otherwise.
local big = '{"Message":"' .. ("x"):rep(8000000) .. '"}'
local narrow = { receive_buffer = 65536 }

--- The steps that refuse a request by a code, before execution.
local is_refusal = {}

local function envelope(code)
  return ('{"ResponseMetadata":{"RequestId":"1","Error":{"Code":"%s","Message":"m"}}}'):format(code)
end

local function answer(status, code)
  return act.answer { status = status, body = envelope(code) }
end

local function refuse(status, code)
  local step = { act.read(), answer(status, code) }
  is_refusal[step] = true
  return step
end

--- Answers before the body has come, which then is nobody's any more.
local function early(given)
  return { act.read_head(), given, act.end_writing(), act.wait("end"), act.drain() }
end

local accept = { act.read(), act.answer { body = '{"ResponseMetadata":{"RequestId":"1"}}' } }
local throttle = refuse(429, "FlowLimitExceeded")
local deny = refuse(401, "InvalidAccessKey")
local break_off = { act.read(), act.close() }
local silence = { act.read(), act.wait("end"), act.close() }
local cut_short = { act.read_body(100000), act.close() }
local page = { act.read(), act.answer { status = 502, body = "<html>Bad Gateway</html>" } }

---@class Row
---@field [1] string what happens
---@field [2] table[]|nil the server's step for each request, the last one also for all further ones
---@field says table kind, code, outcome, retryable and attempts of an error (a|b: either), or "receipt", attempts and
--- whether possibly twice
---@field whole integer the requests that came whole
---@field on_accept table[]|nil the server's step for each connection before TLS, the last one also for all further ones
---@field server table|nil options of the server; what waits in it for "end" waits until the call is over
---@field new table|nil options of the client
---@field proxied string|nil the endpoint for which the server is the proxy
---@field send nil|fun(client: rtc.Client): rtc.Receipt|nil, rtc.Error|nil default: a message
---@field harmless boolean|nil it may be carried out any number of times

local function send_big(client)
  return client:call("SendRoomUnicast", big)
end

local function read_users(client)
  return client:call("GetRoomOnlineUsers", nil, { method = "GET", version = "2023-11-01" })
end

local once_more = 4 -- one more than there are tries

--- So many steps that a try too many meets one, too.
local function repeated(steps)
  local result = {}
  for n = 1, steps and once_more or 0 do
    result[n] = steps[math.min(n, #steps)]
  end
  return result
end

local function open(row, server)
  local options = {
    endpoint = row.proxied or server.url, proxy = row.proxied and server.url or false, allow_http = true,
    access_key = "AKLTkey", secret_key = "secret", app_id = "app", from = "me", ca_file = certificates.ca_file,
    retry = policy,
  }
  for name, value in pairs(row.new or {}) do
    options[name] = value
  end
  return rtc.new(options)
end

--- The requests to the service that came whole, and how many of them were not refused.
local function record(server, steps)
  local whole, not_refused = 0, 0
  for n, request in ipairs(server:requests()) do
    if request.complete and request.method ~= "CONNECT" then
      whole = whole + 1
      not_refused = not_refused + (is_refusal[steps[n]] and 0 or 1)
    end
  end
  return whole, not_refused
end

--- `said` where it allows what is.
local function one_of(said, is)
  return ("|%s|"):format(said):find(("|%s|"):format(is), 1, true) and said or is
end

--- What the caller was told, in a row's words.
local function told(says, receipt, err)
  if receipt then
    return { "receipt", receipt.attempts, receipt.possible_duplicate }
  end
  return { one_of(says[1], err.kind), one_of(says[2], err.code), one_of(says[3], err.outcome), err.retryable,
    err.attempts }
end

---@param row Row
local function meet(row)
  local server, steps = fault_server.start(row.server), repeated(row[2])
  server:on_accept(compat.unpack(repeated(row.on_accept)))
  server:script(compat.unpack(steps))
  local client = open(row, server)
  local receipt, err = (row.send or client.send_room_unicast)(client, message)
  assert.same(row.says, told(row.says, receipt, err))
  -- What the kernel still has for the server may make a request whole after all.
  server:release("end")
  server:await(function(state)
    return state.complete >= row.whole and state.open == state.idle
  end)
  local whole, not_refused = record(server, steps)
  assert.equal(row.whole, whole)
  if not client.retry.on_unknown and not row.harmless then
    assert.is_true(not_refused <= 1)
  end
end

---@param stage string
---@param rows Row[]
local function check(stage, rows)
  describe("a call that meets, " .. stage .. ",", function()
    after_each(fault_server.stop_all)

    for _, row in ipairs(rows) do
      it(row[1], function()
        meet(row)
      end)
    end
  end)
end

local tls = { tls = certificates.good }

--- Options of a server that wants to see the client's certificate.
local function asking(version)
  return { tls = { cert = certificates.good.cert, key = certificates.good.key, client_ca = certificates.authority,
    version = version } }
end

local brief_connect, brief_try, brief_call = { connect_timeout = 0.1 }, { try_timeout = 0.2 }, { timeout = 0.2 }
local briefest_try = { try_timeout = 0.05 } -- where a request cannot get through in any time

check("on the way to the server", {
  { "nobody who listens", new = { endpoint = "http://127.0.0.1:1" },
    says = { "network", "ConnectFailed", "not_sent", true, 3 }, whole = 0 },
  { "a name that there is not", new = { endpoint = "https://nonexistent.invalid" },
    says = { "network", "DNSFailed", "not_sent", true, 3 }, whole = 0 },
  { "a handshake that is closed", server = tls, on_accept = { { act.close() } },
    says = { "network", "TLSFailed|ConnectFailed|ConnectionClosed", "not_sent", true, 3 }, whole = 0 },
  { "a handshake that is reset", server = tls, on_accept = { { act.reset() } },
    says = { "network", "TLSFailed|ConnectFailed|ConnectionClosed", "not_sent", true, 3 }, whole = 0 },
  { "something else than a handshake", server = tls, on_accept = { { act.send("SSH-2.0-Spec\r\n"), act.drain() } },
    says = { "network", "TLSFailed", "not_sent", true, 3 }, whole = 0 },
  { "a handshake that takes too long", server = tls, on_accept = { { act.wait("end") } }, new = brief_connect,
    says = { "timeout", "Timeout", "not_sent", true, 3 }, whole = 0 },
  { "a handshake that takes all the time there is", server = tls, on_accept = { { act.wait("end") } }, new = brief_call,
    says = { "timeout", "Timeout", "not_sent", true, 1 }, whole = 0 },
  { "handshakes that are closed, but for the last", { accept }, server = tls,
    on_accept = { { act.close() }, { act.close() }, {} }, says = { "receipt", 3 }, whole = 1 },
  { "a certificate that nobody trusted has signed", { accept }, server = { tls = certificates.untrusted },
    says = { "network", "CertificateFailed", "not_sent", false, 1 }, whole = 0 },
  { "somebody else's certificate", { accept }, server = { tls = certificates.wrong_host },
    says = { "network", "CertificateFailed", "not_sent", false, 1 }, whole = 0 },
  { "a server that wants to see a certificate, over TLS 1.2", { accept }, server = asking("TLSv1_2"),
    says = { "network", "TLSFailed", "not_sent", true, 3 }, whole = 0 },
  -- Here the client hears of it when it has sent the request already, if only into the kernel.
  -- nginx does not tell.
  not rawget(_G, "ngx") and {
    "a server that wants to see a certificate, over TLS 1.3", { accept }, server = asking("TLSv1_3"),
    says = { "network", "CertificateFailed", "not_sent|unknown", false, 1 }, whole = 0,
  } or nil,
})

check("at a proxy", {
  { "nobody who listens", proxied = "https://service.test", new = { proxy = "http://127.0.0.1:1" },
    says = { "network", "ProxyFailed|ConnectFailed", "not_sent", true, 3 }, whole = 0 },
  { "a name that there is not", proxied = "https://service.test", new = { proxy = "http://nonexistent.invalid" },
    says = { "network", "ProxyFailed|DNSFailed", "not_sent", true, 3 }, whole = 0 },
  { "a refusal: it wants a password", { { act.read(), act.answer { status = 407 } } },
    proxied = "https://service.test",
    says = { "network", "ProxyFailed", "not_sent", false, 1 }, whole = 0 },
  { "a refusal: it does not go there", { { act.read(), act.answer { status = 403 } } },
    proxied = "https://service.test",
    says = { "network", "ProxyFailed", "not_sent", false, 1 }, whole = 0 },
  { "a refusal: it has trouble", { { act.read(), act.answer { status = 503 } } }, proxied = "https://service.test",
    says = { "network", "ProxyFailed", "not_sent", true, 3 }, whole = 0 },
  { "no word but its end", { { act.read(), act.close() } }, proxied = "https://service.test",
    says = { "network", "ProxyFailed|ConnectFailed|ConnectionClosed", "not_sent", true, 3 }, whole = 0 },
  { "silence", { silence }, proxied = "https://service.test", new = brief_connect,
    says = { "timeout", "Timeout", "not_sent", true, 3 }, whole = 0 },
  -- Without TLS the proxy gets the message itself, and who wrote its answer cannot be told.
  { "a refusal of plain http: it wants a password", { { act.read(), act.answer { status = 407 } } },
    proxied = "http://service.test", says = { "response", "BadAnswer", "unknown", false, 1 }, whole = 1 },
  { "a refusal of plain http: it has trouble", { page }, proxied = "http://service.test",
    says = { "response", "BadAnswer", "unknown", false, 1 }, whole = 1 },
})

check("before its request is read", {
  { "the end", { { act.read_head(), act.close() } }, send = send_big, server = narrow,
    says = { "network", "ConnectionClosed|SendFailed", "not_sent", true, 3 }, whole = 0 },
  { "a reset", { { act.read_head(), act.reset() } }, send = send_big, server = narrow,
    says = { "network", "ConnectionClosed|SendFailed", "not_sent", true, 3 }, whole = 0 },
  { "silence", { { act.read_head(), act.wait("end"), act.close() } }, send = send_big, server = narrow,
    new = briefest_try, says = { "timeout", "Timeout", "not_sent", true, 3 }, whole = 0 },
  -- The kernel has it all, and the server gets it when nobody waits for an answer any more.
  { "silence, with all of it on its way", { accept }, on_accept = { { act.wait("end") } }, new = brief_try,
    says = { "timeout", "Timeout", "unknown", false, 1 }, whole = 1 },
})

check("in the middle of its request", {
  { "the end", { cut_short }, send = send_big, server = narrow,
    says = { "network", "ConnectionClosed|SendFailed", "not_sent", true, 3 }, whole = 0 },
  { "a reset", { { act.read_body(100000), act.reset() } }, send = send_big, server = narrow,
    says = { "network", "ConnectionClosed|SendFailed", "not_sent", true, 3 }, whole = 0 },
  { "the end, over TLS", { cut_short }, send = send_big, server = { tls = certificates.good, receive_buffer = 65536 },
    says = { "network", "ConnectionClosed|SendFailed", "not_sent", true, 3 }, whole = 0 },
  { "silence", { { act.read_body(100000), act.wait("end"), act.close() } }, send = send_big, server = narrow,
    new = briefest_try, says = { "timeout", "Timeout", "not_sent", true, 3 }, whole = 0 },
  { "silence until there is no time", { { act.read_body(100000), act.wait("end"), act.close() } }, send = send_big,
    server = narrow, new = brief_call, says = { "timeout", "Timeout", "not_sent", true, 1 }, whole = 0 },
  { "garbage", { early(act.send("garbage, for once\r\n\r\n")) }, send = send_big, server = narrow,
    says = { "response", "BadAnswer", "not_sent", true, 3 }, whole = 0 },
  { "an unreadable answer: too large", { early(act.answer { status = 413, body = "<html>" }) }, send = send_big,
    server = narrow, says = { "response", "BadAnswer", "not_sent", false, 1 }, whole = 0 },
  { "an unreadable answer: too slow", { early(act.answer { status = 408, body = "<html>" }) }, send = send_big,
    server = narrow, says = { "response", "BadAnswer", "not_sent", true, 3 }, whole = 0 },
  { "an unreadable answer: trouble", { early(act.answer { status = 503, body = "<html>" }) }, send = send_big,
    server = narrow, says = { "response", "BadAnswer", "not_sent", true, 3 }, whole = 0 },
  { "a code that refuses", { early(answer(401, "InvalidAccessKey")) }, send = send_big, server = narrow,
    says = { "gateway", "InvalidAccessKey", "not_sent", false, 1 }, whole = 0 },
  { "a code that throttles", { early(answer(429, "FlowLimitExceeded")) }, send = send_big, server = narrow,
    says = { "gateway", "FlowLimitExceeded", "not_sent", true, 3 }, whole = 0 },
  { "a code that nobody knows, with HTTP 413", { early(answer(413, "TooLarge")) }, send = send_big, server = narrow,
    says = { "service", "TooLarge", "not_sent", false, 1 }, whole = 0 },
  { "a code that tells of trouble", { early(answer(500, "InternalError")) }, send = send_big, server = narrow,
    says = { "gateway", "InternalError", "not_sent", true, 3 }, whole = 0 },
})

check("after its request was read", {
  { "the end", { break_off }, says = { "network", "ConnectionClosed", "unknown", false, 1 }, whole = 1 },
  { "a reset", { { act.read(), act.reset() } }, says = { "network", "ConnectionClosed", "unknown", false, 1 },
    whole = 1 },
  { "the end, over TLS", { break_off }, server = tls,
    says = { "network", "ConnectionClosed", "unknown", false, 1 }, whole = 1 },
  { "the end, when it was a large one", { break_off }, send = send_big, server = narrow,
    says = { "network", "ConnectionClosed", "unknown", false, 1 }, whole = 1 },
  { "silence", { silence }, new = brief_try,
    says = { "timeout", "Timeout", "unknown", false, 1 }, whole = 1 },
  { "silence until there is no time", { silence }, new = brief_call,
    says = { "timeout", "Timeout", "unknown", false, 1 }, whole = 1 },
})

local half = act.answer { body = '{"ResponseMetadata":', length = 100 }

check("in the answer", {
  { "its end in the status line", { { act.read(), act.send("HTTP/1.1 20"), act.close() } },
    says = { "response|network", "BadAnswer|ConnectionClosed", "unknown", false, 1 }, whole = 1 },
  { "its end in the headers", { { act.read(), act.send("HTTP/1.1 200 OK\r\nContent-Le"), act.close() } },
    says = { "response|network", "BadAnswer|ConnectionClosed", "unknown", false, 1 }, whole = 1 },
  { "its end in the body", { { act.read(), half, act.close() } },
    says = { "network", "ConnectionClosed", "unknown", false, 1 }, whole = 1 },
  { "a reset in the body", { { act.read(), half, act.reset() } },
    says = { "network", "ConnectionClosed", "unknown", false, 1 }, whole = 1 },
  { "silence in the body", { { act.read(), half, act.wait("end"), act.close() } }, new = brief_try,
    says = { "timeout", "Timeout", "unknown", false, 1 }, whole = 1 },
  { "only that it shall go on", { { act.read(), act.send("HTTP/1.1 100 Continue\r\n\r\n"), act.close() } },
    says = { "network", "ConnectionClosed", "unknown", false, 1 }, whole = 1 },
  { "garbage", { { act.read(), act.send("garbage, for once\r\n\r\n"), act.close() } },
    says = { "response", "BadAnswer", "unknown", false, 1 }, whole = 1 },
  { "a proxy's page", { page }, says = { "response", "BadAnswer", "unknown", false, 1 }, whole = 1 },
  { "nothing, with HTTP 200", { { act.read(), act.answer { body = "" } } },
    says = { "response", "BadAnswer", "unknown", false, 1 }, whole = 1 },
  { "nothing, with HTTP 429", { { act.read(), act.answer { status = 429, body = "" } } },
    says = { "response", "BadAnswer", "unknown", false, 1 }, whole = 1 },
  { "JSON of something else", { { act.read(), act.answer { body = '{"ok":true}' } } },
    says = { "response", "BadAnswer", "unknown", false, 1 }, whole = 1 },
  { "a redirect", { { act.read(), act.answer { status = 307, headers = { { "Location", "/" } } } } },
    says = { "response", "BadAnswer", "unknown", false, 1 }, whole = 1 },
  { "more than it takes", { { act.read(), act.answer { body = ("x"):rep(1001) } } }, new = { max_response = 1000 },
    says = { "response", "AnswerTooLarge", "unknown", false, 1 }, whole = 1 },
})

--- Refuses a request for its time, and says which one it is.
local function refuse_time(date)
  local step = { act.read(), act.answer { status = 400, body = envelope("InvalidTimestamp"),
    headers = { { "Date", date } } } }
  is_refusal[step] = true
  return step
end

local stale = refuse_time("Thu, 02 Jan 2025 03:04:05 GMT")

check("as the answer", {
  { "a success", { accept }, says = { "receipt", 1 }, whole = 1 },
  { "a refusal by the gateway", { deny }, says = { "gateway", "InvalidAccessKey", "rejected", false, 1 }, whole = 1 },
  { "a refusal by the service, with HTTP 200", { refuse(200, "InvalidParameter.IllegalTo") },
    says = { "service", "InvalidParameter.IllegalTo", "rejected", false, 1 }, whole = 1 },
  { "the gateway's limit", { throttle }, says = { "gateway", "FlowLimitExceeded", "rejected", true, 3 }, whole = 3 },
  { "the service's limit, with HTTP 200", { refuse(200, "FlowLimitExceeded.QPSOverLimit") },
    says = { "service", "FlowLimitExceeded.QPSOverLimit", "rejected", true, 3 }, whole = 3 },
  { "an error of the gateway's own", { { act.read(), answer(500, "InternalError") } },
    says = { "gateway", "InternalError", "unknown", false, 1 }, whole = 1 },
  { "a gateway that cannot reach the service", { { act.read(), answer(502, "FailToConnect") } },
    says = { "gateway", "FailToConnect", "unknown", false, 1 }, whole = 1 },
  { "a service that is away for now", { { act.read(), answer(503, "ServiceUnavailableTemp") } },
    says = { "gateway", "ServiceUnavailableTemp", "unknown", false, 1 }, whole = 1 },
  { "a code that nobody knows", { { act.read(), answer(400, "NeverHeard.OfIt") } },
    says = { "service", "NeverHeard.OfIt", "unknown", false, 1 }, whole = 1 },
  { "a code that nobody knows, with HTTP 429", { { act.read(), answer(429, "NeverHeard.OfIt") } },
    says = { "service", "NeverHeard.OfIt", "unknown", false, 1 }, whole = 1 },
  { "that its time is wrong", { refuse(400, "InvalidTimestamp") },
    says = { "gateway", "InvalidTimestamp", "rejected", false, 1 }, whole = 1 },
  { "that its time is wrong, and the right one, always", { stale },
    says = { "gateway", "InvalidTimestamp", "rejected", false, 2 }, whole = 2 },
  { "that its time is wrong, and always another right one",
    { stale, refuse_time("Fri, 03 Jan 2025 03:04:05 GMT"), refuse_time("Sat, 04 Jan 2025 03:04:05 GMT") },
    says = { "gateway", "InvalidTimestamp", "rejected", false, 2 }, whole = 2 },
  { "that its time is wrong, and the right one, once", { stale, accept }, says = { "receipt", 2 }, whole = 2 },
})

check("one after the other", {
  { "the limit, then a success", { throttle, accept }, says = { "receipt", 2 }, whole = 2 },
  { "the limit twice, then a success", { throttle, throttle, accept }, says = { "receipt", 3 }, whole = 3 },
  { "the limit, then a refusal", { throttle, deny },
    says = { "gateway", "InvalidAccessKey", "rejected", false, 2 }, whole = 2 },
  { "the limit, then the end", { throttle, break_off },
    says = { "network", "ConnectionClosed", "unknown", false, 2 }, whole = 2 },
  { "the limit, then a proxy's page", { throttle, page },
    says = { "response", "BadAnswer", "unknown", false, 2 }, whole = 2 },
  { "the limit, then silence until there is no time", { throttle, silence },
    new = { timeout = 0.5 }, says = { "timeout", "Timeout", "unknown", false, 2 }, whole = 2 },
  { "the limit, then that its time is wrong, then a success", { throttle, stale, accept },
    says = { "receipt", 3 }, whole = 3 },
  { "the limit, then too short a request", { throttle, cut_short }, send = send_big, server = narrow,
    says = { "network", "ConnectionClosed|SendFailed", "rejected", true, 3 }, whole = 1 },
  { "too short a request, then a success", { cut_short, accept }, send = send_big, server = narrow,
    says = { "receipt", 2 }, whole = 1 },
  { "too short a request, then a refusal", { cut_short, deny }, send = send_big, server = narrow,
    says = { "gateway", "InvalidAccessKey", "rejected", false, 2 }, whole = 1 },
  { "too short a request, then the limit", { cut_short, throttle }, send = send_big, server = narrow,
    says = { "gateway", "FlowLimitExceeded", "rejected", true, 3 }, whole = 2 },
  { "too short a request, then the end", { cut_short, break_off }, send = send_big, server = narrow,
    says = { "network", "ConnectionClosed", "unknown", false, 2 }, whole = 1 },
  { "a broken handshake, then a refusal", { deny }, server = tls, on_accept = { { act.close() }, {} },
    says = { "gateway", "InvalidAccessKey", "rejected", false, 2 }, whole = 1 },
  { "a broken handshake, then the end", { break_off }, server = tls, on_accept = { { act.close() }, {} },
    says = { "network", "ConnectionClosed", "unknown", false, 2 }, whole = 1 },
})

check("one after the other, when rather twice than never was asked for", {
  { "the end, always", { break_off }, new = { retry = rather_twice },
    says = { "network", "ConnectionClosed", "unknown", false, 3 }, whole = 3 },
  { "silence, always", { silence }, new = { retry = rather_twice, try_timeout = 0.2 },
    says = { "timeout", "Timeout", "unknown", false, 3 }, whole = 3 },
  { "a success", { accept }, new = { retry = rather_twice }, says = { "receipt", 1 }, whole = 1 },
  { "the limit, then a success", { throttle, accept }, new = { retry = rather_twice },
    says = { "receipt", 2 }, whole = 2 },
  { "the end, then a success", { break_off, accept }, new = { retry = rather_twice },
    says = { "receipt", 2, true }, whole = 2 },
  { "a proxy's page, then a success", { page, accept }, new = { retry = rather_twice },
    says = { "receipt", 2, true }, whole = 2 },
  { "the end, the limit, then a success", { break_off, throttle, accept }, new = { retry = rather_twice },
    says = { "receipt", 3, true }, whole = 3 },
  { "the end, then the limit", { break_off, throttle }, new = { retry = rather_twice },
    says = { "gateway", "FlowLimitExceeded", "unknown", false, 3 }, whole = 3 },
  { "the end, then a refusal", { break_off, deny }, new = { retry = rather_twice },
    says = { "gateway", "InvalidAccessKey", "unknown", false, 2 }, whole = 2 },
  { "the end, then too short a request", { break_off, cut_short }, send = send_big, server = narrow,
    new = { retry = rather_twice },
    says = { "network", "ConnectionClosed|SendFailed", "unknown", false, 3 }, whole = 1 },
  { "the end, then that its time is wrong", { break_off, stale }, new = { retry = rather_twice },
    says = { "gateway", "InvalidTimestamp", "unknown", false, 3 }, whole = 3 },
  { "a code that nobody knows, which says that it is the request's fault",
    { { act.read(), answer(400, "NeverHeard.OfIt") } }, new = { retry = rather_twice },
    says = { "service", "NeverHeard.OfIt", "unknown", false, 1 }, whole = 1 },
})

check("when it only reads", {
  { "the end, always", { break_off }, send = read_users, harmless = true,
    says = { "network", "ConnectionClosed", "unknown", true, 3 }, whole = 3 },
  { "the end, then a success", { break_off, accept }, send = read_users, harmless = true,
    says = { "receipt", 2 }, whole = 2 },
})

describe("a message on a connection used before", function()
  local server, client

  before_each(function()
    server = fault_server.start()
    client = open({}, server)
    server:script(accept)
    assert(client:send_room_unicast(message))
    server:await(function(state) return state.idle == 1 end)
  end)

  after_each(fault_server.stop_all)

  --- The message's fate is unknown, and the server has it once, on the connection that it knew.
  local function unknown_after(...)
    server:script({ ... }, accept)
    local _, err = client:send_room_unicast(message)
    assert.same({ "network", "ConnectionClosed", "unknown", false, 1 },
      { err.kind, err.code, err.outcome, err.retryable, err.attempts })
    server:await(function(state) return state.open == 0 end)
  end

  for name, ending in pairs { ["is closed"] = act.close(), ["is reset"] = act.reset() } do
    it("that " .. name .. " when it was read was received once", function()
      unknown_after(act.read(), ending)
      local requests = server:requests()
      assert.equal(2, #requests)
      assert.same({ true, 1 }, { requests[2].complete, requests[2].connection })
    end)

    it("that " .. name .. " when all of it had come may have been received", function()
      local first = server:requests()[1]
      unknown_after(act.unread(#first.head + #first.body), ending)
      assert.equal(1, server:state().requests)
    end)

    it("that " .. name .. " before, while it was idle, goes over another", function()
      assert.equal(1, server:idle(ending))
      server:await(function(state) return state.open == 0 end)
      server:script(accept)
      local receipt = assert(client:send_room_unicast(message))
      assert.same({ 1, nil }, { receipt.attempts, receipt.possible_duplicate })
      assert.same({ 2, 2 }, { server:state().complete, server:state().connections })
    end)
  end
end)
