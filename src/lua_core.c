/* rtc.core: what needs libcrypto only, and so may be loaded anywhere: the signer, work on text, chance, and the clock.
 */
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "compat.h"
#include "lua_error.h"
#include "signer.h"

#define SIGNER_METATABLE "rtc.signer"

/* A Lua string's bytes, valid while something on the stack or in a table holds the string. */
static rtc_bytes bytes_at(lua_State *L, int index)
{
    rtc_bytes bytes = {0};
    bytes.data = lua_tolstring(L, index, &bytes.len);
    return bytes;
}

/* ---- reading a request table ----
 * Everything is read with raw access and must be a string already: a converted number would be a new string that
 * nothing holds. */

typedef struct request_reader {
    lua_State *L;
    rtc_sign_request request;
    rtc_pair query[RTC_SIGN_MAX_PAIRS];
    rtc_pair headers[RTC_SIGN_MAX_PAIRS];
    rtc_bytes signed_headers[RTC_SIGN_MAX_PAIRS];
    const char *field; /* the field at fault */
    const char *fault;
} request_reader;

static bool fail(request_reader *reader, const char *field, const char *fault)
{
    reader->field = field;
    reader->fault = fault;
    return false;
}

static bool read_string(request_reader *reader, const char *field, rtc_bytes *to)
{
    if (lua_type(reader->L, -1) != LUA_TSTRING) {
        return fail(reader, field, "must be a string");
    }
    *to = bytes_at(reader->L, -1);
    return true;
}

/* The pair on top of the stack: { name, value }. */
static bool read_pair(request_reader *reader, const char *field, rtc_pair *pair)
{
    lua_State *L = reader->L;
    if (!lua_istable(L, -1)) {
        return fail(reader, field, "must be a list of { name, value } pairs");
    }
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    bool ok = lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING;
    if (ok) {
        pair->name = bytes_at(L, -2);
        pair->value = bytes_at(L, -1);
    }
    lua_pop(L, 2);
    return ok || fail(reader, field, "must be a list of { name, value } pairs of strings; use tostring() for a number");
}

static bool list_length(request_reader *reader, const char *field, size_t *length)
{
    if (!lua_istable(reader->L, -1)) {
        return fail(reader, field, "must be a list");
    }
    *length = rtc_rawlen(reader->L, -1);
    if (!rtc_is_list(reader->L, *length)) {
        return fail(reader, field, "must be a list, not a map of names to values");
    }
    if (*length > RTC_SIGN_MAX_PAIRS) {
        return fail(reader, field, "has more entries than the 64 that are taken");
    }
    return true;
}

