# shellcheck shell=sh
# Sourced, with `root` set to the tree: where Lua 5.4 finds this tree's modules, and nobody else's Lua is touched.
# RTC_BUILD picks another build directory than build/5.4.

RTC_BUILD=${RTC_BUILD:-$root/build/5.4}
case $RTC_BUILD in
  /*) ;;
  *) RTC_BUILD=$PWD/$RTC_BUILD ;;
esac

# Debian packages lua-http and what it stands on for Lua 5.1 to 5.3 only, but they are plain Lua.
LUA_PATH_5_4="$root/lua/?.lua;$root/lua/?/init.lua;${LUA_PATH_5_4:-${LUA_PATH:-;}};\
/usr/share/lua/5.3/?.lua;/usr/share/lua/5.3/?/init.lua;/usr/share/lua/5.1/?.lua"
LUA_CPATH_5_4="$RTC_BUILD/?.so;${LUA_CPATH_5_4:-${LUA_CPATH:-;}}"
# nginx is where an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin
export RTC_BUILD LUA_PATH_5_4 LUA_CPATH_5_4 PATH
