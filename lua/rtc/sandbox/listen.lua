--- A receiver: logs in to the sandbox, joins a room if it is to, and waits for messages, as a person's app would.
local cjson = require("cjson").new()
local cqueues = require("cqueues")
local errno = require("cqueues.errno")
local http_client = require("http.client")
local http_util = require("http.util")
local new_headers = require("http.headers").new
local base64 = require("rtc.sandbox.base64")
local sse = require("rtc.sandbox.sse")
local text = require("rtc.sandbox.text")

local listen = {}

---@class rtc.sandbox.Listener
local listener_methods = {}
listener_methods.__index = listener_methods

local CONNECT = 5 -- seconds until the sandbox must have let it in

local function pass(ok, ...)
  if ok then
    return ...
  end
  local raised = ...
  if tostring(raised):find("interrupted!$") then
    error(raised, 0) -- Ctrl-C
  end
  return nil, raised
end

-- For some malformed answers lua-http raises.
local function guarded(stream, method, ...)
  return pass(http_util.yieldable_pcall(stream[method], stream, ...))
end

-- The next event of the stream, within `timeout` seconds (nil: without end).
local function next_event(self, timeout)
  local deadline = timeout and cqueues.monotime() + timeout
  while true do
    local event = self.reader:next()
    if event then
      return event
    end
    local left = deadline and math.max(0, deadline - cqueues.monotime())
    local bytes, _, code = guarded(self.stream, "get_next_chunk", left)
    if bytes then
      self.reader:feed(bytes)
    elseif code == errno.ETIMEDOUT then
      return nil, "timeout"
    else
      return nil, "closed"
    end
  end
end

local function refusal(stream, status)
  local body = stream:get_body_as_string(CONNECT)
  local ok, answer = pcall(cjson.decode, body or "")
  local why = ok and type(answer) == "table" and answer.error or "HTTP " .. status
  return "the sandbox refused: " .. tostring(why)
end

--- Logs in, and joins a room. Returns once the sandbox has confirmed it, so that a message sent after is received.
---@param options {endpoint: string, room_id?: string, user_id: string, app_id?: string}
---  endpoint, as in "http://127.0.0.1:8790"; without a room_id it is in no room, and only SendUnicast reaches it
---@return rtc.sandbox.Listener|nil listener
---@return string|nil err
function listen.open(options)
  local host, port = options.endpoint:match("^http://%[?([%w.:-]-)%]?:(%d+)/?$")
  if not host then
    return nil, ("the endpoint '%s' is not like http://127.0.0.1:8790"):format(options.endpoint)
  end
  local address = { host = host, port = tonumber(port), tls = false, version = 1.1 }
  local connection, err = http_client.connect(address, CONNECT)
  local ok = connection
  if connection then
    ok, err = connection:connect(CONNECT) -- the socket connects lazily
  end
  if not ok then
    return nil, ("cannot reach %s: %s (is `rtc sandbox` running?)"):format(options.endpoint, tostring(err))
  end

  local headers = new_headers()
  headers:append(":method", "GET")
  headers:append(":authority", host:find(":", 1, true) and ("[%s]:%s"):format(host, port) or host .. ":" .. port)
  headers:append(":scheme", "http")
  headers:append(":path", "/listen?" .. http_util.dict_to_query({
    room_id = options.room_id,
    user_id = options.user_id,
    app_id = options.app_id,
  }))
  local stream = connection:new_stream()
  stream.use_zlib = false -- compression would hold events back
  local answer
  if stream:write_headers(headers, true, CONNECT) then
    answer = guarded(stream, "get_headers", CONNECT)
  end
  if not answer then
    connection:close()
    return nil, ("%s did not answer"):format(options.endpoint)
  elseif answer:get(":status") ~= "200" then
    err = refusal(stream, answer:get(":status"))
    connection:close()
    return nil, err
  end

  local self = setmetatable({
    connection = connection,
    stream = stream,
    reader = sse.reader(),
    endpoint = options.endpoint,
  }, listener_methods)
  local event = next_event(self, CONNECT)
  if not event or event.name ~= "joined" then
    self:close()
    return nil, ("%s is not a sandbox: it did not confirm the login"):format(options.endpoint)
  end
  return self
end

---@class rtc.sandbox.Message
---@field callback string   the callback that the person's app would get
---@field from string       the sender's ID
---@field message string    the bytes sent (binary messages are decoded)
---@field room_id string|nil nil for one that was sent outside of rooms
---@field binary boolean

-- What an event says. Whoever serves the endpoint wrote it: it may say anything.
local function read_message(event)
  local ok, data = pcall(cjson.decode, event.data)
  if not ok or type(data) ~= "table" or not text.is_utf8(event.name .. event.data) then
    return nil, "what came is not a JSON object in UTF-8"
  end
  for _, field in ipairs({ "uid", "message" }) do
    if type(data[field]) ~= "string" then
      return nil, ("what came has no %s"):format(field)
    end
  end
  if data.room_id ~= nil and type(data.room_id) ~= "string" then
    return nil, "what came has a room_id that is no string"
  end
  local binary = event.name:find("Binary", 1, true) ~= nil
  local message = data.message
  if binary then
    message = base64.decode(message)
    if not message then
      return nil, "a binary message came that is not base64"
    end
  end
  return {
    callback = event.name,
    from = data.uid,
    message = message,
    room_id = data.room_id,
    binary = binary,
  }
end

--- Waits for the next message.
---@param timeout? number seconds; without it, waits as long as it takes
---@return rtc.sandbox.Message|nil message
---@return string|nil err "timeout", "closed", or what is wrong with what came; after "timeout" one may wait again
function listener_methods:next(timeout)
  local event, err = next_event(self, timeout)
  if not event then
    return nil, err
  end
  local message, problem = read_message(event)
  if not message then
    return nil, ("%s is not a sandbox: %s"):format(self.endpoint, problem)
  end
  return message
end

--- Leaves.
function listener_methods:close()
  self.stream:shutdown()
  self.connection:close()
end

return listen
