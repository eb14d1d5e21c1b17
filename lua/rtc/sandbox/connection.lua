--- One HTTP exchange on lua-http's stream: reading a request whole, answering it, and turning away what is
--- not a request. Nothing that a peer sends may raise out of here or hold memory without bound.
local cqueues = require("cqueues")
local new_headers = require("http.headers").new
local http_util = require("http.util")

local connection = {}

--- The largest body read, in bytes. A legal message of 64 KiB takes six times that when JSON escapes every byte.
connection.LARGEST_BODY = 1024 * 1024

local PATIENCE = 10 -- seconds for the headers to come once they began, and for the body
local LINGER = 2 -- seconds in which an answer that came early is left readable
local LONGEST_LINE = 16 * 1024 -- bytes; cqueues' own limit of 4 KiB is less than a session token may take

local refusal = "HTTP/1.1 %d %s\r\n"
  .. "Content-Type: application/json\r\nDate: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
local reasons = {
  [400] = "Bad Request",
  [408] = "Request Timeout",
  [411] = "Length Required",
  [413] = "Content Too Large",
}

-- Closing a socket that holds unread bytes resets it, and the reset can overtake the answer. So what the
-- peer still sends is read and dropped for a while.
local function linger(socket)
  local deadline = cqueues.monotime() + LINGER
  local left = 16 * connection.LARGEST_BODY
  while left > 0 do
    local bytes = socket:xread(-65536, math.max(0, deadline - cqueues.monotime()))
    if not bytes then
      return
    end
    left = left - #bytes
  end
end

--- Ends a connection at once. lua-http's own `stream:shutdown()` may raise, wait or loop for ever on a request
--- that was not read whole (0.4: a Transfer-Encoding that it can't parse); on a closed stream it does nothing.
---@param stream table lua-http's
function connection.abandon(stream)
  if stream.connection.socket then
    stream.connection.socket:shutdown("rw")
  end
  -- Streams of one connection end in the order they came, and the earlier ones end now that it is gone.
  while stream.state ~= "closed" and stream.connection.pipeline:peek() ~= stream do
    stream.pipeline_cond:wait()
  end
  if stream.state ~= "closed" then
    stream:set_state("closed")
  end
end

--- Answers what can't be served and ends the connection. Written past lua-http's stream, which may be in no
--- state to answer.
---@param stream table
---@param status integer
---@param why string
function connection.refuse(stream, status, why)
  local socket = stream.connection.socket
  -- Behind an earlier, unanswered request of the same connection no answer may be written.
  if socket and stream.connection.pipeline:peek() == stream then
    local body = ('{"error":"%s"}\n'):format(why)
    socket:xwrite(refusal:format(status, reasons[status], http_util.imf_date(), #body, body), "n", PATIENCE)
    socket:shutdown("w")
    linger(socket)
  end
  connection.abandon(stream)
end

-- No HTTP method begins with anything but a letter. Seen before a line is read, since the first message
-- of TLS holds no line break and both sides would wait.
local function speaks_http(stream)
  local socket = stream.connection.socket
  local first = socket:xread(1, "b", PATIENCE)
  if not first then
    return nil
  end
  socket:unget(first)
  return first:find("^[%a\r]") ~= nil, first == "\22"
end

local function read_body(stream, headers)
  if headers:has("transfer-encoding") then
    return nil, 411, "send a Content-Length; the sandbox takes no chunked bodies"
  end
  local given = headers:get("content-length") or "0"
  local length = given:match("^%d+$") and tonumber(given)
  if not length then
    return nil, 400, "the Content-Length is not a number"
  elseif length > connection.LARGEST_BODY then
    return nil, 413, ("the body is larger than %d bytes"):format(connection.LARGEST_BODY)
  end
  if length > 0 and (headers:get("expect") or ""):lower() == "100-continue" then
    stream:write_continue(PATIENCE)
  end
  local body = stream:get_body_as_string(PATIENCE)
  if not body or #body < length then
    return nil, 408, "the body did not come whole"
  end
  return body
end

--- Reads a request whole; answers by itself what is not one.
---@param stream table lua-http's
---@return rtc.sandbox.Request|nil request nil when there is nothing to answer any more
---@return string|nil why not, for the log; nil for a connection that only closed
function connection.read(stream)
  stream.use_zlib = false -- a compressed event stream would hold events back
  stream.connection:setmaxline(LONGEST_LINE)
  local http, tls = speaks_http(stream)
  if http == nil then
    return nil
  elseif not http then
    connection.refuse(stream, 400, "this is plain http, and only that")
    return nil, tls and "it speaks https; the sandbox is plain http" or "it does not speak HTTP"
  end
  local ok, headers = http_util.yieldable_pcall(stream.get_headers, stream, PATIENCE)
  if not ok or not headers then -- for some malformed headers lua-http raises
    connection.refuse(stream, 400, "this is not an HTTP/1.1 request")
    return nil, "what it sent is not a whole HTTP request"
  end
  local body, status, why = read_body(stream, headers)
  if not body then
    connection.refuse(stream, status, why)
    return nil, why
  end
  local by_name = {}
  for given, value in headers:each() do
    local name = given == ":authority" and "host" or given -- lua-http's name for it
    by_name[name] = by_name[name] and by_name[name] .. ", " .. value or value
  end
  local target = headers:get(":path") or "" -- CONNECT has none
  local path, query = target:match("^([^?]*)%??(.*)$")
  return { method = headers:get(":method"), path = path, query = query, headers = by_name, body = body }
end

--- Headers of an answer.
---@param status integer
---@param content_type string
---@param extra? table<string, string> more headers, by lower-case name
function connection.headers(status, content_type, extra)
  local headers = new_headers()
  headers:append(":status", ("%d"):format(status))
  headers:append("content-type", content_type)
  headers:append("date", http_util.imf_date())
  for name, value in pairs(extra or {}) do
    headers:append(name, value)
  end
  return headers
end

--- Answers a request.
---@param stream table lua-http's
---@param request rtc.sandbox.Request
---@param status integer
---@param content_type string
---@param body string
---@param extra? table<string, string> more headers, by lower-case name
function connection.answer(stream, request, status, content_type, body, extra)
  local headers = connection.headers(status, content_type, extra)
  headers:append("content-length", ("%d"):format(#body))
  local bodiless = request.method == "HEAD"
  if stream:write_headers(headers, bodiless, PATIENCE) and not bodiless then
    stream:write_chunk(body, true, PATIENCE)
  end
end

return connection
