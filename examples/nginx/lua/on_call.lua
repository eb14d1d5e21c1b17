--- Tells a person who is on call, in a room, that requests fail.

local client = require "client"

local on_call = {}

--- What a request asked for, without its query, which may hold what is secret; and as plain text.
local function asked_for()
  local target = (ngx.var.request_uri or "?"):match "^[^?]*"
  return ngx.req.get_method() .. " " .. target:sub(1, 200):gsub("[^\33-\126]", "?")
end

--- For log_by_lua, where nothing can wait: enqueues a message when the request ended with a status of 500 or more, but
--- only one in so many seconds, over all workers, which says how many were left out since the one before.
---@param given { room_id: string, to: string, every: number }  `every`: seconds
function on_call.tell(given)
  if ngx.status < 500 then
    return
  end
  local told = ngx.shared.on_call
  if not told:add("told", true, given.every) then
    told:incr("left out", 1, 0)
    return
  end
  local left_out = told:get "left out" or 0
  told:incr("left out", -left_out, 0)
  local message = ("%s ended with status %d"):format(asked_for(), ngx.status)
  if left_out > 0 then
    message = ("%s; and %d more since the last message"):format(message, left_out)
  end
  local queued, err = client:enqueue { room_id = given.room_id, to = given.to, message = message }
  if not queued then
    ngx.log(ngx.ERR, "nobody on call was told: ", tostring(err))
  end
end

return on_call
