-- A build against another OpenSSL than the system's, by CMake's OPENSSL_ROOT_DIR.

local core = require "rtc.core"
local native = require "spec.support.native"
local openssl_copy = require "spec.support.openssl_copy"
local process = require "spec.support.process"

describe("OPENSSL_ROOT_DIR", function()
  local root, build

  setup(function()
    root, build = openssl_copy(), native.path "build"
  end)

  local function make(arguments, env)
    env.RTC_BUILD, env.LD_PRELOAD = build, false
    local argv = { "sh", "tools/build" }
    for _, argument in ipairs(arguments) do
      argv[#argv + 1] = argument
    end
    local made = process.run(argv, { timeout = 120, env = env })
    assert(made.code == 0, made.stdout .. made.stderr)
  end

  --- What the rtc.core in a folder of modules signs, and the libcrypto that is in the process then.
  local function use(folder)
    local ran = process.run { process.lua, "-e", ([[
      package.cpath = "%s/?.so"
      local signer = require "rtc.core".signer("AKLTtest", "c2VjcmV0", nil, "cn-north-1", "rtc")
      print(signer:sign({ method = "POST", host = "h", time = 1735787045 }).headers.Authorization)
      for line in io.lines "/proc/self/maps" do
        local library = line:match "/%%S*libcrypto%%S*"
        if library then
          print(library)
          break
        end
      end]]):format(folder) }
    assert.equal("", ran.stderr)
    return ran.stdout:match "^(.-)\n(.-)\n$"
  end

  local expected = core.signer("AKLTtest", "c2VjcmV0", nil, "cn-north-1", "rtc")
    :sign({ method = "POST", host = "h", time = 1735787045 }).headers.Authorization

  local function uses_the_copy(folder)
    local signed, library = use(folder)
    assert.same({ expected, root .. "/lib" }, { signed, library:match "^(.*)/" })
  end

  it("in the environment is taken, though another was before", function()
    make({}, { OPENSSL_ROOT_DIR = false })
    local signed, library = use(build)
    assert.equal(expected, signed)
    assert.is_nil(library:find(root, 1, true))
    make({}, { OPENSSL_ROOT_DIR = root })
    uses_the_copy(build)
  end)

  it("is taken as CMake's option, and the installed module finds it, too", function()
    local installed = native.path "installed"
    make({ "-DOPENSSL_ROOT_DIR=" .. root, "-DRTC_INSTALL_CMOD=" .. installed, "-DRTC_INSTALL_LMOD=" .. installed,
      "-DRTC_INSTALL_BIN=" .. installed }, { OPENSSL_ROOT_DIR = false })
    uses_the_copy(build)
    process.sh("cmake --install " .. build)
    process.sh("rm -r " .. build)
    uses_the_copy(installed)
  end)

  it("that holds none ends the build", function()
    local made = process.run({ "sh", "tools/build", "-DOPENSSL_ROOT_DIR=/none" },
      { timeout = 120, env = { RTC_BUILD = native.path "build", LD_PRELOAD = false } })
    assert.equal(1, made.code)
    assert.matches("OPENSSL_ROOT_DIR is /none, and there is no OpenSSL with its headers", made.stderr, 1, true)
  end)
end)
