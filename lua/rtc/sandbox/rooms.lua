--- Who is logged in, who is in which room, and what each receiver has still to be given.
local rooms = {}
rooms.__index = rooms

---@class rtc.sandbox.Receiver
---@field app_id string
---@field room_id string|nil nil: it is in no room
---@field user_id string
---@field overflowed boolean it was too slow, and was put out
local receiver_methods = {}
receiver_methods.__index = receiver_methods

--- New rooms, with nobody in them.
---@param limit integer bytes that may wait for one receiver
function rooms.new(limit)
  return setmetatable({ limit = limit, groups = {} }, rooms)
end

-- The name of the group of receivers that one message may be for: a user in a room; a user, in whatever room or none;
-- everybody in a room. An ID is never empty and can't hold a space.
local function group_name(app_id, room_id, user_id)
  return table.concat({ app_id, room_id or "", user_id or "" }, " ")
end

-- The names of all groups that a receiver belongs to.
local function group_names(receiver)
  local app_id, room_id, user_id = receiver.app_id, receiver.room_id, receiver.user_id
  local names = { group_name(app_id, nil, user_id) }
  if room_id then
    names[2] = group_name(app_id, room_id, user_id)
    names[3] = group_name(app_id, room_id, nil)
  end
  return names
end

--- Lets a receiver in. A user may have several, and each gets everything sent from now on.
---@param app_id string
---@param room_id string|nil nil: logged in, but in no room
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
  for _, name in ipairs(group_names(receiver)) do
    self.groups[name] = self.groups[name] or {}
    self.groups[name][receiver] = true
  end
  return receiver
end

--- Takes a receiver out; one that is out already stays out.
---@param receiver rtc.sandbox.Receiver
function rooms:leave(receiver)
  for _, name in ipairs(group_names(receiver)) do
    local group = self.groups[name] or {}
    group[receiver] = nil
    -- Rooms and users are only names in requests: empty groups must not pile up.
    if next(group) == nil then
      self.groups[name] = nil
    end
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

--- Queues an event for every receiver that it is for.
---@param app_id string
---@param room_id string|nil nil: wherever the user is
---@param user_id string|nil nil: everybody in the room
---@param event string
---@return integer count how many receivers will get it
function rooms:deliver(app_id, room_id, user_id, event)
  local list = {}
  for receiver in pairs(self.groups[group_name(app_id, room_id, user_id)] or {}) do
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
