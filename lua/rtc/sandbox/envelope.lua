--- The service's answers: the JSON envelope around a result or an error.
local cjson = require("cjson").new()
local rand = require("openssl.rand")
local codes = require("rtc.sandbox.codes")
local text = require("rtc.sandbox.text")

local envelope = {}

--- A new RequestId: 14 digits of the time (yyyyMMddHHmmss) and 20 upper-case hex digits.
---@return string
function envelope.request_id()
  local random = rand.bytes(10):gsub(".", function(byte)
    return ("%02X"):format(byte:byte())
  end)
  return os.date("!%Y%m%d%H%M%S") .. random
end

---@class rtc.sandbox.Failure
---@field code string
---@field code_n integer|nil
---@field message string
---@field status integer

--- An error of the gateway, with its documented number, HTTP status and text.
---@param code string
---@param ... string what the text's `%s` stand for
---@return rtc.sandbox.Failure
function envelope.gateway(code, ...)
  local row = codes.gateway[code]
  return { code = code, code_n = row.n, message = row.text:format(...), status = row.status }
end

--- An error of the RTC service itself. With 2023-07-20 a failure is never HTTP 200 (documented; that it is 400
--- is inferred). With 2020-12-01 it "may be 200 or not": the sandbox answers 200, so that a client
--- that takes 200 for success is found out here.
---@param version string the action's version
---@param code string
---@param ... string what the text's `%s` stand for
---@return rtc.sandbox.Failure
function envelope.service(version, code, ...)
  local status = version == "2020-12-01" and 200 or 400
  return { code = code, message = codes.service[code]:format(...), status = status }
end

--- The answer's body.
---@param call rtc.sandbox.Call
---@param failure rtc.sandbox.Failure|nil
---@return string json
function envelope.encode(call, failure)
  local metadata = { RequestId = call.request_id }
  -- Seen for a missing Action, inferred for a missing Version: nothing but the RequestId and the error.
  if call.action and call.version then
    metadata.Action = text.to_utf8(call.action)
    metadata.Version = text.to_utf8(call.version)
    metadata.Service = text.to_utf8(call.service)
    metadata.Region = text.to_utf8(call.region)
  end
  if not failure then
    return cjson.encode({ ResponseMetadata = metadata, Result = { Message = "Success" } })
  end
  metadata.Error = { Code = failure.code, CodeN = failure.code_n, Message = text.to_utf8(failure.message) }
  return cjson.encode({ ResponseMetadata = metadata })
end

return envelope
