--- What every store of a rate limit answers, whatever it keeps the count in.

local limit_cases = {}

local NONE = "no slot"

-- Rates are powers of two, so that sums are exact. A step: the time, and the wait; or NONE and when one is free.
limit_cases.all = {
  ["gives a burst at once, then slot by slot"] = {
    rate = 4, burst = 3, max_wait = 10,
    { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0.25 }, { 0, 0.5 }, { 0, 0.75 },
  },
  ["gives one at once when that is all"] = {
    rate = 4, burst = 1, max_wait = 10, { 0, 0 }, { 0, 0.25 }, { 0, 0.5 },
  },
  ["lets a steady stream pass"] = {
    rate = 4, burst = 1, max_wait = 0, { 8, 0 }, { 8.25, 0 }, { 8.5, 0 }, { 8.75, 0 }, { 9.5, 0 },
  },
  ["gives slots back as time goes by"] = {
    rate = 4, burst = 2, max_wait = 10, { 0, 0 }, { 0, 0 }, { 0, 0.25 }, { 0.5, 0 }, { 0.5, 0.25 }, { 0.625, 0.375 },
  },
  ["saves no more than a burst"] = {
    rate = 4, burst = 2, max_wait = 10, { 0, 0 }, { 1000, 0 }, { 1000, 0 }, { 1000, 0.25 },
  },
  ["waits for as long as allowed, and no longer"] = {
    rate = 4, burst = 1, max_wait = 0.5, { 0, 0 }, { 0, 0.25 }, { 0, 0.5 }, { 0, NONE, 0.75 }, { 0.25, 0.5 },
  },
  ["waits for as long as it takes"] = {
    rate = 0.0009765625, burst = 1, max_wait = math.huge, { 0, 0 }, { 0, 1024 }, { 0, 2048 }, { 1024, 2048 },
  },
  ["takes no slot for a refusal"] = {
    rate = 4, burst = 1, max_wait = 0,
    { 0, 0 }, { 0, NONE, 0.25 }, { 0, NONE, 0.25 }, { 0.125, NONE, 0.125 }, { 0.25, 0 }, { 0.25, NONE, 0.25 },
  },
  ["takes rates below one"] = {
    rate = 0.5, burst = 2, max_wait = 2, { 0, 0 }, { 0, 0 }, { 0, 2 }, { 0, NONE, 4 }, { 2, 2 },
  },
  ["takes one in a thousand seconds"] = {
    rate = 0.0009765625, burst = 1, max_wait = 0, { 5, 0 }, { 5, NONE, 1024 }, { 1028, NONE, 1 }, { 1029, 0 },
  },
  ["takes great rates"] = {
    rate = 1048576, burst = 2, max_wait = 0,
    { 1, 0 }, { 1, 0 }, { 1, NONE, 1 / 1048576 }, { 1.5, 0 }, { 1.5, 0 }, { 1.5, NONE, 1 / 1048576 },
  },
}

local function told(wait, free)
  return free and ("%s until %.17g"):format(NONE, free) or ("%.17g"):format(wait)
end

--- What the steps of a case have to give.
---@param case table
---@return string
function limit_cases.expected(case)
  local steps = {}
  for i, step in ipairs(case) do
    steps[i] = told(step[2], step[3])
  end
  return table.concat(steps, ", ")
end

--- What they give.
---@param case table
---@param take function  a store's
---@param key string
---@return string
function limit_cases.play(case, take, key)
  local steps = {}
  for i, step in ipairs(case) do
    steps[i] = told(take(key, step[1], case.rate, case.burst, case.max_wait))
  end
  return table.concat(steps, ", ")
end

return limit_cases
