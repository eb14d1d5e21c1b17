# shellcheck shell=sh
# Sourced, with `root` set to the tree: where Lua finds this tree's modules, and nobody else's Lua is touched.
# RTC_LUA names another Lua than lua5.4: a command or a path, of 5.3, 5.4 or 5.5; RTC_LUA_INCLUDE is the folder of its
# headers where CMake does not find them. RTC_BUILD picks another build directory than build/ and its version.

RTC_LUA=${RTC_LUA:-lua5.4}
# Until it is installed, its version is that of the Lua that we install.
rtc_abi=$("$RTC_LUA" -E -e 'io.write(_VERSION:match("%d%.%d"))' 2>/dev/null) || rtc_abi=5.4

RTC_BUILD=${RTC_BUILD:-$root/build/$rtc_abi}
case $RTC_BUILD in
  /*) ;;
  *) RTC_BUILD=$PWD/$RTC_BUILD ;;
esac

# Of LUA_PATH_5_4 and the like each is read by its own Lua only. Those that are set already, or what all Luas read, stay
# in effect behind ours.
rtc_suffix=5_${rtc_abi#5.}
rtc_path='' rtc_cpath=''
eval "rtc_path=\${LUA_PATH_$rtc_suffix:-\${LUA_PATH:-;}} rtc_cpath=\${LUA_CPATH_$rtc_suffix:-\${LUA_CPATH:-;}}"
# Debian packages lua-http and what it stands on for Lua 5.1 to 5.3 only, but they are plain Lua.
export "LUA_PATH_$rtc_suffix=$root/lua/?.lua;$root/lua/?/init.lua;$rtc_path;\
/usr/share/lua/5.3/?.lua;/usr/share/lua/5.3/?/init.lua;/usr/share/lua/5.1/?.lua"
export "LUA_CPATH_$rtc_suffix=$RTC_BUILD/?.so;$rtc_cpath"
# nginx is where an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin
export RTC_LUA RTC_BUILD PATH
