--- Signs and sends Volcengine RTC messages.
---
---     local rtc = require "rtc"
---     print(rtc.new "sandbox":send_room_unicast { room_id = "room1", to = "user1", message = "hello" })

local api = require "rtc.api"
local client = require "rtc.client"
local clocks = require "rtc.clock"
local core = require("rtc.native").load("rtc.core")
local credential_provider = require "rtc.credential_provider"
local credentials = require "rtc.credentials"
local debug_log = require "rtc.debug_log"
local endpoint = require "rtc.endpoint"
local environment = require "rtc.environment"
local errors = require "rtc.error"
local events = require "rtc.events"
local help = require "rtc.help"
local options = require "rtc.options"
local proxy = require "rtc.proxy"
local quota = require "rtc.quota"
local retry = require "rtc.retry"
local runtimes = require "rtc.runtime"
local sandbox = require "rtc.sandbox.defaults"
local signer = require "rtc.signer"
local stats = require "rtc.stats"
local text = require "rtc.text"

local rtc = { _VERSION = core.version }

---@return rtc.Endpoint|nil
---@return string|nil problem
local function find_endpoint(given)
  local from_environment = not given.endpoint and environment.get("RTC_ENDPOINT")
  local target, problem = endpoint.parse(given.endpoint or from_environment or nil, given.allow_http)
  if not target then
    return nil, (from_environment and "RTC_ENDPOINT " or "endpoint ") .. problem
  end
  return target
end

--- The defaults of the calls: given, or the sandbox's, or the environment's.
---@return table|nil
---@return string|nil problem
local function find_defaults(given, target)
  local defaults = {}
  for _, field in ipairs(api.defaults) do
    local name, variable = field.name, field.variable
    defaults[name] = given[name]
    if target.sandbox then
      defaults[name] = defaults[name] or sandbox[name]
    elseif not defaults[name] and environment.get(variable) then
      local value, problem = options.one(name, environment.get(variable))
      if not value then
        return nil, ("%s %s"):format(variable, problem)
      end
      defaults[name] = value
    end
  end
  return defaults
end

--- The engine's options, of the client's.
local function engine_options(given)
  return {
    ca_file = given.ca_file, ca_path = given.ca_path, cert_file = given.cert_file, key_file = given.key_file,
    proxy = given.proxy, connections = given.pool_size, idle_timeout = given.keep_alive,
  }
end

--- What signs the calls.
---@param found rtc.Credentials
---@param region string
---@param service string|nil
---@param clock rtc.Clock
---@return rtc.Keys
local function make_keys(found, region, service, clock)
  local function make_signer(keys)
    return signer.new {
      access_key = keys.access_key, secret_key = keys.secret_key, session_token = keys.session_token,
      region = region, service = service,
    }
  end
  if found.provider then
    return credential_provider.renewing(found.provider, make_signer, function() return clock:now() end)
  end
  return credential_provider.static(make_signer(found), text.masked(found.access_key))
end

--- The options as a table.
---@return table|nil
---@return string|nil problem
local function as_table(given)
  if given == nil then
    return {}
  elseif type(given) == "string" then
    return { endpoint = given }
  elseif type(given) ~= "table" then
    return nil, "options must be a table, or an endpoint as a string, not a " .. type(given)
  end
  return given
end

--- What the options and the environment say together.
---@return table|nil settings  checked options, `target`, `found` (credentials) and `defaults`
---@return string|nil problem
local function settle(given)
  local settings, problem = {}
  given, problem = as_table(given)
  if problem then
    return nil, problem
  end
  settings.options, problem = options.check(options.client, given)
  if problem then
    return nil, problem
  elseif settings.options.key_file and not settings.options.cert_file then
    return nil, "key_file needs cert_file: the path of the certificate that the key belongs to"
  end
  settings.target, problem = find_endpoint(settings.options)
  if problem then
    return nil, problem
  end
  settings.found, problem = credentials.find(settings.options, settings.target)
  if problem then
    return nil, problem
  end
  settings.defaults, problem = find_defaults(settings.options, settings.target)
  return not problem and settings or nil, problem
end

--- Makes a client, or says why not.
---@return rtc.Client|nil
---@return string|nil problem
local function build(given)
  local settings, wrong = settle(given)
  if not settings then
    return nil, wrong
  end
  local checked, target, found = settings.options, settings.target, settings.found
  local scheduler, problem = runtimes.scheduler(checked.runtime)
  if not scheduler then
    return nil, problem
  end
  local made, runtime = pcall(runtimes.new, scheduler, engine_options(checked))
  if not made then
    return nil, tostring(runtime)
  end
  local region, clock = checked.region or target.region, clocks.new()
  local new = client.new {
    endpoint = target, defaults = settings.defaults, region = region, runtime = runtime, clock = clock,
    keys = make_keys(found, region, checked.service, clock),
    proxied = (checked.proxy or "") ~= "", hide_proxy = proxy.hider(checked.proxy, target.scheme),
    retry = retry.new(checked.retry),
    quota = quota.new(checked.quota, found.access_key or tostring(found.provider),
      { workers = runtime.workers, store = runtime.quota_store }),
    events = events.new(), counters = stats.new(), outbox = checked.outbox or {},
    version = checked.version or api.default_version,
    timeout = checked.timeout or 10, try_timeout = checked.try_timeout or 5,
    connect_timeout = checked.connect_timeout or 3,
    max_response = checked.max_response or 1048576, max_pending = checked.max_pending or 10000,
    pool_size = checked.pool_size or 64,
    user_agent = checked.user_agent or "rtc-lua/" .. core.version,
  }
  if environment.get("RTC_DEBUG") == "1" then
    debug_log.attach(new)
  end
  return new
