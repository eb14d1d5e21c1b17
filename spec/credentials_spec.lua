-- Where keys are found: each case in a process of its own, with real variables and real files.

local cjson = require("cjson").new()
local process = require "spec.support.process"
local tree = require "spec.support.tree"

--- Every secret here has "hunter" in it, for the search in what is said.
local INI = "[default]\naccess_key_id = AKLTini\nsecret_access_key = hunter-ini\n"
local JSON = '{"ak":"AKLTjson","sk":"hunter-json"}'
local VOLC = { VOLC_ACCESSKEY = "AKLTvolc", VOLC_SECRETKEY = "hunter-volc" }
local VOLCENGINE = { VOLCENGINE_ACCESS_KEY = "AKLTengine", VOLCENGINE_SECRET_KEY = "hunter-engine" }

local SCRIPT = [[
  local credentials, endpoint = require "rtc.credentials", require "rtc.endpoint"
  local at = assert(endpoint.parse(%q))
  local given = { %s }
  local found, problem = credentials.find(given, at)
  local names = {}
  for i, source in ipairs(credentials.sources(given, at)) do
    names[i] = source.name
  end
  if found and found.provider then
    found.provider = found.provider()
  end
  print(require("cjson").encode { found = found, problem = problem, names = names })]]

--- What is found with these variables, and with these files under ~. The home's path is shown as ~.
---@param case { env: table|nil, files: table|nil, given: string|nil, endpoint: string|nil, home: string|nil }
---@return { found: table|nil, problem: string|nil, names: string[] }
local function look(case)
  local home = case.home or tree.home(case.files)
  local env = tree.environment { HOME = home }
  for name, value in pairs(case.env or {}) do
    env[name] = value
  end
  local script = SCRIPT:format(case.endpoint or "https://example.com", case.given or "")
  local child = process.run({ process.lua, "-e", script }, { env = env })
  assert.equal("", child.stderr)
  local result = cjson.decode(child.stdout)
  local function short(s)
    return s and s:gsub(home:gsub("%p", "%%%0"), "~")
  end
  result.problem = short(result.problem)
  for i, name in ipairs(result.names) do
    result.names[i] = short(name)
  end
  if result.found then
    result.found.source = short(result.found.source)
  end
  return result
end

local function assert_found(expected, case)
  local result = look(case)
  assert.is_nil(result.problem)
  assert.same(expected, result.found)
end

