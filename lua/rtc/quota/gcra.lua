--- GCRA, the generic cell rate algorithm: what a limit does, wherever its state is kept. The state is one time: when
--- the next message is due if all come evenly.

local gcra = {}

--- Looks for the next slot.
---@param due number|nil  the state; nil: there was no message yet
---@param now number  seconds, on the clock that `due` is of
---@param rate number  slots a second
---@param burst integer  slots that may be taken at once
---@return number wait  seconds until the slot comes
---@return number due  the state once it is taken
function gcra.next(due, now, rate, burst)
  local theoretical = math.max(due or now, now)
  return math.max(0, theoretical - (burst - 1) / rate - now), theoretical + 1 / rate
end

return gcra
