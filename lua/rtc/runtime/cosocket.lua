--- One HTTP exchange over nginx's own sockets: the C core signs and frames the bytes, and a cosocket moves them.

local core = require("rtc.native").load("rtc.core")
local route = require "rtc.runtime.route"

local cosocket = {}

--- Bytes that are read at once: more than an answer's head may have, so that what comes behind one is seen.
local PIECE = 131072
--- Seconds that nginx's timers can take.
local LONGEST = 1000000
--- Seconds between two looks at whether the client was closed. At each one nginx logs an error (the read timed out),
--- unless lua_socket_log_errors is off: most answers must come earlier.
local LOOK = 1
--- Seconds for what a server may have said before it had read everything.
local EARLY = 0.05
--- Bytes of a request that the kernel takes at once: the answer to a longer one is looked for while it is sent.
local AT_ONCE = 16384
--- Seconds between two such pieces, in which nginx reads what came. ngx.sleep(0) is no pause where nginx lacks
--- OpenResty's patch, as Debian's does, and logs a warning.
local TURN = 0.001
--- Exchanges that may wait for a connection: more than a client takes (max_pending).
local BACKLOG = 1000000

local TRUST = "Whom nginx trusts is said in nginx.conf by `lua_ssl_trusted_certificate` (Debian's store: "
  .. "/etc/ssl/certs/ca-certificates.crt), and how long a chain may be by `lua_ssl_verify_depth` (default 1; 3 does)."
local RESOLVER = "nginx asks the servers that the directive `resolver` names in nginx.conf, as in `resolver 8.8.8.8;`."

---@class rtc.Cosocket.Exchange  an exchange that goes on
---@field began number
---@field route rtc.Route
---@field socket table|nil
---@field limits { due: number, seconds: number, name: string }[]
---@field result rtc.Exchange

local function failure(kind, code, message, advice)
  return { kind = kind, code = code, message = message, advice = advice }
end

local function limit(now, seconds, name)
  return { due = now + seconds, seconds = seconds, name = name }
end

local function first_limit(x)
  local first = x.limits[1]
  for _, other in ipairs(x.limits) do
    first = other.due < first.due and other or first
  end
  return first
end

--- nginx takes no more than 31 bits, and 0 for its own default.
local function milliseconds(seconds)
  return math.max(1, math.ceil(math.min(seconds, LONGEST) * 1000))
end

--- Gives the socket the time that is left, and at most so much of it for one read.
local function set_timeouts(x, most)
  local left = first_limit(x).due - core.now()
  x.socket:settimeouts(milliseconds(left), milliseconds(left), milliseconds(math.min(left, most or left)))
end

local function timed_out(x, doing)
  local passed = first_limit(x)
  return failure("timeout", "Timeout", ("timed out after %g seconds (%s) while %s"):format(
    math.floor(passed.seconds * 1000 + 0.5) / 1000, passed.name, doing))
end

local function connect_failed(x, problem)
  if problem == "timeout" then
    return timed_out(x, "connecting")
  elseif problem:find("resolve", 1, true) then
    return failure("network", x.route.proxy and "ProxyFailed" or "DNSFailed", problem,
      problem:find("no resolver", 1, true) and RESOLVER or nil)
  end
  return failure("network", "ConnectFailed", ("%s (%s)"):format(problem, x.route.address))
end

local function tls_failed(x, problem)
  if problem == "timeout" then
    return timed_out(x, "connecting")
  end
  local reason = problem:gsub("^%d+: ", "") -- OpenSSL's number may be that of another handshake
  if reason ~= "handshake failed" and (reason ~= problem or problem:find("certificate", 1, true)) then
    return failure("network", "CertificateFailed", "the server's certificate does not verify: " .. reason, TRUST)
  end
  return failure("network", "TLSFailed", "the TLS handshake failed: " .. reason)
end

local function cancelled()
  return failure("cancelled", "Cancelled", "cancelled")
end

