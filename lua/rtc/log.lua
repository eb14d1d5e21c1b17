--- Where goes what nobody asked for and somebody should know: standard error, or nginx's error log.

local log = {}

--- A line in an error log is an entry: what stands on several is put on one.
local function on_one_line(message)
  return (message:gsub("%s*\n%s*", " "))
end

--- Writes a message on standard error, which inside nginx is the file of the main error log: for the end of the Lua
--- state. There `ngx.log` would look at the request that ran last, and is gone (ngx_http_lua_ngx_log in
--- lua-nginx-module's src/ngx_http_lua_log.c).
---@param ... string  pieces of the message
function log.last_words(...)
  local message = table.concat { ... }
  io.stderr:write("rtc: ", rawget(_G, "ngx") and on_one_line(message) or message, "\n")
end

--- Writes a message, in any phase: inside nginx to the error log at level `error`, which is there unless the
--- configuration says otherwise, and where an entry is cut at 2048 bytes; elsewhere on standard error.
---@param ... string  pieces of the message
function log.write(...)
  local nginx = rawget(_G, "ngx")
  if nginx then
    nginx.log(nginx.ERR, "rtc: ", on_one_line(table.concat { ... }))
  else
    log.last_words(...)
  end
end

return log
