--- A list of receivers that is too long for one call: sent in parts, and told of as one.

local api = require "rtc.api"
local errors = require "rtc.error"
local fields = require "rtc.fields"
local receipts = require "rtc.receipt"

require "rtc.interpreted" ()

local batch = {}

local function slice(list, first, last)
  local part = {}
  for i = first, math.min(last, #list) do
    part[#part + 1] = list[i]
  end
  return part
end

--- Divides a call. Every part is checked and encoded before any is sent.
---@param action rtc.api.Action
---@param given table  fields with `split`
---@param prepare fun(part: table): rtc.Call|nil, rtc.Error|nil
---@return { to: string[], call: rtc.Call }[]|nil
---@return rtc.Error|nil
function batch.divide(action, given, prepare)
  local field = api.list_field(action)
  local ids, problem, entry = fields.ids(given[field.name], field.name)
  if not ids then
    return nil, errors.argument(("%s %s"):format(entry or field.name, problem), field.name, action.name)
  end
  local part = {}
  for name, value in pairs(given) do
    part[name] = value
  end
  local parts = {}
  for first = 1, #ids, field.max do
    part[field.name] = slice(ids, first, first + field.max - 1)
    local call, err = prepare(part)
    if not call then
      return nil, err
    end
    parts[#parts + 1] = { to = part[field.name], call = call }
  end
  return parts
end

--- One error for all parts: with one of them accepted, the whole may not be sent again without care.
local function sum_up(action, parts, failed)
  local first, outcome, retryable, retry_after = failed[1], "not_sent", true, nil
  for _, err in ipairs(failed) do
    outcome = errors.worse(outcome, err.outcome)
    retryable = retryable and err.retryable
    retry_after = err.retry_after and math.max(retry_after or 0, err.retry_after) or retry_after
  end
  if #failed < #parts then
    outcome = "unknown"
  end
  return errors.new {
    kind = first.kind, code = first.code, code_n = first.code_n, http_status = first.http_status,
    request_id = first.request_id, retry_after = retry_after, action = action,
    message = ("%d of %d parts failed, the first of them: %s"):format(#failed, #parts, first.message),
    advice = #failed < #parts and "Send again only to the receivers of the failed parts: err.parts says which."
      or first.advice,
    outcome = outcome, retryable = outcome ~= "unknown" and retryable,
  }
end

--- Sends the parts one after the other, all of them within the call's timeout. A part that fails does not hold up the
--- next one.
---@param action string
---@param parts { to: string[], call: rtc.Call }[]  become rtc.Part[]
---@param now fun(): number
---@param carry_out fun(call: rtc.Call): rtc.Receipt|nil, rtc.Error|nil
---@return rtc.Receipt|nil
---@return rtc.Error|nil
function batch.send(action, parts, now, carry_out)
  local started, attempts, failed, last, possible_duplicate = now(), 0, {}, nil, nil
  for _, part in ipairs(parts) do
    local call = part.call
    part.call = nil
    call.deadline = started + call.timeout
    part.receipt, part.err = carry_out(call)
    last = part.receipt or last
    possible_duplicate = possible_duplicate or part.receipt and part.receipt.possible_duplicate
    failed[#failed + 1] = part.err
    attempts = attempts + (part.receipt or part.err).attempts
  end
  if #failed > 0 then
    local err = #parts == 1 and errors.copy(failed[1]) or sum_up(action, parts, failed)
    err.attempts, err.parts = attempts, parts
    return nil, err
  end
  return receipts.new {
    action = action, version = last.version, region = last.region, http_status = last.http_status,
    message = last.message, attempts = attempts, elapsed = now() - started, parts = parts,
    possible_duplicate = possible_duplicate,
  }
end

return batch
