--- Drives an engine until a condition holds.

local json = require("cjson")
local native = require("spec.support.native")

local pump = {}

local DEADLINE = 20
local NAP = 0.01

--- Waits and steps until `predicate()` is true; raises if it is not within `timeout` seconds.
---@param engine userdata
---@param predicate fun(): any
---@param timeout number|nil
---@return any result what the predicate returned
function pump.await(engine, predicate, timeout)
  local deadline = native.now() + (timeout or DEADLINE)
  while true do
    local result = predicate()
    if result then return result end
    if native.now() > deadline then
      error(("the condition does not come true; %d exchanges are pending, and a step is due in %s s"):format(
        engine:pending(), engine:timeout() or "no"), 2)
    end
    engine:wait(NAP)
    engine:step()
  end
end

--- Takes `count` exchanges as they complete.
---@param engine userdata
---@param count integer
---@param timeout number|nil seconds
---@return table[] exchanges in the order in which they completed
---@return table<integer, table> by_id
function pump.finish(engine, count, timeout)
  local exchanges, by_id = {}, {}
  pump.await(engine, function()
    while #exchanges < count do
      local exchange = engine:next()
      if not exchange then return false end
      if by_id[exchange.id] then error("exchange " .. exchange.id .. " completed twice") end
      exchanges[#exchanges + 1] = exchange
      by_id[exchange.id] = exchange
    end
    return true
  end, timeout)
  return exchanges, by_id
end

--- Submits a request and pumps until it completes. Nothing else may be pending.
---@param engine userdata
---@param request table
---@return table exchange
function pump.one(engine, request)
  local id, err = engine:submit(request)
  if not id then error("refused: " .. tostring(err), 2) end
  return pump.finish(engine, 1)[1]
end

--- Keeps the engine going for a time, where time itself is what is tested.
---@param engine userdata
---@param seconds number
function pump.during(engine, seconds)
  local deadline = native.now() + seconds
  pump.await(engine, function() return native.now() > deadline end, seconds + DEADLINE)
end

--- The fault server's ordinary answer, as what it says; fails for any other exchange.
---@param exchange table
---@return table
function pump.answered(exchange)
  assert(not exchange.kind, exchange.message)
  assert(exchange.status == 200, "HTTP " .. tostring(exchange.status))
  return json.decode(exchange.body)
end

return pump
