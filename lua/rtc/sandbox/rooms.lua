--- Who is in which room, and what each receiver has still to be given.
local rooms = {}
rooms.__index = rooms

---@class rtc.sandbox.Receiver
---@field app_id string
---@field room_id string
---@field user_id string
---@field overflowed boolean it was too slow, and was put out of its room
local receiver_methods = {}
receiver_methods.__index = receiver_methods

--- New rooms, with nobody in them.
---@param limit integer bytes that may wait for one receiver
function rooms.new(limit)
  return setmetatable({ limit = limit, rooms = {} }, rooms)
end

-- An ID can't hold a space.
local function room_key(app_id, room_id)
  return app_id .. " " .. room_id
end

--- Lets a receiver into a room. A user may have several, and each gets everything sent from now on.
---@param app_id string
---@param room_id string
---@param user_id string
---@param wake fun(receiver: rtc.sandbox.Receiver) called when there is something to take, and when it overflowed
---@return rtc.sandbox.Receiver
function rooms:join(app_id, room_id, user_id, wake)
  local receiver = setmetatable({
    app_id = app_id,
    room_id = room_id,
    user_id = user_id,
    overflowed = false,
    wake = wake,
    queue = {},
    bytes = 0,
  }, receiver_methods)
  local key = room_key(app_id, room_id)
  self.rooms[key] = self.rooms[key] or {}
  local users = self.rooms[key]
  users[user_id] = users[user_id] or {}
  users[user_id][receiver] = true
  return receiver
end

--- Takes a receiver out of its room; one that is out already stays out.
---@param receiver rtc.sandbox.Receiver
function rooms:leave(receiver)
  local key = room_key(receiver.app_id, receiver.room_id)
  local users = self.rooms[key]
  local receivers = users and users[receiver.user_id]
  if not receivers then
    return
  end
  receivers[receiver] = nil
  -- Rooms and users are only names in requests: empty ones must not pile up.
  if next(receivers) == nil then
    users[receiver.user_id] = nil
  end
  if next(users) == nil then
    self.rooms[key] = nil
  end
end

--- Queues an event for one receiver. One that does not read must neither hold the sender up nor fill the
--- memory: when the event does not fit, the receiver is put out.
---@param receiver rtc.sandbox.Receiver
---@param event string
---@return boolean queued
function rooms:put(receiver, event)
  if receiver.bytes + #event > self.limit then
    receiver.overflowed = true
    self:leave(receiver)
  else
    receiver.queue[#receiver.queue + 1] = event
    receiver.bytes = receiver.bytes + #event
  end
  receiver:wake()
  return not receiver.overflowed
end

--- Queues an event for every receiver of a user in a room.
---@param app_id string
---@param room_id string
---@param user_id string
---@param event string
---@return integer count how many receivers will get it
function rooms:deliver(app_id, room_id, user_id, event)
  local users = self.rooms[room_key(app_id, room_id)]
  local list = {}
  for receiver in pairs(users and users[user_id] or {}) do
    list[#list + 1] = receiver -- a copy, since one that overflows leaves while we go
  end
  local count = 0
  for _, receiver in ipairs(list) do
    if self:put(receiver, event) then
      count = count + 1
    end
  end
  return count
end

--- Takes all that waits for this receiver.
---@return string|nil events nil when nothing waits
function receiver_methods:take()
  if #self.queue == 0 then
    return nil
  end
  local events = table.concat(self.queue)
  self.queue, self.bytes = {}, 0
  return events
end

return rooms
