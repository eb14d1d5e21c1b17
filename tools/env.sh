# shellcheck shell=sh
# Sourced, with `root` set to the tree: where Lua finds this tree's modules, and nobody else's Lua is touched.
# RTC_LUA names another Lua than lua5.4: a command or a path, of LuaJIT, 5.1, 5.3, 5.4 or 5.5; RTC_LUA_INCLUDE is the
# folder of its headers where CMake does not find them. RTC_BUILD picks another build directory than build/ and what
# CMake calls that Lua.

RTC_LUA=${RTC_LUA:-lua5.4}
# What CMake calls it: luajit, or its version. Until it is installed, that is the one of the Lua that we install.
rtc_target=$(env -i PATH="$PATH" "$RTC_LUA" -e 'io.write(jit and "luajit" or _VERSION:match("%d%.%d"))' 2>/dev/null) ||
  rtc_target=5.4

RTC_BUILD=${RTC_BUILD:-$root/build/$rtc_target}
case $RTC_BUILD in
  /*) ;;
  *) RTC_BUILD=$PWD/$RTC_BUILD ;;
esac

# Of LUA_PATH_5_4 and the like each is read by its own Lua only, but 5.1 and LuaJIT read LUA_PATH, as do all others
# that have none of their own: so there the others get theirs, and what we start on another Lua finds its own modules.
rtc_suffix=_5_${rtc_target#5.}
case $rtc_target in
  5.1 | luajit)
    rtc_suffix=''
    for rtc_other in 5_3 5_4 5_5; do
      eval "export LUA_PATH_$rtc_other=\"\${LUA_PATH_$rtc_other:-\${LUA_PATH:-;;}}\""
      eval "export LUA_CPATH_$rtc_other=\"\${LUA_CPATH_$rtc_other:-\${LUA_CPATH:-;;}}\""
    done
    ;;
esac
# Those that are set already, or what all Luas read, stay in effect behind ours.
rtc_path='' rtc_cpath=''
eval "rtc_path=\${LUA_PATH$rtc_suffix:-\${LUA_PATH:-;}} rtc_cpath=\${LUA_CPATH$rtc_suffix:-\${LUA_CPATH:-;}}"
# Debian packages lua-http and what it stands on for Lua 5.1 to 5.3 only, but they are plain Lua.
export "LUA_PATH$rtc_suffix=$root/lua/?.lua;$root/lua/?/init.lua;$rtc_path;\
/usr/share/lua/5.3/?.lua;/usr/share/lua/5.3/?/init.lua;/usr/share/lua/5.1/?.lua"
export "LUA_CPATH$rtc_suffix=$RTC_BUILD/?.so;$rtc_cpath"
# nginx is where an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin
export RTC_LUA RTC_BUILD PATH
