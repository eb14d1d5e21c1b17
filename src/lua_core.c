/* rtc.core: what needs libcrypto only, and so may be loaded anywhere: the signer, HTTP/1.1 for those who move its bytes
 * themselves, work on text, chance, and the clock. */
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
#include "http1.h"
#include "lua_error.h"
#include "signer.h"

#define SIGNER_METATABLE "rtc.signer"
#define HTTP1_REQUEST_METATABLE "rtc.http1_request"
#define HTTP1_READER_METATABLE "rtc.http1_reader"

/* A Lua string's bytes, valid while something on the stack or in a table holds the string. */
static rtc_bytes bytes_at(lua_State *L, int index)
{
    rtc_bytes bytes = {0};
    bytes.data = lua_tolstring(L, index, &bytes.len);
    return bytes;
}

/* ---- reading a table of fields ----
 * Everything is read with raw access and must be a string already: a converted number would be a new string that
 * nothing holds. */

typedef struct fields {
    lua_State *L;
    const char *field; /* the field at fault */
    const char *fault;
} fields;

static bool fail(fields *f, const char *field, const char *fault)
{
    f->field = field;
    f->fault = fault;
    return false;
}

static bool read_string(fields *f, const char *field, rtc_bytes *to)
{
    if (lua_type(f->L, -1) != LUA_TSTRING) {
        return fail(f, field, "must be a string");
    }
    *to = bytes_at(f->L, -1);
    return true;
}

/* The pair on top of the stack: { name, value }. */
static bool read_pair(fields *f, const char *field, rtc_pair *pair)
{
    lua_State *L = f->L;
    if (!lua_istable(L, -1)) {
        return fail(f, field, "must be a list of { name, value } pairs");
    }
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    bool ok = lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING;
    if (ok) {
        pair->name = bytes_at(L, -2);
        pair->value = bytes_at(L, -1);
    }
    lua_pop(L, 2);
    return ok || fail(f, field, "must be a list of { name, value } pairs of strings; use tostring() for a number");
}

static bool list_length(fields *f, const char *field, size_t *length)
{
    if (!lua_istable(f->L, -1)) {
        return fail(f, field, "must be a list");
    }
    *length = rtc_rawlen(f->L, -1);
    if (!rtc_is_list(f->L, *length)) {
        return fail(f, field, "must be a list, not a map of names to values");
    }
    if (*length > RTC_SIGN_MAX_PAIRS) {
        return fail(f, field, "has more entries than the 64 that are taken");
    }
    return true;
}

