--- "Did you mean …?" for a mistyped option or field.

local suggest = {}

--- `RoomId`, `roomId` and `room_id` are one name to a reader.
local function plain(name)
  return (name:lower():gsub("[_%-]", ""))
end

--- Levenshtein distance: how many characters to insert, delete or replace.
local function distance(a, b)
  local row = {}
  for j = 0, #b do
    row[j] = j
  end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local replaced = diagonal + (a:byte(i) == b:byte(j) and 0 or 1)
      diagonal = row[j]
      row[j] = math.min(replaced, row[j] + 1, row[j - 1] + 1)
    end
  end
  return row[#b]
end

--- The candidate nearest to `name`, or nil when none is near enough to be what was meant.
---@param name string
---@param candidates string[]
---@return string|nil
function suggest.nearest(name, candidates)
  local wanted = plain(name:sub(1, 64))
  local best, best_distance = nil, math.max(1, math.floor(#wanted / 3)) + 1
  for _, candidate in ipairs(candidates) do
    local have = plain(candidate)
    local d = distance(wanted, have)
    if #wanted >= 3 and have:sub(1, #wanted) == wanted then
      d = math.min(d, 1) -- `room` for `room_id`
    end
    if d < best_distance then
      best, best_distance = candidate, d
    end
  end
  return best
end

--- The end of an "unknown name" message: the nearest name, else all names.
---@param name any  what was given; need not be a string
---@param candidates string[]
---@return string
function suggest.hint(name, candidates)
  local nearest = type(name) == "string" and suggest.nearest(name, candidates)
  if nearest then
    return ("did you mean `%s`?"):format(nearest)
  end
  return "there are: " .. table.concat(candidates, ", ")
end

return suggest
