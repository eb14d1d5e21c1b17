--- rtc sign: shows how the same message would be signed, step by step, to be laid beside what the other side made of
--- it when a signature does not match.

local message = require "rtc.cli.message"
local target = require "rtc.cli.target"
local terminal = require "rtc.cli.terminal"

--- The secret key takes part in the signature only; nothing that is printed here holds it.
local function describe(explained, access_key)
  local authorization = ("HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s"):format(access_key,
    explained.credential_scope, explained.signed_headers, explained.signature)
  return {
    { "url", explained.url },
    { "body", explained.body },
    { "access key", access_key },
    { "credential scope (day/region/service/request)", explained.credential_scope },
    { "signed headers", explained.signed_headers },
    { "canonical request", explained.canonical_request },
    { "string to sign (its last line is the SHA-256 of the canonical request)", explained.string_to_sign },
    { "signature", explained.signature },
    { "Authorization", authorization },
  }
end

local function indented(line)
  return "    | " .. terminal.line(line) .. "\n"
end

---@param given table  the command line's options
---@return integer exit code
return function(given)
  local client, access_key = target.client(given)
  local explained, err = client:explain("SendRoomUnicast", message.fields(given), given.time)
  if not explained then
    terminal.finish(terminal.FAILED, tostring(err))
  end
  for _, part in ipairs(describe(explained, access_key)) do
    -- The form of the sandbox's log, so that the two can be compared line by line.
    terminal.write(part[1], ":\n", ((part[2] .. "\n"):gsub("(.-)\n", indented)))
  end
  terminal.write("The secret key is not shown; it makes the signature of the string to sign. Nothing was sent.\n")
  return terminal.DONE
end
