--- The error of every failed call: a table that prints well.
---
--- Errors made in C carry the same metatable, so that they print the same.

local api = require "rtc.api"
local core = require("rtc.native").load("rtc.core")
local text = require "rtc.text"

require "rtc.interpreted" ()

---@class rtc.Error
---@field kind "argument"|"config"|"quota"|"network"|"timeout"|"cancelled"|"gateway"|"service"|"response"
---@field code string  the service's own dotted code, or ours (`InvalidArgument`, `ConnectFailed`, `BadAnswer` …)
---@field class string  the code up to its first dot
---@field code_n integer|nil  the gateway's number for the code
---@field message string  what happened; never holds a secret
---@field advice string|nil  what to do about it
---@field http_status integer|nil
---@field request_id string|nil  the service's name for the request: quote it to the service's support
---@field action string|nil
---@field field string|nil  the field or option at fault
---@field retry_after number|nil  seconds after which another try makes sense: the service's word, or the rate limit's
---@field parts rtc.Part[]|nil  of a list of receivers that was split: what became of each part
---@field attempts integer  tries made; 0 when it came to none
---@field retryable boolean  another try can help, and cannot deliver twice
---@field outcome "not_sent"|"rejected"|"unknown"  `unknown`: the message may have been delivered

local errors = {}

local metatable = core.error_metatable

local outcome_words = { not_sent = "not sent", rejected = "rejected" }

--- What became of the call, in words; calls of other actions than messages are carried out and not delivered.
local function outcome(err)
  return outcome_words[err.outcome] or (not err.action or api.actions[err.action])
    and "outcome unknown: it may have been delivered" or "outcome unknown: it may have been carried out"
end

--- One line of facts, and a line of advice where there is one.
---@param err rtc.Error
---@return string
local function describe(err)
  local facts = { tostring(err.kind) }
  if err.http_status then
    facts[#facts + 1] = ("HTTP %d"):format(err.http_status)
  end
  if err.attempts and err.attempts > 1 then
    facts[#facts + 1] = ("%d tries"):format(err.attempts)
  end
  facts[#facts + 1] = outcome(err)
  if err.request_id then
    facts[#facts + 1] = "request " .. text.printable(err.request_id)
  end
  local line = ("%s%s: %s (%s)"):format(err.action and err.action .. ": " or "",
    text.printable(tostring(err.code)), text.printable(tostring(err.message)), table.concat(facts, ", "))
  if err.advice then
    line = line .. "\n  -> " .. err.advice
  end
  return line
end

metatable.__name = "rtc.error"
metatable.__tostring = describe

--- So that `"failed: " .. err` works like it does with an error that is a string.
metatable.__concat = function(left, right)
  return tostring(left) .. tostring(right)
end

--- Makes `err` (a fresh table) an error. What is not given: `class` from `code`, no tries, not retryable, and
--- the only honest outcome of a failure about which nothing is known.
---@param err table  fields of rtc.Error; `kind`, `code` and `message` must be there
---@return rtc.Error
function errors.new(err)
  err.class = err.class or err.code:match("^[^.]+") or err.code
  err.attempts = err.attempts or 0
  err.retryable = err.retryable or false
  err.outcome = err.outcome or "unknown"
  return setmetatable(err, metatable)
end

--- The same error in a table of its own: what a call makes of its last try's.
---@param err rtc.Error
---@return rtc.Error
function errors.copy(err)
  local copy = {}
  for name, value in pairs(err) do
    copy[name] = value
  end
  return errors.new(copy)
end

local severity = { not_sent = 1, rejected = 2, unknown = 3 }

--- The worse of two outcomes: what became of a call goes by all of its tries.
---@param one string|nil  none yet
---@param other string
---@return string
function errors.worse(one, other)
  return one and severity[one] > severity[other] and one or other
end

--- Completes an error that was made in C.
---@param err rtc.Error
---@param action string
---@return rtc.Error
function errors.adopt(err, action)
  err.class, err.action = err.class or err.code, action
  return err
end

--- A value that cannot be sent. Nothing was.
---@param message string
---@param field string|nil
---@param action string|nil
---@return rtc.Error
function errors.argument(message, field, action)
  return errors.new {
    kind = "argument", code = "InvalidArgument", message = message, field = field, action = action,
    outcome = "not_sent",
  }
end

--- A client that cannot be made from what was configured. Nothing was sent.
---@param message string
---@param action string|nil
---@return rtc.Error
function errors.config(message, action)
  return errors.new {
    kind = "config", code = "InvalidConfig", message = message, action = action, outcome = "not_sent",
  }
end

--- Nothing can wait where the call was made. Nothing was sent.
---@param problem string
---@param advice string
---@param action string|nil
---@return rtc.Error
function errors.no_task(problem, advice, action)
  return errors.new {
    kind = "config", code = "NoTask", message = problem, advice = advice, action = action, outcome = "not_sent",
  }
end

return errors
