--- The server of the measurements: nginx, which answers each request after 100 ms with the service's acceptance, in a
--- process of its own and, where there are two, on a core of its own.

local machine = require "bench.machine"
local native = require "spec.support.native"
local process = require "spec.support.process"
local service = require "spec.support.service"
local socket = require "cqueues.socket"

local server = {}

--- Seconds until the answer.
server.delay = 0.1

local DEADLINE = 20

local CONFIGURATION = [[
  load_module /usr/lib/nginx/modules/ndk_http_module.so;
  load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
  daemon off;
  worker_processes 1;
  pid FOLDER/nginx.pid;
  error_log stderr;
  events { worker_connections 4096; }
  http {
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    server {
      listen 127.0.0.1:PORT LISTEN backlog=1024;
      TLS
      location / {
        content_by_lua_block {
          ngx.req.read_body()
          ngx.sleep(DELAY)
          ngx.header["Content-Type"] = "application/json"
          ngx.print('ANSWER')
        }
      }
    }
  }
]]

local function free_port()
  local listener = assert(socket.listen { host = "127.0.0.1", port = 0 })
  local _, _, port = listener:localname()
  listener:close()
  return port
end

local function is_up(port)
  local connection = socket.connect { host = "127.0.0.1", port = port }
  local connected = pcall(connection.connect, connection, 1) -- it raises when it is refused
  connection:close()
  return connected
end

---@class BenchServer
---@field url string
---@field process Process

--- Starts it.
---@param certificate { cert: string, key: string }|nil  with one it speaks TLS
---@return BenchServer
function server.start(certificate)
  local folder, port = native.path "nginx", free_port()
  assert(process.run({ "mkdir", "-m", "777", folder }).code == 0)
  local tls = certificate and ("ssl_certificate %s; ssl_certificate_key %s;"):format(certificate.cert, certificate.key)
  local file = assert(io.open(folder .. "/nginx.conf", "w"))
  assert(file:write((CONFIGURATION:gsub("%u%u%u+", {
    FOLDER = folder, PORT = port, DELAY = server.delay, ANSWER = service.acceptance().body,
    LISTEN = tls and "ssl" or "", TLS = tls or "",
  }))))
  file:close()
  local running = process.spawn(machine.on_the_other_core {
    "nginx", "-p", folder, "-e", "stderr", "-c", folder .. "/nginx.conf",
  })
  local deadline = native.now() + DEADLINE
  while not is_up(port) do
    assert(not running:wait(0.02), running:stderr())
    assert(native.now() < deadline, "nginx does not listen")
  end
  return { process = running, url = ("%s://127.0.0.1:%d"):format(certificate and "https" or "http", port) }
end

return server