--- Reads until the reader has an answer.
---@return table|nil failed
local function read(self, x, reader)
  while not self.is_closed() do
    set_timeouts(x, LOOK)
    local bytes, problem = x.socket:receiveany(PIECE)
    local done, what, code
    if bytes then
      done, what, code = reader:feed(bytes)
    elseif problem == "closed" then
      done, what, code = reader:finish()
    elseif problem ~= "timeout" then
      return failure("network", "ConnectionClosed", "the connection broke before the whole answer came: " .. problem)
    elseif core.now() >= first_limit(x).due then
      return timed_out(x, "waiting for the whole answer")
    end
    if done then
      return nil
    elseif code then
      return failure(code == "ConnectionClosed" and "network" or "response", code, what)
    end
  end
  return cancelled()
end

--- Asks the proxy for a tunnel.
local function open_tunnel(self, x)
  local proxy = x.route.proxy
  local headers = { { "Host", x.route.authority } }
  headers[2] = proxy.authorization and { "Proxy-Authorization", proxy.authorization } or nil
  local sent, problem = x.socket:send(core.http1_request {
    method = "CONNECT", target = x.route.authority, headers = headers,
  })
  local reader = core.http1_reader { method = "CONNECT", max_body = PIECE }
  local failed = sent and read(self, x, reader)
  if failed and failed.kind ~= "response" and failed.kind ~= "network" then
    return failed
  elseif not sent or failed then
    return failure("network", "ProxyFailed", "no tunnel through the proxy: " .. (failed and failed.message or problem))
  end
  local answer = reader:answer()
  if answer.status < 200 or answer.status > 299 then
    x.result.proxy_status = answer.status
    return failure("network", "ProxyFailed", ("the proxy answered CONNECT with status %d"):format(answer.status))
  elseif answer.beyond > 0 then -- before the handshake no server says anything; what nginx holds would pass for TLS
    return failure("network", "ProxyFailed", "the proxy sent more than its answer to CONNECT")
  end
end

--- The handshake. Where it needs not wait, lua-resty-core (0.1.25) asks for its result only if a session is wanted, and
--- does not return but assert that the certificate is good.
local function secure(self, x)
  if self.identity then
    local ok, problem = x.socket:setclientcert(self.identity.cert, self.identity.key)
    if not ok then
      return failure("network", "CertificateFailed", "cert_file or key_file can't be used: " .. problem)
    end
  end
  local called, session, problem = pcall(x.socket.sslhandshake, x.socket, nil, x.route.name, true)
  if not called then
    problem = tostring(session):find("assertion failed", 1, true) and "certificate refused" or tostring(session)
  end
  if not called or not session then
    return tls_failed(x, problem)
  end
end

--- From now on the limits of a try and of its connecting count, too.
local function begin_try(x, req)
  local now = core.now()
  x.limits[2] = limit(now, req.try_timeout or math.huge, "try_timeout")
  x.limits[3] = limit(now, req.connect_timeout or math.huge, "connect_timeout")
end

--- Opens a connection, or takes one that is kept.
local function connect(self, x, req)
  local to = x.route
  local is_queued = self.in_flight() > self.connections
  if not is_queued then
    begin_try(x, req)
  end
  set_timeouts(x)
  local ok, problem = x.socket:connect(to.host, to.port, {
    pool = ("%s|%d"):format(to.pool, self.connections), -- a pool's size is that which it was made with
    pool_size = self.connections, backlog = BACKLOG,
  })
  if not ok then
    return connect_failed(x, problem)
  end
  if is_queued then
    begin_try(x, req)
  end
  x.result.reused = x.socket:getreusedtimes() > 0
  local failed
  if not x.result.reused and to.is_tls then
    set_timeouts(x)
    failed = to.proxy and open_tunnel(self, x)
    failed = failed or secure(self, x)
  end
  x.limits[3] = nil
  return failed
end

--- Sends a long request and reads at the same time: the server may answer before it has everything, and read on.
local function converse_at_length(self, x, bytes, reader)
  local problem
  local sending = ngx.thread.spawn(function()
    for first = 1, #bytes, AT_ONCE do
      local sent
      sent, problem = x.socket:send(bytes:sub(first, first + AT_ONCE - 1))
      x.result.sent = sent and first + AT_ONCE > #bytes or false
      if not sent or x.result.sent then
        return
      end
      ngx.sleep(TURN)
    end
  end)
  local failed = read(self, x, reader)
  if not x.result.sent and not problem then
    ngx.thread.kill(sending)
  elseif failed and problem and failed.kind ~= "timeout" then
    return failure("network", "SendFailed", "the request could not be sent: " .. problem)
  end
  return failed
