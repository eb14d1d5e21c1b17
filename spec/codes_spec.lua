-- Every documented code, answered by a real server: what the caller is told. One server and one client meet them all.

local documented = require "spec.support.documented_codes"
local fault_server = require "spec.support.fault_server"
local rtc = require "rtc"

local act = fault_server.act

--- The versions of the API, and the HTTP status of the service's own errors in each.
local versions = { ["2020-12-01"] = 200, ["2023-07-20"] = 400 }

local function outcome(row)
  return row.refused and "rejected" or "unknown"
end

describe("a client that is answered", function()
  local server, client

  setup(function()
    server = fault_server.start()
    client = rtc.new { endpoint = server.url, access_key = "AKLTkey", secret_key = "secret", app_id = "app",
      from = "me", retry = false }
  end)

  teardown(function()
    server:stop()
  end)

  --- Sends a message to a server that answers it with the code.
  ---@param row DocumentedCode
  ---@return rtc.Error
  local function meet(row, version, status)
    local number = row.number and ('"CodeN":%d,'):format(row.number) or ""
    server:script { act.read(), act.answer { status = status, body =
      ('{"ResponseMetadata":{"RequestId":"1","Error":{%s"Code":"%s","Message":"原文 of %s"}}}')
        :format(number, row.code, row.code) } }
    local receipt, err = client:send_room_unicast { room_id = "room", to = "user", message = "m", version = version }
    assert.is_nil(receipt)
    return err
  end

  --- What the caller must be told.
  local function check(row, status, err)
    assert.same({
      kind = row.kind, code = row.code, class = row.code:match("^[^.]+"), code_n = row.number,
      message = "原文 of " .. row.code, http_status = status, outcome = outcome(row), retryable = row.throttled,
      attempts = 1,
    }, {
      kind = err.kind, code = err.code, class = err.class, code_n = err.code_n, message = err.message,
      http_status = err.http_status, outcome = err.outcome, retryable = err.retryable, attempts = err.attempts,
    })
    if row.advice then
      assert.is_string(err.advice)
    end
  end

  local function walk(row)
    for version, service_status in pairs(versions) do
      for _, status in ipairs(row.statuses or { service_status }) do
        it(("%s with HTTP %d, %s"):format(row.code, status, version), function()
          check(row, status, meet(row, version, status))
        end)
      end
    end
  end

  for _, row in ipairs(documented) do
    walk(row)
  end

  -- Of a code that nobody has documented, only a known class tells that it was refused. A number is the gateway's.
  for _, row in ipairs {
    { code = "AccessDenied.NewOne", kind = "service", refused = true, throttled = false, advice = true },
    { code = "FlowLimitExceeded.NewOne", kind = "service", refused = true, throttled = true, advice = true },
    { code = "InvalidParameter.NewOne", kind = "service", refused = true, throttled = false },
    { code = "NewOne", kind = "service", refused = false, throttled = false },
    { code = "NewOne.OverLimit", kind = "service", refused = false, throttled = false },
    { code = "NewOne", number = 100099, kind = "gateway", refused = false, throttled = false },
    { code = "InvalidParameters", kind = "service", refused = false, throttled = false },
    { code = "invalidparameter.IllegalTo", kind = "service", refused = false, throttled = false },
    { code = "SignatureDoesNotMatch.NewOne", number = 100010, kind = "gateway", refused = false, throttled = false },
    { code = "InternalError.NewOne", kind = "service", refused = false, throttled = false,
      statuses = { 200, 400, 500 } },
    { code = "参数错误", kind = "service", refused = false, throttled = false },
  } do
    walk(row)
  end
end)
