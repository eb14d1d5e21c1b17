-- A service that tells users something for all others: one client, one set of connections, one limit of the rate.
--
--     local ok, id_or_outcome, why = skynet.call(notifier, "lua", "tell", "42", "alice", "your turn")
--     skynet.send(notifier, "lua", "post", "42", "alice", "your turn")    -- nobody waits for it
local rtc = require "rtc"
local skynet = require "skynet"

local client -- in a service it goes by skynet on its own: a call waits like skynet.call does
local command = {}

--- Sends a message. What goes to another service must be plain values: so of an error what to decide by, and its text.
function command.tell(room, user, text)
  local receipt, err = client:send_room_unicast { room_id = room, to = user, message = text }
  if receipt then
    return true, receipt.request_id
  end
  return false, err.outcome, tostring(err)
end

--- Queues a message.
function command.post(room, user, text)
  local queued, err = client:enqueue { room_id = room, to = user, message = text }
  if not queued then
    skynet.error("rtc: not queued: " .. err)
  end
end

--- Ends the client when all that it has is through.
function command.close()
  local drained, err = client:drain(5)
  client:close()
  return drained or false, err and tostring(err)
end

skynet.start(function()
  client = rtc.new { endpoint = os.getenv("RTC_ENDPOINT") or "sandbox" }
  client:on("failure", function(event)
    skynet.error("rtc: not delivered to " .. event.fields.to .. ": " .. event.err)
  end)
  skynet.dispatch("lua", function(session, _, name, ...)
    if session == 0 then
      command[name](...)
    else
      skynet.retpack(command[name](...))
    end
  end)
end)