end

--- Sends the request and reads the answer.
local function converse(self, x, bytes, reader)
  set_timeouts(x)
  if #bytes > AT_ONCE then
    return converse_at_length(self, x, bytes, reader)
  end
  local sent, problem = x.socket:send(bytes)
  x.result.sent = sent == #bytes
  if x.result.sent then
    return read(self, x, reader)
  end
  local late = problem == "timeout" and timed_out(x, "sending the request")
  x.limits = { limit(core.now(), EARLY, "") } -- it may have answered before it had read everything: 413, 408
  return read(self, x, reader)
    and (late or failure("network", "SendFailed", "the request could not be sent: " .. problem))
end

--- Keeps the connection, when the server does and the client was not closed.
local function release(self, x, answer)
  local seconds = math.min(self.idle_timeout, (answer.keep_alive_timeout or math.huge) - 1)
  local is_kept = answer.keep_alive and x.result.sent and seconds > 0 and not self.is_closed()
    and x.socket:setkeepalive(math.ceil(seconds * 1000), self.connections)
  if not is_kept then
    x.socket:close()
  end
end

--- One attempt on one connection.
---@return table|nil failed
local function attempt(self, x, req, bytes)
  x.limits = { limit(x.began, req.timeout or math.huge, "timeout") }
  local reader = core.http1_reader { method = req.method or "POST", max_body = req.max_response or 1048576 }
  local problem
  x.socket, problem = ngx.socket.tcp()
  if not x.socket then
    return failure("network", "EngineFailed", problem)
  end
  local failed = connect(self, x, req)
  if self.is_closed() then
    failed = cancelled() -- whatever became of the connection
  elseif not failed and core.now() >= first_limit(x).due then
    failed = timed_out(x, "connecting") -- for nginx's timers time may stand still, or begin anew behind a queue
  end
  failed = failed or converse(self, x, bytes, reader)
  if failed then
    x.socket:close()
    return failed
  end
  local answer = reader:answer()
  release(self, x, answer)
  x.result.status, x.result.headers, x.result.body = answer.status, answer.headers, answer.body
end

---@class rtc.Cosocket
---@field connections integer  at once, at most, by worker and place
---@field idle_timeout number  seconds that an unused connection is kept
---@field proxy rtc.Proxy|nil
---@field identity { cert: userdata, key: userdata, name: string }|nil  what to show to the server
---@field in_flight fun(): integer
---@field is_closed fun(): boolean

--- Makes an exchange.
---@param self rtc.Cosocket
---@param req rtc.Request
---@return rtc.Exchange|nil
---@return rtc.Exchange|rtc.Error|nil  the failed one; or the error of a request that can't be written
function cosocket.exchange(self, req)
  local to, target = route.find(req.url, req.proxy ~= "" and self.proxy or nil, self.identity and self.identity.name)
  local headers = req.headers
  if to.proxy and not to.is_tls and to.proxy.authorization then
    headers = { { "Proxy-Authorization", to.proxy.authorization } }
    for _, header in ipairs(req.headers) do
      headers[#headers + 1] = header
    end
  end
  local bytes, err = core.http1_request {
    method = req.method or "POST", target = target, headers = headers, body = req.body,
  }
  if not bytes then
    return nil, err
  end
  local x = { began = core.now(), route = to, result = { sent = false, reused = false } }
  local failed
  repeat
    failed = attempt(self, x, req, bytes)
    -- A kept connection that was dead: the server saw nothing of the request, and another one may live.
  until not (failed and x.result.reused and not x.result.sent and failed.code == "SendFailed")
  x.result.elapsed = core.now() - x.began
  if not failed then
    return x.result
  end
  x.result.kind, x.result.code, x.result.message, x.result.advice =
    failed.kind, failed.code, failed.message, failed.advice
  return nil, x.result
end

return cosocket