end

--- Makes a client. A string is an endpoint: `rtc.new "sandbox"` is a client of the local sandbox with its
--- ready-made keys. What is not given comes from the environment (VOLC_ACCESSKEY and VOLC_SECRETKEY, or
--- VOLCENGINE_ACCESS_KEY and VOLCENGINE_SECRET_KEY; RTC_APP_ID, RTC_FROM, RTC_ENDPOINT), and keys that are not there
--- from ~/.volc/credentials or ~/.volc/config; but none of it for the sandbox, and keys never from two places. Raises,
--- at the caller's line, for a wrong or unknown option and for missing keys.
---@param given rtc.Options|string|nil
---@return rtc.Client
function rtc.new(given)
  local made, problem = build(given)
  if not made then
    error("rtc.new: " .. problem, 2)
  end
  return made
end

--- Makes a signer. Raises, at the caller's line, for a wrong or unknown option.
---@param given rtc.Signer.Options
---@return rtc.Signer
function rtc.signer(given)
  local made, problem = signer.new(given)
  if not made then
    error("rtc.signer: " .. problem, 2)
  end
  return made
end

--- Makes a loop whose tasks go on when your own loop says `loop:step(budget)`: for `rtc.new { runtime = loop }`.
---@return rtc.Loop
function rtc.loop()
  return require("rtc.runtime.tick").new()
end

local default_client

--- The client that is made from the environment when it is first needed.
---@param action string|nil  for the error
---@return rtc.Client|nil
---@return rtc.Error|nil err  `kind` is "config" when none can be made
local function get_default(action)
  if not default_client then
    local made, problem = build()
    if not made then
      return nil, errors.config(problem, action)
    end
    default_client = made
  end
  return default_client
end

--- Makes a function that does by the default client what the client's method does.
---@param method string
---@param action string|nil
local function by_default(method, action)
  return function(...)
    local default, err = get_default(action)
    if not default then
      return nil, err
    end
    return default[method](default, ...)
  end
end

--- Each of these sends by a client that is made from the environment when first used; see the client's method of the
--- same name. `err.kind` is "config" when no client can be made.
---@type fun(given: rtc.SendUnicast): rtc.Receipt|nil, rtc.Error|nil
rtc.send_unicast = by_default("send_unicast", "SendUnicast")
---@type fun(given: rtc.SendRoomUnicast): rtc.Receipt|nil, rtc.Error|nil
rtc.send_room_unicast = by_default("send_room_unicast", "SendRoomUnicast")
---@type fun(given: rtc.SendBroadcast): rtc.Receipt|nil, rtc.Error|nil
rtc.send_broadcast = by_default("send_broadcast", "SendBroadcast")
---@type fun(given: rtc.BatchSendRoomUnicast): rtc.Receipt|nil, rtc.Error|nil
rtc.batch_send_room_unicast = by_default("batch_send_room_unicast", "BatchSendRoomUnicast")
---@type fun(action: string, body: any, given: rtc.CallSettings|nil): rtc.Receipt|nil, rtc.Error|nil
rtc.call = by_default("call")
---@type fun(given: table): boolean|nil, rtc.Error|nil
rtc.enqueue = by_default("enqueue")
---@type fun(fn: function, ...): rtc.Future|nil, rtc.Error|nil
rtc.spawn = by_default("spawn")
---@type fun(count: integer|nil): integer|nil, rtc.Error|nil
rtc.connect = by_default("connect")
---@type fun(timeout: number|nil): boolean|nil, rtc.Error|nil
rtc.drain = by_default("drain")
---@type fun(name: string, fn: fun(event: table)): fun()|nil, rtc.Error|nil
rtc.on = by_default("on")
---@type fun(): rtc.Stats|nil, rtc.Error|nil
rtc.stats = by_default("stats")

--- The same for many messages; raises, at the caller's line, when no client can be made.
---@param ... any  see client:send_all
---@return any
function rtc.send_all(...)
  local default, err = get_default()
  if not default then
    error("rtc.send_all: " .. err, 2)
  end
  return default:send_all(...)
end

--- Prints what there is, or how to use one thing: `rtc.help "send_unicast"`.
---@param topic string|nil
function rtc.help(topic)
  io.stdout:write(help.about(topic))
end

return rtc