static bool read_pairs(fields *f, const char *field, rtc_pair *pairs, size_t *count)
{
    if (!list_length(f, field, count)) {
        return false;
    }
    for (size_t i = 0; i < *count; i++) {
        lua_rawgeti(f->L, -1, (int)i + 1);
        bool ok = read_pair(f, field, &pairs[i]);
        lua_pop(f->L, 1);
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* Reads the field named `key`, whose value is on top of the stack. */
typedef bool (*field_reader)(fields *f, const char *key, void *to);

/* Reads the table at `index`. One pass over its keys, so that a misspelled one is noticed. */
static bool read_fields(fields *f, int index, field_reader read, void *to)
{
    lua_State *L = f->L;
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        bool ok = read(f, key, to);
        lua_pop(L, 1);
        if (!ok) {
            lua_pop(L, 1);
            return false;
        }
    }
    return true;
}

static int field_error(const fields *f)
{
    char message[320];
    snprintf(message, sizeof message, "%s %s", f->field, f->fault);
    return rtc_argument_error(f->L, f->field, message);
}

/* ---- signer ---- */

typedef struct signing {
    rtc_sign_request request;
    rtc_pair query[RTC_SIGN_MAX_PAIRS];
    rtc_pair headers[RTC_SIGN_MAX_PAIRS];
    rtc_bytes signed_headers[RTC_SIGN_MAX_PAIRS];
} signing;

static bool read_signed_headers(fields *f, signing *s)
{
    rtc_sign_request *request = &s->request;
    if (!list_length(f, "signed_headers", &request->signed_header_count)) {
        return false;
    }
    for (size_t i = 0; i < request->signed_header_count; i++) {
        lua_rawgeti(f->L, -1, (int)i + 1);
        bool ok = read_string(f, "signed_headers", &s->signed_headers[i]);
        lua_pop(f->L, 1);
        if (!ok) {
            return fail(f, "signed_headers", "must be a list of strings, such as { \"host\", \"x-date\" }");
        }
    }
    request->signed_headers = s->signed_headers;
    return true;
}

static bool read_time(fields *f, int64_t *time)
{
    lua_Number seconds = lua_tonumber(f->L, -1);
    if (lua_type(f->L, -1) != LUA_TNUMBER || !(seconds >= 0 && seconds < 1e12)) {
        return fail(f, "time", "must be Unix seconds, such as os.time() gives");
    }
    *time = (int64_t)seconds;
    return true;
}

static bool read_signing_field(fields *f, const char *key, void *to)
{
    signing *s = to;
    rtc_sign_request *request = &s->request;
    if (strcmp(key, "method") == 0) {
        return read_string(f, "method", &request->method);
    }
    if (strcmp(key, "host") == 0) {
        return read_string(f, "host", &request->host);
    }
    if (strcmp(key, "path") == 0) {
        return read_string(f, "path", &request->path);
    }
    if (strcmp(key, "body") == 0) {
        return read_string(f, "body", &request->body);
    }
    if (strcmp(key, "query") == 0) {
        return read_pairs(f, "query", s->query, &request->query_count);
    }
    if (strcmp(key, "headers") == 0) {
        return read_pairs(f, "headers", s->headers, &request->header_count);
    }
    if (strcmp(key, "time") == 0) {
        return read_time(f, &request->time);
    }
    if (strcmp(key, "signed_headers") == 0) {
        return read_signed_headers(f, s);
    }
    return fail(f, "request",
                "has a field that is not known; known are method, host, path, query, headers, body, time and "
                "signed_headers");
}

/* Reads the table at `index`. */
static bool read_signing(fields *f, int index, signing *s)
{
    s->request = (rtc_sign_request){.method = {"POST", 4}, .query = s->query, .headers = s->headers, .time = -1};
    if (!read_fields(f, index, read_signing_field, s)) {
        return false;
    }
    if (s->request.time < 0) {
        s->request.time = (int64_t)time(NULL);
    }
    return true;
}

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
    fields f = {.L = L};
    signing s;
    if (box->signer == NULL) {
        return luaL_error(L, "rtc.core: the signer is collected already");
    }
    if (!lua_istable(L, 2)) {
        return rtc_argument_error(L, "request", "request must be a table");
    }
    lua_settop(L, 2);
    if (!read_signing(&f, 2, &s)) {
        return field_error(&f);
    }
    result *r = take_result(L, box);
    rtc_sign_problem problem;
    switch (rtc_signer_sign(box->signer, &s.request, &r->made, &problem)) {
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

/* ---- HTTP/1.1 ---- */

typedef struct message {
    rtc_http1_request request;
    rtc_pair headers[RTC_SIGN_MAX_PAIRS];
} message;

static bool read_message_field(fields *f, const char *key, void *to)
{
    message *m = to;
    rtc_http1_request *request = &m->request;
    if (strcmp(key, "method") == 0) {
        return read_string(f, "method", &request->method);
    }
    if (strcmp(key, "target") == 0) {
        return read_string(f, "target", &request->target);
    }
    if (strcmp(key, "headers") == 0) {
        return read_pairs(f, "headers", m->headers, &request->header_count);
    }
    if (strcmp(key, "body") == 0) {
        return read_string(f, "body", &request->body);
    }
    return fail(f, "request", "has a field that is not known; known are method, target, headers and body");
}

/* A request's bytes on their way to Lua. */
typedef struct bytes_box {
    char *bytes;
} bytes_box;

static int bytes_gc(lua_State *L)
{
    bytes_box *box = luaL_checkudata(L, 1, HTTP1_REQUEST_METATABLE);
    free(box->bytes);
    box->bytes = NULL;
    return 0;
}

/* core.http1_request{ method, target, headers = { { name, value }, … }, body or nil } -> bytes | nil, err
 *
 * The box comes first: nothing may let Lua collect or raise from when the table is read until it holds the bytes. */
static int http1_request(lua_State *L)
{
    fields f = {.L = L};
    message m;
    rtc_http1_problem problem;
    size_t len = 0;
    if (!lua_istable(L, 1)) {
        return rtc_argument_error(L, "request", "request must be a table");
    }
    lua_settop(L, 1);
    bytes_box *box = lua_newuserdata(L, sizeof *box);
    box->bytes = NULL;
    luaL_getmetatable(L, HTTP1_REQUEST_METATABLE);
    lua_setmetatable(L, -2);
    m.request = (rtc_http1_request){.headers = m.headers};
    if (!read_fields(&f, 1, read_message_field, &m)) {
        return field_error(&f);
    }
    switch (rtc_http1_write(&m.request, &box->bytes, &len, &problem)) {
    case RTC_HTTP1_BAD_REQUEST:
        return rtc_argument_error(L, problem.field, problem.message);
    case RTC_HTTP1_TOO_BIG:
        return luaL_error(L, "rtc.core: not enough memory for the request");
    case RTC_HTTP1_WRITTEN:
        break;
    }
    lua_pushlstring(L, box->bytes, len);
    free(box->bytes);
    box->bytes = NULL;
    return 1;
}

typedef struct http1_box {
    rtc_http1_reader *reader; /* NULL: collected already */
} http1_box;

/* The options of http1_reader, in the table at stack index 1. */
typedef struct reading {
    rtc_bytes method;
    size_t max_body;
    bool has_max_body;
} reading;

static bool read_reading_field(fields *f, const char *key, void *to)
{
    reading *r = to;
    if (strcmp(key, "method") == 0) {
        return read_string(f, "method", &r->method);
    }
    if (strcmp(key, "max_body") != 0) {
        return fail(f, "options", "have a field that is not known; known are method and max_body");
    }
    lua_Number most = lua_tonumber(f->L, -1);
    if (lua_type(f->L, -1) != LUA_TNUMBER || !(most >= 0 && most <= INT_MAX) || most != (int)most) {
        return fail(f, "max_body", "must be a whole number of bytes, from 0 to 2147483647");
    }
    r->max_body = (size_t)most;
    r->has_max_body = true;
    return true;
}

/* core.http1_reader{ method, max_body = bytes } -> reader of one answer. Raises when something is wrong with the
 * options: no user's data are among them. */
static int http1_reader(lua_State *L)
{
    fields f = {.L = L};
    reading r = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    http1_box *box = lua_newuserdata(L, sizeof *box);
    box->reader = NULL;
    luaL_getmetatable(L, HTTP1_READER_METATABLE);
    lua_setmetatable(L, -2);
    if (!read_fields(&f, 1, read_reading_field, &r)) {
        return luaL_error(L, "rtc.core: %s %s", f.field, f.fault);
    }
    if (r.method.len == 0 || !r.has_max_body) {
        return luaL_error(L, "rtc.core: method and max_body must be given");
    }
    box->reader = rtc_http1_reader_new(r.method, r.max_body);
    if (box->reader == NULL) {
        return luaL_error(L, "rtc.core: not enough memory for a reader");
    }
    return 1;
}

static rtc_http1_reader *check_reader(lua_State *L)
{
    http1_box *box = luaL_checkudata(L, 1, HTTP1_READER_METATABLE);
    if (box->reader == NULL) {
        luaL_error(L, "rtc.core: the reader is collected already");
    }
    return box->reader;
}

static int push_failure(lua_State *L, const rtc_http1_reader *reader)
{
    static const char *const codes[] = {
        [RTC_HTTP1_BAD_ANSWER] = "BadAnswer",
        [RTC_HTTP1_ANSWER_TOO_LARGE] = "AnswerTooLarge",
        [RTC_HTTP1_CONNECTION_CLOSED] = "ConnectionClosed",
    };
    rtc_http1_failure failure = rtc_http1_failed(reader);
    if (failure == RTC_HTTP1_NO_MEMORY) {
        return luaL_error(L, "rtc.core: %s", rtc_http1_message(reader));
    }
    lua_pushnil(L);
    lua_pushstring(L, rtc_http1_message(reader));
    lua_pushstring(L, codes[failure]);
    return 3;
}

static int push_progress(lua_State *L, const rtc_http1_reader *reader, rtc_http1_progress progress)
{
    if (progress == RTC_HTTP1_FAILED) {
        return push_failure(L, reader);
    }
    lua_pushboolean(L, progress == RTC_HTTP1_DONE);
    return 1;
}

/* reader:feed(bytes) -> true (the answer is whole) | false (bytes are missing) | nil, problem, code */
static int reader_feed(lua_State *L)
{
    rtc_http1_reader *reader = check_reader(L);
    luaL_checktype(L, 2, LUA_TSTRING);
    return push_progress(L, reader, rtc_http1_feed(reader, bytes_at(L, 2)));
}

/* reader:finish(): the server has closed the connection -> true (the answer is whole) | nil, problem, code */
static int reader_finish(lua_State *L)
{
    rtc_http1_reader *reader = check_reader(L);
    return push_progress(L, reader, rtc_http1_finish(reader));
}

/* Pushes name -> value. What was sent repeatedly is joined, RFC 9110 section 5.3. */
static void push_answer_headers(lua_State *L, const rtc_http1_reader *reader)
{
    size_t at = 0;
    rtc_pair header;
    lua_createtable(L, 0, 8);
    while (rtc_http1_next_header(reader, &at, &header)) {
        lua_pushlstring(L, header.name.data, header.name.len);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            lua_pushlstring(L, header.value.data, header.value.len);
        } else {
            lua_pushliteral(L, ", ");
            lua_pushlstring(L, header.value.data, header.value.len);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
}

/* reader:answer() -> { status, headers = { [lower-case name] = value }, body, keep_alive, keep_alive_timeout or nil,
 * beyond = bytes that came behind it }
 *
 * A finaliser that Lua runs meanwhile can do nothing to the reader: of a whole answer no byte moves any more. */
static int reader_answer(lua_State *L)
{
    const rtc_http1_reader *reader = check_reader(L);
    if (!rtc_http1_is_whole(reader)) {
        return luaL_error(L, "rtc.core: the answer is not whole");
    }
    int32_t timeout = rtc_http1_keep_alive_timeout(reader);
    lua_createtable(L, 0, 6);
    lua_pushinteger(L, rtc_http1_status(reader));
    lua_setfield(L, -2, "status");
    push_answer_headers(L, reader);
    lua_setfield(L, -2, "headers");
    set_bytes(L, "body", rtc_http1_body(reader));
    lua_pushboolean(L, rtc_http1_keeps_alive(reader));
    lua_setfield(L, -2, "keep_alive");
    if (timeout >= 0) {
        lua_pushinteger(L, timeout);
        lua_setfield(L, -2, "keep_alive_timeout");
    }
    lua_pushinteger(L, (lua_Integer)rtc_http1_beyond(reader));
    lua_setfield(L, -2, "beyond");
    return 1;
}

static int reader_gc(lua_State *L)
{
    http1_box *box = luaL_checkudata(L, 1, HTTP1_READER_METATABLE);
    rtc_http1_reader_free(box->reader);
    box->reader = NULL;
    return 0;
}

static int reader_tostring(lua_State *L)
{
    lua_pushfstring(L, "rtc.http1_reader: %p", lua_topointer(L, 1));
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
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg signer_methods[] = {{"sign", signer_sign}, {"explain", signer_explain}, {NULL, NULL}};
    static const luaL_Reg signer_meta[] = {{"__gc", signer_gc}, {"__tostring", signer_tostring}, {NULL, NULL}};
    static const luaL_Reg bytes_meta[] = {{"__gc", bytes_gc}, {NULL, NULL}};
    static const luaL_Reg reader_methods[] = {
        {"feed", reader_feed}, {"finish", reader_finish}, {"answer", reader_answer}, {NULL, NULL}};
    static const luaL_Reg reader_meta[] = {{"__gc", reader_gc}, {"__tostring", reader_tostring}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"signer", new_signer},
                                         {"http1_request", http1_request},
                                         {"http1_reader", http1_reader},
                                         {"base64", base64},
                                         {"utf8_error", utf8_error},
                                         {"shares", shares},
                                         {"random", random_number},
                                         {"now", now},
                                         {"pid", pid},
                                         {NULL, NULL}};
    rtc_new_class(L, SIGNER_METATABLE, signer_methods, signer_meta);
    rtc_new_class(L, HTTP1_REQUEST_METATABLE, none, bytes_meta);
    rtc_new_class(L, HTTP1_READER_METATABLE, reader_methods, reader_meta);
    lua_newtable(L);
    rtc_setfuncs(L, functions);
    luaL_newmetatable(L, RTC_ERROR_METATABLE);
    lua_setfield(L, -2, "error_metatable");
    lua_pushliteral(L, RTC_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}
