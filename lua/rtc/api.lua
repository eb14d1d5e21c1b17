--- The OpenAPI as data: actions, their versions, fields and limits, and the documented error codes.
---
--- The rest reads these tables; nothing here does anything but look one up.

local api = {}

api.default_host = "rtc.volcengineapi.com"
api.default_region = "cn-north-1"
api.service = "rtc"
api.default_version = "2020-12-01"

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
---@field type "id"|"boolean"|"message"
---@field default any  sent when the call gives none; without it the field is required
---@field max integer|nil  bytes
---@field remedy string|nil  what to do when it is missing, if not just to pass it

---@class rtc.api.Action
---@field name string
---@field versions string[]  known ones, the default first
---@field fields rtc.api.Field[]  in wire order
---@field callbacks { text: string, binary: string }  what fires in the receiver's app

--- 64 KB is documented for Message, but not whether before or after base64. Only what is too large by both
--- readings is refused here; the service decides the rest.
local message_max = 65536

local app_id = {
  name = "app_id", wire = "AppId", type = "id",
  remedy = "pass it in the call or to rtc.new, or set RTC_APP_ID",
}
local room_id = { name = "room_id", wire = "RoomId", type = "id" }
local from = {
  name = "from", wire = "From", type = "id",
  remedy = "pass it in the call or to rtc.new, or set RTC_FROM (an ID that no real user has)",
}
local to = { name = "to", wire = "To", type = "id" }
-- `binary` before `message`: it says how `message` is to be read.
local binary = { name = "binary", wire = "Binary", type = "boolean", default = false }
local message = { name = "message", wire = "Message", type = "message", max = message_max }

---@type table<string, rtc.api.Action>
api.actions = {
  SendRoomUnicast = {
    name = "SendRoomUnicast",
    versions = { "2020-12-01", "2023-07-20" },
    fields = { app_id, room_id, from, to, binary, message },
    callbacks = { text = "onUserMessageReceived", binary = "onUserBinaryMessageReceived" },
  },
}

---@class rtc.api.Code
---@field kind "gateway"|"service"
---@field refused boolean|nil  refused before execution: the message was certainly not delivered
---@field throttled boolean|nil  refused for its rate: the same request can succeed later
---@field advice string|nil

local function gateway(advice)
  return { kind = "gateway", refused = true, advice = advice }
end

local function throttled(kind)
  return {
    kind = kind, refused = true, throttled = true,
    advice = "The message actions of one account may send 500 a second in all: send more slowly.",
  }
end

--- The gateway met trouble of its own: the service may have got the request all the same.
local function uncertain()
  return { kind = "gateway" }
end

local function parameter(advice)
  return { kind = "service", refused = true, advice = advice }
end

local clock = "Requests are valid for 15 minutes: set this machine's clock (UTC), for example by NTP."
local access_key = "Check access_key (VOLC_ACCESSKEY): it is mistyped, disabled or deleted, or it is a key of "
  .. "another site (BytePlus and Volcengine keys differ)."
local policy = "The access key's user lacks a policy that allows this action: grant one in the IAM console."
local token = "Check session_token: it belongs to one temporary access key, and it expires."
local forbidden = policy .. " If it has one, see that the advanced RTS feature, which sending by OpenAPI needs, "
  .. "is switched on for the app in the RTC console."

--- Every documented code that a message action can meet. A code that is not here and whose class is not in
--- `api.classes` is neither refused nor throttled as far as we know.
---@type table<string, rtc.api.Code>
api.codes = {
  UndefinedError = uncertain(),
  MissingParameter = gateway(),
  MissingAuthenticationToken = gateway("The Authorization header was lost on the way: does a proxy remove it?"),
  MissingRequestInfo = gateway("A signed header was lost on the way: does a proxy remove it?"),
  MissingSignature = gateway(),
  InvalidTimestamp = gateway(clock),
  ServiceNotFound = gateway("Check the endpoint and the region: this host does not serve rtc there."),
  ServiceUnavailable = uncertain(), -- an older name of ServiceNotFound; too general a word to trust
  InvalidActionOrVersion = gateway("Check version: the message actions exist in 2020-12-01 and 2023-07-20."),
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
  MethodNotAllowed = gateway(),
  InternalServiceError = uncertain(),
  InvalidAuthorization = gateway("Does a proxy change the Authorization header?"),
  InvalidCredential = gateway("Check access_key and region: they make up the credential scope."),
  InvalidSecretToken = gateway(token),
  AccountFlowLimitExceeded = throttled("gateway"),
  InnerApiNeedAccountInfo = gateway(),

  ["InvalidParameter"] = parameter(),
  ["InvalidParameter.NotExistAppId"] = parameter("Check app_id: the RTC console lists the AppIds of your account."),
  ["InvalidParameter.IllegalAppId"] = parameter("Check app_id: the RTC console lists the AppIds of your account."),
  ["InvalidParameter.AccountIdMismatch"] = parameter("app_id belongs to another account than access_key: use both "
    .. "of one account."),
  ["InvalidParameter.SizeOverLimit"] = parameter("The message is too large. Binary messages grow by a third in "
    .. "base64: keep them under 48 KB."),
}

--- Codes are dotted; a whole class behaves alike.
---@type table<string, rtc.api.Code>
api.classes = {
  InvalidParameter = parameter(),
  FlowLimitExceeded = throttled("service"),
  AccessDenied = { kind = "service", refused = true, advice = forbidden },
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
