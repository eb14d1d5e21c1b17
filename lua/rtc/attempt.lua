--- One try of a call: signed, sent by the runtime, and judged by what came back.

local answer = require "rtc.answer"
local api = require "rtc.api"
local environment = require "rtc.environment"
local errors = require "rtc.error"
local receipts = require "rtc.receipt"
local retry = require "rtc.retry"
local text = require "rtc.text"

require "rtc.interpreted" ()

local attempt = {}

local json_headers = { { "Content-Type", "application/json" } }

--- What the signer needs to know of a call.
---@param client rtc.Client
---@param call rtc.Call
---@param time integer  Unix seconds
---@return rtc.Signer.Request
function attempt.signing_request(client, call, time)
  local query = { { "Action", call.action }, { "Version", call.version } }
  for _, pair in ipairs(call.query or {}) do
    query[#query + 1] = pair
  end
  return {
    method = call.method, host = client.endpoint.host_header, path = "/", query = query,
    headers = call.body and json_headers or nil, body = call.body, time = time,
  }
end

--- Where a call goes.
---@param client rtc.Client
---@param query string  as it was signed
---@return string
function attempt.url(client, query)
  return client.endpoint.url .. "/?" .. query
end

--- What the runtime needs to know of a try.
---@return rtc.Request
local function http_request(client, call, signed, left)
  local headers = { { "User-Agent", client.user_agent } } -- unsigned: proxies may change it
  for name, value in pairs(signed.headers) do
    headers[#headers + 1] = { name, value }
  end
  return {
    url = attempt.url(client, signed.query), method = call.method, headers = headers, body = call.body,
    timeout = math.max(left, 0.001), try_timeout = client.try_timeout, connect_timeout = client.connect_timeout,
    max_response = client.max_response,
    proxy = client.endpoint.loopback and "" or nil, -- what is on this machine never goes through one
  }
end

local may_be_the_proxy = { ConnectFailed = true, ProxyFailed = true, DNSFailed = true }

--- What to do about a try without an answer, where that can be told.
local function advise(client, failure)
  local target, code = client.endpoint, failure.code
  if failure.proxy_status == 407 then
    return "The proxy wants a name and a password: write them in its URL, http://name:password@host:port."
  elseif target.sandbox and code == "ConnectFailed" then
    return ("Start the sandbox in another terminal: rtc sandbox --port %d"):format(target.port)
  elseif target.loopback and code == "TLSFailed" then
    return ("If plain http is spoken there, write http://%s:%d"):format(target.host, target.port)
  elseif code == "CertificateFailed" then
    return "Whom to trust is said by ca_file and ca_path (a proxy that looks into TLS has an authority of its own), "
      .. "and what to show to the server by cert_file and key_file."
  elseif target.loopback or not may_be_the_proxy[code] then
    return nil
  elseif client.proxied then
    return "The option proxy names a proxy: check it."
  end
  local variable = environment.proxy(target.scheme)
  return variable
    and ("The environment's %s names a proxy: check it, or add this host to no_proxy."):format(variable) or nil
end

--- Whether an answer with this status says that it may go better later.
local function may_pass(status)
  return status >= 500 or status == 429 or status == 408
end

--- A proxy that says no will say so again; of what it calls its own trouble, or too much, another try may know better.
local function is_final(failure)
  local status = failure.proxy_status
  return failure.kind == "cancelled" or failure.code == "CertificateFailed"
    or status and status >= 300 and not may_pass(status)
end

--- A try without an answer. `sent` is whether the kernel took the request's last byte: a body cut short cannot
--- match its signed hash, so then nobody can have accepted it.
local function no_answer(client, failure)
  if failure.outcome then
    return failure -- an error of the C core already: the engine did not take the request
  end
  local not_sent = not failure.sent
  return errors.new {
    kind = failure.kind, code = failure.code,
    message = failure.kind == "cancelled" and "the client was closed while it was on its way" or failure.message,
    advice = failure.advice or advise(client, failure), outcome = not_sent and "not_sent" or "unknown",
    retryable = not_sent and not is_final(failure),
  }
end

--- An answer that is not the service's envelope: who wrote it, and what became of the request, is not known.
local function bad_answer(exchange, message)
  local status = exchange.status
  return errors.new {
    kind = "response", code = "BadAnswer", message = message, http_status = status,
    request_id = answer.request_id(exchange),
    outcome = exchange.sent and "unknown" or "not_sent",
    retryable = not exchange.sent and may_pass(status),
    advice = "Something else than the service may have answered: check the endpoint, and proxies on the way.",
  }
end

--- The service's own error.
local function refusal(exchange, read)
  local fault = read.fault
  local known = api.lookup(fault.code, fault.code_n)
  local outcome = "unknown"
  if not exchange.sent then
    outcome = "not_sent"
  elseif known.refused then
    outcome = "rejected"
  end
  return errors.new {
    kind = known.kind, code = fault.code, code_n = fault.code_n, message = fault.message, advice = known.advice,
    http_status = exchange.status, request_id = read.request_id,
    outcome = outcome,
    retryable = known.throttled or outcome == "not_sent" and not known.refused and may_pass(exchange.status),
  }
end

--- What an answer means.
---@return rtc.Receipt|nil
---@return rtc.Error|nil
local function judge(client, call, exchange)
  local read, problem = answer.read(exchange)
  local err
  if not read then
    err = bad_answer(exchange, problem)
  elseif read.fault then
    err = refusal(exchange, read)
  else
    local receipt = {
      request_id = read.request_id, action = call.action,
      version = read.version or call.version, region = read.region or client.region,
      http_status = exchange.status, elapsed = exchange.elapsed, message = read.message,
    }
    if call.wants_result then
      receipt.result, receipt.body = read.result, exchange.body
    end
    return receipts.new(receipt)
  end
  err.retry_after = retry.read_after(exchange.headers["retry-after"], client.clock:now())
  return nil, err
end

local from_outside = { "message", "code", "class", "request_id", "version", "region" }

--- Takes what was secret among what was sent out of a receipt or an error. The secret key never leaves this machine,
--- but an answer can repeat the token and the signature, and what a proxy was told.
local function conceal(client, told, sent)
  local signature = sent.Authorization:match("Signature=(%x+)")
  for _, name in ipairs(from_outside) do
    local value = told[name]
    told[name] = value and client.hide_proxy(text.without(text.without(value, sent["X-Security-Token"]), signature))
  end
end

--- Makes one try.
---@param client rtc.Client
---@param call rtc.Call
---@param signer rtc.Signer
---@param number integer  which of the call
---@param left number  seconds that the call may still take
---@return rtc.Receipt|nil receipt
---@return rtc.Error|nil err  of this try alone
---@return rtc.Exchange|nil exchange  what came of the request, answered or not; nil when it could not be signed
function attempt.make(client, call, signer, number, left)
  local signed, wrong = signer:sign(attempt.signing_request(client, call, client.clock:now()))
  if not signed then
    return nil, wrong
  end
  local request = http_request(client, call, signed, left)
  if client.events:has("request") then
    client.events:emit("request", {
      action = call.action, version = call.version, method = call.method, url = request.url, attempt = number,
      bytes = #(call.body or ""),
    })
  end
  local exchange, failure = client.runtime.request(request)
  local receipt, err
  if exchange then
    receipt, err = judge(client, call, exchange)
  else
    err = no_answer(client, failure)
  end
  conceal(client, receipt or err, signed.headers)
  return receipt, err, exchange or failure
end

--- Opens a connection that is then kept: by a request that asks for nothing.
---@param client rtc.Client
---@return rtc.Error|nil err  when none could be opened
function attempt.connect(client)
  local exchange, failure = client.runtime.request {
    url = client.endpoint.url .. "/", method = "HEAD",
    headers = { { "Host", client.endpoint.host_header }, { "User-Agent", client.user_agent } },
    timeout = client.timeout, try_timeout = client.try_timeout, connect_timeout = client.connect_timeout,
    max_response = client.max_response, proxy = client.endpoint.loopback and "" or nil, fresh = true,
  }
  if not exchange then
    local err = no_answer(client, failure)
    err.outcome = "not_sent" -- there is no message that it could have delivered
    return err
  end
  client.counters:count_connection(exchange)
end

return attempt
