--- Real nginx for the specs: a configuration made of pieces, a master with its workers, and requests to them.

local native = require "spec.support.native"
local process = require "spec.support.process"
local socket = require "cqueues.socket"

local nginx = {}

local DEADLINE = 20 -- seconds

local root = process.run({ "pwd" }).stdout:gsub("%s+$", "")

--- Where the C modules are that nginx loads.
nginx.build = root .. "/build/luajit"

--- Builds them.
---@param folder string|nil  default: nginx.build
---@param ... string  options of the build
function nginx.make(folder, ...)
  local built = process.run({ "sh", "tools/build", "-DRTC_LUA=luajit", ... },
    { env = { RTC_BUILD = folder or nginx.build, RTC_LUA = false, RTC_LUA_INCLUDE = false }, timeout = 120 })
  assert(built.code == 0, built.stdout .. built.stderr)
end

local configuration = [[
  load_module /usr/lib/nginx/modules/ndk_http_module.so;
  load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
  daemon off;
  worker_processes WORKERS;
  pid FOLDER/nginx.pid;
  error_log FOLDER/error.log LEVEL;
  MAIN
  events { worker_connections 1024; }
  http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    lua_package_path "ROOT/lua/?.lua;ROOT/lua/?/init.lua;ROOT/?.lua;;";
    lua_package_cpath "BUILD/?.so;;";
    HTTP
    server {
      listen unix:FOLDER/socket;
      SERVER
    }
  }
]]

--- What was started and is not closed yet.
local started = {}

---@class SpecNginx
---@field folder string  its own; nginx may write to it
---@field error_log string  a path
---@field address table  where it listens, as cqueues' socket.connect takes it
---@field process Process  the master
local methods = {}
local metatable = { __index = methods, __name = "nginx" }

local function write_file(path, text)
  local file = assert(io.open(path, "w"))
  assert(file:write(text))
  assert(file:close())
end

