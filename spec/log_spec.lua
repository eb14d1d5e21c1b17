-- Where messages go that nobody asked for.

local nginx = require "spec.support.nginx"
local process = require "spec.support.process"

describe("rtc.log", function()
  for name, case in pairs {
    ["write"] = { 'write("one ", "two\\n  -> three")', "rtc: one two\n  -> three\n" },
    ["last_words"] = { 'last_words("one ", "two\\n  -> three")', "rtc: one two\n  -> three\n" },
  } do
    it("writes on standard error: " .. name, function()
      local ended = process.run { process.lua, "-e", 'require("rtc.log").' .. case[1] }
      assert.same({ 0, "", case[2] }, { ended.code, ended.stdout, ended.stderr })
    end)
  end

  describe("inside nginx", function()
    local running

    setup(nginx.make)

    after_each(function()
      running:close()
    end)

    it("writes to the error log at level error, in any phase, an entry on one line", function()
      running = nginx.start {
        http = [[
          init_by_lua_block { require("rtc.log").write("from init\n  -> here") }
          init_worker_by_lua_block { require("rtc.log").write("from init_worker\n  -> here") }
        ]],
        server = [[
          location / {
            content_by_lua_block {
              require("rtc.log").write("from ", "content\n  -> here\n  or\n  there")
              ngx.print("ok")
            }
            log_by_lua_block { require("rtc.log").write("from log\n  -> here") }
          }
        ]],
      }
      assert.equal("ok", running:get())
      running:signal "QUIT"
      running.process:wait()
      local log = running:log()
      for _, expected in ipairs { "from init -> here\n", "from init_worker -> here, context: ",
        "from content -> here or there, client: ", "from log -> here while logging request, client: " } do
        assert.matches("%[error%] %d+#%d+: [^\n]*rtc: " .. expected:gsub("%p", "%%%0"), log)
      end
    end)

    it("has its last words at the end of the Lua state in the main error log", function()
      running = nginx.start { server = [[
        location / {
          content_by_lua_block {
            local log = require "rtc.log"
            local proxy = newproxy(true)
            getmetatable(proxy).__gc = function() log.last_words("lost\n  -> here") end
            package.loaded.kept = proxy
            ngx.print("ok")
          }
          log_by_lua_block { local gone = ngx.var.uri }
        }
      ]] }
      assert.equal("ok", running:get())
      running:signal "TERM"
      running.process:wait()
      assert.matches("\nrtc: lost -> here\n", running:log(), 1, true)
    end)
  end)
end)
