-- Keys that stay and keys that a function gives, asked for by coroutines in a time that the spec turns.

local assert_no_secret = require "spec.support.assert_no_secret"
local credential_provider = require "rtc.credential_provider"
local errors = require "rtc.error"
local signer = require "rtc.signer"
local compat = require "spec.support.compat"

local where = compat.where

local START = 1700000000 -- Unix seconds

--- A runtime whose sleep yields, and coroutines that are its callers. Its time stands still while one runs, and moves
--- on to the next one's awakening when all sleep.
local function new_world()
  local world = { time = 0, sleeping = {}, runtime = {} }

  function world.runtime.now()
    return world.time
  end

  function world.runtime.sleep(seconds)
    coroutine.yield(world.time + seconds)
  end

  function world.unix()
    return START + world.time
  end

  --- Adds a caller, which begins at `time`.
  function world:at(time, fn)
    self.sleeping[#self.sleeping + 1] = { wake = time, thread = coroutine.create(fn) }
  end

  --- Runs the callers to their ends; one that sleeps for ever is left where it is.
  function world:run()
    while true do
      local first
      for i, sleeper in ipairs(self.sleeping) do
        first = (not first or sleeper.wake < self.sleeping[first].wake) and i or first
      end
      local sleeper = first and self.sleeping[first]
      if not sleeper or sleeper.wake == math.huge then
        return
      end
      table.remove(self.sleeping, first)
      self.time = math.max(self.time, sleeper.wake)
      local ok, wake = coroutine.resume(sleeper.thread)
      assert(ok, wake)
      if coroutine.status(sleeper.thread) ~= "dead" then
        self.sleeping[#self.sleeping + 1] = { wake = wake, thread = sleeper.thread }
      end
    end
  end

  return world
end

local function make_signer(keys)
  return signer.new { access_key = keys.access_key, secret_key = keys.secret_key, session_token = keys.session_token }
end

--- Whose keys a signer has.
local function owner(made)
  return made:sign({ method = "POST", host = "h", time = 1735787045 }).headers.Authorization:match("Credential=(.-)/")
end

describe("keys that stay", function()
  it("are one signer and its label", function()
    local made = make_signer { access_key = "AKLTstatic", secret_key = "hunter" }
    local keys = credential_provider.static(made, "AKLT…")
    assert.equal(made, (keys:signer()))
    assert.equal("AKLT…", keys:label())
  end)
end)

describe("keys that a function gives", function()
  local world, asked

  before_each(function()
    world, asked = new_world(), 0
  end)

  --- Keys by a function that gives `life` seconds (none: for ever) to the first, second … keys, named AKTP1, AKTP2 …;
  --- `work`, called with their number before it gives them, can wait, fail, or give something else.
  local function keys_of(life, work)
    return credential_provider.renewing(function()
      asked = asked + 1
      local number = asked
      if work then
        local instead = compat.pack(work(number))
        if instead.n > 0 then
          return compat.unpack(instead, 1, instead.n)
        end
      end
      return { access_key = "AKTP" .. number, secret_key = "hunter" .. number, session_token = "hunter-token",
        expires = life and world.unix() + life }
    end, make_signer, world.unix)
  end

  --- Notes into `log`, from `time` on, whose keys a call gets that may take `patience` seconds, or why none.
  local function call(log, keys, time, patience)
    world:at(time, function()
      local made, err = keys:signer(world.runtime, world.time + (patience or 10))
      log[#log + 1] = { world.time, made and owner(made) or err.code, asked }
    end)
  end

  --- What calls at these times get: { time, whose keys or the error's code, how often the function was asked by then }.
  local function calls(keys, times)
    local log = {}
    for _, time in ipairs(times) do
      call(log, keys, time)
    end
    world:run()
    return log
  end

  it("are asked for when they are first needed, and once when they do not expire", function()
    local keys = keys_of(nil)
    assert.same({ 0, "from a function" }, { asked, keys:label() })
    assert.same({ { 0, "AKTP1", 1 }, { 1, "AKTP1", 1 }, { 1e9, "AKTP1", 1 } }, calls(keys, { 0, 1, 1e9 }))
    assert.equal("AK…", keys:label())
  end)

  it("sign with all that the function gave", function()
    local made = assert(keys_of(nil):signer(world.runtime, 1))
    local request = { method = "POST", host = "h", time = 1735787045 }
    local same = make_signer { access_key = "AKTP1", secret_key = "hunter1", session_token = "hunter-token" }
    assert.same(same:sign(request), made:sign(request))
  end)

  it("are not kept where a script can reach them", function()
    local keys = keys_of(100)
    assert(keys:signer(world.runtime, 1))
    assert_no_secret(keys)
  end)

  -- life, the last second of the first keys, the first second of the next
  for _, case in ipairs {
    { 3600, 3539.5, 3540 }, { 121, 60.5, 61 }, { 120, 59.5, 60 }, { 100, 49.5, 50 }, { 1, 0.4, 0.5 },
  } do
    it(("are renewed before they expire: after %g seconds when they live for %g"):format(case[3], case[1]), function()
      assert.same({ { 0, "AKTP1", 1 }, { case[2], "AKTP1", 1 }, { case[3], "AKTP2", 2 } },
        calls(keys_of(case[1]), { 0, case[2], case[3] }))
    end)
  end

  it("are renewed again and again", function()
    assert.same({ { 0, "AKTP1", 1 }, { 3540, "AKTP2", 2 }, { 7079, "AKTP2", 2 }, { 7080, "AKTP3", 3 },
      { 1e6, "AKTP4", 4 } }, calls(keys_of(3600), { 0, 3540, 7079, 7080, 1e6 }))
  end)

  it("expire at a time as STS writes it, too", function()
    local keys = keys_of(nil, function(number)
      return { access_key = "AKTP" .. number, secret_key = "s",
        expires = os.date("!%Y-%m-%dT%H:%M:%S+08:00", math.floor(world.unix()) + 3600 + 8 * 3600) }
    end)
    assert.same({ { 0, "AKTP1", 1 }, { 3539, "AKTP1", 1 }, { 3540, "AKTP2", 2 } }, calls(keys, { 0, 3539, 3540 }))
  end)

  it("can be had without a deadline that lies ahead, when the function does not wait", function()
    assert.equal("AKTP1", owner(keys_of(nil):signer(world.runtime, world.time)))
  end)

  where(compat.yields_anywhere, describe)("while a call waits in it", function()
    --- From the second time on, or from the first, the function takes 5 seconds.
    local function slow(from)
      return function(number)
        if number >= from then
          world.runtime.sleep(5)
        end
      end
    end

    it("are those of the others, too, when it returns", function()
      local log, keys = {}, keys_of(3600, slow(1))
      for _, time in ipairs { 0, 1, 4.5 } do
        call(log, keys, time)
      end
      world:run()
      assert.equal(3, #log)
      for _, entry in ipairs(log) do
        assert.same({ "AKTP1", 1 }, { entry[2], entry[3] })
        assert.is_true(entry[1] >= 5)
      end
    end)

    it("let the others go on with the present ones", function()
      local log, keys = {}, keys_of(3600, slow(2))
      for _, time in ipairs { 0, 3540, 3541, 3544.5, 3546 } do
        call(log, keys, time)
      end
      world:run()
      assert.same({ { 0, "AKTP1", 1 }, { 3541, "AKTP1", 2 }, { 3544.5, "AKTP1", 2 }, { 3545, "AKTP2", 2 },
        { 3546, "AKTP2", 2 } }, log)
    end)

    it("make the others wait once they have expired", function()
      local log, keys = {}, keys_of(4, slow(2))
      for _, time in ipairs { 0, 3, 3.5, 4 } do
        call(log, keys, time)
      end
      world:run()
      assert.same({ { 0, "AKTP1", 1 }, { 3.5, "AKTP1", 2 }, { 8, "AKTP2", 2 } }, { log[1], log[2], log[3] })
      assert.same({ "AKTP2", 2 }, { log[4][2], log[4][3] })
    end)

    it("end the others' waiting at their deadlines", function()
      local keys, patience, err, at = keys_of(3600, slow(1)), 2, nil, nil
      call({}, keys, 0)
      world:at(1, function()
        local made
        made, err = keys:signer(world.runtime, 1 + patience)
        assert(not made)
        at = world.time
      end)
      world:run()
      assert.same({ "timeout", "Timeout", "not_sent", true, 0 },
        { err.kind, err.code, err.outcome, err.retryable, err.attempts })
      assert.matches("another call still waits for keys", err.message, 1, true)
      assert.equal(1 + patience, at)
    end)

    it("fail for the others, too, when it fails", function()
      local log, keys = {}, keys_of(nil, function()
        world.runtime.sleep(5)
        error("broken")
      end)
      for _, time in ipairs { 0, 1, 2 } do
        call(log, keys, time)
      end
      world:run()
      assert.equal(3, #log)
      for _, entry in ipairs(log) do
        assert.same({ "CredentialsFailed", 1 }, { entry[2], entry[3] })
      end
    end)

    it("are asked for by another after a minute, in case that call is gone", function()
      local log, keys = {}, keys_of(nil, function(number)
        if number == 1 then
          coroutine.yield(math.huge)
        end
      end)
      call(log, keys, 0)
      call(log, keys, 1)
      call(log, keys, 59, 0.5)
      call(log, keys, 60)
      call(log, keys, 61)
      world:run()
      assert.same({ "Timeout", "Timeout", "AKTP2", "AKTP2" }, { log[1][2], log[2][2], log[3][2], log[4][2] })
      assert.equal(2, asked)
    end)

    --- The first call is in the function for 70 seconds, and the second one, which gives it up at 60, for 20.
    local function two_slow(first_fails)
      return function(number)
        world.runtime.sleep(number == 1 and 70 or 20)
        if number == 1 and first_fails then
          error("broken")
        end
      end
    end

    it("may come late from a call that was given up", function()
      local log, keys = {}, keys_of(nil, two_slow())
      for _, time in ipairs { 0, 60, 71, 85 } do
        call(log, keys, time)
      end
      world:run()
      assert.same({ { 70, "AKTP1", 2 }, { 71, "AKTP1", 2 }, { 80, "AKTP2", 2 }, { 85, "AKTP2", 2 } }, log)
    end)

    it("are waited for though a call that was given up fails meanwhile", function()
      local log, keys = {}, keys_of(nil, two_slow(true))
      for _, time in ipairs { 0, 60, 72 } do
        call(log, keys, time)
      end
      world:run()
      assert.same({ { 70, "Timeout", 2 }, { 80, "AKTP2", 2 } }, { log[1], log[2] })
      assert.same({ "AKTP2", 2 }, { log[3][2], log[3][3] })
    end)
  end)

  describe("fail", function()
    local raises_to_print = setmetatable({}, { __tostring = function() error("hunter") end })
    local prints_no_string = setmetatable({}, { __tostring = function() return {} end })
    local good = { access_key = "AKTPgood", secret_key = "hunter" }

    local function with(changes)
      local given = { access_key = "AKTPgood", secret_key = "hunter" }
      for name, value in pairs(changes) do
        given[name] = value
      end
      return given
    end

    local ways = {
      { "raises a string", function() error("no network") end, "raised: .*no network" },
      { "raises nothing", function() error() end, "raised: " .. tostring(select(2, pcall(error))) },
      { "raises what raises when printed", function() error(raises_to_print) end, "raised: a table" },
      { "raises what does not print", function() error(prints_no_string) end, "raised: a table" },
      { "gives nil", function() return nil end, "gave no keys: nil" },
      { "says why not", function() return nil, "STS said\27[2J no" end, "gave no keys: STS said\\x1B%[2J no" },
      { "gives an error of ours", function() return nil, errors.config("no role") end,
        "gave no keys: InvalidConfig: no role" },
      { "talks much", function() return nil, ("x"):rep(5000) end, "gave no keys: x+… %(5000 bytes%)$" },
      { "gives a string", function() return "hunter" end,
        "returned a string: it must return { access_key = …, secret_key = … }, or nil and why not" },
      { "gives false", function() return false end, "returned a boolean: it must" },
      { "gives an empty table", function() return {} end, "gave keys that can't be used: access_key is missing" },
      { "gives what STS answers", function() return { AccessKeyId = "AKTPx", SecretAccessKey = "hunter" } end,
        "gave keys that can't be used: access_key is missing" },
      { "gives half a pair", function() return { access_key = "AKTPx" } end, "can't be used: secret_key is missing" },
      { "gives an access key that is none", function() return with { access_key = "AKTP/hunter" } end,
        "can't be used: access_key must not have" },
      { "gives a secret that is none", function() return with { secret_key = "hunter\n" } end,
        "can't be used: secret_key has white space" },
      { "gives a token that is none", function() return with { session_token = { "hunter" } } end,
        "can't be used: session_token must be a string" },
      { "gives a date that is none", function() return with { expires = "hunter" } end,
        'can\'t be used: expires must be Unix seconds, or a time like "2021%-04%-12T10:57:09%+08:00"$' },
      { "gives a time that is none", function() return with { expires = 0 / 0 } end, "expires must be Unix" },
      { "gives milliseconds", function() return with { expires = START * 1000 } end, "expires must be Unix" },
      { "gives a boolean as the time", function() return with { expires = true } end, "expires must be Unix" },
      { "gives keys that have expired", function() return with { expires = START - 90 } end,
        "gave keys that expired 90 seconds ago" },
      { "gives keys that expire right now", function() return with { expires = START } end,
        "gave keys that expired 0 seconds ago" },
    }
    for _, way in ipairs(ways) do
      it("when it " .. way[1], function()
        local keys = credential_provider.renewing(way[2], make_signer, world.unix)
        local made, err = keys:signer(world.runtime, 10)
        assert.is_nil(made)
        assert.same({ "config", "CredentialsFailed", "CredentialsFailed", "not_sent", false, 0 },
          { err.kind, err.code, err.class, err.outcome, err.retryable, err.attempts })
        assert.matches("^the function given as credentials .*" .. way[3], err.message)
        assert.is_nil(tostring(err):find("hunter", 1, true), tostring(err))
        assert.is_nil(tostring(err):find("AKTP", 1, true), tostring(err))
        assert.is_nil(err.message:find("%c"))
        assert.is_true(#err.message < 500)
        assert.equal("from a function", keys:label())
        assert_no_secret(keys)
      end)
    end

    --- Fails at each time of asking that is in the list.
    local function failing(...)
      local bad = {}
      for _, number in ipairs { ... } do
        bad[number] = true
      end
      return function(number)
        if bad[number] then
          return nil, "failure " .. number
        end
      end
    end

    it("for a second, in which it is not asked again", function()
      assert.same({ { 0, "CredentialsFailed", 1 }, { 0.5, "CredentialsFailed", 1 }, { 0.9, "CredentialsFailed", 1 },
        { 1, "CredentialsFailed", 2 }, { 1.5, "CredentialsFailed", 2 }, { 2, "AKTP3", 3 }, { 2, "AKTP3", 3 } },
        calls(keys_of(nil, failing(1, 2)), { 0, 0.5, 0.9, 1, 1.5, 2, 2 }))
    end)

    it("with an error for each call, which the client may complete", function()
      local keys = keys_of(nil, failing(1))
      local _, first = keys:signer(world.runtime, 1)
      errors.adopt(first, "SendRoomUnicast")
      local _, second = keys:signer(world.runtime, 1)
      assert.is_nil(second.action)
      assert.equal(first.message, second.message)
    end)

    it("without harm to the present keys, which go on until they expire", function()
      local keys = keys_of(100, failing(2, 3, 4, 5))
      assert.same({ { 0, "AKTP1", 1 }, { 50, "AKTP1", 2 }, { 50.5, "AKTP1", 2 }, { 51, "AKTP1", 3 },
        { 99.5, "AKTP1", 4 }, { 99.9, "AKTP1", 4 }, { 100, "CredentialsFailed", 4 },
        { 100.5, "CredentialsFailed", 5 }, { 102, "AKTP6", 6 } },
        calls(keys, { 0, 50, 50.5, 51, 99.5, 99.9, 100, 100.5, 102 }))
      assert.equal("AK…", keys:label())
    end)

    it("once, and then no more: what comes after good keys is forgotten", function()
      assert.same({ { 0, "AKTP1", 1 }, { 50, "AKTP1", 2 }, { 51, "AKTP3", 3 }, { 51.5, "AKTP3", 3 } },
        calls(keys_of(100, failing(2)), { 0, 50, 51, 51.5 }))
    end)

    it("never when its keys are good", function()
      local keys = credential_provider.renewing(function() return good end, make_signer, world.unix)
      assert.equal("AKTPgood", owner(keys:signer(world.runtime, 1)))
    end)
  end)
end)
