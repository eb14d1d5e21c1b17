--- How a command prints what became of its call, and with which exit code it ends.

local json = require("cjson").new()
local json_line = require "rtc.cli.json_line"
local terminal = require "rtc.cli.terminal"
local text = require "rtc.text"
local words = require "rtc.cli.words"

local result = {}

local of_receipt = { "action", "version", "region", "http_status", "request_id", "attempts", "elapsed", "message",
  "possible_duplicate", "result" }
local of_error = { "action", "kind", "code", "class", "code_n", "outcome", "retryable", "retry_after", "message",
  "advice", "field", "http_status", "request_id", "attempts" }

local function members(ok, names, told)
  local list = { { "ok", ok } }
  for _, name in ipairs(names) do
    list[#list + 1] = { name, told[name] }
  end
  return list
end

--- The parts of a list of receivers, for JSON.
local function parts_of(told)
  local parts = {}
  for i, part in ipairs(told.parts or {}) do
    local outcome = part.receipt or part.err
    parts[i] = {
      to = part.to, ok = part.receipt ~= nil, code = outcome.code, outcome = outcome.outcome,
      request_id = outcome.request_id, attempts = outcome.attempts,
    }
  end
  return #parts > 0 and parts or nil
end

local function print_json(ok, names, told)
  local list = members(ok, names, told)
  list[#list + 1] = { "parts", parts_of(told) }
  terminal.write(json_line(list))
end

local function print_failed_parts(err)
  for i, part in ipairs(err.parts or {}) do
    if part.err then
      terminal.complain(("part %d, %s … %s (%d receivers): %s"):format(i, part.to[1], part.to[#part.to], #part.to,
        tostring(part.err):match("^[^\n]*")))
    end
  end
end

local function print_receipt(given, receipt)
  if given.json then
    return print_json(true, of_receipt, receipt)
  end
  terminal.write(terminal.harmless(tostring(receipt)), "\n")
  if receipt.result ~= nil then
    terminal.write(text.without_commands(json.encode(receipt.result), "\\u%04x"), "\n")
  end
end

--- Prints a receipt or an error.
---@param given table  the command line's options: `json`
---@param receipt rtc.Receipt|nil
---@param err rtc.Error|nil
---@return integer exit code
function result.print(given, receipt, err)
  if receipt then
    local printed, raised = pcall(print_receipt, given, receipt)
    if not printed then
      local ending = terminal.ending(raised)
      local problem = ending and ending.message or not ending and tostring(raised)
      if problem then -- but the exit code is about the call, and that was accepted
        terminal.complain(problem)
      end
    end
    return terminal.DONE
  end
  if given.json then
    print_json(false, of_error, words.in_error(err))
  else
    terminal.complain(words.of_error(err))
    print_failed_parts(err)
  end
  return err.outcome == "unknown" and terminal.UNKNOWN or terminal.FAILED
end

return result
