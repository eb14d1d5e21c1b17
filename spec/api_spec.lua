local api = require "rtc.api"
local process = require "spec.support.process"

-- The documented codes: their kind, whether refused before execution, whether throttled. Written out here apart
-- from the table under test: calling a code "refused" that is not loses the truth about a message.
local documented = [[
UndefinedError                          gateway  no   no
MissingParameter                        gateway  yes  no
MissingAuthenticationToken              gateway  yes  no
MissingRequestInfo                      gateway  yes  no
MissingSignature                        gateway  yes  no
InvalidTimestamp                        gateway  yes  no
ServiceNotFound                         gateway  yes  no
InvalidActionOrVersion                  gateway  yes  no
InvalidAccessKey                        gateway  yes  no
InvalidClientTokenId                    gateway  yes  no
SignatureDoesNotMatch                   gateway  yes  no
ServiceShouldCallSelfApi                gateway  yes  no
LackPolicy                              gateway  yes  no
LackProjectPolicy                       gateway  yes  no
AccessDenied                            gateway  yes  no
InternalError                           gateway  no   no
FailToConnect                           gateway  no   no
InternalServiceTimeout                  gateway  no   no
FlowLimitExceeded                       gateway  yes  yes
ServiceUnavailableTemp                  gateway  no   no
MethodNotAllowed                        gateway  yes  no
InternalServiceError                    gateway  no   no
InvalidAuthorization                    gateway  yes  no
InvalidCredential                       gateway  yes  no
InvalidSecretToken                      gateway  yes  no
AccountFlowLimitExceeded                gateway  yes  yes
InnerApiNeedAccountInfo                 gateway  yes  no
InvalidParameter                        service  yes  no
InvalidParameter.BodyIsEmpty            service  yes  no
InvalidParameter.Unmarshal              service  yes  no
InvalidParameter.EmptyAccountId         service  yes  no
InvalidParameter.NotExistAppId          service  yes  no
InvalidParameter.IllegalAppId           service  yes  no
InvalidParameter.IllegalRoomID          service  yes  no
InvalidParameter.IllegalTo              service  yes  no
InvalidParameter.IllegalFrom            service  yes  no
InvalidParameter.SizeOverLimit          service  yes  no
InvalidParameter.UserCountOverLimit     service  yes  no
InvalidParameter.AccountIdMismatch      service  yes  no
FlowLimitExceeded.QPSOverLimit          service  yes  yes
FlowLimitExceeded.TaskNumberOverLimit   service  yes  yes
AccessDenied.Whatever                   service  yes  no
SomethingNew                            service  no   no
SomethingNew.OverLimit                  service  no   no
]]

describe("the table of codes", function()
  for code, kind, refused, throttled in documented:gmatch("(%S+) +(%S+) +(%S+) +(%S+)\n") do
    it("knows " .. code, function()
      local known = api.lookup(code, nil)
      assert.equal(kind, known.kind)
      assert.equal(refused == "yes", known.refused == true)
      assert.equal(throttled == "yes", known.throttled == true)
    end)
  end

  it("takes an unknown code with a number for the gateway's", function()
    assert.equal("gateway", api.lookup("SomethingNew", 100099).kind)
  end)

  for _, code in ipairs { "InvalidAccessKey", "SignatureDoesNotMatch", "InvalidTimestamp", "FlowLimitExceeded",
    "InvalidParameter.AccountIdMismatch", "InvalidParameter.NotExistAppId", "InvalidParameter.SizeOverLimit",
    "FlowLimitExceeded.QPSOverLimit", "AccessDenied", "InvalidSecretToken" } do
    it("has advice for " .. code, function()
      assert.is_string(api.lookup(code).advice)
    end)
  end
end)

describe("the table of actions", function()
  it("is what README.md shows", function()
    local result = process.run { "tools/lua", "tools/api_tables.lua", "--check" }
    assert.same({ 0, "" }, { result.code, result.stderr })
  end)

  it("finds an action by either name", function()
    for _, action in ipairs(api.messages) do
      assert.equal(action, api.find(action.name))
      assert.equal(action, api.find(action.method))
    end
    for _, name in ipairs { "", "sendunicast", 1, false, {} } do
      assert.is_nil(api.find(name))
    end
    assert.is_nil(api.find(nil))
  end)
end)
