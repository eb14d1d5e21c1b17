--- What the service says, as steps of a fault server, and clients of such a server.

local fault_server = require "spec.support.fault_server"
local json = require "cjson"
local rtc = require "rtc"
local tree = require "spec.support.tree"
local verify = require "rtc.sandbox.verify"

local service = {}

local act = fault_server.act

service.access_key, service.secret_key = "AKLTkey", "hunter2-the-secret"

local function envelope(metadata, result)
  metadata.RequestId = "20250102030405AAAA"
  return json.encode { ResponseMetadata = metadata, Result = result }
end

--- An answer that accepts.
---@param answer { result: any, headers: string[][]|nil }|nil  `result` is a table that becomes JSON
---@return table  for act.answer
function service.acceptance(answer)
  answer = answer or {}
  return { body = envelope({}, answer.result or { Message = "Success" }), headers = answer.headers }
end

--- An answer that refuses.
---@param code string
---@param answer { status: integer|nil, code_n: integer|nil, message: string|nil, headers: string[][]|nil }|nil
---@return table  for act.answer
function service.refusal(code, answer)
  answer = answer or {}
  return {
    status = answer.status or 400, headers = answer.headers,
    body = envelope { Error = { Code = code, CodeN = answer.code_n, Message = answer.message or "no" } },
  }
end

--- A step that reads a request and accepts it.
function service.accepts(answer)
  return { act.read(), act.answer(service.acceptance(answer)) }
end

--- A step that reads a request and refuses it.
function service.refuses(code, answer)
  return { act.read(), act.answer(service.refusal(code, answer)) }
end

--- A step that reads a request and accepts it when `server:release(name)` says so.
---@param name string
function service.accepts_after(name)
  return { act.read(), act.wait(name), act.answer(service.acceptance()) }
end

local function with(defaults, changes)
  for name, value in pairs(changes or {}) do
    defaults[name] = value
  end
  return defaults
end

--- The options of a client.
---@param server FaultServer
---@param changes table|nil
---@return rtc.Options
function service.options(server, changes)
  return with({
    endpoint = server.url, access_key = service.access_key, secret_key = service.secret_key, app_id = "app",
    from = "server",
  }, changes)
end

--- A client whose tries follow each other at once: how long waits are is the matter of retry_spec.lua.
---@param server FaultServer
---@param changes table|nil
---@return rtc.Client
function service.client(server, changes)
  return rtc.new(service.options(server, with({ retry = { base = 0, cap = 0 } }, changes)))
end

--- The environment of a process whose default client sends to a server.
---@param server FaultServer
---@param changes table<string, string|false>|nil
---@return table<string, string|false>
function service.environment(server, changes)
  return tree.environment(with({
    RTC_ENDPOINT = server.url, VOLC_ACCESSKEY = service.access_key, VOLC_SECRETKEY = service.secret_key,
    RTC_APP_ID = "app", RTC_FROM = "server", RTC_DEBUG = false,
  }, changes))
end

--- The fields of a message to one user in a room.
---@param changes table|nil
---@return rtc.SendRoomUnicast
function service.message(changes)
  return with({ room_id = "room", to = "user", message = "hello" }, changes)
end

--- The target of an action's requests.
---@param action string
---@return string
function service.target(action)
  return ("/?Action=%s&Version=2020-12-01"):format(action)
end

--- Looks at a recorded request with the sandbox's eyes, which share nothing with the signer.
---@param request table  of server:requests()
---@param secret_key string|nil  default: the one of `service.client`
---@return boolean
function service.is_signed_well(request, secret_key)
  local path, query = request.target:match("^([^?]*)%??(.*)$")
  return verify.check({
    method = request.method, path = path, query = query, headers = request.headers, body = request.body,
  }, assert(verify.parse(request.headers.authorization)), secret_key or service.secret_key).ok
end

return service
