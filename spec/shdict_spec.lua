-- The rate limit of all workers of a real nginx, in a lua_shared_dict.

local limit_cases = require "spec.support.limit_cases"
local nginx = require "spec.support.nginx"
local shdict = require "rtc.quota.shdict"
local tree = require "spec.support.tree"

local WORKERS = 4

--- Puts values for $words.
local function fill(text, values)
  return (text:gsub("%$([%l_]+)", function(name) return assert(values[name], name) end))
end

describe("the count in a lua_shared_dict", function()
  setup(nginx.make)

  local running

  after_each(nginx.stop_all)

  for name, case in pairs(limit_cases.all) do
    it(name, function()
      assert.equal(limit_cases.expected(case), nginx.run(fill([[
        local limit_cases = require "spec.support.limit_cases"
        local store = require("rtc.quota.shdict").new "rtc_quota"
        ngx.print(limit_cases.play(limit_cases.all["$name"], store.take, "key"))
      ]], { name = name }), { http = "lua_shared_dict rtc_quota 100k;" }))
    end)
  end

  it("keeps keys apart, whatever they are", function()
    assert.equal("0 nil 0 nil 0 nil 0 nil", nginx.run([[
      local take = require("rtc.quota.shdict").new("rtc_quota").take
      local waits = {}
      for _, key in ipairs { "one", "another", "", ("long"):rep(100) } do
        for _ = 1, 2 do
          waits[#waits + 1] = tostring(take(key, 0, 1, 1, 0))
        end
      end
      ngx.print(table.concat(waits, " "))
    ]], { http = "lua_shared_dict rtc_quota 100k;" }))
  end)

  --- Lets all workers take slots as fast as they can, and gives the times that they got.
  ---@param given { rate: number, burst: integer, wait: number, before: integer, grants: number, seconds: number,
  --- size: string }  `before`: so many slots are taken before they begin; each of them ends after that many grants, or
  --- seconds
  ---@return number[] times  in order
  local function race(given)
    running = nginx.start {
      workers = WORKERS,
      http = fill([[
        lua_shared_dict rtc_quota $size;
        lua_shared_dict spec 64m;
        init_by_lua_block {
          local now = require("rtc.core").now()
          ngx.shared.spec:set("start", now)
          local take = require("rtc.quota.shdict").find().take
          for _ = 1, $before do
            assert(take("account:AKLTrace", now, $rate, $burst, 0))
          end
        }
        init_worker_by_lua_block {
          assert(ngx.timer.at(0, function()
            local now = require("rtc.core").now
            local take = require("rtc.quota.shdict").find().take
            local times, stop = {}, now() + $seconds
            repeat
              local time = now()
              local wait = take("account:AKLTrace", time, $rate, $burst, $wait)
              if wait then
                times[#times + 1] = ("%.9f"):format(time + wait)
              end
            until #times >= $grants or time >= stop
            assert(ngx.shared.spec:safe_set("times " .. ngx.worker.id(), table.concat(times, "\n") .. "\n"))
          end))
        }
      ]], given),
      server = fill([[
        location = /times {
          content_by_lua_block {
            ngx.print(ngx.shared.spec:get("times " .. ngx.var.arg_worker) or "")
          }
        }
        location = /state {
          content_by_lua_block {
            local now = require("rtc.core").now()
            local due = now + require("rtc.quota.shdict").find().take("account:AKLTrace", now, $rate, 1, math.huge)
            ngx.print(("%.9f"):format((due - ngx.shared.spec:get("start")) * $rate))
          }
        }
      ]], given),
    }
    local times = {}
    for worker = 0, WORKERS - 1 do
      local told = tree.await(function()
        local text = running:get("/times?worker=" .. worker)
        return text ~= "" and text
      end, "the worker's times")
      for time in told:gmatch("%S+") do
        times[#times + 1] = tonumber(time)
      end
    end
    table.sort(times)
    assert.no_matches("%[error%]", running:log())
    return times
  end

  for _, wait in ipairs { 0, 0.2 } do
    -- The dict is as small as can be, too.
    it(("lets a second see no more than rate and burst, if all wait for up to %g s"):format(wait), function()
      local seconds, rate, burst = 3, 500, 25
      local times = race {
        rate = rate, burst = burst, wait = wait, before = 0, grants = "math.huge", seconds = seconds, size = "100k",
      }
      for i = 1, #times - rate - burst do
        assert.is_true(times[i + rate + burst] - times[i] > 1, "more than 525 in a second")
      end
      -- No more is lost than when nobody gets to run for longer than a burst takes.
      assert.is_true(#times > rate * seconds / 2, #times .. " slots were given")
    end)
  end

  it("gives each slot once, and loses none, to workers that all take at once", function()
    -- The state is so far ahead of the time that it says how many slots were taken.
    local before, grants, rate = 1000, 20000, 100
    local times = race {
      rate = rate, burst = 1000000, wait = 0, before = before, grants = grants, seconds = "math.huge", size = "64m",
    }
    assert.equal(WORKERS * grants, #times)
    assert.equal(before + WORKERS * grants, math.floor(tonumber(running:get("/state")) + 0.5))
  end)

  -- Each case: where a worker's take is interrupted, by what, and what happens before the last take; and all the waits
  -- that are given: they tell the slots.
  for name, case in pairs {
    ["another takes what a worker is about to take"] = { "safe_add", "take()", "", "0 1 2" },
    ["another takes the next before a worker says where to begin"] = { "safe_set", "take()", "forget()", "1 0 2" },
    ["a worker is stopped for long, and others go on"] = { "safe_add", "take() take() forget()", "", "0 1 2 3" },
    ["a worker dies when it has just taken one"] = { "safe_set", [[error "dies"]], "", "1" },
  } do
    it("gives each slot once when " .. name, function()
      assert.equal(case[4], nginx.run(fill([[
        local dict, waits = ngx.shared.rtc_quota, {}
        local store = require("rtc.quota.shdict").find()
        local function take()
          local wait = store.take("key", 0, 1, 1, 100)
          waits[#waits + 1] = wait
        end
        local function forget() -- numbers are kept for a while only
          while #dict:get_keys(0) > 1 do
            ngx.sleep(0.02)
          end
        end
        local method = dict.$method
        dict.$method = function(...)
          dict.$method = nil
          $others
          return method(...)
        end
        pcall(take)
        $before
        take()
        ngx.print(table.concat(waits, " "))
      ]], { method = case[1], others = case[2], before = case[3] }), { http = "lua_shared_dict rtc_quota 100k;" }))
    end)
  end

  it("is kept when nginx reloads its configuration", function()
    running = nginx.start {
      http = "lua_shared_dict rtc_quota 100k;",
      server = [[
        location = /worker { content_by_lua_block { ngx.print(ngx.worker.pid()) } }
        location = /take {
          content_by_lua_block {
            local now = require("rtc.core").now()
            ngx.print(tostring(require("rtc.quota.shdict").find().take("key", now, 0.001, 2, 0)))
          }
        }
      ]],
    }
    local worker = running:get("/worker")
    assert.equal("0", running:get("/take"))
    running:signal "HUP"
    tree.await(function() return running:get("/worker") ~= worker end, "another worker")
    assert.equal("0", running:get("/take"))
    assert.equal("nil", running:get("/take"))
  end)

  describe("of a name that no dict has", function()
    it("is an error that says what to write", function()
      assert.equal("there is no lua_shared_dict other: write `lua_shared_dict other 1m;` into the http block of "
        .. "nginx.conf", nginx.run([[
          local _, problem = pcall(require("rtc.quota.shdict").new, "other")
          ngx.print(problem)
        ]], { http = "lua_shared_dict rtc_quota 100k;" }))
    end)

    it("is not found", function()
      assert.equal("nil", nginx.run [[ ngx.print(tostring(require("rtc.quota.shdict").find())) ]])
    end)

    it("is not found outside nginx", function()
      assert.is_nil(shdict.find())
      assert.has_error(function() shdict.new "rtc_quota" end)
    end)
  end)

  -- What makes a dict full, and what a limit of it says then.
  local full = [[
    local dict = ngx.shared.other
    local count = 0
    assert(dict:safe_add("the oldest lives on", true, 1000))
    repeat
      count = count + 1
      local added, problem = dict:safe_add("key " .. count, "somebody else's", $seconds)
    until not added
    assert(dict:get "key 1" or $seconds < 1)
    local function others()
      return #dict:get_keys(0)
    end
  ]]

  it("says that the dict is full, and leaves what is in it", function()
    local answer = nginx.run(fill(full, { seconds = "1000" }) .. [[
      local store = require("rtc.quota.shdict").new "other"
      local limit = require("rtc.quota").new({ store = store }, "account")
      local err = limit:take({ now = require("rtc.core").now }, { action = "SendUnicast" }, 10)
      ngx.print(err.code, ": ", err.message, "; ", tostring(others() == count))
    ]], { http = "lua_shared_dict other 32k;" })
    assert.equal("QuotaStoreFailed: the store of the rate limit (quota.store) raised: lua_shared_dict other is full: "
      .. "make it larger in nginx.conf. It takes some 150 bytes for each message a second, and as many again for each "
      .. "second of quota.max_wait; true", answer)
  end)

  it("takes the room of what has ended, whatever is older", function()
    assert.equal("0", nginx.run(fill(full, { seconds = "0.05" }) .. [[
      while dict:get("key " .. count - 1) do
        ngx.sleep(0.01)
      end
      ngx.print(tostring(require("rtc.quota.shdict").new("other").take("key", 0, 1, 1, 0)))
    ]], { http = "lua_shared_dict other 32k;" }))
  end)
end)
