--- The straight line of one call: check, sign, send, read the answer.
---
--- How to wait is the runtime's business: `runtime.request` may yield, and nothing here minds.

local answer = require "rtc.answer"
local api = require "rtc.api"
local environment = require "rtc.environment"
local errors = require "rtc.error"
local fields = require "rtc.fields"
local options = require "rtc.options"
local suggest = require "rtc.suggest"
local text = require "rtc.text"

local client = {}

---@class rtc.Client
---@field endpoint rtc.Endpoint
---@field region string
---@field version string  of the API; default of each call
---@field defaults { app_id: string|nil, from: string|nil }  of each call
---@field timeout number  seconds for a whole call; default of each call
---@field try_timeout number  seconds for one try
---@field connect_timeout number  seconds to connect
---@field max_response integer  bytes of an answer's body
---@field user_agent string
---@field access_key string  masked, for printing
---@field signer rtc.Signer  has the keys, and does not give them away
---@field runtime rtc.Runtime
local methods = {}
local client_mt = { __index = methods, __name = "rtc.client" }

function client_mt:__tostring()
  return ("rtc.client(%s, access key %s)"):format(self.endpoint.url, self.access_key)
end

---@class rtc.Receipt  the service accepted the message; whether anyone got it, it does not say
---@field request_id string|nil
---@field action string
---@field version string
---@field region string
---@field http_status integer
---@field attempts integer  tries made
---@field elapsed number  seconds, for the whole call
---@field message string|nil  the service's own word: "Success"
local receipt_mt = { __name = "rtc.receipt" }

function receipt_mt:__tostring()
  return ("%s: accepted in %.0f ms (HTTP %d, %s%s%s)"):format(self.action, self.elapsed * 1000, self.http_status,
    text.printable(self.region), self.attempts > 1 and (", %d tries"):format(self.attempts) or "",
    self.request_id and ", request " .. text.printable(self.request_id) or "")
end

