rockspec_format = "3.0"
package = "volcengine-rtc"
version = "scm-1"
source = {
  url = "git+https://github.com/volcengine-rtc/lua-rtc.git",
}
description = {
  summary = "Signs and sends Volcengine RTC messages",
  detailed = [[
    Sends a message from a Lua script to a person in a Volcengine RTC room: signed and posted in C (OpenSSL, libcurl),
    with a sandbox of the service to try it on. The module's name is rtc.]],
  license = "MIT",
}
-- The sandbox (rtc sandbox, rtc listen) needs http, too, and only it does; so do the runtimes "luv" and "cqueues" the
-- rocks of their names.
dependencies = {
  "lua >= 5.1",
  "lua-cjson",
  "argparse",
}
-- CMake finds OpenSSL and libcurl. Every path that depends on the Lua is given: the folder in which LuaRocks builds is
-- used again for the next one, with what CMake remembers there.
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "RelWithDebInfo",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    RTC_LUA_INCLUDE_DIR = "$(LUA_INCDIR)",
    RTC_INSTALL_CMOD = "$(LIBDIR)",
    RTC_INSTALL_LMOD = "$(LUADIR)",
    RTC_INSTALL_BIN = "$(BINDIR)",
  },
}
