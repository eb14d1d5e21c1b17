-- Inside a real nginx worker: the engine refuses, since it would block the worker; the core does its part there.
local nginx = require "spec.support.nginx"

describe("inside an nginx worker", function()
  setup(nginx.make)

  it("rtc.engine refuses, and says what to do instead", function()
    local answer = nginx.run([[
      local made, problem = pcall(require("rtc.engine").new)
      ngx.print(tostring(made), " ", tostring(problem))
    ]])
    assert.matches("^false ", answer)
    assert.matches("block the worker", answer)
    assert.matches("cosocket", answer)
  end)

  it("rtc.new refuses a runtime that would block, with the same advice", function()
    local answer = nginx.run([[
      local made, problem = pcall(require("rtc").new, { endpoint = "sandbox", runtime = "blocking" })
      ngx.print(tostring(made), " ", tostring(problem))
    ]])
    assert.matches("^false ", answer)
    assert.matches("cosocket", answer)
  end)

  it("rtc.core signs, and agrees with the official SDKs", function()
    local answer = nginx.run([[
      local signer = require("rtc.core").signer("AKLTEXAMPLEEXAMPLEEXAMPLEEXAMPLE0001",
        "RVhBTVBMRVNFQ1JFVEtFWU5PVFJFQUwwMDAwMDAwMQ==", nil, "cn-north-1", "rtc")
      ngx.print(signer:explain({
        method = "POST", host = "rtc.volcengineapi.com", time = 1735787045,
        query = { { "Action", "SendRoomUnicast" }, { "Version", "2020-12-01" } },
        headers = { { "Content-Type", "application/json" } },
        body = '{"AppId":"0123456789abcdef01234567","RoomId":"room-1","From":"server_1",'
          .. '"To":"user@1.a-b","Binary":false,"Message":"hello"}',
      }).signature)
    ]])
    assert.equal("4840839bfacf7e4bd5f403f6294ab49c4ac09f3d018efd521c6a56ed49f4cf24", answer)
  end)
end)
