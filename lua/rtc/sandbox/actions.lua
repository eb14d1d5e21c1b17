--- The message actions as data: what a body must hold, and whom it reaches by which callback.

local versions = { ["2020-12-01"] = true, ["2023-07-20"] = true }

---@class rtc.sandbox.Action
---@field versions table<string, boolean>
---@field types table<string, string>  field -> the Lua type its JSON value decodes to
---@field ids string[][]               {field, code when missing or malformed}, in the order checked
---@field max_message integer          bytes, after base64 is decoded
---@field text string                  callback of a text message
---@field binary string                callback of a binary message

---@type table<string, rtc.sandbox.Action>
return {
  SendRoomUnicast = {
    versions = versions,
    types = {
      AppId = "string",
      RoomId = "string",
      From = "string",
      To = "string",
      Binary = "boolean",
      Message = "string",
    },
    ids = {
      { "RoomId", "InvalidParameter.IllegalRoomID" },
      { "From", "InvalidParameter.IllegalFrom" },
      { "To", "InvalidParameter.IllegalTo" },
    },
    max_message = 64 * 1024,
    text = "onUserMessageReceived",
    binary = "onUserBinaryMessageReceived",
  },
}
