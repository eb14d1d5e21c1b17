/* rtc.engine: the engine as a userdata. Every method is check, call, push. While it pushes, Lua may collect garbage and
 * so run a finaliser that uses the same engine. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "compat.h"
#include "engine.h"
#include "header_syntax.h"
#include "lua_error.h"

#define ENGINE_METATABLE "rtc.engine"

enum { MAX_REQUEST_HEADERS = 64 };

typedef struct engine_box {
    rtc_engine *engine;  /* NULL: closed */
    rtc_exchange *taken; /* those that are being turned into tables: several, when a finaliser takes one meanwhile */
} engine_box;

static engine_box *check_box(lua_State *L)
{
    return luaL_checkudata(L, 1, ENGINE_METATABLE);
}

static rtc_engine *check_engine(lua_State *L)
{
    engine_box *box = check_box(L);
    if (box->engine == NULL) {
        luaL_error(L, "rtc.engine: it is closed");
    }
    return box->engine;
}

/* ---- reading a request ---- */

typedef struct reader {
    lua_State *L;
    rtc_request request;
    rtc_header headers[MAX_REQUEST_HEADERS];
    char problem[200]; /* empty: none */
    const char *field; /* the one at fault */
} reader;

static void object(reader *r, const char *field, const char *problem)
{
    if (r->problem[0] == 0) {
        r->field = field;
        snprintf(r->problem, sizeof r->problem, "%s %s", field, problem);
    }
}

/* The string on top of the stack, if it can be a part of a request's head. */
static const char *line_text(lua_State *L)
{
    size_t len = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    return text != NULL && rtc_is_field_value(text, len) ? text : NULL;
}

/* The value stays in the request's table, which is on the stack, so the pointer stays good. */
static const char *read_text(reader *r, const char *field, const char *fallback)
{
    lua_State *L = r->L;
    lua_pushstring(L, field);
    lua_rawget(L, 2);
    const char *text = fallback;
    if (!lua_isnil(L, -1)) {
        text = line_text(L);
        if (text == NULL) {
            object(r, field, "must be a string without control characters");
            text = "";
        }
    }
    lua_pop(L, 1);
    return text;
}

static bool is_whole(lua_Number number)
{
    return number == floor(number);
}

/* A number of seconds, more than 0, or whole: of bytes. */
static double read_number(reader *r, const char *field, double fallback, bool whole)
{
    lua_State *L = r->L;
    lua_pushstring(L, field);
    lua_rawget(L, 2);
    double number = fallback;
    if (!lua_isnil(L, -1)) {
        number = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
        if (!(number >= 0 && number <= 1e9) || (whole ? !is_whole(number) : number == 0)) {
            object(r, field,
                   whole ? "must be a whole number of bytes up to 1e9" : "must be seconds, more than 0 and up to 1e9");
            number = fallback;
        }
    }
    lua_pop(L, 1);
    return number;
}

static bool read_flag(reader *r, const char *field)
{
    lua_State *L = r->L;
    lua_pushstring(L, field);
    lua_rawget(L, 2);
    if (!lua_isnil(L, -1) && !lua_isboolean(L, -1)) {
        object(r, field, "must be true or false");
    }
    bool flag = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return flag;
}

static void read_body(reader *r)
{
    lua_State *L = r->L;
    lua_pushliteral(L, "body");
    lua_rawget(L, 2);
    if (lua_type(L, -1) == LUA_TSTRING) {
        r->request.body = lua_tolstring(L, -1, &r->request.body_len);
    } else if (!lua_isnil(L, -1)) {
        object(r, "body", "must be a string");
    }
    lua_pop(L, 1);
}

/* The engine frames the request; said otherwise by the caller, `sent` would be wrong, or the server would take
 * something else for the request than what was signed. */
static bool is_framing(const char *name)
{
    return strcasecmp(name, "Content-Length") == 0 || strcasecmp(name, "Transfer-Encoding") == 0 ||
           strcasecmp(name, "Expect") == 0;
}

static bool has_host(const reader *r, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(r->headers[i].name, "Host") == 0) {
            return true;
        }
    }
    return false;
}

