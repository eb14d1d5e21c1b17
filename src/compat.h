/* What Lua's C API lacks in some of 5.1 to 5.5 (LuaJIT counts as 5.1), under a prefix of our own. */
#ifndef RTC_COMPAT_H
#define RTC_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#if LUA_VERSION_NUM < 501 || LUA_VERSION_NUM > 505
#error "rtc builds against the headers of Lua 5.1 to 5.5"
#endif

/* The two modules export their luaopen function and nothing else. */
#if defined(__GNUC__)
#define RTC_EXPORT __attribute__((visibility("default")))
#else
#define RTC_EXPORT
#endif

#if LUA_VERSION_NUM == 501
#define rtc_rawlen(L, i) lua_objlen((L), (i))
#else
#define rtc_rawlen(L, i) lua_rawlen((L), (i))
#endif

/* Sets functions in the table on top of the stack. */
static inline void rtc_setfuncs(lua_State *L, const luaL_Reg *functions)
{
    for (; functions->name != NULL; functions++) {
        lua_pushcfunction(L, functions->func);
        lua_setfield(L, -2, functions->name);
    }
}

/* Makes the metatable of a userdata. It is hidden from scripts, so that none calls __gc on what is in use. */
static inline void rtc_new_class(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *meta)
{
    luaL_newmetatable(L, name);
    rtc_setfuncs(L, meta);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L);
    rtc_setfuncs(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

/* Whether the table on top of the stack is a list of that length: no entry is outside of it, as those of a map are. */
static inline bool rtc_is_list(lua_State *L, size_t length)
{
    size_t entries = 0;
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        entries++;
        lua_pop(L, 1);
    }
    return entries == length;
}

#endif
