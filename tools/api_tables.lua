-- tools/lua tools/api_tables.lua: writes the tables of README.md that say what lua/rtc/api.lua says: what stands there
-- between the lines "<!-- api.lua: NAME -->" and "<!-- end -->". With --check it changes nothing, and fails when
-- something would change.

local api = require "rtc.api"
local help = require "rtc.help"

local function row(...)
  return "| " .. table.concat({ ... }, " | ") .. " |\n"
end

local function code(name)
  return "`" .. name .. "`"
end

local tables = {}

function tables.actions()
  local text = row("`client:`", "command", "what it sends", "the receiver's app fires") .. "|---|---|---|---|\n"
  for _, action in ipairs(api.messages) do
    text = text .. row(code(action.method), code("rtc " .. action.command), action.summary,
      code(action.callbacks.text) .. ", " .. code(action.callbacks.binary))
  end
  return text
end

--- Each way in which an action has the field, and the actions that have it so.
local function uses(name)
  local list, by_text = {}, {}
  for _, action in ipairs(api.messages) do
    for _, field in ipairs(action.fields) do
      local text = field.name == name and help.describe(field)
      if text and not by_text[text] then
        by_text[text] = { text = text }
        list[#list + 1] = by_text[text]
      end
      if text then
        table.insert(by_text[text], code(action.method))
      end
    end
  end
  return list
end

function tables.fields()
  local text = row("field", "of", "") .. "|---|---|---|\n"
  for _, field in ipairs(api.actions.BatchSendRoomUnicast.fields) do -- it has every one
    for _, use in ipairs(uses(field.name)) do
      text = text .. row(code(field.name), #use == #api.messages and "all" or table.concat(use, ", "), use.text)
    end
  end
  return text
end

--- The codes for which there is advice, by what it is.
function tables.codes()
  local list, by_advice = {}, {}
  for name, known in pairs(api.codes) do
    local advice = known.advice
    if advice and not by_advice[advice] then
      by_advice[advice] = { advice = advice, again = known.throttled and "yes" or "no" }
      list[#list + 1] = by_advice[advice]
    end
    if advice then
      table.insert(by_advice[advice], code(name))
    end
  end
  for _, entry in ipairs(list) do
    table.sort(entry)
  end
  table.sort(list, function(one, other)
    return one[1] < other[1]
  end)
  local text = row("code", "tried again", "advice") .. "|---|---|---|\n"
  for _, entry in ipairs(list) do
    text = text .. row(table.concat(entry, ", "), entry.again, entry.advice)
  end
  return text
end

local function fill(readme)
  return (readme:gsub("(<!%-%- api%.lua: (%a+) %-%->\n).-(<!%-%- end %-%->)", function(before, name, after)
    return before .. "\n" .. assert(tables[name], name)() .. "\n" .. after
  end))
end

local file = assert(io.open("README.md"))
local readme = file:read("*a")
file:close()
local filled = fill(readme)
if arg[1] ~= "--check" then
  file = assert(io.open("README.md", "w"))
  assert(file:write(filled))
  file:close()
elseif filled ~= readme then
  io.stderr:write("README.md does not say what lua/rtc/api.lua says: run tools/lua tools/api_tables.lua\n")
  os.exit(1)
end
