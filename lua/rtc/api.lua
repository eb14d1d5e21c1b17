--- The OpenAPI as data: actions, their versions, fields and limits, and the documented error codes.
---
--- The rest reads these tables; nothing here does anything but look one up.

local api = {}

api.default_host = "rtc.volcengineapi.com"
api.default_region = "cn-north-1"
api.service = "rtc"
api.default_version = "2020-12-01"

--- Sites by a short name: where their OpenAPI is.
---@type table<string, string>
api.sites = { byteplus = "open.byteplusapi.com", singapore = "open-ap-singapore-1.volcengineapi.com" }

--- The region of hosts that are not in `default_region`. For Singapore one page of the service has ap-southeast-1: the
--- Go SDK and the other pages have this one, and the option `region` overrides it.
---@type table<string, string>
api.regions = {
  ["open.byteplusapi.com"] = "ap-singapore-1",
  ["open-ap-singapore-1.volcengineapi.com"] = "ap-singapore-1",
}

--- IDs are `[a-zA-Z0-9_@\-\.]{1,128}`: documented for From; the page on RoomId and UserId says the same in words.
--- Ranges and not `%w`, which changes with the locale.
api.id = {
  pattern = "^[A-Za-z0-9_@%-%.]+$",
  other = "[^A-Za-z0-9_@%-%.]",
  max = 128,
  rule = "an ID has 1 to 128 characters of A-Z a-z 0-9 _ @ - .",
}

---@class rtc.api.Field
---@field name string  in Lua
---@field wire string  in the JSON body
---@field option string|nil  on the command line; none: the argument
---@field type "id"|"ids"|"boolean"|"message"
---@field summary string  for help and documentation
---@field default any  sent when the call gives none; without it the field is required
---@field max integer|nil  bytes of a message; entries of a list
---@field variable string|nil  of the environment, where a client finds its default
---@field remedy string|nil  what to do when it is missing, if not just to pass it

---@class rtc.api.Action
---@field name string
---@field method string  of the client
---@field command string  of the command line
---@field summary string  for help and documentation
---@field versions string[]  known ones, the default first
---@field fields rtc.api.Field[]  in wire order
---@field callbacks { text: string, binary: string }  what fires in the receiver's app

local app_id = {
  name = "app_id", wire = "AppId", option = "--app", type = "id", summary = "the app's ID",
  variable = "RTC_APP_ID", remedy = "pass it in the call or to rtc.new, or set RTC_APP_ID",
}
local room_id = {
  name = "room_id", wire = "RoomId", option = "--room", type = "id", summary = "the room that the receivers are in",
}
local from = {
  name = "from", wire = "From", option = "--from", type = "id", variable = "RTC_FROM",
  summary = "the sender's ID, which no real user has",
  remedy = "pass it in the call or to rtc.new, or set RTC_FROM (an ID that no real user has)",
}
local to = { name = "to", wire = "To", option = "--to", type = "id", summary = "the receiver's user ID" }
local to_many = {
  name = "to", wire = "To", option = "--to", type = "ids", max = 600, summary = "the receivers' user IDs, a list",
}
-- `binary` before `message`: it says how `message` is to be read.
local binary = {
  name = "binary", wire = "Binary", option = "--binary", type = "boolean", default = false,
  summary = "send any bytes, not only UTF-8 text",
}

--- The sizes are documented in KB, but not whether before or after base64. Only what is too large by both readings is
--- refused here; the service decides the rest.
---@param max integer  bytes
local function message(max)
  return {
    name = "message", wire = "Message", type = "message", max = max,
    summary = "UTF-8 text, or any bytes with `binary`",
  }
end

--- The fields for which a client has defaults.
---@type rtc.api.Field[]
api.defaults = { app_id, from }

local versions = { "2020-12-01", "2023-07-20" }

