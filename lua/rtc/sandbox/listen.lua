--- A receiver: joins a room of the sandbox and waits for messages, as a person's app would.
local cjson = require("cjson").new()
local cqueues = require("cqueues")
local errno = require("cqueues.errno")
local http_client = require("http.client")
local http_util = require("http.util")
local new_headers = require("http.headers").new
local base64 = require("rtc.sandbox.base64")
local sse = require("rtc.sandbox.sse")

local listen = {}

---@class rtc.sandbox.Listener
local listener_methods = {}
listener_methods.__index = listener_methods

local CONNECT = 5 -- seconds until the room must have been joined

-- The next event of the stream, within `timeout` seconds (nil: without end).
local function next_event(self, timeout)
  local deadline = timeout and cqueues.monotime() + timeout
  while true do
    local event = self.reader:next()
    if event then
      return event
    end
    local left = deadline and math.max(0, deadline - cqueues.monotime())
    local bytes, _, code = self.stream:get_next_chunk(left)
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

--- Joins a room. Returns once the sandbox has confirmed it, so that a message sent after is received.
---@param options {endpoint: string, room_id: string, user_id: string, app_id?: string}
---  endpoint, as in "http://127.0.0.1:8790"
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
    answer = stream:get_headers(CONNECT)
  end
  if not answer then
    connection:close()
    return nil, ("%s did not answer"):format(options.endpoint)
  elseif answer:get(":status") ~= "200" then
    err = refusal(stream, answer:get(":status"))
    connection:close()
    return nil, err
  end

  local self = setmetatable({ connection = connection, stream = stream, reader = sse.reader() }, listener_methods)
  local event = next_event(self, CONNECT)
  if not event or event.name ~= "joined" then
    self:close()
    return nil, ("%s is not a sandbox"):format(options.endpoint)
  end
  return self
end

---@class rtc.sandbox.Message
---@field callback string   the callback that the person's app would get
---@field from string       the sender's ID
---@field message string    the bytes sent (binary messages are decoded)
---@field room_id string
---@field binary boolean

--- Waits for the next message.
---@param timeout? number seconds; without it, waits as long as it takes
---@return rtc.sandbox.Message|nil message
---@return string|nil err "timeout" or "closed"; after "timeout" one may wait again
function listener_methods:next(timeout)
  local event, err = next_event(self, timeout)
  if not event then
    return nil, err
  end
  local data = cjson.decode(event.data)
  local binary = event.name:find("Binary", 1, true) ~= nil
  return {
    callback = event.name,
    from = data.uid,
    message = binary and base64.decode(data.message) or data.message,
    room_id = data.room_id,
    binary = binary,
  }
end

--- Leaves the room.
function listener_methods:close()
  self.stream:shutdown()
  self.connection:close()
end

return listen
