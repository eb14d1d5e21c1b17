--- rtc sign: shows how the same message would be signed, step by step, to be laid beside what the other side made of
--- it when a signature does not match.

local api = require "rtc.api"
local message = require "rtc.cli.message"
local suggest = require "rtc.suggest"
local target = require "rtc.cli.target"
local terminal = require "rtc.cli.terminal"
local text = require "rtc.text"
local words = require "rtc.cli.words"

--- The secret key takes part in the signature only; nothing that is printed here holds it.
local function describe(explained)
  local authorization = explained.headers.Authorization
  return {
    { "url", explained.url },
    { "body", explained.body },
    { "access key", authorization:match("Credential=([^/]*)") },
    { "credential scope (day/region/service/request)", explained.credential_scope },
    { "signed headers", explained.signed_headers },
    { "canonical request", explained.canonical_request },
    { "string to sign", explained.string_to_sign }, -- its last line is the SHA-256 of the canonical request
    { "signature", explained.signature },
    { "Authorization", authorization },
  }
end

local function indented(line)
  return "    | " .. text.printable(line) .. "\n"
end

---@param given table  the command line's options
---@return integer exit code
return function(given)
  local client = target.client(given)
  local action = api.find(given.action)
  if not action then
    terminal.finish(terminal.USAGE, ("--action: '%s' is no message action: %s"):format(given.action,
      suggest.hint(given.action, api.action_names)))
  end
  local explained, err = client:explain(action.name, message.fields(action, given), given.time)
  if not explained then
    terminal.finish(terminal.FAILED, words.of_error(err))
  end
  for _, part in ipairs(describe(explained)) do
    -- The form of the sandbox's log, so that the two can be compared line by line.
    terminal.write(part[1], ":\n", ((part[2] .. "\n"):gsub("(.-)\n", indented)))
  end
  terminal.write("The secret key is not shown; it makes the signature of the string to sign. Nothing was sent.\n")
  return terminal.DONE
end
