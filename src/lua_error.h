/* The one form of an error value that leaves the C core: a table that lua/rtc/error.lua teaches to print. */
#ifndef RTC_LUA_ERROR_H
#define RTC_LUA_ERROR_H

#include "compat.h"

#define RTC_ERROR_METATABLE "rtc.error"

/* Pushes nil and an error table for a bad field; returns 2. `message` is a whole sentence, the field's name in it. */
static inline int rtc_argument_error(lua_State *L, const char *field, const char *message)
{
    lua_pushnil(L);
    lua_createtable(L, 0, 8);
    lua_pushliteral(L, "argument");
    lua_setfield(L, -2, "kind");
    lua_pushliteral(L, "InvalidArgument");
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "class");
    lua_setfield(L, -2, "code");
    lua_pushstring(L, field);
    lua_setfield(L, -2, "field");
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    lua_pushliteral(L, "not_sent");
    lua_setfield(L, -2, "outcome");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "retryable");
    lua_pushinteger(L, 0);
    lua_setfield(L, -2, "attempts");
    luaL_newmetatable(L, RTC_ERROR_METATABLE);
    lua_setmetatable(L, -2);
    return 2;
}

#endif