static void check_header(reader *r, size_t index)
{
    const char *name = r->headers[index].name;
    if (is_framing(name)) {
        object(r, "headers", "must not hold Content-Length, Transfer-Encoding or Expect: they are the engine's");
    } else if (strcasecmp(name, "Host") == 0 && has_host(r, index)) {
        object(r, "headers", "holds Host twice");
    }
}

static void read_header(reader *r, rtc_header *header)
{
    lua_State *L = r->L;
    if (!lua_istable(L, -1)) {
        object(r, "headers", "must be a list of { name, value } pairs");
        return;
    }
    lua_rawgeti(L, -1, 1);
    header->name = line_text(L);
    lua_pop(L, 1);
    lua_rawgeti(L, -1, 2);
    header->value = line_text(L);
    lua_pop(L, 1);
    if (header->name == NULL || !rtc_is_token(header->name, strlen(header->name)) || header->value == NULL) {
        object(r, "headers",
               "must be a list of { name, value } pairs of strings: an HTTP header name, and a value without control "
               "characters");
    }
}

static void read_headers(reader *r)
{
    lua_State *L = r->L;
    lua_pushliteral(L, "headers");
    lua_rawget(L, 2);
    if (lua_istable(L, -1)) {
        size_t count = rtc_rawlen(L, -1);
        if (count > MAX_REQUEST_HEADERS) {
            object(r, "headers", "has more entries than the 64 that are taken");
            count = 0;
        } else if (!rtc_is_list(L, count)) {
            object(r, "headers", "must be a list of { name, value } pairs, not a map");
        }
        for (size_t i = 0; i < count && r->problem[0] == 0; i++) {
            lua_rawgeti(L, -1, (int)i + 1);
            read_header(r, &r->headers[i]);
            lua_pop(L, 1);
            if (r->problem[0] == 0) {
                check_header(r, i);
            }
        }
        r->request.headers = r->headers;
        r->request.header_count = count;
    } else if (!lua_isnil(L, -1)) {
        object(r, "headers", "must be a list of { name, value } pairs");
    }
    lua_pop(L, 1);
}

static bool is_http_url(const char *url)
{
    return strchr(url, ' ') == NULL &&
           ((strncmp(url, "http://", 7) == 0 && url[7] != 0) || (strncmp(url, "https://", 8) == 0 && url[8] != 0));
}

static bool is_method(const char *method)
{
    return method[0] != 0 && method[strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == 0;
}

/* Reads the table at stack index 2. */
static void read_request(reader *r)
{
    rtc_request *request = &r->request;
    *request = (rtc_request){0};
    r->problem[0] = 0;
    request->url = read_text(r, "url", "");
    if (!is_http_url(request->url)) {
        object(r, "url", "must be an http:// or https:// URL, percent-encoded where need be");
    }
    request->method = read_text(r, "method", "POST");
    if (!is_method(request->method)) {
        object(r, "method", "must be an HTTP method in upper case, such as \"POST\"");
    }
    request->proxy = read_text(r, "proxy", NULL);
    request->fresh = read_flag(r, "fresh");
    request->timeout = read_number(r, "timeout", 10, false);
    request->try_timeout = read_number(r, "try_timeout", 5, false);
    request->connect_timeout = read_number(r, "connect_timeout", 3, false);
    request->max_response = (size_t)read_number(r, "max_response", 1048576, true);
    read_body(r);
    if (request->body_len > 0 && strcmp(request->method, "HEAD") == 0) {
        object(r, "body", "must be empty for HEAD");
    }
    read_headers(r);
}

/* engine:submit(request) -> id | nil, err */
static int submit(lua_State *L)
{
    reader r;
    check_engine(L);
    if (!lua_istable(L, 2)) {
        return rtc_argument_error(L, "request", "request must be a table");
    }
    r.L = L;
    read_request(&r);
    if (r.problem[0] != 0) {
        return rtc_argument_error(L, r.field, r.problem);
    }
    /* Asked for anew: reading allocates, and so a finaliser may have closed it meanwhile. */
    int64_t id = rtc_engine_submit(check_engine(L), &r.request);
    if (id == 0) {
        return luaL_error(L, "rtc.engine: not enough memory or file descriptors for a request");
    }
    lua_pushinteger(L, (lua_Integer)id);
    return 1;
}

/* ---- an exchange as a table ---- */

typedef struct failure_name {
    const char *kind;
    const char *code;
} failure_name;

static failure_name name_of(rtc_failure failure)
{
    static const failure_name names[] = {
        [RTC_ANSWERED] = {NULL, NULL},
        [RTC_DNS_FAILED] = {"network", "DNSFailed"},
        [RTC_CONNECT_FAILED] = {"network", "ConnectFailed"},
        [RTC_TLS_FAILED] = {"network", "TLSFailed"},
        [RTC_CERTIFICATE_FAILED] = {"network", "CertificateFailed"},
        [RTC_PROXY_FAILED] = {"network", "ProxyFailed"},
        [RTC_SEND_FAILED] = {"network", "SendFailed"},
        [RTC_CONNECTION_CLOSED] = {"network", "ConnectionClosed"},
        [RTC_ENGINE_FAILED] = {"network", "EngineFailed"},
        [RTC_TIMEOUT] = {"timeout", "Timeout"},
        [RTC_CANCELLED] = {"cancelled", "Cancelled"},
        [RTC_ANSWER_TOO_LARGE] = {"response", "AnswerTooLarge"},
        [RTC_BAD_ANSWER] = {"response", "BadAnswer"},
    };
    return names[failure];
}

static void push_lower(lua_State *L, const char *text, size_t len)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        luaL_addchar(&b, c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c);
    }
    luaL_pushresult(&b);
}

