--- Many times that something took, and what they are like.

local distribution = {}

--- The value that this share of all is not above.
---@param values number[]  sorted here
---@param share number  0.5: the median
---@return number
function distribution.at(values, share)
  table.sort(values)
  return values[math.max(1, math.ceil(share * #values))] or 0 / 0
end

---@param values number[]
---@return number
function distribution.median(values)
  return distribution.at(values, 0.5)
end

return distribution
