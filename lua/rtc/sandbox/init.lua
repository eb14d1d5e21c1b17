--- The sandbox: the message part of the Volcengine RTC OpenAPI, small enough to run on a laptop.
--- It checks signatures and fields like the service, answers with its codes, and delivers to receivers
--- that listen over Server-Sent Events.
local defaults = require("rtc.sandbox.defaults")

local sandbox = {}

-- Every library that the sandbox loads, by the module that shows it is there.
local needed = { "cqueues", "openssl.hmac", "http.server", "cjson" }

local advice = [[
the sandbox needs lua-http, cqueues, luaossl and lua-cjson (%s).
Debian and Ubuntu: apt install lua-http lua-cqueues lua-luaossl lua-cjson
  (their lua-http is installed for Lua 5.1 to 5.3 only but runs on 5.4: append
  /usr/share/lua/5.3/?.lua;/usr/share/lua/5.3/?/init.lua to LUA_PATH)
elsewhere: luarocks install http luaossl cqueues lua-cjson]]

-- nil, or which library is missing and how to get it.
local function missing_library()
  for _, name in ipairs(needed) do
    local ok, err = pcall(require, name)
    if not ok then
      return advice:format(tostring(err):match("^[^\n]*"))
    end
  end
end

local function check_options(options)
  local known = {
    host = "string",
    port = "number",
    log = "userdata",
    rate = "number",
    keep_alive = "number",
    program = "string",
  }
  for name, value in pairs(options) do
    if not known[name] then
      error(("unknown option '%s' of the sandbox"):format(tostring(name)), 3)
    elseif type(value) ~= known[name] then
      error(("option '%s' of the sandbox must be a %s"):format(name, known[name]), 3)
    end
  end
end

-- By the address that was bound: a host's name may say anything.
local function is_loopback(url)
  return url:find("^http://127%.") ~= nil or url:find("^http://%[::1%]:") ~= nil
end

-- The endpoint as the client and the command line take it: the short form brings the ready-made keys with it,
-- but always means 127.0.0.1.
local function short_endpoint(url)
  local port = url:match("^http://127%.0%.0%.1:(%d+)$") or url:match("^http://0%.0%.0%.0:(%d+)$")
  if not port then
    return url
  end
  return tonumber(port) == defaults.port and "sandbox" or "sandbox:" .. port
end

-- The short form brings its keys; another endpoint needs them exported, and the command takes plain http to this
-- machine only.
local function first_message(endpoint, program)
  local preset = endpoint:find("^sandbox") ~= nil
  if not preset and not is_loopback(endpoint) then
    return "A first message: after the exports above, in Lua (the command takes plain http to this machine only),\n"
      .. ("  rtc.new { endpoint = %q, allow_http = true }\n"):format(endpoint)
  end
  return table.concat({
    ("A first message, %seach line in a terminal of its own:"):format(
      preset and "" or "after the exports above, "
    ),
    ("  %s listen --endpoint %s --room demo --user alice"):format(program, endpoint),
    ('  %s send --endpoint %s --room demo --to alice "hello"'):format(program, endpoint),
    "",
  }, "\n")
end

local function banner(url, endpoint)
  return table.concat({
    "rtc sandbox: listening on " .. url,
    "Its ready-made keys (known to this sandbox only):",
    "  export RTC_ENDPOINT=" .. endpoint,
    "  export VOLC_ACCESSKEY=" .. defaults.access_key,
    "  export VOLC_SECRETKEY=" .. defaults.secret_key,
    "  export RTC_APP_ID=" .. defaults.app_id,
    "  export RTC_FROM=" .. defaults.from,
    "",
  }, "\n")
end

-- Runs the server until the process is interrupted. One connection's failure ends its own coroutine only.
local function loop(server, log)
  local signal = require("cqueues.signal")
  local stopped = false
  server.cq:wrap(function()
    signal.listen(signal.SIGINT, signal.SIGTERM):wait()
    stopped = true
  end)
  while not stopped do
    local ok, err = server:step()
    if not ok then
      log:note("a connection failed: %s", err)
    end
  end
  server:close()
end

--- Runs the sandbox until the process gets SIGINT or SIGTERM. Prints its address and keys first, then a line
--- a call.
---@param options? {host?: string, port?: integer, log?: file*, rate?: number, keep_alive?: number, program?: string}
---  host (127.0.0.1); port (8790; 0 is any free one); log, where all that is printed goes (stdout);
---  rate, messages a second for each AppId (500, the service's own limit); keep_alive, seconds of silence
---  after which a receiver is sent a comment (15); program, how the command is started, for lines to copy ("rtc")
---@return true|nil ok  after a signal
---@return string|nil err  a library is missing, or the address can't be listened on
function sandbox.run(options)
  options = options or {}
  check_options(options)
  local err = missing_library()
  if err then
    return nil, err
  end
  local host, port = options.host or defaults.host, options.port or defaults.port
  local file, program = options.log or io.stdout, options.program or "rtc"

  local cqueues = require("cqueues")
  local flow = require("rtc.sandbox.flow")
  local log = require("rtc.sandbox.log").new(file, program)
  local rooms = require("rtc.sandbox.rooms").new(4 * 1024 * 1024)
  local apps = { [defaults.app_id] = true }
  local context = {
    service = require("rtc.sandbox.service").new({
      keys = { [defaults.access_key] = defaults.secret_key },
      apps = apps,
      region = defaults.region,
      rooms = rooms,
      flow = flow.new(options.rate or 500, cqueues.monotime),
    }),
    rooms = rooms,
    apps = apps,
    app_id = defaults.app_id,
    log = log,
    keep_alive = options.keep_alive or 15,
    program = program,
  }
  -- Before anybody can know that it runs: from now on a signal ends it in order.
  local signal = require("cqueues.signal")
  signal.block(signal.SIGINT, signal.SIGTERM)
  local server, taken
  server, err, taken = require("rtc.sandbox.server").open(host, port, context)
  if not server then
    local advice_of_port = taken and " (--port 0 takes any free port)" or ""
    return nil, ("cannot listen on %s:%d: %s%s"):format(host, port, tostring(err), advice_of_port)
  end
  context.endpoint = short_endpoint(context.url)
  file:write(banner(context.url, context.endpoint), first_message(context.endpoint, program))
  if not is_loopback(context.url) then
    file:write("WARNING: ", host, " can be reached from other machines. The keys above are known to everybody.\n")
  end
  file:flush()
  loop(server, log)
  return true
end

return sandbox
