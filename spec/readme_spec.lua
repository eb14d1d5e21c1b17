-- What README.md and docs/ tell people to run, run: every block marked ```lua as a script, and every block marked ```sh
-- by sh, each from the tree, with a sandbox that `rtc.new "sandbox"` and RTC_ENDPOINT lead to. A block passes when it
-- exits with 0 and says nothing on standard error; and a call in it may fail only where it asserts that the receipt is
-- nil. A block marked ```nginx is a configuration, with which nginx starts, and whose first location tells a receipt.
-- What can't be run here stands in a block without a mark.

local native = require "spec.support.native"
local nginx = require "spec.support.nginx"
local process = require "spec.support.process"
local tree = require "spec.support.tree"

local LONGEST = 30 -- seconds for a block

local RUN = { lua = true, sh = true, nginx = true }

--- The marked blocks of a file: where they begin, what runs them, and what they say.
local function blocks(path)
  local found, block, number = {}, nil, 0
  for line in io.lines(path) do
    number = number + 1
    local fence = line:match("^```(.*)$")
    if block and fence then
      block.text = table.concat(block, "\n") .. "\n"
      if RUN[block.mark] then
        found[#found + 1] = block
      end
      block = nil
    elseif fence then
      block = { mark = fence, line = number }
    elseif block then
      block[#block + 1] = line
    end
  end
  assert(not block, path .. ": a block does not end")
  return found
end

local function exists(path)
  local file = io.open(path)
  return file and file:close()
end

--- Runs a block of Lua or sh.
local function run(block, sandbox)
  local script = native.path("block." .. block.mark)
  local file = assert(io.open(script, "w"))
  file:write(block.text)
  file:close()
  local result = process.run(block.mark == "lua" and { "tools/lua", script } or { "sh", "-e", script }, {
    timeout = LONGEST,
    env = tree.environment {
      RTC_ENDPOINT = "sandbox",
      -- The sandbox's usual port may be taken: "sandbox" means ours.
      [process.lua_variable("LUA_INIT")] = ("require('rtc.sandbox.defaults').port = %d"):format(sandbox.port),
    },
  })
  os.remove(script)
  assert.same({ code = 0, stderr = "" }, { code = result.code, stderr = result.stderr }, result.stdout)
  if not block.text:find("assert(receipt == nil", 1, true) then
    for _, outcome in ipairs { ", not sent", ", rejected", ", outcome unknown" } do
      assert.is_nil(result.stdout:find(outcome, 1, true), result.stdout)
    end
  end
end

--- Starts nginx with a block, but for where it listens, and sends by it.
local function serve(block, sandbox)
  nginx.make()
  local main, http, server = block.text:match "^(.-)http {\n(.-)server {\n%s*listen [^\n]*\n(.*)}%s*}\n$"
  local running = nginx.start {
    main = main .. "env RTC_ENDPOINT;", http = http, server = server,
    env = tree.environment { RTC_ENDPOINT = sandbox.endpoint },
  }
  finally(function() running:close() end)
  assert.matches("^SendRoomUnicast: accepted in ", running:get(server:match "location = (%S+)"))
end

for _, path in ipairs { "README.md", "README.zh-CN.md", "docs/runtimes.md" } do
  if path ~= "README.zh-CN.md" or exists(path) then
    describe(path, function()
      local sandbox

      setup(function()
        sandbox = tree.sandbox()
      end)

      teardown(function()
        sandbox.process:close()
      end)

      it("is there, and shows what it is about", function()
        local marks = {}
        for _, block in ipairs(blocks(path)) do
          marks[block.mark] = true
        end
        local is_readme = path:find("README") and true or nil
        assert.same({ lua = true, sh = is_readme, nginx = is_readme }, marks)
      end)

      for _, block in ipairs(exists(path) and blocks(path) or {}) do
        it(("line %d: %s"):format(block.line, block[1]), function()
          if block.mark == "nginx" then
            serve(block, sandbox)
          else
            run(block, sandbox)
          end
        end)
      end
    end)
  end
end
