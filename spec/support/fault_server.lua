--- A server that misbehaves as told and records exactly what it got: real sockets, plain or TLS, its own process
--- (fault_server_process.lua). It is controlled over a socket, so any process that knows the control port can do it.
---
---     local server = fault_server.start({ tls = certificates.good })
---     server:script({ act.read(), act.close() }, { act.read(), act.answer({ status = 503 }) })
---
--- A step is a list of actions, and each request takes one step: first from the script, in order; then the one that
--- `always` set for its target, or for every target. Without either it is read and answered with 200 and a JSON
--- object that has the request's `index`, `connection` and `target`. What a step leaves unread of a request's body is
--- read (and recorded) after its last action, unless it closed.

local cqueues = require("cqueues")
local json = require("cjson")
local socket = require("cqueues.socket")
local native = require("spec.support.native")
local process = require("spec.support.process")

local fault_server = {}

local DEADLINE = 20

local here = debug.getinfo(1, "S").source:match("^@(.*)[/\\][^/\\]*$") or "."

--- The actions. `close`, `reset` and `unread` as the first one leave the request unread in the kernel.
local act = {}
fault_server.act = act

--- Reads the whole request.
function act.read() return { "read" } end
--- Reads up to the end of the headers.
function act.read_head() return { "read_head" } end
--- Reads at least that many bytes of the body, and as little more as possible.
function act.read_body(bytes) return { "read_body", bytes } end
--- Holds the step until `server:release(name)`. A released name stays released.
function act.wait(name) return { "wait", name or "go" } end
--- Pauses, for what trickles.
function act.sleep(seconds) return { "sleep", seconds } end
--- Sends bytes as they are.
function act.send(bytes) return { "send", bytes } end
--- Sends the same bytes again and again, until the peer goes away.
function act.send_for_ever(bytes) return { "send_for_ever", bytes } end
--- The ordinary answer, with the request's index, connection and target.
function act.echo() return { "echo" } end
--- Waits, without reading, until so many bytes have come.
function act.unread(bytes) return { "unread", bytes } end
--- Closes both ways. Unread bytes in the kernel make it a reset, as everywhere.
function act.close() return { "close" } end
--- Closes with RST.
function act.reset() return { "reset" } end
--- Ends the server's half and goes on reading (over TLS without a close_notify).
function act.end_writing() return { "end_writing" } end
--- Reads and discards until the peer goes away.
function act.drain() return { "drain" } end
--- After the request was read: sends it as it came to a port of this machine, over a connection of its own, and keeps
--- the whole answer.
function act.forward(port) return { "forward", port } end
--- After `forward`: sends the kept answer, or only so many first bytes of it.
function act.relay(first_bytes) return { "relay", first_bytes } end
--- After a CONNECT was read: connects to its target, answers 200 and moves the bytes of both until one ends.
function act.tunnel() return { "tunnel" } end