/* Adds one "Name: value" line to the table on top of the stack. Values of a repeated name are joined, RFC 9110
 * section 5.3. */
static void add_header(lua_State *L, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    if (colon == NULL || line[0] == ' ' || line[0] == '\t') {
        return; /* the end of the head, or a line folded as RFC 9112 section 5.2 forbids */
    }
    const char *value = colon + 1;
    const char *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    push_lower(L, line, (size_t)(colon - line));
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushlstring(L, value, (size_t)(end - value));
    } else {
        lua_pushliteral(L, ", ");
        lua_pushlstring(L, value, (size_t)(end - value));
        lua_concat(L, 3);
    }
    lua_rawset(L, -3);
}

static void push_headers(lua_State *L, const rtc_exchange *x)
{
    const char *at = x->headers;
    const char *end = x->headers + x->headers_len;
    bool status_line = true;
    lua_createtable(L, 0, 8);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        size_t len = (size_t)(stop - at);
        if (len > 0 && at[len - 1] == '\r') {
            len--;
        }
        if (!status_line) {
            add_header(L, at, len);
        }
        status_line = false;
        at = newline != NULL ? newline + 1 : end;
    }
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_number(lua_State *L, const char *key, double number)
{
    lua_pushnumber(L, number);
    lua_setfield(L, -2, key);
}

static void set_whole(lua_State *L, const char *key, int64_t number)
{
    lua_pushinteger(L, (lua_Integer)number);
    lua_setfield(L, -2, key);
}

static void set_flag(lua_State *L, const char *key, bool flag)
{
    lua_pushboolean(L, flag);
    lua_setfield(L, -2, key);
}

static void push_exchange(lua_State *L, const rtc_exchange *x)
{
    lua_createtable(L, 0, 8);
    set_whole(L, "id", x->id);
    set_flag(L, "sent", x->sent);
    set_flag(L, "reused", x->reused);
    set_number(L, "elapsed", x->elapsed);
    if (x->failure != RTC_ANSWERED) {
        failure_name name = name_of(x->failure);
        set_text(L, "kind", name.kind);
        set_text(L, "code", name.code);
        set_text(L, "message", x->message);
        if (x->proxy_status != 0) {
            set_whole(L, "proxy_status", x->proxy_status);
        }
        return;
    }
    set_whole(L, "status", x->status);
    push_headers(L, x);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, x->body_len > 0 ? x->body : "", x->body_len);
    lua_setfield(L, -2, "body");
}

static void free_taken(engine_box *box, rtc_exchange *x)
{
    rtc_exchange **at = &box->taken;
    while (*at != x) {
        at = &(*at)->next;
    }
    *at = x->next;
    rtc_exchange_free(x);
}

/* Pushes an exchange that the engine gave away, and frees it. If Lua runs out of memory meanwhile, it stays with the
 * box until that is collected. */
