--- POST /notify: a JSON object of room_id, to and message, which is sent at once. The answer's `outcome` is "accepted",
--- or says what became of the message all the same: "not_sent", "rejected" or "unknown".

local caller = require "caller"
local client = require "client"
local json = require "cjson.safe".new()

local notify = {}

--- Statuses by an error's kind: the caller's fault; too much at once; no answer in time. All else is 502.
local STATUS = { argument = 400, quota = 503, timeout = 504 }

local function answer(status, body)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.say(json.encode(body))
end

--- Answers a request that nothing was sent of.
local function refuse(status, code, message)
  answer(status, { outcome = "not_sent", kind = "argument", code = code, message = message })
end

--- Reads what is to be sent, or answers why it can't be.
---@return table|nil order
local function read()
  local content_type = (ngx.var.http_content_type or ""):lower():match "^%s*([^;%s]*)"
  if ngx.req.get_method() ~= "POST" then
    ngx.header["Allow"] = "POST"
    return refuse(405, "MethodNotAllowed", "use POST")
  elseif not caller.is_known() then
    ngx.header["WWW-Authenticate"] = "Bearer"
    return refuse(401, "UnknownCaller", "send the header `Authorization: Bearer TOKEN` with the right token")
  elseif content_type ~= "application/json" then
    return refuse(415, "NotJSON", "send JSON, and the header `Content-Type: application/json`")
  end
  ngx.req.read_body()
  local order = json.decode(ngx.req.get_body_data() or "")
  if type(order) ~= "table" then
    return refuse(400, "NotJSON", "the body must be a JSON object with room_id, to and message")
  end
  return order
end

--- Answers what became of a message.
local function tell(receipt, err)
  if receipt then
    return answer(200, {
      outcome = "accepted", request_id = receipt.request_id, attempts = receipt.attempts, elapsed = receipt.elapsed,
    })
  end
  local status = STATUS[err.kind] or 502
  if status >= 500 then
    ngx.log(ngx.ERR, tostring(err)) -- with advice, which is for whoever runs this and not for the caller
  end
  if err.retry_after or status == 503 then
    ngx.header["Retry-After"] = math.ceil(err.retry_after or 1)
  end
  answer(status, {
    outcome = err.outcome, kind = err.kind, code = err.code, field = err.field, message = err.message,
    request_id = err.request_id, attempts = err.attempts, retryable = err.retryable,
  })
end

--- Serves a request. The fields are checked by rtc; no others are taken, so that nobody sends as somebody else.
function notify.serve()
  local order = read()
  if order then
    tell(client:send_room_unicast { room_id = order.room_id, to = order.to, message = order.message })
  end
end

return notify
