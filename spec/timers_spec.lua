-- Who waits until when.

local timers = require "rtc.runtime.timers"

describe("timers", function()
  local kept

  before_each(function()
    kept = timers.new()
  end)

  local function all_due(now)
    local list = {}
    for waiter in function() return kept:due(now) end do
      list[#list + 1] = waiter.name
    end
    return list
  end

  local function add(time, name)
    return kept:add(time, { name = name or time })
  end

  it("are due in the order of their time, whatever the order in which they came", function()
    for n = 1, 100 do
      add(n * 37 % 101)
    end
    local expected = {}
    for n = 1, 100 do
      expected[n] = n
    end
    assert.same(expected, all_due(100))
    assert.same({}, all_due(1000))
  end)

  it("are due in the order in which they came, with the same time", function()
    for n = 1, 5 do
      add(1, n)
      add(2, n + 5)
    end
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, all_due(2))
  end)

  it("are due when their time has come, and not before", function()
    add(2)
    add(1)
    assert.same({}, all_due(0.999))
    assert.same({ 1 }, all_due(1))
    assert.same({}, all_due(1.999))
    assert.same({ 2 }, all_due(2))
  end)

  it("say which time is the first", function()
    assert.equal(math.huge, kept:soonest())
    add(3)
    add(2)
    assert.equal(2, kept:soonest())
    all_due(2)
    assert.equal(3, kept:soonest())
    all_due(3)
    assert.equal(math.huge, kept:soonest())
  end)

  it("are passed over when nobody waits any more", function()
    local first, middle, last = add(1), add(2), add(3)
    add(2.5)
    first.waiter, middle.waiter = nil, nil
    assert.equal(2.5, kept:soonest())
    last.waiter = nil
    assert.same({ 2.5 }, all_due(10))
    assert.equal(math.huge, kept:soonest())
  end)

  it("can be added while others are due, before and after them", function()
    add(2)
    add(4)
    assert.equal(2, kept:due(2).name)
    add(1)
    add(3)
    add(5)
    assert.same({ 1, 3, 4, 5 }, all_due(10))
  end)

  it("keep nothing of what was due", function()
    for round = 1, 1000 do
      add(round)
      all_due(round)
    end
    local count = 0
    for key in pairs(kept) do
      count = count + (type(key) == "number" and 1 or 0)
    end
    assert.equal(0, count)
  end)
end)