--- An HTTP/1.1 answer as bytes.
---@param answer { status: integer|nil, headers: string[][]|nil, body: string|nil, length: integer|false|nil }
--- `length` overrides Content-Length; false leaves it out
---@return string
function fault_server.bytes(answer)
  local body = answer.body or "{}"
  local lines = { ("HTTP/1.1 %d Spec"):format(answer.status or 200) }
  for _, header in ipairs(answer.headers or { { "Content-Type", "application/json" } }) do
    lines[#lines + 1] = header[1] .. ": " .. header[2]
  end
  if answer.length ~= false then lines[#lines + 1] = ("Content-Length: %d"):format(answer.length or #body) end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

--- Sends an HTTP/1.1 answer; see `bytes`.
function act.answer(answer) return act.send(fault_server.bytes(answer)) end

--- What this process started and has not stopped yet.
local started = {}

---@class FaultServer
---@field port integer
---@field control_port integer
---@field url string with host 127.0.0.1 and no path
---@field process Process|nil nil when another process started it
local methods = {}
local metatable = { __index = methods, __name = "fault server" }

local function ask(self, request)
  -- Within a controller of cqueues others go on meanwhile, and may ask, too.
  while self.asked and cqueues.running() do cqueues.sleep(0.001) end
  self.asked = true
  -- Each way a message is its length, a newline and so many bytes of JSON.
  local message = json.encode(request)
  local line, why = self.control:xwrite(#message .. "\n" .. message, "bn", DEADLINE)
  if line then line, why = self.control:xread("*l", "b", DEADLINE) end
  if line then line, why = self.control:xread(tonumber(line), "b", DEADLINE) end
  self.asked = false
  if not line then
    error(("the fault server does not answer (%s): %s"):format(tostring(why),
      self.process and self.process:stderr() or ""), 3)
  end
  if rawget(_G, "ngx") then
    native.sleep(0.001) -- nginx hears of what was done when it gets to its events
  end
  local reply = json.decode(line)
  if reply.error then error("the fault server says: " .. reply.error, 3) end
  return reply.value
end

--- Controls a server that any process started.
---@param control_port integer
---@param port integer|nil
---@param tls boolean|nil
---@return FaultServer
function fault_server.connect(control_port, port, tls)
  local control = assert(socket.connect({ host = "127.0.0.1", port = control_port }))
  control:onerror(function(_, _, code) return code end)
  assert(control:connect(DEADLINE))
  -- nginx verifies names and no addresses.
  local host = tls and rawget(_G, "ngx") and "localhost" or "127.0.0.1"
  local url = ("%s://%s:%d"):format(tls and "https" or "http", host, port or 0)
  return setmetatable({ control = control, control_port = control_port, port = port, url = url }, metatable)
end

--- Starts a server on a free loopback port.
---@param options { tls: { cert: string, key: string, client_ca: string|nil, version: string|nil }|nil,
--- receive_buffer: integer|nil }|nil paths; with `client_ca` clients must show a certificate of that authority;
--- `version` is the one that is spoken, such as "TLSv1_2", default: any; `receive_buffer` in bytes
---@return FaultServer
function fault_server.start(options)
  options = options or {}
  local child = process.spawn({ process.server_lua, here .. "/fault_server_process.lua",
    json.encode(options) })
  local line = child:line()
  local port, control_port = (line or ""):match("^(%d+) (%d+)$")
  if not port then error("the fault server did not start: " .. child:stderr(), 2) end
  local self = fault_server.connect(tonumber(control_port), tonumber(port), options.tls ~= nil)
  self.process = child
  started[self] = true
  return self
end

--- Ends every server that this process started and has not stopped yet: for `after_each`.
function fault_server.stop_all()
  while next(started) do next(started):stop() end
end

--- Appends steps; each coming request takes the next one.
---@param ... table[] lists of actions
function methods:script(...)
  return ask(self, { op = "script", steps = { ... } })
end

--- Sets the step of every request whose target (path and query) is this one, or of all others.
---@param target string|nil
---@param step table[]
function methods:always(target, step)
  return ask(self, { op = "always", target = target, step = step })
end

--- Appends steps for the next connections, taken before TLS starts; an empty step is ordinary. `close`, `reset`,
--- `wait`, `send` and `drain` make sense there.
---@param ... table[]
function methods:on_accept(...)
  return ask(self, { op = "on_accept", steps = { ... } })
end

--- Lets everything go on that waits for this name, now and later.
---@param name string|nil
function methods:release(name)
  return ask(self, { op = "release", name = name or "go" })
end

--- Acts on all connections that wait for a request, at once.
---@param ... table actions: `send`, `close`, `reset`
---@return integer connections how many they were
function methods:idle(...)
  return ask(self, { op = "idle", step = { ... } })
end

--- Counts: `connections` and `requests` since the start, `complete` requests, `open` connections now, `most_open`
--- at one time, `waiting` steps, `idle` connections, `handshakes` that succeeded, `unknown_bytes` that belong to no
--- request.
---@return table<string, integer>
function methods:state()
  return ask(self, { op = "state" })
end

--- Everything recorded, in the order in which the headers came.
---@return { connection: integer, method: string, target: string, headers: table<string, string>, body: string,
--- body_bytes: integer, complete: boolean }[] header names in lower case; a body is kept up to 1 MB
function methods:requests()
  return ask(self, { op = "requests" })
end

--- All connections in the order in which they were accepted.
---@return { open: boolean, requests: integer, handshake: string|nil, client: string|nil, ended: string|nil }[]
--- `handshake` is "done" or the error; `client` is whom the client's certificate names, such as "/CN=client"; `ended`
--- says who ended the connection and how: "peer", "closed", "reset" or an error
function methods:connections()
  return ask(self, { op = "connections" })
end

--- Waits until `predicate(state)` holds; raises with the state if it does not within `timeout` seconds.
---@param predicate fun(state: table<string, integer>): any
---@param timeout number|nil
function methods:await(predicate, timeout)
  local deadline = native.now() + (timeout or DEADLINE)
  local state = self:state()
  while not predicate(state) do
    if native.now() > deadline then error("the fault server stays at " .. json.encode(state), 2) end
    native.sleep(0.002)
    state = self:state()
  end
  return state
end

--- Ends the server.
function methods:stop()
  started[self] = nil
  self.control:close()
  if self.process then self.process:close() end
end

return fault_server