static bool read_pairs(request_reader *reader, const char *field, rtc_pair *pairs, size_t *count)
{
    if (!list_length(reader, field, count)) {
        return false;
    }
    for (size_t i = 0; i < *count; i++) {
        lua_rawgeti(reader->L, -1, (int)i + 1);
        bool ok = read_pair(reader, field, &pairs[i]);
        lua_pop(reader->L, 1);
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool read_signed_headers(request_reader *reader)
{
    rtc_sign_request *request = &reader->request;
    if (!list_length(reader, "signed_headers", &request->signed_header_count)) {
        return false;
    }
    for (size_t i = 0; i < request->signed_header_count; i++) {
        lua_rawgeti(reader->L, -1, (int)i + 1);
        bool ok = read_string(reader, "signed_headers", &reader->signed_headers[i]);
        lua_pop(reader->L, 1);
        if (!ok) {
            return fail(reader, "signed_headers", "must be a list of strings, such as { \"host\", \"x-date\" }");
        }
    }
    request->signed_headers = reader->signed_headers;
    return true;
}

static bool read_time(request_reader *reader)
{
    lua_Number seconds = lua_tonumber(reader->L, -1);
    if (lua_type(reader->L, -1) != LUA_TNUMBER || !(seconds >= 0 && seconds < 1e12)) {
        return fail(reader, "time", "must be Unix seconds, such as os.time() gives");
    }
    reader->request.time = (int64_t)seconds;
    return true;
}

/* The field named `key`, whose value is on top of the stack. */
static bool read_field(request_reader *reader, const char *key)
{
    rtc_sign_request *request = &reader->request;
    if (strcmp(key, "method") == 0) {
        return read_string(reader, "method", &request->method);
    }
    if (strcmp(key, "host") == 0) {
        return read_string(reader, "host", &request->host);
    }
    if (strcmp(key, "path") == 0) {
        return read_string(reader, "path", &request->path);
    }
    if (strcmp(key, "body") == 0) {
        return read_string(reader, "body", &request->body);
    }
    if (strcmp(key, "query") == 0) {
        return read_pairs(reader, "query", reader->query, &request->query_count);
    }
    if (strcmp(key, "headers") == 0) {
        return read_pairs(reader, "headers", reader->headers, &request->header_count);
    }
    if (strcmp(key, "time") == 0) {
        return read_time(reader);
    }
    if (strcmp(key, "signed_headers") == 0) {
        return read_signed_headers(reader);
    }
    return fail(reader, "request",
                "has a field that is not known; known are method, host, path, query, headers, body, time and "
                "signed_headers");
}

/* Reads the table at `index`. One pass over its keys, so that a misspelled one is noticed. */
static bool read_request(request_reader *reader, int index)
{
    lua_State *L = reader->L;
    reader->request = (rtc_sign_request){.method = {"POST", 4}, .query = reader->query, .headers = reader->headers};
    reader->request.time = -1;
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        bool ok = read_field(reader, key);
        lua_pop(L, 1);
        if (!ok) {
            lua_pop(L, 1);
            return false;
        }
    }
    if (reader->request.time < 0) {
        reader->request.time = (int64_t)time(NULL);
    }
    return true;
}

/* ---- signer ---- */

/* A result that is being turned into tables: Lua may collect garbage meanwhile, and so run a finaliser that signs with
 * the same signer, which then needs another result. All are kept for the next time, and freed with the signer. */
typedef struct result {
    rtc_signed made;
    bool in_use;
    struct result *next;
} result;

typedef struct signer_box {
    rtc_signer *signer; /* NULL: collected already */
    result *results;
} signer_box;

static result *take_result(lua_State *L, signer_box *box)
{
    result *r = box->results;
    while (r != NULL && r->in_use) {
        r = r->next;
    }
    if (r == NULL) {
        r = calloc(1, sizeof *r);
        if (r == NULL) {
            luaL_error(L, "rtc.core: not enough memory to sign");
            return NULL;
        }
        r->next = box->results;
        box->results = r;
    }
    return r;
}

static void set_bytes(lua_State *L, const char *key, rtc_bytes bytes)
{
    lua_pushlstring(L, bytes.data, bytes.len);
    lua_setfield(L, -2, key);
}

/* Signs the request at stack index 2. Returns 0 when *filled is a result in use, else what the Lua function must
 * return. */
static int sign(lua_State *L, result **filled)
{
    signer_box *box = luaL_checkudata(L, 1, SIGNER_METATABLE);
    request_reader reader;
    char message[320];
    if (box->signer == NULL) {
        return luaL_error(L, "rtc.core: the signer is collected already");
    }
    if (!lua_istable(L, 2)) {
        return rtc_argument_error(L, "request", "request must be a table");
    }
    lua_settop(L, 2);
    reader.L = L;
    if (!read_request(&reader, 2)) {
        snprintf(message, sizeof message, "%s %s", reader.field, reader.fault);
        return rtc_argument_error(L, reader.field, message);
    }
    result *r = take_result(L, box);
    rtc_sign_problem problem;
    switch (rtc_signer_sign(box->signer, &reader.request, &r->made, &problem)) {
    case RTC_SIGN_OK:
        r->in_use = true; /* should Lua run out of memory, until the signer is collected */
        *filled = r;
        return 0;
    case RTC_SIGN_BAD_REQUEST:
        return rtc_argument_error(L, problem.field, problem.message);
    case RTC_SIGN_NO_MEMORY:
        return luaL_error(L, "rtc.core: not enough memory to sign");
    case RTC_SIGN_CRYPTO:
        break;
    }
    return luaL_error(L, "rtc.core: OpenSSL could not compute a signature");
}

/* signer:sign(request) -> { headers = { [name] = value }, query = string } | nil, err */
static int signer_sign(lua_State *L)
{
    result *r = NULL;
    int failed = sign(L, &r);
    if (failed != 0) {
        return failed;
    }
    const rtc_signed *made = &r->made;
    lua_createtable(L, 0, 2);
    set_bytes(L, "query", made->query);
    lua_createtable(L, 0, (int)made->header_count);
    for (size_t i = 0; i < made->header_count; i++) {
        lua_pushlstring(L, made->headers[i].name.data, made->headers[i].name.len);
        lua_pushlstring(L, made->headers[i].value.data, made->headers[i].value.len);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "headers");
    r->in_use = false;
    return 1;
}

/* signer:explain(request) -> { canonical_request, string_to_sign, signed_headers, signature, credential_scope } */
static int signer_explain(lua_State *L)
{
    result *r = NULL;
    int failed = sign(L, &r);
    if (failed != 0) {
        return failed;
    }
    lua_createtable(L, 0, 5);
    set_bytes(L, "canonical_request", r->made.canonical_request);
    set_bytes(L, "string_to_sign", r->made.string_to_sign);
    set_bytes(L, "signed_headers", r->made.signed_headers);
    set_bytes(L, "signature", r->made.signature);
    set_bytes(L, "credential_scope", r->made.credential_scope);
    r->in_use = false;
    return 1;
}

static int signer_gc(lua_State *L)
{
    signer_box *box = luaL_checkudata(L, 1, SIGNER_METATABLE);
    while (box->results != NULL) {
        result *r = box->results;
        box->results = r->next;
        rtc_signed_free(&r->made);
        free(r);
    }
    rtc_signer_free(box->signer);
    box->signer = NULL;
    return 0;
}

static int signer_tostring(lua_State *L)
{
    lua_pushfstring(L, "rtc.signer: %p", lua_topointer(L, 1));
    return 1;
}

/* What goes into the Authorization header must not break it up: printable ASCII but for the separators. */
static rtc_bytes check_part(lua_State *L, int index, const char *name)
{
    luaL_checktype(L, index, LUA_TSTRING);
    rtc_bytes part = bytes_at(L, index);
    for (size_t i = 0; i < part.len; i++) {
        unsigned char c = (unsigned char)part.data[i];
        if (c <= 0x20 || c >= 0x7f || c == '/' || c == ',') {
            luaL_error(L,
                       "%s has a character at byte %d that it can't have (a blank, \"/\", \",\" or one outside ASCII)",
                       name, (int)i + 1);
        }
    }
    if (part.len == 0) {
        luaL_error(L, "%s is empty", name);
    }
    return part;
}

static rtc_bytes check_token(lua_State *L, int index)
{
    if (lua_isnoneornil(L, index)) {
        return (rtc_bytes){0};
    }
    luaL_checktype(L, index, LUA_TSTRING);
    rtc_bytes token = bytes_at(L, index);
    for (size_t i = 0; i < token.len; i++) {
        if ((unsigned char)token.data[i] <= 0x20 || (unsigned char)token.data[i] >= 0x7f) {
            luaL_error(L, "session_token has a character at byte %d that a header can't carry", (int)i + 1);
        }
    }
    return token;
}

/* core.signer(access_key, secret_key, session_token or nil, region, service) -> signer */
static int new_signer(lua_State *L)
{
    rtc_credentials credentials;
    credentials.access_key = check_part(L, 1, "access_key");
    luaL_checktype(L, 2, LUA_TSTRING);
    credentials.secret_key = bytes_at(L, 2);
    luaL_argcheck(L, credentials.secret_key.len > 0, 2, "secret_key is empty");
    credentials.session_token = check_token(L, 3);
    credentials.region = check_part(L, 4, "region");
    credentials.service = check_part(L, 5, "service");

    signer_box *box = lua_newuserdata(L, sizeof *box);
    box->signer = NULL;
    box->results = NULL;
    luaL_getmetatable(L, SIGNER_METATABLE);
    lua_setmetatable(L, -2);
    box->signer = rtc_signer_new(&credentials);
    if (box->signer == NULL) {
        return luaL_error(L, "rtc.core: not enough memory for a signer, or OpenSSL has no SHA-256");
    }
    return 1;
}

/* ---- text ---- */

/* core.base64(bytes) -> string, RFC 4648 section 4, padded, on one line */
static int base64(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TSTRING);
    rtc_bytes in = bytes_at(L, 1);
    luaL_argcheck(L, in.len <= INT_MAX / 2, 1, "too long for base64");
    size_t room = (in.len + 2) / 3 * 4 + 1;
    unsigned char *out = lua_newuserdata(L, room);
    int len = EVP_EncodeBlock(out, (const unsigned char *)in.data, (int)in.len);
    lua_pushlstring(L, (const char *)out, (size_t)len);
    return 1;
}