--- What a call of an action may hold: its fields, then the settings of the call.
local names_of, known_of = {}, {}
for name, action in pairs(api.actions) do
  local names, known = {}, {}
  for _, field in ipairs(action.fields) do
    names[#names + 1] = field.name
  end
  for _, setting in ipairs(options.names(options.call)) do
    names[#names + 1] = setting
  end
  for _, known_name in ipairs(names) do
    known[known_name] = true
  end
  names_of[name], known_of[name] = names, known
end

---@class rtc.Call  one call, checked and encoded
---@field action string
---@field version string
---@field timeout number  seconds
---@field body string

--- Checks a call and writes its body. Whatever is wrong with it, nothing is raised and nothing is sent.
---@return rtc.Call|nil
---@return rtc.Error|nil
local function prepare(self, action, given)
  if type(given) ~= "table" then
    return nil, errors.argument(("the fields must be a table, not %s: { room_id = …, to = …, message = … }")
      :format(given == nil and "nothing" or "a " .. type(given)), nil, action)
  end
  local known = known_of[action]
  for name in pairs(given) do
    if not known[name] then
      local shown = text.name(name)
      return nil, errors.argument(("unknown field `%s`: %s"):format(shown, suggest.hint(name, names_of[action])),
        shown, action)
    end
  end
  local call, problem, name = options.values(options.call, given)
  if not call then
    return nil, errors.argument(problem, name, action)
  end
  local body, wrong, field = fields.encode(api.actions[action], given, self.defaults)
  if not body then
    return nil, errors.argument(wrong, field, action)
  end
  call.action, call.body = action, body
  call.version, call.timeout = call.version or self.version, call.timeout or self.timeout
  return call
end

--- What the signer needs to know of a call.
---@return rtc.Signer.Request
local function signing_request(self, call, time)
  return {
    method = "POST", host = self.endpoint.host_header, path = "/",
    query = { { "Action", call.action }, { "Version", call.version } },
    headers = { { "Content-Type", "application/json" } },
    body = call.body, time = time,
  }
end

local function url(self, query)
  return self.endpoint.url .. "/?" .. query
end

--- What the runtime needs to know of a try.
---@return rtc.Request
local function http_request(self, call, signed)
  local headers = { { "User-Agent", self.user_agent } } -- unsigned: proxies may change it
  for name, value in pairs(signed.headers) do
    headers[#headers + 1] = { name, value }
  end
  return {
    url = url(self, signed.query), method = "POST", headers = headers, body = call.body,
    timeout = call.timeout, try_timeout = self.try_timeout, connect_timeout = self.connect_timeout,
    max_response = self.max_response,
    proxy = self.endpoint.loopback and "" or nil, -- what is on this machine never goes through a proxy
  }
end

local may_be_the_proxy = { ConnectFailed = true, ProxyFailed = true, DNSFailed = true }

--- What to do about a try without an answer, where that can be told.
local function advise(target, code)
  local variable = not target.loopback and may_be_the_proxy[code] and environment.proxy(target.scheme)
  if target.sandbox and code == "ConnectFailed" then
    return ("Start the sandbox in another terminal: rtc sandbox --port %d"):format(target.port)
  elseif target.loopback and code == "TLSFailed" then
    return ("If plain http is spoken there, write http://%s:%d"):format(target.host, target.port)
  elseif variable then
    return ("The environment's %s names a proxy: check it, or add this host to no_proxy."):format(variable)
  end
end

--- A try without an answer. `sent` is whether the kernel took the request's last byte: a body cut short cannot
--- match its signed hash, so then nobody can have accepted it.
local function no_answer(self, failure)
  if failure.outcome then
    return failure -- an error of the C core already: the engine did not take the request
  end
  local not_sent = not failure.sent
  return errors.new {
    kind = failure.kind, code = failure.code, message = failure.message, attempts = 1,
    advice = advise(self.endpoint, failure.code), outcome = not_sent and "not_sent" or "unknown",
    retryable = not_sent and failure.kind ~= "cancelled",
  }
end

--- An answer that is not the service's envelope: who wrote it, and what became of the request, is not known.
local function bad_answer(exchange, message)
  local status = exchange.status
  return errors.new {
    kind = "response", code = "BadAnswer", message = message, http_status = status,
    request_id = answer.request_id(exchange), attempts = 1,
    outcome = exchange.sent and "unknown" or "not_sent",
    retryable = not exchange.sent and (status >= 500 or status == 429 or status == 408),
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
    http_status = exchange.status, request_id = read.request_id, attempts = 1,
    outcome = outcome, retryable = known.throttled or outcome == "not_sent" and not known.refused,
  }
end

--- What an answer means.
---@return rtc.Receipt|nil
---@return rtc.Error|nil
local function judge(self, call, exchange)
  local read, problem = answer.read(exchange)
  if not read then
    return nil, bad_answer(exchange, problem)
  elseif read.fault then
    return nil, refusal(exchange, read)
  end
  return setmetatable({
    request_id = read.request_id, action = call.action,
    version = read.version or call.version, region = read.region or self.region,
    http_status = exchange.status, attempts = 1, message = read.message,
  }, receipt_mt)
end

local from_outside = { "message", "code", "class", "request_id", "version", "region" }

--- Takes what was secret among the sent headers out of a receipt or an error. The secret key never leaves this machine,
--- but an answer can repeat the token and the signature.
local function conceal(told, sent)
  local signature = sent.Authorization:match("Signature=(%x+)")
  for _, name in ipairs(from_outside) do
    local value = told[name]
    told[name] = value and text.without(text.without(value, sent["X-Security-Token"]), signature)
  end
end

--- One try: signed, sent, judged.
---@return rtc.Receipt|nil
---@return rtc.Error|nil
local function try(self, call)
  local signed, wrong = self.signer:sign(signing_request(self, call))
  if not signed then
    return nil, wrong
  end
  local exchange, failure = self.runtime.request(http_request(self, call, signed))
  local receipt, err
  if exchange then
    receipt, err = judge(self, call, exchange)
  else
    err = no_answer(self, failure)
  end
  conceal(receipt or err, signed.headers)
  return receipt, err
end

---@return rtc.Receipt|nil
---@return rtc.Error|nil
local function send(self, action, given)
  local call, wrong = prepare(self, action, given)
  if not call then
    return nil, wrong
  end
  local started = self.runtime.now()
  local receipt, err = try(self, call)
  if not receipt then
    return nil, errors.adopt(err, action)
  end
  receipt.elapsed = self.runtime.now() - started
  return receipt
end

--- `client.send…{}` for `client:send…{}` is a slip in the code and not in the data: it raises, at the caller's line.
local function check_self(self, method)
  if getmetatable(self) ~= client_mt then
    error(("call it with a colon: client:%s(…)"):format(method), 3)
  end
end

---@class rtc.SendRoomUnicast
---@field app_id string|number|nil  default: the client's
---@field room_id string|number  the room that the receiver is in
---@field from string|number|nil  the sender's ID, which no real user has; default: the client's
---@field to string|number  the receiver's user ID
---@field message string  text in UTF-8, or with `binary` any bytes; at most 65,536 bytes
---@field binary boolean|nil  default false
---@field version string|nil  of the API; default: the client's
---@field timeout number|nil  seconds for the whole call; default: the client's

--- Sends a message to one user in a room: their app fires `onUserMessageReceived`, or
--- `onUserBinaryMessageReceived` for a binary message. Never raises for a field's value.
---@param given rtc.SendRoomUnicast
---@return rtc.Receipt|nil receipt  the service accepted the message
---@return rtc.Error|nil err  `err.outcome` says whether it may have been delivered all the same
function methods:send_room_unicast(given)
  check_self(self, "send_room_unicast")
  return send(self, "SendRoomUnicast", given)
end

--- Shows how a call would be signed. Sends nothing.
---@param action string  "SendRoomUnicast"
---@param given table  the call's fields
---@param time integer|nil  Unix seconds; default now
---@return table|nil explanation  rtc.Signer.Explanation with `url`, `body` and `headers` (name -> value to send;
--- Authorization among them, and with temporary keys the session token)
---@return rtc.Error|nil
function methods:explain(action, given, time)
  check_self(self, "explain")
  if not api.actions[action] then
    local names = {}
    for name in pairs(api.actions) do
      names[#names + 1] = name
    end
    table.sort(names)
    return nil, errors.argument(("unknown action `%s`: %s"):format(text.name(action),
      suggest.hint(action, names)), "action")
  end
  local call, wrong = prepare(self, action, given)
  if not call then
    return nil, wrong
  end
  local request = signing_request(self, call, time or os.time())
  local signed, refused = self.signer:sign(request)
  if not signed then
    return nil, errors.adopt(refused, action)
  end
  local explanation = self.signer:explain(request)
  explanation.url, explanation.body, explanation.headers = url(self, signed.query), call.body, signed.headers
  return explanation
end

--- Makes a client of what `rtc.new` has checked.
---@param parts table  endpoint, signer, access_key (masked), region, defaults, version, timeouts, runtime …
---@return rtc.Client
function client.new(parts)
  return setmetatable(parts, client_mt)
end

return client