static int give(lua_State *L, engine_box *box, rtc_exchange *x)
{
    if (x == NULL) {
        lua_pushnil(L);
        return 1;
    }
    x->next = box->taken;
    box->taken = x;
    push_exchange(L, x);
    free_taken(box, x);
    return 1;
}

/* engine:next() -> exchange | nil */
static int next_exchange(lua_State *L)
{
    rtc_engine *engine = check_engine(L);
    return give(L, check_box(L), rtc_engine_next(engine));
}

/* engine:cancel(id) -> exchange | nil */
static int cancel(lua_State *L)
{
    rtc_engine *engine = check_engine(L);
    lua_Number id = luaL_checknumber(L, 2);
    if (!(id >= 1 && id < 9007199254740992.0 && is_whole(id))) {
        lua_pushnil(L);
        return 1;
    }
    return give(L, check_box(L), rtc_engine_cancel(engine, (int64_t)id));
}

/* ---- driving ---- */

static double opt_seconds(lua_State *L, int index)
{
    if (lua_isnoneornil(L, index)) {
        return -1;
    }
    lua_Number seconds = luaL_checknumber(L, index);
    return seconds > 0 ? seconds : 0;
}

/* engine:wait(seconds or nil) -> boolean */
static int wait_for_work(lua_State *L)
{
    rtc_engine *engine = check_engine(L);
    lua_pushboolean(L, rtc_engine_wait(&engine, 1, opt_seconds(L, 2)));
    return 1;
}

/* engine.wait({ engine, … }, seconds or nil) -> boolean: whether one of them has something to do. Closed ones have not.
 */
static int wait_for_any(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    double seconds = opt_seconds(L, 2);
    int count = (int)rtc_rawlen(L, 1);
    rtc_engine **engines = lua_newuserdata(L, ((size_t)count + 1) * sizeof *engines);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, 1, i);
        luaL_checkudata(L, -1, ENGINE_METATABLE);
        lua_pop(L, 1);
    }
    size_t open = 0;
    for (int i = 1; i <= count; i++) { /* from here on nothing allocates, and so no finaliser closes one of them */
        lua_rawgeti(L, 1, i);
        const engine_box *box = lua_touserdata(L, -1);
        if (box->engine != NULL) {
            engines[open++] = box->engine;
        }
        lua_pop(L, 1);
    }
    lua_pushboolean(L, rtc_engine_wait(engines, open, seconds));
    return 1;
}

/* engine:step(budget or nil) -> number of exchanges to take */
static int step(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)rtc_engine_step(check_engine(L), opt_seconds(L, 2)));
    return 1;
}

/* engine:pending() -> number */
static int pending(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)rtc_engine_pending(check_engine(L)));
    return 1;
}

/* engine:unsent() -> number of those that have not left yet */
static int unsent(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)rtc_engine_unsent(check_engine(L)));
    return 1;
}

/* engine:pollfd() -> file descriptor */
static int pollfd(lua_State *L)
{
    lua_pushinteger(L, rtc_engine_fd(check_engine(L)));
    return 1;
}

/* engine:events() -> "r" */
static int events(lua_State *L)
{
    check_engine(L);
    lua_pushliteral(L, "r");
    return 1;
}

/* engine:timeout() -> seconds | nil */
static int timeout(lua_State *L)
{
    double seconds = rtc_engine_timeout(check_engine(L));
    if (seconds < 0) {
        lua_pushnil(L);
    } else {
        lua_pushnumber(L, seconds);
    }
    return 1;
}

/* engine:close(): may be called twice */
static int close_engine(lua_State *L)
{
    engine_box *box = check_box(L);
    rtc_engine_free(box->engine);
    box->engine = NULL;
    return 0;
}

static int engine_gc(lua_State *L)
{
    engine_box *box = check_box(L);
    while (box->taken != NULL) {
        free_taken(box, box->taken);
    }
    return close_engine(L);
}

static int engine_tostring(lua_State *L)
{
    const engine_box *box = check_box(L);
    lua_pushfstring(L, "rtc.engine: %p%s", (const void *)box, box->engine == NULL ? " (closed)" : "");
    return 1;
}

/* ---- making one ---- */

