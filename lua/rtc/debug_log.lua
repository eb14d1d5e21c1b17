--- RTC_DEBUG=1: one readable line a try on standard error; inside nginx (which keeps the variable only when told by
--- `env RTC_DEBUG;`) in the error log, like all that the module says there. Its words are those of
--- receipts and errors, which hold no secret.

local log = require "rtc.log"
local text = require "rtc.text"

local debug_log = {}

local function reached(event)
  if not event.sent then
    return ""
  end
  return (", %s connection, %d bytes out, %d in"):format(event.reused and "kept" or "new", event.sent_bytes,
    event.received_bytes)
end

local function outcome(event)
  local told = event.receipt or event.err
  local request = told.request_id and ", request " .. told.request_id or ""
  local status = told.http_status and ("HTTP %d"):format(told.http_status) or "no answer"
  local error_text = event.err and (", %s: %s (%s)"):format(told.code, text.printable(told.message),
    told.outcome) or ", accepted"
  return status .. error_text .. request
end

local function write(format, ...)
  log.write(format:format(...))
end

--- Writes what happens to the client's calls.
---@param client rtc.Client
function debug_log.attach(client)
  client:on("response", function(event)
    write("%s %s, try %d: %s, %.1f ms%s", event.action, event.version, event.attempt, outcome(event),
      (event.elapsed or 0) * 1000, reached(event))
  end)
  client:on("retry", function(event)
    write("%s, another try after %.3f s", event.action, event.wait)
  end)
end

return debug_log
