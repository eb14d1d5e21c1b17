local api = require "rtc.api"
local documented = require "spec.support.documented_codes"
local process = require "spec.support.process"

describe("the table of codes", function()
  for _, row in ipairs(documented) do
    it("knows " .. row.code, function()
      local known = assert(api.codes[row.code])
      assert.same({ row.kind, row.refused, row.throttled },
        { known.kind, known.refused == true, known.throttled == true })
      if row.advice then
        assert.is_string(known.advice)
      end
    end)
  end

  it("has none that is not documented", function()
    local known = {}
    for _, row in ipairs(documented) do
      known[row.code] = true
    end
    for code in pairs(api.codes) do
      assert.is_true(known[code], code)
    end
  end)

  it("goes by the class of a code that is not in it", function()
    local known = api.lookup("AccessDenied.Whatever")
    assert.same({ "service", true }, { known.kind, known.refused })
  end)

  it("takes an unknown code with a number for the gateway's, and any for uncertain", function()
    assert.same({ kind = "gateway" }, api.lookup("SomethingNew", 100099))
    assert.same({ kind = "service" }, api.lookup("SomethingNew"))
    assert.same({ kind = "service" }, api.lookup("SomethingNew.OverLimit"))
  end)
end)

describe("the table of actions", function()
  it("is what README.md shows", function()
    local result = process.run { "tools/lua", "tools/api_tables.lua", "--check" }
    assert.same({ 0, "" }, { result.code, result.stderr })
  end)

  it("finds an action by either name", function()
    for _, action in ipairs(api.messages) do
      assert.equal(action, api.find(action.name))
      assert.equal(action, api.find(action.method))
    end
    for _, name in ipairs { "", "sendunicast", 1, false, {} } do
      assert.is_nil(api.find(name))
    end
    assert.is_nil(api.find(nil))
  end)
end)
