--- The message actions as data: what a body must hold, and whom it reaches by which callback.
---
--- Whom it reaches follows from its fields: RoomId and To the user in that room (a list: each of them), To alone the
--- user wherever that is, RoomId alone everybody in the room.

local versions = { ["2020-12-01"] = true, ["2023-07-20"] = true }

local room_id = { "RoomId", "InvalidParameter.IllegalRoomID" }
local from = { "From", "InvalidParameter.IllegalFrom" }
local to = { "To", "InvalidParameter.IllegalTo" }

---@class rtc.sandbox.Action
---@field versions table<string, boolean>
---@field types table<string, string>  field -> the Lua type its JSON value decodes to, or "list of strings"
---@field ids string[][]               {field, code when missing or malformed}, in the order checked
---@field max_receivers integer|nil    how many To may name, where it is a list
---@field max_message integer          bytes, after base64 is decoded
---@field text string                  callback of a text message
---@field binary string                callback of a binary message

---@type table<string, rtc.sandbox.Action>
return {
  SendUnicast = {
    versions = versions,
    types = { AppId = "string", From = "string", To = "string", Binary = "boolean", Message = "string" },
    ids = { from, to },
    max_message = 64 * 1024,
    text = "onUserMessageReceivedOutsideRoom",
    binary = "onUserBinaryMessageReceivedOutsideRoom",
  },
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
    ids = { room_id, from, to },
    max_message = 64 * 1024,
    text = "onUserMessageReceived",
    binary = "onUserBinaryMessageReceived",
  },
  SendBroadcast = {
    versions = versions,
    types = { AppId = "string", RoomId = "string", From = "string", Binary = "boolean", Message = "string" },
    ids = { room_id, from },
    max_message = 64 * 1024,
    text = "onRoomMessageReceived",
    binary = "onRoomBinaryMessageReceived",
  },
  BatchSendRoomUnicast = {
    versions = versions,
    types = {
      AppId = "string",
      RoomId = "string",
      From = "string",
      To = "list of strings",
      Binary = "boolean",
      Message = "string",
    },
    ids = { room_id, from, to },
    max_receivers = 600,
    max_message = 20 * 1024,
    text = "onUserMessageReceived",
    binary = "onUserBinaryMessageReceived",
  },
}
