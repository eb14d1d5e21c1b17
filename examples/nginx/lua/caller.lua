--- Who may send: whoever knows the token, as in `Authorization: Bearer TOKEN`.
---
--- An HMAC of the body would keep the token off the wire, but each caller would need code for it, and against replays
--- a time and a memory of what was seen. Over TLS, or on this machine, a token is as good.

local bit = require "bit"

local caller = {}

local SHORTEST = 16

local token = os.getenv "NOTIFY_TOKEN" or ""
if #token < SHORTEST then
  error(("set NOTIFY_TOKEN, to %d random characters at least: whoever knows it may send"):format(SHORTEST), 0)
end

--- Compares in a time that tells nothing of where two strings of one length differ.
local function is_same(one, other)
  if #one ~= #other then
    return false
  end
  local difference = 0
  for i = 1, #one do
    difference = bit.bor(difference, bit.bxor(one:byte(i), other:byte(i)))
  end
  return difference == 0
end

--- Whether the request has the token.
---@return boolean
function caller.is_known()
  local scheme, given = (ngx.var.http_authorization or ""):match "^(%a+) +(%S+)$"
  return scheme ~= nil and scheme:lower() == "bearer" and is_same(given, token)
end

return caller