static long option_whole(lua_State *L, const char *name, long fallback, long least, long most)
{
    lua_getfield(L, 1, name);
    lua_Number number = lua_isnil(L, -1)                 ? (lua_Number)fallback
                        : lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1)
                                                         : -1;
    lua_pop(L, 1);
    if (!(number >= (lua_Number)least && number <= (lua_Number)most && is_whole(number))) {
        luaL_error(L, "%s must be a whole number from %d to %d", name, (int)least, (int)most);
    }
    return (long)number;
}

/* The option stays on the stack, so that its text stays good. */
static const char *option_text(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    if (lua_isnil(L, -1)) {
        return NULL;
    }
    size_t len = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    if (text == NULL || strlen(text) != len) {
        luaL_error(L, "%s must be a string without NUL", name);
    }
    return text;
}

static const char *option_path(lua_State *L, const char *name)
{
    const char *path = option_text(L, name);
    if (path != NULL && path[0] == 0) {
        luaL_error(L, "%s must be the path of a file or folder", name);
    }
    return path;
}

static void check_option_names(lua_State *L)
{
    static const char *const known[] = {"connections", "idle_timeout", "max_age",  "ca_file",
                                        "ca_path",     "cert_file",    "key_file", "proxy"};
    lua_pushnil(L);
    while (lua_next(L, 1) != 0) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            found = found || strcmp(name, known[i]) == 0;
        }
        if (!found) {
            luaL_error(L,
                       "unknown option '%s'; known are connections, idle_timeout, max_age, ca_file, ca_path, "
                       "cert_file, key_file and proxy",
                       name);
        }
        lua_pop(L, 1);
    }
}

/* libcurl's sockets can't join nginx's event loop, so any wait here would stop every other request of the worker. */
static void refuse_nginx(lua_State *L)
{
    lua_getglobal(L, "ngx");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "get_phase");
        if (lua_isfunction(L, -1)) {
            luaL_error(
                L,
                "rtc.engine does not run inside nginx: it would block the worker and every request in it. "
                "Sign with rtc.signer (rtc.core) and send the request with a cosocket or a subrequest, or send from a "
                "process beside nginx");
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* engine.new(options or nil) -> engine */
static int new_engine(lua_State *L)
{
    refuse_nginx(L);
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    check_option_names(L);
    rtc_engine_options options;
    options.connections = (size_t)option_whole(L, "connections", 64, 1, 1024);
    options.idle_timeout = option_whole(L, "idle_timeout", 10, 0, 86400);
    options.max_age = option_whole(L, "max_age", 300, 1, 86400);
    options.ca_file = option_path(L, "ca_file");
    options.ca_path = option_path(L, "ca_path");
    options.cert_file = option_path(L, "cert_file");
    options.key_file = option_path(L, "key_file");
    options.proxy = option_text(L, "proxy");
    if (options.key_file != NULL && options.cert_file == NULL) {
        return luaL_error(L, "key_file needs cert_file: the path of the certificate that the key belongs to");
    }

    engine_box *box = lua_newuserdata(L, sizeof *box);
    box->engine = NULL;
    box->taken = NULL;
    luaL_getmetatable(L, ENGINE_METATABLE);
    lua_setmetatable(L, -2);
    const char *why = "";
    box->engine = rtc_engine_new(&options, &why);
    if (box->engine == NULL) {
        return luaL_error(L, "rtc.engine: %s", why);
    }
    return 1;
}

RTC_EXPORT int luaopen_rtc_engine(lua_State *L);

int luaopen_rtc_engine(lua_State *L)
{
    static const luaL_Reg methods[] = {{"submit", submit},      {"wait", wait_for_work}, {"step", step},
                                       {"next", next_exchange}, {"cancel", cancel},      {"pending", pending},
                                       {"unsent", unsent},      {"pollfd", pollfd},      {"events", events},
                                       {"timeout", timeout},    {"close", close_engine}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", engine_gc}, {"__tostring", engine_tostring}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"new", new_engine}, {"wait", wait_for_any}, {NULL, NULL}};
    rtc_new_class(L, ENGINE_METATABLE, methods, meta);
    lua_newtable(L);
    rtc_setfuncs(L, functions);
    return 1;
}