/* How many bytes the character at `s` takes, 0 when it is not well-formed: RFC 3629 section 4, so no overlong forms,
 * no surrogates, nothing above U+10FFFF. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    unsigned char lead = s[0];
    if (lead < 0x80) {
        return 1;
    }
    size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || left < len) {
        return 0;
    }
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    switch (lead) {
    case 0xe0:
        low = 0xa0;
        break;
    case 0xed:
        high = 0x9f;
        break;
    case 0xf0:
        low = 0x90;
        break;
    case 0xf4:
        high = 0x8f;
        break;
    default:
        break;
    }
    if (s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

/* core.utf8_error(s) -> nil, or the position of the first byte that is not valid UTF-8 */
static int utf8_error(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TSTRING);
    rtc_bytes text = bytes_at(L, 1);
    size_t at = 0;
    while (at < text.len) {
        size_t len = utf8_length((const unsigned char *)text.data + at, text.len - at);
        if (len == 0) {
            lua_pushinteger(L, (lua_Integer)at + 1);
            return 1;
        }
        at += len;
    }
    return 0;
}

/* core.shares(a, b, length) -> whether the two have so many bytes in a row in common. For text.without, which looks
 * through every answer; in Lua it cost as much as the rest of a call. */
static int shares(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TSTRING);
    luaL_checktype(L, 2, LUA_TSTRING);
    rtc_bytes a = bytes_at(L, 1);
    rtc_bytes b = bytes_at(L, 2);
    lua_Number wanted = luaL_checknumber(L, 3);
    luaL_argcheck(L, wanted >= 1 && wanted <= INT_MAX, 3, "must be at least 1");
    size_t length = (size_t)wanted;
    bool found = false;
    for (size_t i = 0; !found && i + length <= a.len; i++) {
        found = memmem(b.data, b.len, a.data + i, length) != NULL;
    }
    lua_pushboolean(L, found);
    return 1;
}

