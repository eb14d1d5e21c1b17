--- The program behind fault_server.lua: carries out the actions of each request's step and records what came.

local cqueues = require("cqueues")
local condition = require("cqueues.condition")
local errno = require("cqueues.errno")
local json = require("cjson")
local socket = require("cqueues.socket")
local native = require("spec.support.native")

local KEPT_BODY = 1048576
local PIECE = 65536
local MOST_LINE = 1048576

local options = json.decode(arg[1])
local loop = cqueues.new()

local script, accept_script, always = {}, {}, {}
local connections, requests = {}, {}
local released = {}
local changed = condition.new()
local counts = { waiting = 0, open = 0, most_open = 0, complete = 0, handshakes = 0, unknown_bytes = 0 }

local function ended(code)
  if code == nil then return "peer" end
  return type(code) == "number" and errno.strerror(code) or tostring(code)
end

local function tls_context()
  if not options.tls then return nil end
  local contexts = require("openssl.ssl.context")
  local context = contexts.new(options.tls.version or "TLS", true)
  local function contents(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
  end
  context:setCertificate(require("openssl.x509").new(contents(options.tls.cert)))
  context:setPrivateKey(require("openssl.pkey").new(contents(options.tls.key)))
  if options.tls.client_ca then
    context:setStore(require("openssl.x509.store").new():add(options.tls.client_ca))
    context:setVerify(contexts.VERIFY_PEER + contexts.VERIFY_FAIL_IF_NO_PEER_CERT)
  end
  return context
end

-- A connection that cannot go on raises this: { ended = how }.
local function stop(connection, how)
  error({ ended = how, connection = connection }, 0)
end

local function read(connection, format)
  local data, code = connection.socket:xread(format, "b")
  if not data then stop(connection, ended(code)) end
  return data
end

local function read_head(connection)
  local line = read(connection, "*L")
  local method, target = line:match("^(%S+) (%S+) HTTP/1%.1\r\n$")
  if not method then
    counts.unknown_bytes = counts.unknown_bytes + #line
    stop(connection, "not a request: " .. ("%q"):format(line))
  end
  local request = { connection = connection.id, index = #requests + 1, method = method, target = target, headers = {},
    pieces = {}, body_bytes = 0, complete = false }
  local head = { line }
  while true do
    line = read(connection, "*L")
    head[#head + 1] = line
    if line == "\r\n" then break end
    local name, value = line:match("^([^:]+):[ \t]*(.-)[ \t]*\r\n$")
    if not name then stop(connection, "not a header: " .. ("%q"):format(line)) end
    name = name:lower()
    request.headers[name] = request.headers[name] and request.headers[name] .. ", " .. value or value
  end
  request.head = table.concat(head)
  request.left = tonumber(request.headers["content-length"]) or 0
  request.chunked = (request.headers["transfer-encoding"] or ""):lower() == "chunked"
  request.index = #requests + 1
  requests[request.index] = request
  connection.requests = connection.requests + 1
  connection.request = request
  return request
end

local function keep(request, data)
  request.body_bytes = request.body_bytes + #data
  if request.body_bytes <= KEPT_BODY then request.pieces[#request.pieces + 1] = data end
end

local function read_chunks(connection, request)
  while true do
    local size = tonumber(read(connection, "*L"):match("^%x+"), 16)
    local data = size > 0 and read(connection, size) or ""
    keep(request, data)
    read(connection, "*L")
    if size == 0 then break end
  end
  request.chunked = false
end

--- Reads the body, or at least `wanted` bytes of it.
local function read_body(connection, request, wanted)
  if request.complete then return end
  if request.chunked then read_chunks(connection, request) end
  local target = wanted and math.max(0, request.left - wanted) or 0
  while request.left > target do
    local data = read(connection, -math.min(request.left - target, PIECE))
    keep(request, data)
    request.left = request.left - #data
  end
  if request.left == 0 then
    request.complete = true
    counts.complete = counts.complete + 1
  end
end

local function send(connection, bytes)
  local ok, code = connection.socket:xwrite(bytes, "bn")
  if not ok then stop(connection, ended(code)) end
end

local function await(flag)
  counts.waiting = counts.waiting + 1
  while not released[flag] do changed:wait() end
  counts.waiting = counts.waiting - 1
end

local function copy(from, to)
  while true do
    local data = from:xread(-PIECE, "b")
    if not data or not to:xwrite(data, "bn") then break end
  end
  native.end_writing(to:pollfd())
end

local actions = {}

function actions.read(connection)
  read_body(connection, connection.request or read_head(connection))
end

function actions.read_head(connection)
  if not connection.request then read_head(connection) end
end

function actions.read_body(connection, bytes)
  read_body(connection, connection.request or read_head(connection), bytes)
end

function actions.wait(_, flag)
  await(flag)
end

function actions.sleep(_, seconds)
  cqueues.sleep(seconds)
end

function actions.send(connection, bytes)
  send(connection, bytes)
end

function actions.send_for_ever(connection, bytes)
  while true do send(connection, bytes) end
end

function actions.echo(connection)
  local request = connection.request
  local body = json.encode({ index = request.index, connection = connection.id, target = request.target })
  send(connection, ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(
    #body, body))
end

function actions.unread(connection, bytes)
  while native.unread(connection.socket:pollfd()) < bytes do cqueues.sleep(0.001) end
end

function actions.close(connection)
  stop(connection, "closed")
end

function actions.reset(connection)
  native.reset_on_close(connection.socket:pollfd())
  stop(connection, "reset")
end

function actions.end_writing(connection)
  native.end_writing(connection.socket:pollfd())
end

function actions.drain(connection)
  while true do read(connection, -PIECE) end
end

local function connect(host, port)
  local other = socket.connect({ host = host, port = port })
  other:onerror(function(_, _, code) return code end)
  return other:connect(5) and other
end

--- Ends our half after the request: the answer is all that comes up to the other's end.
function actions.forward(connection, port)
  local request = connection.request
  assert(request.complete and request.body_bytes <= KEPT_BODY, "only a whole request that was kept can be forwarded")
  local other = assert(connect("127.0.0.1", ("%d"):format(port)), "nobody listens where the request is to go")
  assert(other:xwrite(request.head .. table.concat(request.pieces), "bn"))
  native.end_writing(other:pollfd())
  connection.answer = assert(other:xread("*a", "b"))
  other:close()
end

function actions.relay(connection, first_bytes)
  send(connection, connection.answer:sub(1, first_bytes))
end

function actions.tunnel(connection)
  local host, port = connection.request.target:match("^(.*):(%d+)$")
  local other = connect(host, tonumber(port))
  if not other then
    send(connection, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
    stop(connection, "closed")
  end
  send(connection, "HTTP/1.1 200 OK\r\n\r\n")
  local back = cqueues.running():wrap(function() copy(other, connection.socket) end)
  copy(connection.socket, other)
  while back and not other:eof("r") do cqueues.sleep(0.01) end
  other:close()
  stop(connection, "closed")
end

local function perform(connection, step)
  for _, action in ipairs(step) do actions[action[1]](connection, action[2]) end
end

local without_reading = { close = true, reset = true, unread = true }

local function reads_nothing(step)
  return step and step[1] and without_reading[step[1][1]]
end

--- Waits for the first byte of a request and chooses the step. Returns false when the peer ended the connection.
local function next_step(connection)
  local sock = connection.socket
  connection.idle = true
  if sock:pending() == 0 then cqueues.poll({ pollfd = sock:pollfd(), events = "r" }) end
  if connection.stopped then stop(connection, connection.stopped) end
  connection.idle = false
  if reads_nothing(script[1]) and native.peek(sock:pollfd()) ~= false then return table.remove(script, 1) end
  local ok, code = sock:fill(1)
  if not ok then stop(connection, ended(code)) end
  if script[1] then return table.remove(script, 1) end
  local request = read_head(connection)
  return always[request.target] or always[1] or { { "read" }, { "echo" } }
end

--- Ends our half and waits for the peer to end its own: closed with bytes unread it would be reset, and might never
--- read the alert that says why its handshake failed.
local function await_end(connection)
  local fd = connection.socket:pollfd()
  native.end_writing(fd)
  repeat cqueues.poll({ pollfd = fd, events = "r" }) until (native.read(fd) or "") == ""
end

local function serve(connection, context)
  connection.request = nil
  perform(connection, table.remove(accept_script, 1) or {})
  if context then
    local ok, code = connection.socket:starttls(context)
    connection.handshake = ok and "done" or ended(code)
    if not ok then
      await_end(connection)
      stop(connection, connection.handshake)
    end
    counts.handshakes = counts.handshakes + 1
    local certificate = connection.socket:checktls():getPeerCertificate()
    connection.client = certificate and tostring(certificate:getSubject())
  end
  while true do
    perform(connection, next_step(connection))
    local request = connection.request
    if request then read_body(connection, request) end
    connection.request = nil
    if request and (request.headers.connection or ""):lower() == "close" then stop(connection, "closed") end
  end
end

local function accept(sock, context)
  sock:onerror(function(_, _, code) return code end)
  sock:setmode("b", "bn")
  sock:setmaxline(MOST_LINE)
  local connection = { id = #connections + 1, socket = sock, open = true, requests = 0 }
  connections[connection.id] = connection
  counts.open = counts.open + 1
  counts.most_open = math.max(counts.most_open, counts.open)
  loop:wrap(function()
    local ok, problem = pcall(serve, connection, context)
    if not ok and type(problem) ~= "table" then io.stderr:write(tostring(problem), "\n") end
    connection.ended = ok and "?" or type(problem) == "table" and problem.ended or tostring(problem)
    connection.open = false
    connection.idle = false
    counts.open = counts.open - 1
    sock:close()
  end)
end

local control = {}

function control.script(message)
  for _, step in ipairs(message.steps) do script[#script + 1] = step end
  return true
end

function control.on_accept(message)
  for _, step in ipairs(message.steps) do accept_script[#accept_script + 1] = step end
  return true
end

function control.always(message)
  always[message.target or 1] = message.step
  return true
end

function control.release(message)
  released[message.name] = true
  changed:signal()
  return true
end

function control.idle(message)
  local count = 0
  for _, connection in ipairs(connections) do
    if connection.idle then
      count = count + 1
      local ok, problem = pcall(perform, connection, message.step)
      if not ok then
        connection.stopped = type(problem) == "table" and problem.ended or tostring(problem)
        connection.idle = false
        if connection.stopped == "reset" then native.reset_on_close(connection.socket:pollfd()) end
        cqueues.cancel(connection.socket:pollfd())
      end
    end
  end
  return count
end

function control.state()
  local state = { connections = #connections, requests = #requests, idle = 0 }
  for name, value in pairs(counts) do state[name] = value end
  for _, connection in ipairs(connections) do
    if connection.idle then state.idle = state.idle + 1 end
  end
  return state
end

function control.requests()
  local list = {}
  for index, request in ipairs(requests) do
    list[index] = { connection = request.connection, method = request.method, target = request.target,
      headers = request.headers, head = request.head, complete = request.complete, body_bytes = request.body_bytes,
      body = table.concat(request.pieces) }
  end
  return list
end

function control.connections()
  local list = {}
  for index, connection in ipairs(connections) do
    list[index] = { open = connection.open, requests = connection.requests, handshake = connection.handshake,
      client = connection.client, ended = connection.ended }
  end
  return list
end

local function answer_control(sock)
  sock:onerror(function(_, _, code) return code end)
  for line in sock:lines("*l") do
    local message = json.decode((assert(sock:xread(tonumber(line), "b"))))
    local ok, value = pcall(control[message.op], message)
    local reply = json.encode(ok and { value = value } or { error = tostring(value) })
    sock:xwrite(#reply .. "\n" .. reply, "bn")
  end
  sock:close()
end

local function listen(buffer)
  local listener = assert(socket.listen({ host = "127.0.0.1", port = 0 }))
  if buffer then assert(native.receive_buffer(listener:pollfd(), buffer)) end
  assert(listener:listen())
  local _, _, port = listener:localname()
  return listener, port
end

local listener, port = listen(options.receive_buffer)
local controls, control_port = listen()
local context = tls_context()
loop:wrap(function()
  for sock in listener:clients() do accept(sock, context) end
end)
loop:wrap(function()
  for sock in controls:clients({ nodelay = true }) do -- a long reply goes out in pieces
    loop:wrap(function() answer_control(sock) end)
  end
end)
io.stdout:write(("%d %d\n"):format(port, control_port))
io.stdout:flush()
assert(loop:loop())
