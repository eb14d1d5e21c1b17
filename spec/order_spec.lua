-- Which messages wait for which, so that those to the same receiver keep their order.

local order = require "rtc.order"

describe("the order of messages", function()
  local kept, ready, added

  --- Adds a message, and remembers it by its name.
  local function add(name, fields)
    added[name] = kept:add(fields, function() ready[#ready + 1] = name end)
  end

  before_each(function()
    kept, ready, added = order.new { app_id = "app" }, {}, {}
  end)

  -- Two messages, and whether the second one waits for the first.
  local in_room, outside, everyone = { room_id = "r", to = "u" }, { to = "u" }, { room_id = "r" }
  for name, case in pairs {
    ["the same receiver"] = { in_room, in_room, true },
    ["another receiver"] = { in_room, { room_id = "r", to = "v" }, false },
    ["the same receiver in another room"] = { in_room, { room_id = "s", to = "u" }, true },
    ["the same receiver outside of rooms"] = { in_room, outside, true },
    ["another receiver outside of rooms"] = { in_room, { to = "v" }, false },
    ["everyone in the receiver's room"] = { in_room, everyone, true },
    ["everyone in another room"] = { in_room, { room_id = "s" }, false },
    ["a receiver in everyone's room"] = { everyone, in_room, true },
    ["a receiver outside of rooms after everyone"] = { everyone, outside, true },
    ["everyone after a receiver outside of rooms"] = { outside, everyone, true },
    ["everyone in the same room"] = { everyone, everyone, true },
    ["a list with the receiver"] = { in_room, { room_id = "r", to = { "v", "u" } }, true },
    ["a list without the receiver"] = { in_room, { room_id = "r", to = { "v", "w" } }, false },
    ["a list that has one in common"] = { { room_id = "r", to = { "u", "v" } }, { room_id = "r", to = { "v" } }, true },
    ["lists that have none in common"] = { { room_id = "r", to = { "u" } }, { room_id = "r", to = { "v" } }, false },
    ["everyone after a list"] = { { room_id = "r", to = { "u" } }, everyone, true },
    ["the same receiver of another app"] = { in_room, { app_id = "other", room_id = "r", to = "u" }, false },
    ["the same receiver of the client's app, by name"] = { in_room, { app_id = "app", room_id = "r", to = "u" }, true },
    ["a number that is the same ID"] = { { room_id = 7, to = 42 }, { room_id = "s", to = "42" }, true },
    ["a room that is the same as a number"] = { { room_id = 7 }, { room_id = "7" }, true },
    ["IDs that are none"] = { { room_id = "r", to = "a b" }, { room_id = "r", to = "u" }, false },
    ["a list of what is no ID"] = { { room_id = "r", to = { {}, false } }, in_room, false },
  } do
    it(("lets the second one %s: %s"):format(case[3] and "wait" or "go", name), function()
      add("first", case[1])
      add("second", case[2])
      assert.same(case[3] and { "first" } or { "first", "second" }, ready)
      kept:finish(added.first)
      assert.same({ "first", "second" }, ready)
    end)
  end

  it("lets one wait for all that are before it", function()
    add("a", { room_id = "r", to = "a" })
    add("b", { room_id = "r", to = "b" })
    add("all", { room_id = "r" })
    add("a again", { room_id = "r", to = "a" })
    add("c elsewhere", { room_id = "s", to = "c" })
    assert.same({ "a", "b", "c elsewhere" }, ready)
    kept:finish(added.b)
    assert.equal(3, #ready)
    kept:finish(added.a)
    assert.same({ "a", "b", "c elsewhere", "all" }, ready)
    kept:finish(added.all)
    assert.same({ "a", "b", "c elsewhere", "all", "a again" }, ready)
  end)

  it("keeps nothing of what is finished", function()
    for n = 1, 10 do
      add(n, in_room)
      kept:finish(added[n])
    end
    assert.is_nil(next(kept.unfinished))
    add("next", in_room)
    assert.equal("next", ready[11])
  end)
end)