/* ---- chance ---- */

/* core.random() -> a number in [0, 1) of 53 random bits, all that a double has room for. math.random is the program's
 * own, and up to Lua 5.3 it gives the same numbers in every process that does not seed it. */
static int random_number(lua_State *L)
{
    uint64_t bits = 0;
    if (RAND_bytes((unsigned char *)&bits, (int)sizeof bits) != 1) {
        return luaL_error(L, "rtc.core: OpenSSL has no random bytes");
    }
    lua_pushnumber(L, (lua_Number)(bits >> 11) / 9007199254740992.0);
    return 1;
}

/* ---- where and when ---- */

/* core.now() -> monotonic seconds, by the clock that the engine goes by, and the same one in every process */
static int now(lua_State *L)
{
    struct timespec time_now;
    if (clock_gettime(CLOCK_MONOTONIC, &time_now) != 0) {
        return luaL_error(L, "rtc.core: the system has no monotonic clock");
    }
    lua_pushnumber(L, (lua_Number)time_now.tv_sec + (lua_Number)time_now.tv_nsec / 1e9);
    return 1;
}

/* core.pid() -> this process's number. An engine notices by itself that it is in a forked child; with this Lua notices
 * too. */
static int pid(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)getpid());
    return 1;
}

/* ---- the module ---- */

RTC_EXPORT int luaopen_rtc_core(lua_State *L);

int luaopen_rtc_core(lua_State *L)
{
    static const luaL_Reg methods[] = {{"sign", signer_sign}, {"explain", signer_explain}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", signer_gc}, {"__tostring", signer_tostring}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"signer", new_signer},
                                         {"base64", base64},
                                         {"utf8_error", utf8_error},
                                         {"shares", shares},
                                         {"random", random_number},
                                         {"now", now},
                                         {"pid", pid},
                                         {NULL, NULL}};
    rtc_new_class(L, SIGNER_METATABLE, methods, meta);
    lua_newtable(L);
    rtc_setfuncs(L, functions);
    luaL_newmetatable(L, RTC_ERROR_METATABLE);
    lua_setfield(L, -2, "error_metatable");
    lua_pushliteral(L, RTC_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}
