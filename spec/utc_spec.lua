local compat = require "spec.support.compat"
local process = require "spec.support.process"
local utc = require "rtc.utc"

-- Expected numbers by `date -u -d … +%s` (GNU coreutils).

describe("a time", function()
  --- Unix time must be an integer: it is formatted by %d.
  local function reads(parse, cases)
    for text, seconds in pairs(cases) do
      it("is " .. text, function()
        assert.equal(seconds, parse(text))
        assert.equal("integer", compat.number_type(parse(text)))
      end)
    end
  end

  local function refuses(parse, cases)
    for _, text in ipairs(cases) do
      it(("is not %q"):format(text), function()
        assert.is_nil(parse(text))
      end)
    end
  end

  describe("of X-Date", function()
    reads(utc.parse_basic, {
      ["19700101T000000Z"] = 0,
      ["19691231T235959Z"] = -1,
      ["00010101T000000Z"] = -62135596800,
      ["20000228T235959Z"] = 951782399,
      ["20000229T000000Z"] = 951782400,
      ["20000301T000000Z"] = 951868800,
      ["20240229T235959Z"] = 1709251199,
      ["20241231T235959Z"] = 1735689599,
      ["20250101T000000Z"] = 1735689600,
      ["20250102T030405Z"] = 1735787045,
      ["20250131T000000Z"] = 1738281600,
      ["20250430T000000Z"] = 1745971200,
      ["20991231T235959Z"] = 4102444799,
      ["21000228T000000Z"] = 4107456000,
      ["21000301T000000Z"] = 4107542400,
      ["99991231T235959Z"] = 253402300799,
    })
    refuses(utc.parse_basic, {
      "20250631T000000Z", "20250431T000000Z", "20250931T000000Z", "20251131T000000Z", "20250132T000000Z",
      "20250229T000000Z", "20000230T000000Z", "21000229T000000Z", "20251232T000000Z",
      "20250001T000000Z", "20251301T000000Z", "20250100T000000Z",
      "20250102T240000Z", "20250102T036005Z", "20250102T030460Z",
      "20250102T030405", "20250102T030405z", "20250102T030405+0800", "20250102 030405Z", "2025-01-02T03:04:05Z",
      " 20250102T030405Z", "20250102T030405Z\n", "20250102T030405Z\0", "2025010T030405Z", "now", "",
    })
  end)

  describe("of HTTP", function()
    reads(utc.parse_http, {
      ["Sun, 06 Nov 1994 08:49:37 GMT"] = 784111777,
      ["Thu, 01 Jan 1970 00:00:00 GMT"] = 0,
      ["Wed, 31 Dec 1969 23:59:59 GMT"] = -1,
      ["Mon, 28 Feb 2000 23:59:59 GMT"] = 951782399,
      ["Tue, 29 Feb 2000 00:00:00 GMT"] = 951782400,
      ["Fri, 01 Mar 2024 00:00:00 GMT"] = 1709251200,
      ["Sat, 01 Apr 2023 12:30:45 GMT"] = 1680352245,
      ["Thu, 31 Jul 2025 01:02:03 GMT"] = 1753923723,
      ["Sun, 31 Aug 2025 01:02:03 GMT"] = 1756602123,
      ["Fri, 31 Oct 2025 01:02:03 GMT"] = 1761872523,
      ["Fri, 30 May 2025 01:02:03 GMT"] = 1748566923,
      ["Mon, 30 Jun 2025 01:02:03 GMT"] = 1751245323,
      ["Tue, 30 Sep 2025 01:02:03 GMT"] = 1759194123,
      ["Sun, 28 Feb 2100 00:00:00 GMT"] = 4107456000,
      ["Mon, 01 Mar 2100 00:00:00 GMT"] = 4107542400,
    })
    refuses(utc.parse_http, {
      "Mon, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
      "Sun, 6 Nov 1994 08:49:37 GMT", "sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 08:49:37 gmt", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 08:49:37 +0000",
      "Sun, 06 Nov 1994 08:49:37", "06 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:60 GMT",
      "Tue, 31 Jun 2025 01:02:03 GMT", "Sat, 29 Feb 2025 00:00:00 GMT", "Mon, 29 Feb 2100 00:00:00 GMT",
      "Fri, 00 Jan 2025 00:00:00 GMT", " Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT ", "",
    })
  end)

  describe("of RFC 3339", function()
    reads(utc.parse_rfc3339, {
      ["2021-04-12T10:57:09+08:00"] = 1618196229,
      ["2021-04-12T02:57:09Z"] = 1618196229,
      ["2021-04-12t02:57:09z"] = 1618196229,
      ["2021-04-12T02:57:09-00:00"] = 1618196229,
      ["2021-04-12T02:57:09.999999999Z"] = 1618196229,
      ["2021-04-12T10:57:09.5+08:00"] = 1618196229,
      ["2021-04-11T23:27:09-03:30"] = 1618196229,
      ["2021-04-13T02:56:09+23:59"] = 1618196229,
      ["1969-12-31T23:59:59.9Z"] = -1,
      ["1970-01-01T00:00:00+00:01"] = -60,
      ["2000-02-29T00:00:00Z"] = 951782400,
      ["2100-03-01T07:59:59+08:00"] = 4107542399,
    })
    refuses(utc.parse_rfc3339, {
      "2021-06-31T00:00:00Z", "2021-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2021-13-01T00:00:00Z",
      "2021-00-01T00:00:00Z", "2021-01-00T00:00:00Z",
      "2021-04-12T24:00:00Z", "2021-04-12T02:60:09Z", "2021-04-12T02:57:60Z",
      "2021-04-12T10:57:09+24:00", "2021-04-12T10:57:09+08:60", "2021-04-12T10:57:09+0800", "2021-04-12T10:57:09+08",
      "2021-04-12T10:57:09 08:00", "2021-04-12T10:57:09", "2021-04-12T10:57:09.Z", "2021-04-12T10:57:09,5Z",
      "2021-04-12T10:57:09.5.5Z", "2021-04-12T10:57:09Z+08:00", "2021-04-12T10:57:09Z\n", "2021-04-12 10:57:09Z",
      "2021-4-12T10:57:09Z", "20210412T025709Z", "2021-04-12", "",
    })
  end)

  -- One that reads the local zone would be hours off.
  it("is the same in every zone", function()
    local print_all = "local utc = require 'rtc.utc' print(utc.parse_basic('20250702T030405Z'), "
      .. "utc.parse_http('Wed, 02 Jul 2025 03:04:05 GMT'), utc.parse_rfc3339('2025-07-02T03:04:05Z'))"
    for _, zone in ipairs { "UTC", "Asia/Shanghai", "America/New_York" } do
      local result = process.run({ process.lua, "-e", print_all }, { env = { TZ = zone } })
      assert.equal("1751425445\t1751425445\t1751425445\n", result.stdout, result.stderr)
    end
  end)
end)
