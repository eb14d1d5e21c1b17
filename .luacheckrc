-- What runs on every Lua may use only what all of them have.
std = "min"
max_line_length = 120
exclude_files = { "build", "build-*" }

-- The specs do, too (spec/support/compat.lua), in busted.
files["spec"] = { std = "min+busted" }
-- A scheduler's functions are methods whether they need the object or not.
files["lua/rtc/runtime"] = { self = false }
-- What runs only inside nginx.
files["lua/rtc/quota/shdict.lua"] = { read_globals = { "ngx" } }
files["lua/rtc/runtime/resty.lua"] = { read_globals = { "ngx", "newproxy" } }
files["lua/rtc/runtime/cosocket.lua"] = { read_globals = { "ngx" } }
-- LuaJIT, in nginx.
files["examples/nginx"] = { std = "ngx_lua" }
files["tools"] = { std = "lua54" }
files["bench"] = { std = "lua54" }