--- The message actions, in the order in which they are shown.
---@type rtc.api.Action[]
api.messages = {
  {
    name = "SendUnicast", method = "send_unicast", command = "unicast", versions = versions,
    summary = "a message to one user who is logged in, in a room or not",
    fields = { app_id, from, to, binary, message(65536) },
    callbacks = { text = "onUserMessageReceivedOutsideRoom", binary = "onUserBinaryMessageReceivedOutsideRoom" },
  },
  {
    name = "SendRoomUnicast", method = "send_room_unicast", command = "send", versions = versions,
    summary = "a message to one user in a room",
    fields = { app_id, room_id, from, to, binary, message(65536) },
    callbacks = { text = "onUserMessageReceived", binary = "onUserBinaryMessageReceived" },
  },
  {
    name = "SendBroadcast", method = "send_broadcast", command = "broadcast", versions = versions,
    summary = "a message to everyone in a room",
    fields = { app_id, room_id, from, binary, message(65536) },
    callbacks = { text = "onRoomMessageReceived", binary = "onRoomBinaryMessageReceived" },
  },
  {
    name = "BatchSendRoomUnicast", method = "batch_send_room_unicast", command = "batch", versions = versions,
    summary = "a message to many users in a room",
    fields = { app_id, room_id, from, to_many, binary, message(20480) },
    callbacks = { text = "onUserMessageReceived", binary = "onUserBinaryMessageReceived" },
  },
}

--- The same by name.
---@type table<string, rtc.api.Action>
api.actions = {}
for _, action in ipairs(api.messages) do
  api.actions[action.name] = action
end

--- The field of an action that holds a list of receivers.
---@param action rtc.api.Action
---@return rtc.api.Field|nil
function api.list_field(action)
  for _, field in ipairs(action.fields) do
    if field.type == "ids" then
      return field
    end
  end
end

local by_any_name = {}
--- The names that `api.find` takes, the client's and the service's.
---@type string[]
api.method_names, api.action_names = {}, {}
for i, action in ipairs(api.messages) do
  by_any_name[action.name], by_any_name[action.method] = action, action
  api.method_names[i], api.action_names[i] = action.method, action.name
end

--- A message action by the service's name or the client's: "SendUnicast" or "send_unicast".
---@param name any
---@return rtc.api.Action|nil
function api.find(name)
  return name ~= nil and by_any_name[name] or nil
end

---@class rtc.api.Code
---@field kind "gateway"|"service"
---@field refused boolean|nil  refused before execution: the message was certainly not delivered
---@field throttled boolean|nil  refused for its rate: the same request can succeed later
---@field advice string|nil

--- Refused by the gateway, before the service saw the request.
local function gateway(advice)
  return { kind = "gateway", refused = true, advice = advice }
end

local function throttled(kind)
  return {
    kind = kind, refused = true, throttled = true,
    advice = "The message actions of one account may send 500 a second in all: send more slowly, or find out who "
      .. "else sends with this account.",
  }
end

--- The gateway met trouble of its own: the service may have got the request all the same.
local function uncertain()
  return { kind = "gateway" }
end

--- Refused by the service, before it did anything.
local function service(advice)
  return { kind = "service", refused = true, advice = advice }
end

local clock = "Requests are valid for 15 minutes: set this machine's clock (UTC), for example by NTP."
local access_key = "Check access_key (VOLC_ACCESSKEY): it is mistyped, disabled or deleted, or it is a key of "
  .. "another site (BytePlus and Volcengine keys differ)."
local policy = "The access key's user lacks a policy that allows this action: grant one in the IAM console."
local token = "Check session_token: it belongs to one temporary access key, and it expires."
local forbidden = policy .. " If it has one, see that the advanced RTS feature, which sending by OpenAPI needs, "
  .. "is switched on for the app in the RTC console."
local app = "Check app_id: the RTC console lists the AppIds of your account."

