-- The programs of bench/ run, and print the rows that they are for. What the numbers are is nobody's matter here.

local process = require "spec.support.process"

local NUMBER = "%s+%d+%.%d+"

local function run(name, ...)
  local result = process.run({ "sh", "bench/" .. name, "--quick", ... }, { timeout = 60 })
  assert.equal(0, result.code, result.stderr)
  return "\n" .. result.stdout
end

local function has_row(text, title, numbers)
  assert.matches("\n" .. title:gsub("%p", "%%%0") .. NUMBER:rep(numbers), text)
end

describe("bench/", function()
  it("runtimes sends by each runtime, and by the engine alone", function()
    local printed = run "runtimes"
    has_row(printed, "ideal", 2)
    has_row(printed, "engine", 3)
    for _, name in ipairs { "blocking", "tick, wait", "tick, 60 Hz", "luv", "cqueues" } do
      has_row(printed, name, 3)
      assert.matches("\n" .. name .. NUMBER:rep(3) .. "%s+%d+" .. NUMBER:rep(3) .. "\n", printed)
    end
  end)

  it("tick tells the steps and the frames of each part", function()
    local printed = run("tick", "--seconds=0.1", "--calls=20", "--pool=4")
    has_row(printed, "trust store's load: longest step", 4)
    has_row(printed, "a handshake: longest step", 4)
    for _, part in ipairs { "a spin", "connect", "steady", "steady, small GC", "steady, no GC" } do
      for _, what in ipairs { "step", "over budget", "over budget, CPU", "frame late" } do
        has_row(printed, part .. ": " .. what, 4)
      end
    end
  end)

  it("nginx tells the requests a second, and what another location takes meanwhile", function()
    local printed = run "nginx"
    has_row(printed, "ideal", 2)
    assert.matches("\nidle%s+%-%s+%-%s+%-" .. NUMBER:rep(3) .. "\n", printed)
    for _, name in ipairs { "bare cosocket", "/notify" } do
      assert.matches("\n" .. name .. NUMBER:rep(2) .. "%s+%d+" .. NUMBER:rep(3) .. "\n", printed)
    end
  end)
end)
