--- The sandbox's log: one line a call, and what a developer needs to find a wrong signature.
local actions = require("rtc.sandbox.actions")
local text = require("rtc.text")

local unpack = table.unpack or unpack -- luacheck: ignore 113 143

local log = {}
log.__index = log

local LONGEST = 400 -- bytes of one logged value

--- A new log.
---@param file file* where lines go
---@param program string how the command is started, for advice
function log.new(file, program)
  return setmetatable({ file = file, program = program }, log)
end

function log:write(line)
  self.file:write(os.date("%H:%M:%S "), line, "\n")
  self.file:flush()
end

--- Something that happened, as one line.
---@param format string
---@param ... string|number logged values; what drives a terminal or forges a line is escaped
function log:note(format, ...)
  local values = { ... }
  for i, value in ipairs(values) do
    values[i] = text.excerpt(tostring(value), LONGEST)
  end
  self:write(format:format(unpack(values)))
end

local function indent(block)
  local lines = {}
  for line in (block .. "\n"):gmatch("(.-)\n") do
    lines[#lines + 1] = "    | " .. text.printable(line)
  end
  return table.concat(lines, "\n")
end

-- What `rtc sign` must be told of the call. An action or version that does not exist is whatever a stranger wrote,
-- which must not get into a command to be copied.
local function options_of(call)
  local action, options = actions[call.action], ""
  if action and call.action ~= "SendRoomUnicast" then
    options = " --action " .. call.action
  end
  if action and call.version ~= "2020-12-01" and action.versions[call.version] then
    options = options .. " --api-version " .. call.version
  end
  return options
end

-- In the form of `rtc sign`, so that the two can be compared line by line. The signature that the server calculated
-- stays out of the log: whoever reads it could send the request.
local function explain(call, program)
  local verdict, x_date = call.verdict, call.request.headers["x-date"]
  local why, key = "", "; if none of these lines differs, it is the secret key"
  if #verdict.reasons > 0 then
    why, key = "    " .. text.printable(table.concat(verdict.reasons, "; ")) .. "\n", ""
  end
  return ("%scanonical request:\n%s\nstring to sign:\n%s\n"
    .. "compare with: %s sign%s --time %s … (the rest as for rtc send)%s\n"):format(
    why,
    indent(verdict.canonical_request),
    indent(verdict.string_to_sign),
    program,
    options_of(call),
    x_date,
    key
  )
end

local function counted(number, what)
  return ("%d %s%s"):format(number, what, number == 1 and "" or "s")
end

local function outcome(call)
  if call.failure then
    return call.failure.code .. " (" .. call.failure.message .. ")"
  end
  return "Success, " .. counted(call.delivered, "receiver")
end

-- "room -> user", as much of it as the action has.
local function destination(call)
  local types, body = actions[call.action].types, call.body
  local to = body.To or "?"
  if type(to) == "table" then
    to = counted(#to, "user")
  end
  return (types.RoomId and " " .. (body.RoomId or "?") or "") .. (types.To and " -> " .. to or "")
end

-- Where the message was to go and what it was; empty when the body was not reached.
local function message(call)
  local body = call.body
  if not body then
    return ""
  end
  local size = call.size and (" %d bytes"):format(call.size) or ""
  return ("%s, %s%s"):format(destination(call), body.Binary and "binary" or "text", size)
end

--- One call: time, action, room -> user or users, kind and size, what came of it, request ID, milliseconds.
---@param call rtc.sandbox.Call
---@param elapsed number seconds
function log:call(call, elapsed)
  local action, milliseconds = call.action or "(no action)", ("%.2f"):format(elapsed * 1000)
  self:note("%s%s: %s, %s, %s ms", action, message(call), outcome(call), call.request_id, milliseconds)
  if call.verdict then
    self.file:write(explain(call, self.program))
    self.file:flush()
  end
end

return log
