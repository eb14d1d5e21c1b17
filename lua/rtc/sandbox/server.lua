--- The sandbox's HTTP server: sends each request where it belongs.
local cjson = require("cjson").new()
local cqueues = require("cqueues")
local errno = require("cqueues.errno")
local http_server = require("http.server")
local yieldable_pcall = require("http.util").yieldable_pcall
local connection = require("rtc.sandbox.connection")
local receive = require("rtc.sandbox.receive")

local server = {}

-- Seconds. Longer than clients keep an idle connection, so that it is not the server that closes it under them.
local IDLE = 75

local welcome = [[
This is rtc's sandbox: the message part of the Volcengine RTC OpenAPI, on this machine only.

Receive, in one terminal:
    %s listen --endpoint %s --room demo --user alice
    (or: curl -N '%s/listen?room_id=demo&user_id=alice')
    Without the room alice is only logged in, and gets what SendUnicast sends her.
Send, in another:
    %s send --endpoint %s --room demo --to alice "hello"

From a program: POST /?Action=SendRoomUnicast&Version=2020-12-01, signed with the keys that the sandbox printed.
The other actions: SendUnicast, SendBroadcast, BatchSendRoomUnicast; the other version: 2023-07-20.
]]

local function answer_json(stream, request, status, value, extra)
  connection.answer(stream, request, status, "application/json", cjson.encode(value) .. "\n", extra)
end

local function serve_api(stream, request, sandbox, started)
  local call, status, json = sandbox.service:answer(request)
  connection.answer(stream, request, status, "application/json", json, { ["x-tt-logid"] = call.request_id })
  sandbox.log:call(call, cqueues.monotime() - started)
end

local function route(stream, request, sandbox, started)
  local reading = request.method == "GET" or request.method == "HEAD"
  if request.path == "/listen" then
    if request.method == "GET" then
      return receive.serve(stream, request, sandbox)
    end
    return answer_json(stream, request, 405, { error = "/listen takes GET only" }, { allow = "GET" })
  elseif request.path ~= "/" then
    return answer_json(stream, request, 404, { error = "there are only / and /listen here" })
  elseif reading and request.query == "" then
    local page = welcome:format(sandbox.program, sandbox.endpoint, sandbox.url, sandbox.program, sandbox.endpoint)
    return connection.answer(stream, request, 200, "text/plain", page)
  end
  return serve_api(stream, request, sandbox, started)
end

local function serve(stream, sandbox)
  local request, why = connection.read(stream)
  if request then
    route(stream, request, sandbox, cqueues.monotime())
  elseif why then
    sandbox.log:note("a connection was turned away: %s", why)
  end
end

--- Opens the server's socket. `sandbox.url` is filled in with the address it got.
---@param host string
---@param port integer 0 for any free one
---@param sandbox table what `route` needs: service, rooms, apps, app_id, log, keep_alive, program
---@return table|nil server lua-http's, to be looped
---@return string|nil err
---@return boolean|nil taken whether the port is
function server.open(host, port, sandbox)
  local self, err = http_server.listen({
    host = host,
    port = port,
    reuseaddr = true,
    tls = false,
    version = 1.1, -- otherwise every connection is searched for an HTTP/2 preface
    intra_stream_timeout = IDLE,
    onstream = function(_, stream)
      local ok, err = yieldable_pcall(serve, stream, sandbox)
      if not ok then
        connection.abandon(stream)
        sandbox.log:note("a connection failed: %s", err)
      end
    end,
    -- lua-http raises by default, which would end the server for one connection's sake.
    onerror = function(_, _, operation, reason)
      if operation ~= "get_next_incoming_stream" then -- the connection that was turned away above
        sandbox.log:note("a connection failed: %s: %s", operation, reason or "?")
      end
    end,
  })
  if not self then
    return nil, err
  end
  local ok, code
  ok, err, code = self:listen()
  if not ok then
    return nil, err, code == errno.EADDRINUSE
  end
  local _, address, bound = self:localname()
  if address:find(":", 1, true) then
    address = "[" .. address .. "]"
  end
  sandbox.url = ("http://%s:%d"):format(address, bound)
  return self
end

return server
