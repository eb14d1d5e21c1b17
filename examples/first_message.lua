-- A first message: a text and some bytes for a person in a room.
--
--     rtc sandbox                                      in one terminal,
--     rtc --endpoint sandbox listen --room demo --user alice     in another, then
--     tools/lua examples/first_message.lua
--
-- For the service itself set RTC_ENDPOINT=https://rtc.volcengineapi.com, VOLC_ACCESSKEY, VOLC_SECRETKEY, RTC_APP_ID
-- and RTC_FROM.
local rtc = require "rtc"

local client = rtc.new { endpoint = os.getenv("RTC_ENDPOINT") or "sandbox" }

local receipt, err = client:send_room_unicast {
  room_id = "demo", to = "alice", message = "Grüße, 世界! Привет, мир 👋",
}
if not receipt then
  error(err)
end
print(receipt)

local bytes = {}
for i = 0, 255 do
  bytes[#bytes + 1] = string.char(i)
end
receipt, err = client:send_room_unicast {
  room_id = "demo", to = "alice", message = table.concat(bytes), binary = true,
}
if not receipt then
  error(err)
end
print(receipt)
