--- Reads the service's answer: a JSON envelope, or whatever else came.

local text = require "rtc.text"
local json = require("cjson").new()
json.decode_invalid_numbers(false) -- NaN and hexadecimal are not JSON

local answer = {}

--- How much of an answer is kept, in bytes: of its words, of its codes and names, and of one that is unreadable.
local most_of_message, most_of_name, most_of_body = 1000, 128, 200

---@class rtc.Answer  every string is fit to print and has an end
---@field request_id string|nil
---@field version string|nil
---@field region string|nil
---@field message string|nil  Result.Message of a success
---@field result any  Result as it came
---@field fault { code: string, code_n: integer|nil, message: string }|nil  the service's error

--- JSON's null and wrong types come as anything: only a string that says something counts.
local function filled(value, limit)
  return type(value) == "string" and value ~= "" and text.excerpt(value, limit or most_of_name) or nil
end

--- Whether a decoded value is a JSON object with something in it. cjson shows `[]` and `{}` alike.
local function is_object(value)
  return type(value) == "table" and next(value) ~= nil and value[1] == nil
end

--- The gateway's number for a code. It comes as a float; 0 stands for none.
local function code_number(value)
  if type(value) == "number" and value >= 1 and value < 2 ^ 31 and value % 1 == 0 then
    return math.floor(value)
  end
end

local function redirect(location)
  return ("is a redirect %s; redirects are not followed"):format(
    location and "to " .. text.excerpt(location, most_of_name) or "without a Location")
end

local function unreadable(exchange, why)
  local content_type = exchange.headers["content-type"]
  if exchange.status >= 300 and exchange.status <= 399 then
    why = redirect(exchange.headers.location)
  end
  return ("the answer%s %s%s"):format(content_type and (" (%s)"):format(text.excerpt(content_type, 60)) or "", why,
    exchange.body == "" and "" or ": " .. text.excerpt(exchange.body, most_of_body))
end

--- The request's ID as a header, for answers whose envelope has none.
---@param exchange rtc.Exchange
---@return string|nil
function answer.request_id(exchange)
  return filled(exchange.headers["x-request-id"])
end

--- ResponseMetadata.Error: nothing when it is absent, null or empty (the documentation calls an empty one a
--- success; a struct of zero values is one too).
---@return table|nil fault
---@return string|nil problem
local function read_fault(err, exchange)
  if err == nil or err == json.null then
    return nil
  elseif type(err) ~= "table" or err[1] ~= nil then
    return nil, unreadable(exchange, "has an Error that is not an object")
  end
  local code, code_n, message = filled(err.Code), code_number(err.CodeN), filled(err.Message, most_of_message)
  if code or code_n or message then
    return { code = code or "UnknownError", code_n = code_n, message = message or "the answer gives no message" }
  elseif next(err) ~= nil and (err.Code ~= "" or err.Message ~= "") then
    return nil, unreadable(exchange, "has an Error without a code")
  end
end

--- Reads an answer. Failure, as documented, is a status that is not 2xx or an Error in the envelope.
---@param exchange rtc.Exchange  an answered one
---@return rtc.Answer|nil
---@return string|nil problem  why the answer cannot be read, and how it begins
function answer.read(exchange)
  local decoded, envelope = pcall(json.decode, exchange.body)
  if exchange.body == "" then
    return nil, unreadable(exchange, "is empty")
  elseif not decoded then
    return nil, unreadable(exchange, "is not JSON")
  end
  local metadata = type(envelope) == "table" and envelope.ResponseMetadata
  if not is_object(metadata) then
    return nil, unreadable(exchange, "has no ResponseMetadata object")
  end
  local fault, problem = read_fault(metadata.Error, exchange)
  if problem then
    return nil, problem
  elseif not fault and (exchange.status < 200 or exchange.status > 299) then
    return nil, unreadable(exchange, "is a failure without an error code")
  end
  return {
    request_id = filled(metadata.RequestId) or answer.request_id(exchange),
    version = filled(metadata.Version), region = filled(metadata.Region),
    result = envelope.Result,
    message = type(envelope.Result) == "table" and filled(envelope.Result.Message, most_of_message) or nil,
    fault = fault,
  }
end

return answer