local function read_file(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

--- What it logged so far.
---@return string
function methods:log()
  return read_file(self.error_log)
end

--- Opens a connection to it.
---@return table socket  of cqueues; reads and writes wait at most DEADLINE seconds
function methods:connect()
  local connection = assert(socket.connect(self.address))
  connection:settimeout(DEADLINE)
  connection:setmode("bn", "bn")
  local connected, problem = connection:connect(DEADLINE)
  if not connected then
    connection:close()
    error("nginx does not listen: " .. tostring(problem), 2)
  end
  return connection
end

--- Reads an answer up to the connection's end.
---@return { status: integer, headers: string, body: string }
function nginx.read_answer(connection)
  local text, problem = connection:read("*a")
  assert(text, "nginx did not answer: " .. tostring(problem))
  local status, headers, body = text:match("^HTTP/1%.%d (%d%d%d)[^\r]*\r\n(.-)\r\n\r\n(.*)$")
  assert(status, "nginx answered: " .. text)
  return { status = tonumber(status), headers = headers:lower(), body = body }
end

--- Writes a request, over a connection of its own.
---@param given { path: string|nil, method: string|nil, headers: table<string, string>|nil, body: string|nil }
---@return table connection  for `nginx.read_answer`
function methods:begin(given)
  local connection = self:connect()
  local lines = { ("%s %s HTTP/1.0"):format(given.method or "GET", given.path or "/"), "Host: localhost" }
  for name, value in pairs(given.headers or {}) do
    lines[#lines + 1] = name .. ": " .. value
  end
  if given.body then
    lines[#lines + 1] = "Content-Length: " .. #given.body
  end
  assert(connection:write(table.concat(lines, "\r\n"), "\r\n\r\n", given.body or ""))
  return connection
end

--- Makes a request and reads the answer.
---@param given { path: string|nil, method: string|nil, headers: table<string, string>|nil, body: string|nil }
---@return { status: integer, headers: string, body: string }
function methods:request(given)
  local connection = self:begin(given)
  local answer = nginx.read_answer(connection)
  connection:close()
  return answer
end

--- What a path answers; raises when that is not 200.
---@param path string|nil
---@return string body
function methods:get(path)
  local answer = self:request({ path = path })
  if answer.status ~= 200 then
    error(("nginx answered %d: %s\n%s"):format(answer.status, answer.body, self:log()), 2)
  end
  return answer.body
end

--- Sends a signal to the master alone: "HUP" reloads, "QUIT" ends it gracefully, "TERM" at once.
---@param signal string
function methods:signal(signal)
  local numbers = { HUP = 1, QUIT = 3, TERM = 15, USR1 = 10 }
  assert(native.kill(self.process.pid, numbers[signal]))
end

--- Ends it at once.
function methods:close()
  started[self] = nil
  self.process:close()
end

--- Starts nginx on the folder's nginx.conf, and waits until it answers.
---@param self { folder: string, error_log: string, address: table }
---@param options { env: table<string, string|false>|nil, command: string[]|nil }  `command` is what runs it, as
--- valgrind would
---@return SpecNginx
local function start(self, options)
  local argv = {}
  for _, word in ipairs(options.command or {}) do
    argv[#argv + 1] = word
  end
  for _, word in ipairs { "nginx", "-p", self.folder, "-e", self.error_log, "-c", self.folder .. "/nginx.conf" } do
    argv[#argv + 1] = word
  end
  self.process = process.spawn(argv, { env = options.env })
  setmetatable(self, metatable)
  started[self] = true
  local deadline = native.now() + DEADLINE
  repeat
    assert(not self.process:wait(0.02), self.process:stderr()) -- it must go on running
    local listening, connection = pcall(self.connect, self)
    assert(listening or native.now() < deadline, connection)
    if listening then
      connection:close()
    end
  until listening
  return self
end

--- Starts nginx, and waits until it answers.
---@param pieces { workers: integer|nil, level: string|nil, main: string|nil, http: string|nil, server: string|nil,
--- env: table<string, string|false>|nil, command: string[]|nil, build: string|nil }  configuration for the main, http
--- and server blocks; `level` of the error log, default "notice"; `command` is what runs it, as valgrind would; `build`
--- is where the C modules are, default: nginx.build
---@return SpecNginx
function nginx.start(pieces)
  local folder = native.path("nginx")
  assert(process.run({ "mkdir", "-m", "777", folder }).code == 0)
  local values = {
    FOLDER = folder, ROOT = root, BUILD = pieces.build or nginx.build, WORKERS = tostring(pieces.workers or 1),
    LEVEL = pieces.level or "notice", MAIN = pieces.main or "", HTTP = pieces.http or "", SERVER = pieces.server or "",
  }
  local text = configuration:gsub("%f[%u]%u%u%u+%f[%U]", values)
  write_file(folder .. "/nginx.conf", (text:gsub("FOLDER", folder)))
  return start({ folder = folder, error_log = folder .. "/error.log", address = { path = folder .. "/socket" } },
    pieces)
end

local function free_port()
  local listener = assert(socket.listen { host = "127.0.0.1", port = 0 })
  local _, _, port = listener:localname()
  listener:close()
  return port
end

--- Replaces pieces of a file's text, each of which must be there once.
local function change(path, changes)
  local text = read_file(path)
  for old, new in pairs(changes) do
    local first, last = text:find(old, 1, true)
    assert(first and not text:find(old, last + 1, true), ("%s has not once: %s"):format(path, old))
    text = text:sub(1, first - 1) .. new .. text:sub(last + 1)
  end
  write_file(path, text)
end

--- Starts examples/nginx as it stands, but for a port that is free and where it finds this tree's modules.
---@param options { env: table<string, string|false>|nil, command: string[]|nil, changes: table<string, table<string,
--- string>>|nil }  `changes`: other pieces of text by those that they stand for, by file
---@return SpecNginx
function nginx.start_example(options)
  local folder, port = native.path("nginx"), free_port()
  assert(process.run({ "mkdir", "-p", folder .. "/run" }).code == 0)
  for _, name in ipairs { "nginx.conf", "lua" } do -- and not what `run` may have of somebody's own
    assert(process.run({ "cp", "-r", root .. "/examples/nginx/" .. name, folder }).code == 0)
  end
  assert(process.run({ "chmod", "-R", "a+rwX", folder }).code == 0)
  local changes = {
    ["$prefix/../../lua/?.lua;$prefix/../../lua/?/init.lua"] = ("%s/lua/?.lua;%s/lua/?/init.lua"):format(root, root),
    ["$prefix/../../build/luajit/?.so"] = nginx.build .. "/?.so",
    ["listen 127.0.0.1:8080"] = "listen 127.0.0.1:" .. port,
    ["pid run/nginx.pid;"] = "pid run/nginx.pid; daemon off;",
  }
  change(folder .. "/nginx.conf", changes)
  for path, others in pairs(options.changes or {}) do
    change(folder .. "/" .. path, others)
  end
  local address = { host = "127.0.0.1", port = port }
  return start({ folder = folder, error_log = folder .. "/run/error.log", address = address }, options)
end

--- Ends at once every nginx that was started and is not closed yet: for `after_each`.
function nginx.stop_all()
  while next(started) do
    next(started):close()
  end
end

--- Runs Lua in a worker's content phase.
---@param content string
---@param pieces table|nil  see `nginx.start`
---@return string  what it said
function nginx.run(content, pieces)
  local given = { server = ("location / { content_by_lua_block { %s } }"):format(content) }
  for name, value in pairs(pieces or {}) do
    given[name] = value
  end
  local running = nginx.start(given)
  local ok, answer = pcall(running.get, running)
  running:close()
  assert(ok, answer)
  return answer
end

return nginx