--- Every documented code that a call can meet: the gateway's, then the service's. Of a code that is not here, and whose
--- class is not in `api.classes`, it is not known that it was refused before execution.
---@type table<string, rtc.api.Code>
api.codes = {
  UndefinedError = uncertain(),
  MissingParameter = gateway("Action and Version were lost on the way: does a proxy change the query?"),
  MissingAuthenticationToken = gateway("The Authorization header was lost on the way: does a proxy remove it?"),
  MissingRequestInfo = gateway("A signed header was lost on the way: does a proxy remove it?"),
  MissingSignature = gateway("Does a proxy change the Authorization header?"),
  InvalidTimestamp = gateway(clock),
  ServiceNotFound = gateway("Check the endpoint and the region: this host does not serve rtc there."),
  ServiceUnavailable = uncertain(), -- an older name of ServiceNotFound; too general a word to trust
  InvalidActionOrVersion = gateway("Check the action's name and version: the message actions exist in 2020-12-01 and "
    .. "2023-07-20."),
  InvalidAccessKey = gateway(access_key),
  InvalidClientTokenId = gateway(access_key), -- an older name of InvalidAccessKey
  SignatureDoesNotMatch = gateway("Most often secret_key is wrong, or a blank was copied with it. `rtc sign` shows "
    .. "the canonical request that was signed."),
  ServiceShouldCallSelfApi = gateway(),
  LackPolicy = gateway(policy),
  LackProjectPolicy = gateway(policy),
  AccessDenied = gateway(forbidden),
  InternalError = uncertain(),
  FailToConnect = uncertain(),
  InternalServiceTimeout = uncertain(),
  FlowLimitExceeded = throttled("gateway"),
  ServiceUnavailableTemp = uncertain(),
  MethodNotAllowed = gateway("Check the HTTP method: the service's reading actions take GET, the others POST."),
  InternalServiceError = uncertain(),
  InvalidAuthorization = gateway("Does a proxy change the Authorization header?"),
  InvalidCredential = gateway("Check access_key and region: they make up the credential scope."),
  InvalidSecretToken = gateway(token),
  AccountFlowLimitExceeded = throttled("gateway"),
  InnerApiNeedAccountInfo = gateway(),

  ["InvalidParameter"] = service(),
  ["InvalidParameter.BodyIsEmpty"] = service("The body was lost on the way: does a proxy remove it?"),
  ["InvalidParameter.Unmarshal"] = service("The body is not what the action takes: check the names and types of its "
    .. "fields."),
  ["InvalidParameter.EmptyAccountId"] = service(),
  ["InvalidParameter.NotExistAppId"] = service(app),
  ["InvalidParameter.IllegalAppId"] = service(app),
  ["InvalidParameter.IllegalRoomID"] = service("Check room_id: " .. api.id.rule),
  ["InvalidParameter.IllegalTo"] = service("Check to: " .. api.id.rule),
  ["InvalidParameter.IllegalFrom"] = service("Check from, which must be no real user's ID: " .. api.id.rule),
  ["InvalidParameter.SizeOverLimit"] = service("The message is too large: 64 KB are allowed, 20 KB to many users at "
    .. "once. Binary messages grow by a third in base64: keep them under 48 KB, or 15 KB."),
  ["InvalidParameter.UserCountOverLimit"] = service("A call reaches at most 600 users: pass split = true."),
  ["InvalidParameter.AccountIdMismatch"] = service("app_id belongs to another account than access_key: use both "
    .. "of one account."),
  ["InvalidParameter.TaskAlreadyExists"] = service(),
  ["InvalidParameter.ErrorActiveTaskNotFound"] = service(),
  ["InvalidParameter.StartTimeAfterEndTime"] = service(),
  ["InvalidParameter.OutofTimeRange"] = service(),
  ["InvalidParameter.InvalidRtmpAddress"] = service(),
  ["FlowLimitExceeded.QPSOverLimit"] = throttled("service"),
  ["FlowLimitExceeded.TaskNumberOverLimit"] = throttled("service"),
}

--- Codes are dotted; a whole class behaves alike.
---@type table<string, rtc.api.Code>
api.classes = {
  InvalidParameter = service(),
  FlowLimitExceeded = throttled("service"),
  AccessDenied = service(forbidden),
}

local unknown_gateway, unknown_service = { kind = "gateway" }, { kind = "service" }

--- What is known about a code of an answer.
---@param code string
---@param code_n integer|nil  only the gateway numbers its codes
---@return rtc.api.Code
function api.lookup(code, code_n)
  return api.codes[code] or api.classes[code:match("^([^.]+)%.")]
    or (code_n and unknown_gateway or unknown_service)
end

return api
