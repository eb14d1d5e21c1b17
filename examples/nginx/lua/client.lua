--- The client that all of this shares. It is made while nginx starts: its options are checked then, once.

local rtc = require "rtc"

return rtc.new {
  endpoint = os.getenv "RTC_ENDPOINT" or "sandbox",
  quota = { rate = 500 }, -- CHANGE: less, when others send with the same account
}
