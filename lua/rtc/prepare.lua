--- Calls, checked and encoded: what is wrong with one is found here, before anything is sent.

local api = require "rtc.api"
local errors = require "rtc.error"
local fields = require "rtc.fields"
local json_body = require "rtc.json_body"
local options = require "rtc.options"
local suggest = require "rtc.suggest"
local text = require "rtc.text"

require "rtc.interpreted" ()

local prepare = {}

--- What a call of an action may hold: its fields, then the settings of the call.
local names_of, known_of = {}, {}
for name, action in pairs(api.actions) do
  local names, known = {}, {}
  for _, field in ipairs(action.fields) do
    names[#names + 1] = field.name
  end
  for _, setting in ipairs(options.names(options.message)) do
    if setting ~= "split" or api.list_field(action) then
      names[#names + 1] = setting
    end
  end
  for _, known_name in ipairs(names) do
    known[known_name] = true
  end
  names_of[name], known_of[name] = names, known
end

---@class rtc.Call  one call, checked and encoded
---@field action string
---@field version string
---@field timeout number  seconds
---@field deadline number|nil  by the runtime's clock, for a part of a call: else `timeout` from now on
---@field method "POST"|"GET"
---@field body string|nil
---@field query string[][]|nil  { { name, value }, … }, beside Action and Version
---@field app_id any  as it was given
---@field wants_result boolean|nil  the receipt is to have the answer's Result
---@field patient boolean|nil  waits for its turn as long as it takes, and only then its timeout begins, anew after each
--- try that sent nothing

--- What every call has, of its checked settings.
local function complete(client, call, action)
  call.action = action
  call.version, call.timeout = call.version or client.version, call.timeout or client.timeout
  call.method = call.method or "POST"
  return call
end

--- Checks a message and writes its body.
---@param client rtc.Client
---@param action string  of api.actions
---@param given any  the fields
---@return rtc.Call|nil
---@return rtc.Error|nil
function prepare.message(client, action, given)
  if type(given) ~= "table" then
    return nil, errors.argument(("the fields must be a table, not %s: { to = …, message = … }")
      :format(given == nil and "nothing" or "a " .. type(given)), nil, action)
  end
  local known = known_of[action]
  for name in pairs(given) do
    if not known[name] then
      local shown = text.name(name)
      return nil, errors.argument(("unknown field `%s`: %s"):format(shown, suggest.hint(name, names_of[action])),
        shown, action)
    end
  end
  local call, problem, name = options.values(options.message, given)
  if not call then
    return nil, errors.argument(problem, name, action)
  end
  local body, wrong, field = fields.encode(api.actions[action], given, client.defaults)
  if not body then
    return nil, errors.argument(wrong, field, action)
  end
  call.body, call.app_id = body, given.app_id or client.defaults.app_id
  return complete(client, call, action)
end

--- Which action a message is for, and the fields for it.
---@param given any  the fields, and perhaps `action`
---@param default string  the action of one that names none
---@return rtc.api.Action|nil
---@return any fields  `given`, or a copy of it without `action`; or rtc.Error
function prepare.action_of(given, default)
  if type(given) ~= "table" or given.action == nil then
    return api.find(default), given
  end
  local action, message = api.find(given.action), {}
  if not action then
    return nil, errors.argument("action is not the name of a message action: "
      .. suggest.hint(given.action, api.method_names), "action")
  end
  for name, value in pairs(given) do
    message[name] = value
  end
  message.action = nil
  return action, message
end

--- Checks a message to be enqueued.
---@param client rtc.Client
---@param given any  the fields and `action`, by default "send_room_unicast"
---@return rtc.Call|nil
---@return rtc.Error|nil
---@return table|nil copy  of `given`, as it can be enqueued again
function prepare.any_message(client, given)
  local action, message = prepare.action_of(given, "send_room_unicast")
  if not action then
    return nil, message
  elseif type(message) == "table" and message.split then
    return nil, errors.argument("split does not go with enqueue: enqueue each part", "split", action.name)
  end
  local call, err = prepare.message(client, action.name, message)
  local copy = {}
  for name, value in pairs(call and given or {}) do
    copy[name] = value
  end
  return call, err, copy
end

--- Checks a call of any action of the service.
---@param client rtc.Client
---@param action any
---@param body any
---@param given any  rtc.CallSettings
---@return rtc.Call|nil
---@return rtc.Error|nil
function prepare.any(client, action, body, given)
  local name, problem = options.action(action)
  if not name then
    return nil, errors.argument("action " .. problem, "action")
  end
  local call, wrong, field = options.check(options.any_call, given == nil and {} or given)
  if not call then
    return nil, errors.argument(wrong, field, name)
  end
  complete(client, call, name)
  call.body, problem = json_body.write(body, call.method)
  if problem then
    return nil, errors.argument("body " .. problem, "body", name)
  end
  call.wants_result = true
  call.app_id = type(body) == "table" and rawget(body, "AppId") or nil
  return call
end

return prepare
