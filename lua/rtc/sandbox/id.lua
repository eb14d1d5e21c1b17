--- The service's rule for identifiers.
local id = {}

--- 1 to 128 letters, digits, `@ . _ -` (documented for From, RoomId and UserId; taken for AppId too).
---@param value any
---@return boolean
function id.is_valid(value)
  return type(value) == "string" and #value <= 128 and value:find("^[A-Za-z0-9_@.%-]+$") ~= nil
end

return id
