--- Looks for secrets where a script can find them: each secret of the specs that use this has "hunter" in it.
---@param value any  itself, and all that can be reached from it through tables
---@param seen table<table, true>|nil
local function assert_no_secret(value, seen)
  seen = seen or {}
  assert(not tostring(value):find("hunter", 1, true), "a secret can be reached")
  if type(value) == "table" and not seen[value] then
    seen[value] = true
    for name, inner in pairs(value) do
      assert_no_secret(name, seen)
      assert_no_secret(inner, seen)
    end
  end
end

return assert_no_secret
