--- How a command prints what became of its call, and with which exit code it ends.

local json_line = require "rtc.cli.json_line"
local json_member = require "rtc.cli.json_member"
local terminal = require "rtc.cli.terminal"
local words = require "rtc.cli.words"

local result = {}

local of_receipt = { "action", "version", "region", "http_status", "request_id", "attempts", "elapsed", "message",
  "possible_duplicate" }
local of_error = { "action", "kind", "code", "class", "code_n", "outcome", "retryable", "retry_after", "message",
  "advice", "field", "http_status", "request_id", "attempts" }

--- The parts of a list of receivers, for JSON.
local function parts_of(told)
  local parts = {}
  for i, part in ipairs(told.parts or {}) do
    local outcome = part.receipt or part.err
    parts[i] = {
      to = part.to, ok = part.receipt ~= nil, code = outcome.code, outcome = outcome.outcome,
      request_id = outcome.request_id, attempts = outcome.attempts, possible_duplicate = outcome.possible_duplicate,
    }
  end
  return #parts > 0 and parts or nil
end

local function print_json(ok, names, told)
  local members = { { "ok", ok } }
  for _, name in ipairs(names) do
    members[#members + 1] = { name, told[name] }
  end
  members[#members + 1] = { "parts", parts_of(told) }
  members[#members + 1] = { "result", nil, told.body and json_member(told.body, "Result") }
  terminal.write(json_line(members))
end

local function print_receipt(given, receipt)
  if given.json then
    return print_json(true, of_receipt, receipt)
  end
  terminal.write(terminal.harmless(tostring(receipt)), "\n")
  local came = receipt.body and json_member(receipt.body, "Result")
  if came then
    terminal.write(terminal.harmless(came), "\n")
  end
end

local function print_error(given, err)
  if given.json then
    return print_json(false, of_error, words.in_error(err))
  end
  terminal.complain(words.of_error(err))
  for i, part in ipairs(err.parts or {}) do
    if part.err then
      terminal.complain(("part %d, %s … %s (%d receivers): %s"):format(i, part.to[1], part.to[#part.to], #part.to,
        tostring(part.err):match("^[^\n]*")))
    end
  end
end

--- What went wrong with printing is told, but does not make the exit code, which is about the call.
local function protected(print, ...)
  local printed, raised = pcall(print, ...)
  local ending = not printed and terminal.ending(raised)
  local problem = not printed and (ending and ending.message or not ending and tostring(raised))
  if problem then
    terminal.complain(problem)
  end
end

--- Prints a receipt or an error.
---@param given table  the command line's options: `json`
---@param receipt rtc.Receipt|nil
---@param err rtc.Error|nil
---@return integer exit code
function result.print(given, receipt, err)
  if receipt then
    protected(print_receipt, given, receipt)
    return terminal.DONE
  end
  protected(print_error, given, err)
  return err.outcome == "unknown" and terminal.UNKNOWN or terminal.FAILED
end

return result
