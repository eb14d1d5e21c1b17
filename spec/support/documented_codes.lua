--- The documented error codes, and what is to be made of each. Written out by hand, apart from the table in
--- lua/rtc/api.lua that is held against it: calling a code "refused" that is not loses the truth about a message.
--- Sources: pages 6664/116016, 6369/68677, 6448/76370 and 6396/1253687 of volcengine.com/docs, and page 70426 of
--- docs.byteplus.com for the service's; numbers from 100018 on were seen by third parties.

-- The gateway's codes come with a number, as far as it is known, and an HTTP status of their own; `400,403` when more
-- than one was seen. With the service's own there is no number, and the status goes by the API's version.
-- code                                   kind     number  status       refused  throttled  advice
local rows = [[
UndefinedError                            gateway  100001  500          no       no         -
MissingParameter                          gateway  100002  400          yes      no         yes
MissingAuthenticationToken                gateway  100003  401          yes      no         yes
MissingRequestInfo                        gateway  100004  400          yes      no         yes
MissingSignature                          gateway  100005  401          yes      no         yes
InvalidTimestamp                          gateway  100006  400,403      yes      no         yes
ServiceNotFound                           gateway  100007  404          yes      no         yes
ServiceUnavailable                        gateway  100007  404          no       no         -
InvalidActionOrVersion                    gateway  100008  404          yes      no         yes
InvalidAccessKey                          gateway  100009  401          yes      no         yes
InvalidClientTokenId                      gateway  100009  401          yes      no         yes
SignatureDoesNotMatch                     gateway  100010  401          yes      no         yes
ServiceShouldCallSelfApi                  gateway  100011  403          yes      no         -
LackPolicy                                gateway  100012  401,403      yes      no         yes
LackProjectPolicy                         gateway  100012  401,403      yes      no         yes
AccessDenied                              gateway  100013  403          yes      no         yes
InternalError                             gateway  100014  500          no       no         -
FailToConnect                             gateway  100015  502          no       no         -
InternalServiceTimeout                    gateway  100016  504          no       no         -
FlowLimitExceeded                         gateway  100018  429          yes      yes        yes
ServiceUnavailableTemp                    gateway  100019  503          no       no         -
MethodNotAllowed                          gateway  100020  405          yes      no         yes
InternalServiceError                      gateway  -       502          no       no         -
InvalidAuthorization                      gateway  100024  400          yes      no         yes
InvalidCredential                         gateway  100025  400          yes      no         yes
InvalidSecretToken                        gateway  100026  401          yes      no         yes
AccountFlowLimitExceeded                  gateway  100027  429,400,200  yes      yes        yes
InnerApiNeedAccountInfo                   gateway  -       400          yes      no         -
InvalidParameter                          service  -       -            yes      no         -
InvalidParameter.BodyIsEmpty              service  -       -            yes      no         yes
InvalidParameter.Unmarshal                service  -       -            yes      no         yes
InvalidParameter.EmptyAccountId           service  -       -            yes      no         -
InvalidParameter.NotExistAppId            service  -       -            yes      no         yes
InvalidParameter.IllegalAppId             service  -       -            yes      no         yes
InvalidParameter.IllegalRoomID            service  -       -            yes      no         yes
InvalidParameter.IllegalTo                service  -       -            yes      no         yes
InvalidParameter.IllegalFrom              service  -       -            yes      no         yes
InvalidParameter.SizeOverLimit            service  -       -            yes      no         yes
InvalidParameter.UserCountOverLimit       service  -       -            yes      no         yes
InvalidParameter.TaskAlreadyExists        service  -       -            yes      no         -
InvalidParameter.ErrorActiveTaskNotFound  service  -       -            yes      no         -
InvalidParameter.StartTimeAfterEndTime    service  -       -            yes      no         -
InvalidParameter.OutofTimeRange           service  -       -            yes      no         -
InvalidParameter.InvalidRtmpAddress       service  -       -            yes      no         -
InvalidParameter.AccountIdMismatch        service  -       -            yes      no         yes
FlowLimitExceeded.QPSOverLimit            service  -       -            yes      yes        yes
FlowLimitExceeded.TaskNumberOverLimit     service  -       -            yes      yes        yes
]]

---@class DocumentedCode
---@field code string
---@field kind "gateway"|"service"
---@field number integer|nil CodeN
---@field statuses integer[]|nil HTTP's; nil: those of the versions
---@field refused boolean before execution
---@field throttled boolean
---@field advice boolean a user can meet it, and is told what to do

local function numbers(column)
  local list = {}
  for digits in column:gmatch("%d+") do
    list[#list + 1] = tonumber(digits)
  end
  return list
end

---@return DocumentedCode
local function read(row)
  local code, kind, number, status, refused, throttled, advice =
    row:match("^(%S+) +(%S+) +(%S+) +(%S+) +(%S+) +(%S+) +(%S+)$")
  return {
    code = assert(code, row), kind = kind, number = tonumber(number),
    statuses = status ~= "-" and numbers(status) or nil,
    refused = refused == "yes", throttled = throttled == "yes", advice = advice == "yes",
  }
end

---@type DocumentedCode[]
local codes = {}
for row in rows:gmatch("[^\n]+") do
  codes[#codes + 1] = read(row)
end

return codes
