--- Keeps messages to the same receiver in order: which of them have to wait for which.

local fields = require "rtc.fields"

require "rtc.interpreted" ()

local order = {}

---@class rtc.Ordered  a message in the order
---@field app string|nil
---@field room string|nil  nil: outside rooms
---@field receivers table<string, true>|nil  nil: everyone in the room
---@field waits_for integer  so many earlier ones
---@field followers rtc.Ordered[]  that wait for this one
---@field ready fun()

---@class rtc.Order
---@field unfinished table<rtc.Ordered, true>
---@field defaults { app_id: string|nil }
local methods = {}
local metatable = { __index = methods, __name = "rtc.order" }

local function share_one(some, others)
  for id in pairs(some) do
    if others[id] then
      return true
    end
  end
  return false
end

--- Whether somebody may receive both.
local function meet(one, other)
  if one.app ~= other.app then
    return false
  elseif one.receivers and other.receivers then
    return share_one(one.receivers, other.receivers)
  end
  return not one.room or not other.room or one.room == other.room
end

local function set_of(to)
  local set = {}
  for _, id in ipairs(type(to) == "table" and to or { to }) do
    set[fields.id(id) or ""] = true
  end
  return set
end

--- Adds a message.
---@param message table  its fields
---@param ready fun()  called when all earlier ones to the same receivers are finished, which may be at once. It only
--- notes that: a message that is started there, and fails at once, would start the next one within it, and so on
---@return rtc.Ordered  for `finish`
function methods:add(message, ready)
  local added = {
    app = fields.id(message.app_id or self.defaults.app_id), room = message.room_id and fields.id(message.room_id),
    receivers = message.to ~= nil and set_of(message.to) or nil, waits_for = 0, followers = {}, ready = ready,
  }
  for earlier in pairs(self.unfinished) do
    if meet(earlier, added) then
      earlier.followers[#earlier.followers + 1] = added
      added.waits_for = added.waits_for + 1
    end
  end
  self.unfinished[added] = true
  if added.waits_for == 0 then
    ready()
  end
  return added
end

--- A message is through: those that waited for it alone are ready.
---@param done rtc.Ordered
function methods:finish(done)
  self.unfinished[done] = nil
  for _, follower in ipairs(done.followers) do
    follower.waits_for = follower.waits_for - 1
    if follower.waits_for == 0 then
      follower.ready()
    end
  end
end

---@param defaults { app_id: string|nil }  the client's
---@return rtc.Order
function order.new(defaults)
  return setmetatable({ unfinished = {}, defaults = defaults }, metatable)
end

return order
