-- Inside a real nginx worker: the engine refuses, since it would block the worker; the core does its part there.
local native = require("spec.support.native")
local process = require("spec.support.process")
local socket = require("cqueues.socket")

local DEADLINE = 20

local root = process.run({ "pwd" }).stdout:gsub("%s+$", "")
local build = root .. "/build/luajit"

local function write_file(path, text)
  local file = assert(io.open(path, "w"))
  assert(file:write(text))
  assert(file:close())
end

local function configuration(folder, content)
  return ([[
    load_module /usr/lib/nginx/modules/ndk_http_module.so;
    load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
    daemon off;
    worker_processes 1;
    pid FOLDER/nginx.pid;
    error_log stderr;
    events { worker_connections 64; }
    http {
      access_log off;
      client_body_temp_path FOLDER/body;
      proxy_temp_path FOLDER/proxy;
      fastcgi_temp_path FOLDER/fastcgi;
      uwsgi_temp_path FOLDER/uwsgi;
      scgi_temp_path FOLDER/scgi;
      lua_package_path "ROOT/lua/?.lua;ROOT/lua/?/init.lua;;";
      lua_package_cpath "BUILD/?.so;;";
      server {
        listen unix:FOLDER/socket;
        location / { content_by_lua_block { CONTENT } }
      }
    }
  ]]):gsub("%u%u%u+", { FOLDER = folder, ROOT = root, BUILD = build, CONTENT = content })
end

local function get(path)
  local connection = assert(socket.connect({ path = path }))
  connection:settimeout(DEADLINE)
  assert(connection:xwrite("GET / HTTP/1.0\r\n\r\n", "bn", DEADLINE))
  local answer = assert(connection:xread("*a", "b", DEADLINE))
  connection:close()
  return answer:match("^HTTP/1%.%d 200 .-\r\n\r\n(.*)$") or error("nginx answered: " .. answer)
end

-- Runs Lua in a worker's content phase and returns what it said.
local function inside_nginx(content)
  local folder = native.path("nginx")
  assert(process.run({ "mkdir", "-m", "777", folder }).code == 0)
  write_file(folder .. "/nginx.conf", (configuration(folder, content)))
  local nginx = process.spawn({ "nginx", "-p", folder, "-e", "stderr", "-c", folder .. "/nginx.conf" })
  local deadline = native.now() + DEADLINE
  local answered, answer
  repeat
    assert(not nginx:wait(0.02), nginx:stderr()) -- it must go on running
    answered, answer = pcall(get, folder .. "/socket")
    assert(answered or native.now() < deadline, answer)
  until answered
  nginx:close()
  return answer
end

describe("inside an nginx worker", function()
  setup(function()
    local built = process.run({ "sh", "tools/build", "-DRTC_LUA=luajit" },
      { env = { RTC_BUILD = build, RTC_LUA_INCLUDE = false } })
    assert.equal(0, built.code, built.stdout .. built.stderr)
  end)

  it("rtc.engine refuses, and says what to do instead", function()
    local answer = inside_nginx([[
      local made, problem = pcall(require("rtc.engine").new)
      ngx.print(tostring(made), " ", tostring(problem))
    ]])
    assert.matches("^false ", answer)
    assert.matches("block the worker", answer)
    assert.matches("cosocket", answer)
  end)

  it("rtc.new refuses with the same advice", function()
    local answer = inside_nginx([[
      local made, problem = pcall(require("rtc").new, "sandbox")
      ngx.print(tostring(made), " ", tostring(problem))
    ]])
    assert.matches("^false ", answer)
    assert.matches("cosocket", answer)
  end)

  it("rtc.core signs, and agrees with the official SDKs", function()
    local answer = inside_nginx([[
      local signer = require("rtc.core").signer("AKLTEXAMPLEEXAMPLEEXAMPLEEXAMPLE0001",
        "RVhBTVBMRVNFQ1JFVEtFWU5PVFJFQUwwMDAwMDAwMQ==", nil, "cn-north-1", "rtc")
      ngx.print(signer:explain({
        method = "POST", host = "rtc.volcengineapi.com", time = 1735787045,
        query = { { "Action", "SendRoomUnicast" }, { "Version", "2020-12-01" } },
        headers = { { "Content-Type", "application/json" } },
        body = '{"AppId":"0123456789abcdef01234567","RoomId":"room-1","From":"server_1",'
          .. '"To":"user@1.a-b","Binary":false,"Message":"hello"}',
      }).signature)
    ]])
    assert.equal("4840839bfacf7e4bd5f403f6294ab49c4ac09f3d018efd521c6a56ed49f4cf24", answer)
  end)
end)
