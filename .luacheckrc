-- What runs on every Lua may use only what all of them have.
std = "min"
max_line_length = 120
exclude_files = { "build", "build-*" }

-- The specs run on Lua 5.4 in busted.
files["spec"] = { std = "lua54+busted" }
files["tools"] = { std = "lua54" }