--- A problem that has the text, and none of the keys.
local function assert_problem(text, case)
  local result = look(case)
  assert.is_nil(result.found)
  assert.matches("no keys: " .. text, result.problem, 1, true)
  assert.is_nil(result.problem:find("hunter", 1, true), result.problem)
  assert.is_nil(result.problem:find("AKLT", 1, true), result.problem)
  assert.is_true(#result.problem < 400, result.problem)
  assert.is_nil(result.problem:find("[%c\128-\255]"), result.problem)
end

local function with_credentials(bytes)
  return { files = { [".volc/credentials"] = bytes } }
end

local function with_config(bytes)
  return { files = { [".volc/config"] = bytes } }
end

describe("keys", function()
  local everything = { [".volc/credentials"] = INI, [".volc/config"] = JSON }
  local both_variables = { VOLC_ACCESSKEY = "AKLTvolc", VOLC_SECRETKEY = "hunter-volc",
    VOLCENGINE_ACCESS_KEY = "AKLTengine", VOLCENGINE_SECRET_KEY = "hunter-engine" }

  -- From the last source to the first, each added to all that come after it.
  local order = {
    { { access_key = "AKLTjson", secret_key = "hunter-json", source = "~/.volc/config" }, with_config(JSON) },
    { { access_key = "AKLTini", secret_key = "hunter-ini", source = "~/.volc/credentials" }, { files = everything } },
    { { access_key = "AKLTengine", secret_key = "hunter-engine",
        source = "the environment: VOLCENGINE_ACCESS_KEY, VOLCENGINE_SECRET_KEY" },
      { files = everything, env = VOLCENGINE } },
    { { access_key = "AKLTvolc", secret_key = "hunter-volc",
        source = "the environment: VOLC_ACCESSKEY, VOLC_SECRETKEY" },
      { files = everything, env = both_variables } },
    { { access_key = "AKLTsandbox", secret_key = "sandbox-secret-key", source = "the sandbox's ready-made keys" },
      { files = everything, env = both_variables, endpoint = "sandbox" } },
    { { provider = "asked", source = "the function given to rtc.new as credentials" },
      { files = everything, env = both_variables, endpoint = "sandbox",
        given = 'credentials = function() return "asked" end' } },
    { { access_key = "AKLTgiven", secret_key = "hunter-given", source = "access_key and secret_key, given to rtc.new" },
      { files = everything, env = both_variables, endpoint = "sandbox",
        given = 'access_key = "AKLTgiven", secret_key = "hunter-given"' } },
  }
  for _, case in ipairs(order) do
    it("come from the first source that has them: " .. case[1].source, function()
      assert_found(case[1], case[2])
    end)
  end

  it("are looked for nowhere else for the sandbox", function()
    local broken = { env = { VOLC_ACCESSKEY = "AKLTvolc" }, files = { [".volc/credentials"] = "hunter" } }
    broken.endpoint = "sandbox"
    assert.same({ "the sandbox's ready-made keys" }, look(broken).names)
    assert_found(order[5][1], broken)
  end)

  it("have their sources listed in the order of the search", function()
    assert.same({
      "the environment: VOLC_ACCESSKEY, VOLC_SECRETKEY",
      "the environment: VOLCENGINE_ACCESS_KEY, VOLCENGINE_SECRET_KEY", "~/.volc/credentials", "~/.volc/config",
    }, look({}).names)
  end)

  it("that are nowhere have an error that says what can be done", function()
    assert_problem("pass access_key and secret_key (or a function, as credentials) to rtc.new, or set VOLC_ACCESSKEY "
      .. "and VOLC_SECRETKEY, or write ~/.volc/credentials; or try rtc.new \"sandbox\"", {})
  end)

  it("that are given both ways have an error that says so", function()
    assert_problem("credentials and keys are both given: pass one or the other",
      { env = VOLC, given = 'access_key = "AKLTgiven", secret_key = "hunter", credentials = print' })
  end)

  it("that are given by half are not completed", function()
    assert_problem("secret_key is not set beside access_key: they come as a pair",
      { env = VOLC, given = 'access_key = "AKLTgiven"' })
    assert_problem("access_key is not set beside session_token: they come as a pair",
      { env = VOLC, given = 'session_token = "hunter"' })
  end)
end)

describe("keys in the environment", function()
  for _, names in ipairs {
    { "VOLC_ACCESSKEY", "VOLC_SECRETKEY", "VOLC_SESSIONTOKEN" },
    { "VOLCENGINE_ACCESS_KEY", "VOLCENGINE_SECRET_KEY", "VOLCENGINE_SESSION_TOKEN" },
  } do
    local access, secret, token = names[1], names[2], names[3]
    local source = ("the environment: %s, %s"):format(access, secret)

    it("have a session token or none: " .. access, function()
      local env = { [access] = "AKTPenv", [secret] = "hunter" }
      assert_found({ access_key = "AKTPenv", secret_key = "hunter", source = source }, { env = env })
      env[token] = ""
      assert_found({ access_key = "AKTPenv", secret_key = "hunter", source = source }, { env = env })
      env[token] = "hunter-token"
      assert_found({ access_key = "AKTPenv", secret_key = "hunter", session_token = "hunter-token", source = source },
        { env = env })
    end)

    it("are wrong by half, though a later source has them: " .. access, function()
      for missing, present in pairs { [access] = secret, [secret] = access } do
        assert_problem(("%s is not set beside %s: they come as a pair"):format(missing, present),
          { env = { [present] = "hunter" }, files = { [".volc/credentials"] = INI } })
      end
      assert_problem(("%s is not set beside %s"):format(access, token), { env = { [token] = "hunter" } })
    end)

    it("are named when they are wrong: " .. access, function()
      for wrong, right in pairs { [access] = secret, [secret] = access } do
        assert_problem(wrong .. " has white space", { env = { [wrong] = "hunter\n", [right] = "hunter" } })
      end
      assert_problem(token .. " has white space",
        { env = { [access] = "hunter", [secret] = "hunter", [token] = " hunter" } })
    end)
  end

  it("never lend each other a half", function()
    assert_problem("VOLC_SECRETKEY is not set beside VOLC_ACCESSKEY",
      { env = { VOLC_ACCESSKEY = "AKLTvolc", VOLCENGINE_SECRET_KEY = "hunter" } })
    -- The token of one set is not for the keys of another.
    assert_found({ access_key = "AKLTengine", secret_key = "hunter-engine",
      source = "the environment: VOLCENGINE_ACCESS_KEY, VOLCENGINE_SECRET_KEY" }, { env = VOLCENGINE })
  end)

  it("are enough: broken files are not looked at", function()
    local broken = { [".volc/credentials"] = "hunter", [".volc/config"] = "hunter" }
    for _, env in ipairs { VOLC, VOLCENGINE } do
      assert.is_nil(look({ env = env, files = broken }).problem)
    end
  end)
end)

describe("keys in ~/.volc/credentials", function()
  local keys = { access_key = "AKLTini", secret_key = "hunter=ini==", source = "~/.volc/credentials" }

  for form, bytes in pairs {
    ["as the SDKs' pages show it"] = "[default]\naccess_key_id = AKLTini\nsecret_access_key = hunter=ini==\n",
    ["without blanks, and without an end of the last line"] =
      "[default]\naccess_key_id=AKLTini\nsecret_access_key=hunter=ini==",
    ["with many blanks"] =
      "\n  [default]  \n\taccess_key_id\t =  AKLTini \t\n\n secret_access_key =hunter=ini==  \n\n",
    ["with CRLF"] = "[default]\r\naccess_key_id = AKLTini\r\nsecret_access_key = hunter=ini==\r\n",
    ["with comments"] = "# mine\n; too\n[default]\n  # access_key_id = hunter\n;secret_access_key = hunter\n"
      .. "access_key_id = AKLTini\n#\nsecret_access_key = hunter=ini==\n",
    ["between other sections"] = "[work]\naccess_key_id = AKLTwork\nsecret_access_key = hunter-work\nno pair\n"
      .. "[default]\nsecret_access_key = hunter=ini==\naccess_key_id = AKLTini\nregion = cn-beijing\n"
      .. "[default2]\naccess_key_id = AKLTwork\n",
    ["with names in capitals"] = "[default]\nACCESS_KEY_ID = AKLTini\nSecret_Access_Key = hunter=ini==\n",
    ["with a byte order mark"] = "\239\187\191[default]\naccess_key_id = AKLTini\nsecret_access_key = hunter=ini==\n",
    ["with an empty token"] = "[default]\naccess_key_id = AKLTini\nsecret_access_key = hunter=ini==\nsession_token =\n",
  } do
    it("are read " .. form, function()
      assert_found(keys, with_credentials(bytes))
    end)
  end

  it("have a session token where there is one", function()
    assert_found({ access_key = "AKLTini", secret_key = "hunter-ini", session_token = "hunter-token",
      source = "~/.volc/credentials" }, with_credentials(INI .. "session_token = hunter-token\n"))
  end)

  it("are read from a file of 64 KiB, and no larger one", function()
    local padding = ("#"):rep(65536 - #INI)
    assert_found({ access_key = "AKLTini", secret_key = "hunter-ini", source = "~/.volc/credentials" },
      with_credentials(INI .. padding))
    assert_problem("~/.volc/credentials has more than 65536 bytes", with_credentials(INI .. padding .. "#"))
  end)

  for text, bytes in pairs {
    ["~/.volc/credentials has no access_key_id and secret_access_key under [default]: mend it, or set VOLC_ACCESSKEY "
      .. "and VOLC_SECRETKEY"] = "",
    ["~/.volc/credentials has no access_key_id and secret_access_key under [default]"] =
      "[Default]\naccess_key_id = AKLTini\nsecret_access_key = hunter\n",
    ["secret_access_key is not set beside access_key_id in ~/.volc/credentials: they come as a pair"] =
      "[default]\naccess_key_id = AKLTini\n[other]\nsecret_access_key = hunter\n",
    ["access_key_id is not set beside secret_access_key in ~/.volc/credentials: they come as a pair"] =
      "[default]\naccess_key_id =\nsecret_access_key = hunter\n",
    ["access_key_id is not set beside session_token in ~/.volc/credentials"] = "[default]\nsession_token = hunter\n",
    ["access_key_id in ~/.volc/credentials must not have `/` or `,` in it"] =
      "[default]\naccess_key_id = AKLT/hunter\nsecret_access_key = hunter\n",
    ["secret_access_key in ~/.volc/credentials has white space"] =
      "[default]\naccess_key_id = AKLTini\nsecret_access_key = hunter # mine\n",
    ["~/.volc/credentials has something before the first section (keys belong under [default]), in line 2: mend"] =
      "# mine\naccess_key_id = hunter\nsecret_access_key = hunter\n",
    ["~/.volc/credentials has neither `name = value` nor a comment, in line 3"] =
      "[default]\naccess_key_id = AKLTini\nsecret_access_key: hunter\n",
    ["~/.volc/credentials has a name for the second time, in line 5"] =
      "[default]\naccess_key_id = AKLTini\nsecret_access_key = hunter\n[default]\nsecret_access_key = hunter2\n",
    ["~/.volc/credentials has something before the first section"] = '{"ak":"AKLTini","sk":"hunter"}',
    ["~/.volc/credentials has something before the first section (keys belong under [default]), in line 1"] =
      "\0\1hunter\255\254\27[2J",
    ["~/.volc/credentials has neither `name = value` nor a comment, in line 2"] = "[default]\n\0hunter\255\27[2J\n",
  } do
    it("are wrong when the file " .. text:gsub("~/.volc/credentials ", ""), function()
      local case = with_credentials(bytes)
      case.files[".volc/config"] = JSON -- which then does not count
      assert_problem(text, case)
    end)
  end
end)

describe("keys in ~/.volc/config", function()
  local keys = { access_key = "AKLTjson", secret_key = "hunter-json", source = "~/.volc/config" }

  for form, bytes in pairs {
    ["of the Go, Python and Java SDKs"] = JSON,
    ["of the Node SDK"] = '{"VOLC_ACCESSKEY":"AKLTjson","VOLC_SECRETKEY":"hunter-json"}',
    ["with other members, a token among them that no SDK reads"] =
      '\r\n{ "region": "cn-beijing", "sk": "hunter-json", "x": null, "ak": "AKLTjson", "session_token": "hunter" }\r\n',
    ["of both SDKs: the first counts"] = '{"VOLC_ACCESSKEY":"AKLTnode","VOLC_SECRETKEY":"hunter-node",'
      .. '"ak":"AKLTjson","sk":"hunter-json"}',
    ["with a byte order mark"] = "\239\187\191" .. JSON,
  } do
    it("are read in the form " .. form, function()
      assert_found(keys, with_config(bytes))
    end)
  end

  it("are not expected where the `volc` command keeps its own settings", function()
    assert_problem("pass access_key and secret_key", with_config("[default]\nregion = cn-beijing\n"))
  end)

  for text, bytes in pairs {
    ["~/.volc/config is not JSON (at character 1): mend it, or set VOLC_ACCESSKEY and VOLC_SECRETKEY"] = "",
    ["~/.volc/config is not JSON (at character 19)"] = '{"ak":"AKLTjson", sk:"hunter"}',
    ["~/.volc/config is not JSON"] = "\0\1hunter\255\254\27[2J",
    ["~/.volc/config is JSON, but not an object: mend it"] = '"hunter"',
    ['~/.volc/config has no "ak" and "sk": mend it, or set VOLC_ACCESSKEY and VOLC_SECRETKEY'] =
      '{"access_key":"AKLTjson","secret_key":"hunter"}',
    ['~/.volc/config has no "ak" and "sk"'] = '["AKLTjson","hunter"]',
    ["sk is not set beside ak in ~/.volc/config: they come as a pair"] = '{"ak":"AKLTjson"}',
    ["ak is not set beside sk in ~/.volc/config: they come as a pair"] = '{"ak":"","sk":"hunter"}',
    ["VOLC_SECRETKEY is not set beside VOLC_ACCESSKEY in ~/.volc/config"] = '{"VOLC_ACCESSKEY":"AKLTjson"}',
    ["sk is not set beside ak in ~/.volc/config"] = '{"ak":"AKLTjson","VOLC_SECRETKEY":"hunter"}',
    ["sk in ~/.volc/config must be a string, not a number"] = '{"ak":"AKLTjson","sk":42}',
    ["sk in ~/.volc/config must be a string, not a table"] = '{"ak":"AKLTjson","sk":{"hunter":"hunter"}}',
    ["ak in ~/.volc/config must be a string, not a userdata"] = '{"ak":null,"sk":"hunter"}',
    ["ak in ~/.volc/config must be a string, not a boolean"] = '{"ak":false,"sk":"hunter"}',
    ["sk in ~/.volc/config has white space"] = '{"ak":"AKLTjson","sk":"hunter\\n"}',
    ["~/.volc/config has more than 65536 bytes, too many for keys: mend it"] = JSON .. (" "):rep(65536),
    ["~/.volc/config is not JSON (at character 1001)"] = ("["):rep(60000),
  } do
    it("are wrong when the file " .. text:gsub("~/.volc/config ", ""), function()
      assert_problem(text, with_config(bytes))
    end)
  end
end)

describe("a file of keys", function()
  for _, name in ipairs { "credentials", "config" } do
    local shown = "~/.volc/" .. name

    local function home_with(command)
      local home = tree.home()
      process.sh(("cd %s/.volc && %s"):format(home, (command:gsub("NAME", name))))
      return { home = home }
    end

    it("that can't be read is wrong, and not passed over: " .. shown, function()
      assert_problem(shown .. " cannot be read (Is a directory): mend it", home_with("mkdir NAME"))
      -- Root can read everything else.
      assert_problem(shown .. " cannot be read (Too many levels of symbolic links): mend it",
        home_with("ln -s NAME NAME"))
    end)

    it("that never ends is not read to its end: " .. shown, function()
      assert_problem(shown .. " has more than 65536 bytes", home_with("ln -s /dev/zero NAME"))
    end)
  end

  it("that does not exist is passed over, for whatever reason it does not", function()
    for _, home in ipairs { "/dev/null", "/nonexistent", "", false } do
      assert_problem("pass access_key and secret_key", { home = tree.home(), env = { HOME = home } })
    end
  end)

  it("is named by a path that is fit to print", function()
    local home = tree.home() .. "/\27[2J"
    process.sh(("mkdir -p '%s/.volc/config'"):format(home))
    assert_problem(home:gsub("\27", "\\x1B") .. "/.volc/config cannot be read", { env = { HOME = home } })
  end)
end)
