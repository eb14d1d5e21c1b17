#include "engine.h"

#include <curl/curl.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "header_syntax.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#define GIVE_UP(pointer) __lsan_ignore_object(pointer)
#else
#define GIVE_UP(pointer) (void)(pointer)
#endif

#if LIBCURL_VERSION_NUM < 0x075700
#error "rtc needs libcurl 7.87 or later"
#endif

enum { EVENTS_AT_ONCE = 64 };

#define NEVER INFINITY

/* Seconds of work that a TLS handshake is taken for. */
#define HANDSHAKE 0.001

typedef struct call call;

typedef struct call_list {
    call *first;
    call *last;
    size_t count;
} call_list;

/* An exchange with what the engine needs for it. One allocation: the header lines, the other strings and the body
 * follow the structure. */
struct call {
    rtc_exchange exchange; /* first, so that an exchange handed out can be freed as the call it is */
    size_t size;           /* of this whole allocation */
    call *previous;
    call *next;
    call_list *list; /* the one that it is in */
    rtc_engine *engine;
    CURL *easy; /* while on the wire */
    double submitted;
    double started; /* when it left the queue */
    double deadline;
    double try_timeout;
    double connect_timeout;
    size_t max_response;
    const char *url;
    const char *method;
    const char *proxy;
    const char *body;
    size_t body_len;
    size_t body_read;
    size_t header_bytes;
    size_t headers_cap;
    size_t body_cap;
    int starts;     /* how often libcurl was about to send the request */
    bool kept;      /* sent over a connection that had served before */
    bool fresh;     /* to be sent over a new connection */
    bool stale;     /* no whole request was sent: on the kept connection stood something to read already */
    bool late;      /* its time was over before the request could go out */
    bool died;      /* the connection ended, and libcurl would have sent the request again */
    bool too_large; /* the answer */
    bool head_done; /* the empty line after the answer's headers has come */
    bool interim;   /* and it was that of a 1xx */
    size_t line_count;
    struct curl_slist lines[];
};

/* An open socket, with its local port once that is known: libcurl names a connection by its ports only. */
typedef struct open_socket {
    int fd;
    int port; /* 0: not known yet */
} open_socket;

struct rtc_engine {
    rtc_engine_options options; /* its strings are owned */
    pid_t pid;
    CURLM *multi;
    int epoll;
    int timer;
    double curl_due;  /* when libcurl wants to be called though no socket is ready */
    double limit_due; /* no call has passed a limit of time before this */
    double armed;     /* what the timer is set to */
    bool broken;      /* libcurl gave up on all its transfers: a socket could not be watched, or memory failed */
    int64_t last_id;
    call_list queue;
    call_list active;
    call_list done;
    CURL **idle; /* easy handles to be used again */
    size_t idle_count;
    open_socket *sockets; /* every one, for a forked child to close them too */
    size_t socket_count;
    size_t socket_cap;
};

double rtc_engine_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- lists of calls ---- */

static void list_append(call_list *list, call *c)
{
    c->list = list;
    c->next = NULL;
    c->previous = list->last;
    if (list->last != NULL) {
        list->last->next = c;
    } else {
        list->first = c;
    }
    list->last = c;
    list->count++;
}

static void list_prepend(call_list *list, call *c)
{
    if (list->first == NULL) {
        list_append(list, c);
        return;
    }
    c->list = list;
    c->previous = NULL;
    c->next = list->first;
    list->first->previous = c;
    list->first = c;
    list->count++;
}

static void list_remove(call *c)
{
    call_list *list = c->list;
    if (c->previous != NULL) {
        c->previous->next = c->next;
    } else {
        list->first = c->next;
    }
    if (c->next != NULL) {
        c->next->previous = c->previous;
    } else {
        list->last = c->previous;
    }
    list->count--;
    c->list = NULL;
}

static call *list_find(const call_list *list, int64_t id)
{
    call *c = list->first;
    while (c != NULL && c->exchange.id != id) {
        c = c->next;
    }
    return c;
}

static void call_free(call *c)
{
    free(c->exchange.headers);
    free(c->exchange.body);
    explicit_bzero(c, c->size); /* it holds a session token, a signature, a message */
    free(c);
}

void rtc_exchange_free(rtc_exchange *exchange)
{
    if (exchange != NULL) {
        call_free((call *)exchange);
    }
}

static void list_free(call_list *list)
{
    while (list->first != NULL) {
        call *c = list->first;
        list_remove(c);
        call_free(c);
    }
}

/* ---- making a call ---- */

/* Header lines that libcurl would add by itself and that nobody signed or asked for. Expect would cost a round trip. */
static const char *const unwanted[] = {"Expect", "Accept", "Content-Type"};
enum { UNWANTED_COUNT = sizeof unwanted / sizeof unwanted[0] };

static bool has_header(const rtc_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (strcasecmp(request->headers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static const char *copy_text(char **at, const char *text)
{
    if (text == NULL) {
        return NULL;
    }
    size_t size = strlen(text) + 1;
    char *copy = *at;
    memcpy(copy, text, size);
    *at += size;
    return copy;
}

/* One line as libcurl wants it: "Name: value", "Name;" for an empty value, "Name:" to leave the header out. */
static void add_line(call *c, char **at, const char *name, const char *separator, const char *value)
{
    struct curl_slist *line = &c->lines[c->line_count];
    line->data = *at;
    line->next = NULL;
    if (c->line_count > 0) {
        c->lines[c->line_count - 1].next = line;
    }
    c->line_count++;
    *at += sprintf(*at, "%s%s%s", name, separator, value) + 1;
}

static size_t storage_size(const rtc_request *r)
{
    size_t size = (r->header_count + UNWANTED_COUNT) * sizeof(struct curl_slist);
    for (size_t i = 0; i < r->header_count; i++) {
        size += strlen(r->headers[i].name) + strlen(r->headers[i].value) + 3;
    }
    for (size_t i = 0; i < UNWANTED_COUNT; i++) {
        size += strlen(unwanted[i]) + 2;
    }
    size += strlen(r->url) + 1 + strlen(r->method) + 1;
    size += r->proxy != NULL ? strlen(r->proxy) + 1 : 0;
    return size + r->body_len;
}

static call *call_new(rtc_engine *e, const rtc_request *r)
{
    size_t size = sizeof(call) + storage_size(r);
    call *c = calloc(1, size);
    if (c == NULL) {
        return NULL;
    }
    c->size = size;
    c->engine = e;
    c->submitted = rtc_engine_now();
    c->deadline = c->submitted + r->timeout;
    c->try_timeout = r->try_timeout;
    c->connect_timeout = r->connect_timeout;
    c->max_response = r->max_response;
    c->fresh = r->fresh;

    char *at = (char *)&c->lines[r->header_count + UNWANTED_COUNT];
    for (size_t i = 0; i < r->header_count; i++) {
        const char *value = r->headers[i].value;
        bool empty = value[strspn(value, " \t")] == 0;
        add_line(c, &at, r->headers[i].name, empty ? ";" : ": ", empty ? "" : value);
    }
    for (size_t i = 0; i < UNWANTED_COUNT; i++) {
        if (!has_header(r, unwanted[i])) {
            add_line(c, &at, unwanted[i], ":", "");
        }
    }
    c->url = copy_text(&at, r->url);
    c->method = copy_text(&at, r->method);
    c->proxy = copy_text(&at, r->proxy);
    c->body = at;
    c->body_len = r->body_len;
    if (r->body_len > 0) {
        memcpy(at, r->body, r->body_len);
    }
    return c;
}

/* ---- what libcurl calls ---- */

/* Appends to a block of bytes that grows by doubling. */
static bool grow(char **data, size_t *len, size_t *cap, const char *more, size_t more_len)
{
    if (*cap - *len < more_len) {
        size_t wanted = *cap < 512 ? 512 : *cap;
        while (wanted - *len < more_len) {
            wanted *= 2;
        }
        char *bigger = realloc(*data, wanted);
        if (bigger == NULL) {
            return false;
        }
        *data = bigger;
        *cap = wanted;
    }
    memcpy(*data + *len, more, more_len);
    *len += more_len;
    return true;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    call *c = user;
    rtc_exchange *x = &c->exchange;
    size_t len = size * count;
    if (len > c->max_response - x->body_len) {
        c->too_large = true;
        return CURL_WRITEFUNC_ERROR;
    }
    return grow(&x->body, &x->body_len, &c->body_cap, data, len) ? len : CURL_WRITEFUNC_ERROR;
}

/* A status line begins a head: the first one, or the next after an interim (1xx) answer. */
static bool begins_head(call *c, const char *data, size_t len)
{
    bool status_line = len > 9 && memcmp(data, "HTTP/", 5) == 0;
    if (!status_line || (c->head_done && !c->interim)) {
        return false;
    }
    c->interim = data[9] == '1';
    c->head_done = false;
    return true;
}

static size_t on_header(char *data, size_t size, size_t count, void *user)
{
    call *c = user;
    rtc_exchange *x = &c->exchange;
    size_t len = size * count;
    c->header_bytes += len;
    if (c->header_bytes > RTC_MAX_HEADERS) {
        c->too_large = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (begins_head(c, data, len)) {
        x->headers_len = 0;
    } else if (c->head_done) {
        return len; /* a trailer: whoever sent it may be less trusted than the head's sender, RFC 9110 section 6.5 */
    }
    c->head_done = data[0] == '\r' || data[0] == '\n';
    return grow(&x->headers, &x->headers_len, &c->headers_cap, data, len) ? len : CURL_WRITEFUNC_ERROR;
}

static size_t on_read(char *to, size_t size, size_t count, void *user)
{
    call *c = user;
    size_t left = c->body_len - c->body_read;
    size_t len = size * count < left ? size * count : left;
    memcpy(to, c->body + c->body_read, len);
    c->body_read += len;
    return len;
}

/* libcurl asks to rewind when a reused connection died after part of the body was sent, in order to send the request
 * once more. The server may have acted on the first, so it must not. */
static int on_seek(void *user, curl_off_t offset, int origin)
{
    (void)offset;
    (void)origin;
    call *c = user;
    c->died = true;
    return CURL_SEEKFUNC_FAIL;
}

static int local_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        return 0;
    }
    if (address.ss_family == AF_INET6) {
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    }
    return address.ss_family == AF_INET ? ntohs(((struct sockaddr_in *)&address)->sin_port) : 0;
}

static bool is_readable(int fd)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    return poll(&wanted, 1, 0) > 0;
}

/* Something can be read from the kept connection before the request was sent: its end, or an answer to nobody, such
 * as a 408 for having been idle, which libcurl would take for the answer to this request. (Should two sockets have
 * the same port, to two servers, either counts: it costs a new connection, no more.) */
static bool is_stale(rtc_engine *e, int port)
{
    for (size_t i = 0; i < e->socket_count; i++) {
        open_socket *s = &e->sockets[i];
        if (s->port == 0) {
            s->port = local_port(s->fd);
        }
        if (s->port == port && is_readable(s->fd)) {
            return true;
        }
    }
    return false;
}

static bool is_kept_connection(CURL *easy)
{
    long connects = 0;
    return curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects) == CURLE_OK && connects == 0;
}

/* How much of the request's head has gone out. What can't be told counts as sent. */
static long head_bytes(const call *c)
{
    long bytes = 0;
    return curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &bytes) == CURLE_OK ? bytes : 1;
}

/* The limits of time, as a request has them. */
typedef struct limit {
    double due;
    double seconds;
    const char *name;
} limit;

static limit limit_of(const call *c)
{
    limit tightest = {c->deadline, c->deadline - c->submitted, "timeout"};
    if (c->easy != NULL && c->started + c->try_timeout < tightest.due) {
        tightest = (limit){c->started + c->try_timeout, c->try_timeout, "try_timeout"};
    }
    if (c->easy != NULL && c->starts == 0 && c->started + c->connect_timeout < tightest.due) {
        tightest = (limit){c->started + c->connect_timeout, c->connect_timeout, "connect_timeout"};
    }
    return tightest;
}

/* Called before each sending of the request. A second one comes when a reused connection died without an answer. It
 * may go ahead only if what was sent cannot have been a whole request: none of the body was even read, or there is
 * none and not a byte of the head went out. Nor may it after its time, when nobody stepped for a while: nobody would
 * see the answer. */
static int on_start(void *user, char *remote_ip, char *local_ip, int remote_port, int port)
{
    (void)remote_ip;
    (void)local_ip;
    (void)remote_port;
    call *c = user;
    c->starts++;
    c->died = c->starts > 1 && (c->body_read > 0 || (c->body_len == 0 && head_bytes(c) > 0));
    if (!c->died) {
        c->kept = is_kept_connection(c->easy);
        c->late = rtc_engine_now() >= limit_of(c).due;
        c->stale = !c->late && c->kept && is_stale(c->engine, port);
    }
    return c->died || c->late || c->stale ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

static curl_socket_t on_open(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    rtc_engine *e = user;
    if (e->socket_count == e->socket_cap) {
        size_t cap = e->socket_cap == 0 ? 16 : 2 * e->socket_cap;
        open_socket *bigger = realloc(e->sockets, cap * sizeof *bigger);
        if (bigger == NULL) {
            return CURL_SOCKET_BAD;
        }
        e->sockets = bigger;
        e->socket_cap = cap;
    }
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) {
        return CURL_SOCKET_BAD;
    }
    e->sockets[e->socket_count++] = (open_socket){.fd = fd};
    return fd;
}

static int on_close(void *user, curl_socket_t fd)
{
    rtc_engine *e = user;
    for (size_t i = 0; i < e->socket_count; i++) {
        if (e->sockets[i].fd == fd) {
            e->sockets[i] = e->sockets[--e->socket_count];
            break;
        }
    }
    return close(fd);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *known)
{
    (void)easy;
    rtc_engine *e = user;
    struct epoll_event event = {.data.fd = fd};
    if (what == CURL_POLL_REMOVE) {
        /* It fails when the socket was closed first, which removed it. */
        epoll_ctl(e->epoll, EPOLL_CTL_DEL, fd, &event);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (known != NULL && epoll_ctl(e->epoll, EPOLL_CTL_MOD, fd, &event) == 0) {
        return 0;
    }
    if (epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &event) != 0 &&
        (errno != EEXIST || epoll_ctl(e->epoll, EPOLL_CTL_MOD, fd, &event) != 0)) {
        return -1;
    }
    return curl_multi_assign(e->multi, fd, e) == CURLM_OK ? 0 : -1;
}

static int on_timer(CURLM *multi, long milliseconds, void *user)
{
    (void)multi;
    rtc_engine *e = user;
    e->curl_due = milliseconds < 0 ? NEVER : rtc_engine_now() + (double)milliseconds / 1e3;
    return 0;
}

/* ---- the timer ---- */

static bool can_start(const rtc_engine *e)
{
    return e->queue.count > 0 && e->active.count < e->options.connections;
}

/* When the next step is due though no socket is ready; 0: now. */
static double due(const rtc_engine *e)
{
    if (can_start(e)) {
        return 0;
    }
    double limit_due = e->queue.count + e->active.count > 0 ? e->limit_due : NEVER;
    return e->curl_due < limit_due ? e->curl_due : limit_due;
}

/* Puts into the epoll set that a step is due at some time, so that one descriptor tells all. */
static void arm_timer(rtc_engine *e)
{
    double when = due(e);
    if (when == e->armed) {
        return;
    }
    struct itimerspec spec = {0};
    if (when < NEVER) {
        double whole = floor(when);
        spec.it_value.tv_sec = (time_t)whole;
        spec.it_value.tv_nsec = (long)((when - whole) * 1e9);
        if (spec.it_value.tv_sec == 0 && spec.it_value.tv_nsec == 0) {
            spec.it_value.tv_nsec = 1; /* 0 would mean: off */
        }
    }
    e->armed = timerfd_settime(e->timer, TFD_TIMER_ABSTIME, &spec, NULL) == 0 ? when : NAN;
}

/* ---- an easy handle and its options ---- */

typedef struct setting {
    CURL *easy;
    CURLcode result; /* of the first option that failed */
} setting;

#define SET(s, option, value)                                                                                          \
    do {                                                                                                               \
        if ((s)->result == CURLE_OK) {                                                                                 \
            (s)->result = curl_easy_setopt((s)->easy, (option), (value));                                              \
        }                                                                                                              \
    } while (0)

static void set_trust(setting *s, const rtc_engine_options *options)
{
    if (options->ca_file != NULL || options->ca_path != NULL) {
        SET(s, CURLOPT_CAINFO, options->ca_file);
        SET(s, CURLOPT_CAPATH, options->ca_path);
    } else if (curl_version_info(CURLVERSION_NOW)->cainfo != NULL) {
        /* With a folder set too, as many builds have it, libcurl parses the whole file for each connection. */
        SET(s, CURLOPT_CAPATH, (char *)NULL);
    }
}

/* The empty password makes an encrypted key fail: without one OpenSSL would ask for it at the terminal, and wait. */
static void set_identity(setting *s, const rtc_engine_options *options)
{
    SET(s, CURLOPT_SSLCERT, options->cert_file);
    SET(s, CURLOPT_SSLKEY, options->key_file);
    SET(s, CURLOPT_KEYPASSWD, "");
}

/* What never changes from one exchange to the next. */
static CURL *easy_new(rtc_engine *e)
{
    setting s = {curl_easy_init(), CURLE_OK};
    if (s.easy == NULL) {
        return NULL;
    }
    SET(&s, CURLOPT_NOSIGNAL, 1L);
    SET(&s, CURLOPT_QUICK_EXIT, 1L); /* never wait for a slow name lookup */
    SET(&s, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(&s, CURLOPT_FOLLOWLOCATION, 0L);
    SET(&s, CURLOPT_PATH_AS_IS, 1L); /* what was signed */
    SET(&s, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(&s, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* HTTP/2 costs the client a third more CPU */
    SET(&s, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(&s, CURLOPT_SSL_VERIFYPEER, 1L);
    SET(&s, CURLOPT_SSL_VERIFYHOST, 2L);
    SET(&s, CURLOPT_MAXAGE_CONN, e->options.idle_timeout); /* in whole seconds: 0 would allow the first */
    SET(&s, CURLOPT_FORBID_REUSE, e->options.idle_timeout == 0 ? 1L : 0L);
    SET(&s, CURLOPT_MAXLIFETIME_CONN, e->options.max_age);
    SET(&s, CURLOPT_WRITEFUNCTION, on_body);
    SET(&s, CURLOPT_HEADERFUNCTION, on_header);
    SET(&s, CURLOPT_READFUNCTION, on_read);
    SET(&s, CURLOPT_SEEKFUNCTION, on_seek);
    SET(&s, CURLOPT_PREREQFUNCTION, on_start);
    SET(&s, CURLOPT_OPENSOCKETFUNCTION, on_open);
    SET(&s, CURLOPT_OPENSOCKETDATA, e);
    SET(&s, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    SET(&s, CURLOPT_CLOSESOCKETDATA, e);
    set_trust(&s, &e->options);
    set_identity(&s, &e->options);
    if (s.result != CURLE_OK) {
        curl_easy_cleanup(s.easy);
        return NULL;
    }
    return s.easy;
}

/* libcurl takes 0 for "no limit". */
static long to_milliseconds(double seconds)
{
    return seconds < 0.001 ? 1L : seconds > 2e6 ? 2000000000L : (long)(seconds * 1e3);
}

static bool is_one_of(const char *method, const char *const *methods)
{
    while (*methods != NULL && strcmp(method, *methods) != 0) {
        methods++;
    }
    return *methods != NULL;
}

static void set_method(setting *s, const call *c)
{
    static const char *const with_length[] = {"POST", "PUT", "PATCH", NULL}; /* 0 is said too, RFC 9110 section 8.6 */
    bool head = strcmp(c->method, "HEAD") == 0;
    const char *implied = "GET";
    SET(s, CURLOPT_HTTPGET, 1L); /* undoes what the handle's last request set */
    if (head) {
        SET(s, CURLOPT_NOBODY, 1L);
        implied = "HEAD";
    } else if (c->body_len > 0 || is_one_of(c->method, with_length)) {
        SET(s, CURLOPT_POST, 1L);
        SET(s, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body_len);
        implied = "POST";
    }
    SET(s, CURLOPT_CUSTOMREQUEST, strcmp(c->method, implied) == 0 ? NULL : c->method);
    /* Refuses a longer answer by its Content-Length, which is no body's after HEAD; on_body counts what has none.
     * 0 would mean: no limit. */
    curl_off_t most = c->max_response > 0 ? (curl_off_t)c->max_response : 1;
    SET(s, CURLOPT_MAXFILESIZE_LARGE, head ? (curl_off_t)0 : most);
}

static CURLcode set_request(CURL *easy, call *c)
{
    setting s = {easy, CURLE_OK};
    SET(&s, CURLOPT_URL, c->url);
    set_method(&s, c);
    SET(&s, CURLOPT_HTTPHEADER, &c->lines[0]);
    const char *proxy = c->proxy != NULL ? c->proxy : c->engine->options.proxy;
    SET(&s, CURLOPT_PROXY, proxy);
    SET(&s, CURLOPT_NOPROXY, proxy != NULL ? "" : NULL); /* the environment's exceptions are for its own proxies */
    SET(&s, CURLOPT_FRESH_CONNECT, c->fresh ? 1L : 0L);
    /* The limits of time are the engine's own: libcurl's can be lost, when its timer fires a moment before its clock
     * agrees. This one also divides the time among a name's addresses, when the first does not answer. */
    SET(&s, CURLOPT_CONNECTTIMEOUT_MS, to_milliseconds(c->connect_timeout));
    SET(&s, CURLOPT_ERRORBUFFER, c->exchange.message);
    SET(&s, CURLOPT_WRITEDATA, c);
    SET(&s, CURLOPT_HEADERDATA, c);
    SET(&s, CURLOPT_READDATA, c);
    SET(&s, CURLOPT_SEEKDATA, c);
    SET(&s, CURLOPT_PREREQDATA, c);
    SET(&s, CURLOPT_PRIVATE, c);
    return s.result;
}

static CURL *take_easy(rtc_engine *e)
{
    return e->idle_count > 0 ? e->idle[--e->idle_count] : easy_new(e);
}

/* Back to the spare ones, with no pointer left to the call that it served. */
static void return_easy(rtc_engine *e, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
    e->idle[e->idle_count++] = easy; /* there is room for all that can be active */
}

/* ---- the end of a call ---- */

/* libcurl refuses a header line of 100 KB or more. 7.88 calls it a lack of memory, and that is what it is taken for
 * unless it came while the head of an answer was read; since 8.6 there is CURLE_TOO_LARGE, 100. */
static bool has_endless_line(const call *c, CURLcode code)
{
    bool refused = code == CURLE_OUT_OF_MEMORY || (int)code == 100;
    return refused && c->starts > 0 && head_bytes(c) > 0 && c->exchange.body_len == 0;
}

/* A broken chunk is reported like a broken connection; only the text tells them apart. */
static bool has_bad_chunk(const call *c)
{
    return strstr(c->exchange.message, "chunk") != NULL;
}

/* The server's alert about the certificate that it got, or did not get; only the text tells it from other ends. In TLS
 * 1.3 it comes when the client has finished its handshake already, and then the request may have been sent. */
static bool has_certificate_alert(const call *c)
{
    const char *message = c->exchange.message;
    return strstr(message, "alert") != NULL &&
           (strstr(message, "certificate") != NULL || strstr(message, "unknown ca") != NULL);
}

/* Of the proxy's answer to CONNECT; 0: none came. */
static int proxy_status(const call *c)
{
    long status = 0;
    return curl_easy_getinfo(c->easy, CURLINFO_HTTP_CONNECTCODE, &status) == CURLE_OK ? (int)status : 0;
}

/* It answered CONNECT, and no tunnel came of it. Which code libcurl gives then depends on its version. */
static bool was_refused_by_proxy(const call *c)
{
    return c->starts == 0 && proxy_status(c) != 0;
}

/* libcurl did not understand the proxy's URL. */
static bool has_bad_proxy(const call *c)
{
    return strncmp(c->exchange.message, "Unsupported proxy", 17) == 0;
}

static rtc_failure failure_of(const call *c, CURLcode code)
{
    if (c->too_large || code == CURLE_FILESIZE_EXCEEDED || has_endless_line(c, code)) {
        return RTC_ANSWER_TOO_LARGE;
    }
    if (c->died) {
        return RTC_CONNECTION_CLOSED;
    }
    if (has_bad_proxy(c)) {
        return RTC_PROXY_FAILED;
    }
    switch (code) {
    case CURLE_OK:
        return RTC_ANSWERED;
    case CURLE_OPERATION_TIMEDOUT:
        return RTC_TIMEOUT;
    case CURLE_COULDNT_RESOLVE_HOST:
        return RTC_DNS_FAILED;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
        return RTC_PROXY_FAILED;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
        return RTC_CERTIFICATE_FAILED;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ENGINE_INITFAILED:
        return has_certificate_alert(c) ? RTC_CERTIFICATE_FAILED : RTC_TLS_FAILED;
    case CURLE_COULDNT_CONNECT:
        return was_refused_by_proxy(c) ? RTC_PROXY_FAILED : RTC_CONNECT_FAILED;
    case CURLE_SEND_ERROR:
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
        if (was_refused_by_proxy(c)) {
            return RTC_PROXY_FAILED;
        }
        if (has_certificate_alert(c)) {
            return RTC_CERTIFICATE_FAILED;
        }
        if (has_bad_chunk(c)) {
            return RTC_BAD_ANSWER;
        }
        return code == CURLE_SEND_ERROR ? RTC_SEND_FAILED : RTC_CONNECTION_CLOSED;
    case CURLE_UNSUPPORTED_PROTOCOL: /* what libcurl calls an answer without a status line */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return c->starts > 0 ? RTC_BAD_ANSWER : RTC_ENGINE_FAILED;
    default:
        return RTC_ENGINE_FAILED;
    }
}

/* Of the client's own certificate: says which options it is about, and what libcurl does not say of the key. */
static void describe_identity(call *c)
{
    char reason[160];
    snprintf(reason, sizeof reason, "%.159s", c->exchange.message);
    snprintf(c->exchange.message, sizeof c->exchange.message,
             "cert_file or key_file can't be used (the key must be the certificate's and not encrypted): %s", reason);
}

static void describe(call *c, rtc_failure failure, CURLcode code)
{
    char *message = c->exchange.message;
    size_t room = sizeof c->exchange.message;
    if (has_bad_proxy(c)) { /* libcurl shows it whole, with its password */
        snprintf(message, room,
                 "the proxy's URL can't be used: it is http://[name:password@]host[:port], percent-encoded where need "
                 "be");
    } else if (c->died) {
        snprintf(message, room, "the connection was closed before an answer came");
    } else if (failure == RTC_ANSWER_TOO_LARGE && (c->header_bytes > RTC_MAX_HEADERS || has_endless_line(c, code))) {
        snprintf(message, room, "the answer's headers are longer than %d bytes", (int)RTC_MAX_HEADERS);
    } else if (failure == RTC_ANSWER_TOO_LARGE) {
        snprintf(message, room, "the answer is longer than %zu bytes (max_response)", c->max_response);
    } else if (message[0] == 0) {
        snprintf(message, room, "%s", curl_easy_strerror(code));
    }
    if (failure == RTC_CERTIFICATE_FAILED && code == CURLE_SSL_CERTPROBLEM) {
        describe_identity(c);
    }
}

/* The kernel has taken the request's last byte. libcurl counts a body's bytes when the socket (below TLS) has taken
 * them. Without a body there is only the count of the head's bytes: any counts as all. When a kept connection dies
 * libcurl begins anew, over another that may never stand, and the body's count is gone: so over a kept one what it has
 * read of the body counts as taken. */
static bool was_sent(const call *c)
{
    curl_off_t body_bytes = 0;
    if (c->starts == 0 || c->body_len == 0) {
        return c->starts > 0 && head_bytes(c) > 0;
    }
    if (c->kept) {
        return c->body_read >= c->body_len;
    }
    return curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &body_bytes) != CURLE_OK ||
           (size_t)body_bytes >= c->body_len;
}

static void close_call(call *c, rtc_failure failure)
{
    c->exchange.failure = failure;
    c->exchange.elapsed = rtc_engine_now() - c->submitted;
    list_remove(c);
}

/* Off the wire or out of the queue with a failure, and to be taken. */
__attribute__((format(printf, 3, 4))) static void end_call(call *c, rtc_failure failure, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->exchange.message, sizeof c->exchange.message, format, args);
    va_end(args);
    close_call(c, failure);
    list_append(&c->engine->done, c);
}

static void leave_wire(call *c)
{
    rtc_engine *e = c->engine;
    c->exchange.sent = was_sent(c);
    c->exchange.reused = c->kept;
    c->exchange.proxy_status = proxy_status(c);
    curl_multi_remove_handle(e->multi, c->easy);
    return_easy(e, c->easy);
    c->easy = NULL;
}

/* Back to the front of the queue, for a new connection. */
static void begin_anew(call *c)
{
    leave_wire(c);
    list_remove(c);
    c->stale = false;
    c->kept = false;
    c->fresh = true;
    c->starts = 0;
    c->exchange.message[0] = 0;
    list_prepend(&c->engine->queue, c);
}

static void time_out(call *c)
{
    limit passed = limit_of(c);
    const char *doing = "waiting for a free connection";
    if (c->easy != NULL) {
        doing = c->starts == 0 || c->late ? "connecting" : "waiting for the whole answer";
        leave_wire(c);
    }
    double seconds = round(passed.seconds * 1e3) / 1e3; /* what is left of a call's time is no round number */
    end_call(c, RTC_TIMEOUT, "timed out after %g seconds (%s) while %s", seconds, passed.name, doing);
}

static void finish(call *c, CURLcode code)
{
    if (c->late) {
        time_out(c);
        return;
    }
    if (c->stale) {
        begin_anew(c);
        return;
    }
    rtc_failure failure = failure_of(c, code);
    if (failure == RTC_ANSWERED) {
        long status = 0;
        curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
        c->exchange.status = (int)status;
    } else {
        describe(c, failure, code);
    }
    leave_wire(c);
    close_call(c, failure);
    list_append(&c->engine->done, c);
}

static void collect(rtc_engine *e)
{
    CURLMsg *message;
    int left = 0;
    while ((message = curl_multi_info_read(e->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            char *user = NULL;
            CURLcode code = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
            finish((call *)(void *)user, code);
        }
    }
}

/* ---- working ---- */

static void act(rtc_engine *e, curl_socket_t fd, int events)
{
    int running = 0;
    e->broken = curl_multi_socket_action(e->multi, fd, events, &running) != CURLM_OK || e->broken;
}

static void run_timers(rtc_engine *e)
{
    e->curl_due = NEVER; /* on_timer sets it again if there is more */
    act(e, CURL_SOCKET_TIMEOUT, 0);
}

static void note_limit(rtc_engine *e, const call *c)
{
    double limit_due = limit_of(c).due;
    if (limit_due < e->limit_due) {
        e->limit_due = limit_due;
    }
}

/* Leaving the wire closes a connection: so the time can end it between two. Those that are left are due still. */
static void expire_list(rtc_engine *e, const call_list *list, double now, double until)
{
    bool over = false;
    call *next;
    for (call *c = list->first; c != NULL; c = next) {
        next = c->next;
        if (over || limit_of(c).due > now) {
            note_limit(e, c);
        } else {
            time_out(c);
            over = rtc_engine_now() >= until;
        }
    }
}

static void expire(rtc_engine *e, double until)
{
    double now = rtc_engine_now();
    if (now >= e->limit_due) {
        e->limit_due = NEVER;
        expire_list(e, &e->queue, now, until);
        expire_list(e, &e->active, now, until);
    }
}

static void start(rtc_engine *e, call *c)
{
    CURL *easy = take_easy(e);
    if (easy == NULL) {
        end_call(c, RTC_ENGINE_FAILED, "libcurl has no memory for another request");
        return;
    }
    CURLcode set = set_request(easy, c);
    c->easy = easy;
    if (set != CURLE_OK || curl_multi_add_handle(e->multi, easy) != CURLM_OK) {
        c->easy = NULL;
        return_easy(e, easy);
        end_call(c, RTC_ENGINE_FAILED, "libcurl did not take the request");
        return;
    }
    list_remove(c);
    list_append(&e->active, c);
    c->started = rtc_engine_now();
    note_limit(e, c);
}

/* True: no kept connection took it at once, and so one is being opened. */
static bool start_first(rtc_engine *e)
{
    call *c = e->queue.first;
    if (limit_of(c).due <= rtc_engine_now()) {
        time_out(c);
        return false;
    }
    start(e, c);
    run_timers(e);
    return c->starts == 0;
}

/* False: it only told that the step is due. */
static bool handle_event(rtc_engine *e, const struct epoll_event *event)
{
    if (event->data.fd == e->timer) {
        uint64_t expirations;
        if (read(e->timer, &expirations, sizeof expirations) == (ssize_t)sizeof expirations) {
            e->armed = NEVER;
        }
        return false;
    }
    int events = (event->events & EPOLLIN ? CURL_CSELECT_IN : 0) | (event->events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                 (event->events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    act(e, event->data.fd, events);
    return true;
}

/* What a step does is of three kinds. Each does what there is until that time, but one piece at least; false: there was
 * nothing. */
typedef bool work(rtc_engine *e, double until);

/* Handles what is ready now, up to so many; the rest stays ready. With a budget it asks for one at a time, since the
 * kernel puts what it has reported behind what it has not: so each gets its turn, however little the budget. */
static bool handle_ready(rtc_engine *e, double until)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int most = until < NEVER ? 1 : EVENTS_AT_ONCE;
    bool any = false;
    int handled = 0;
    int count;
    do {
        count = epoll_wait(e->epoll, events, most, 0);
        for (int i = 0; i < count; i++) {
            any = handle_event(e, &events[i]) || any;
        }
        handled += count;
    } while (count == most && handled < EVENTS_AT_ONCE && rtc_engine_now() < until);
    return any;
}

/* libcurl does all that is due in one call. */
static bool run_due_timers(rtc_engine *e, double until)
{
    (void)until;
    if (rtc_engine_now() < e->curl_due) {
        return false;
    }
    run_timers(e);
    return true;
}

/* Connections that are begun together may come to their handshakes in one call of libcurl's (its timers for another
 * address are due at the same time): so no more are begun than the budget has room for, and one. */
static bool start_queued(rtc_engine *e, double until)
{
    double most = 1 + fmax(0, until - rtc_engine_now()) / HANDSHAKE;
    int opening = 0;
    bool any = false;
    while (can_start(e) && !e->broken && opening + 1 <= most && !(any && rtc_engine_now() >= until)) {
        opening += start_first(e) ? 1 : 0;
        any = true;
    }
    return any;
}

/* libcurl does nothing more for transfers that it gave up, not even watch their time. It can be used again once they
 * are gone. */
static void fail_if_broken(rtc_engine *e)
{
    while (e->broken && e->active.first != NULL) {
        call *c = e->active.first;
        leave_wire(c);
        end_call(c, RTC_ENGINE_FAILED, "a socket could not be watched, or memory failed");
    }
    e->broken = false;
}

/* Sockets first, and what is new only in the time that they leave: so handshakes that were begun come to their end
 * before there are more of them, and a step is over its budget by no more than one piece of work. */
static void work_until(rtc_engine *e, double until)
{
    static work *const kinds[] = {handle_ready, run_due_timers, start_queued};
    bool any = false;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !(any && rtc_engine_now() >= until); i++) {
        any = kinds[i](e, until) || any;
        collect(e);
        fail_if_broken(e);
    }
}

/* ---- fork ---- */

static bool open_descriptors(rtc_engine *e)
{
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    e->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (e->epoll < 0 || e->timer < 0) {
        return false;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = e->timer};
    return epoll_ctl(e->epoll, EPOLL_CTL_ADD, e->timer, &event) == 0;
}

/* The queue is what bounds connections. libcurl's own limit (CURLMOPT_MAX_TOTAL_CONNECTIONS) would hold transfers back
 * in a state in which 7.88 watches no time limit. */
static bool open_multi(rtc_engine *e)
{
    e->multi = curl_multi_init();
    return e->multi != NULL && curl_multi_setopt(e->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
           curl_multi_setopt(e->multi, CURLMOPT_SOCKETDATA, e) == CURLM_OK &&
           curl_multi_setopt(e->multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK &&
           curl_multi_setopt(e->multi, CURLMOPT_TIMERDATA, e) == CURLM_OK &&
#if LIBCURL_VERSION_NUM >= 0x081400
           /* From here on its threads belong to the multi handle, and the easy handle's option does not count. */
           curl_multi_setopt(e->multi, CURLMOPT_QUICK_EXIT, 1L) == CURLM_OK &&
#endif
           curl_multi_setopt(e->multi, CURLMOPT_MAXCONNECTS, (long)e->options.connections) == CURLM_OK;
}

static bool open_engine(rtc_engine *e)
{
    e->pid = getpid();
    e->curl_due = NEVER;
    e->limit_due = NEVER;
    e->armed = NEVER;
    return open_descriptors(e) && open_multi(e);
}

static void close_descriptors(rtc_engine *e)
{
    if (e->epoll >= 0) {
        close(e->epoll);
    }
    if (e->timer >= 0) {
        close(e->timer);
    }
    e->epoll = -1;
    e->timer = -1;
}

/* In a forked child: lets go of all that belongs to the parent. Nothing of libcurl's may be cleaned up, since that
 * would say goodbye on the parent's TLS connections and take sockets out of the parent's epoll set; so its memory is
 * given up, and a pair of descriptors by which it wakes itself. Closing the sockets writes nothing. */
static void abandon(rtc_engine *e)
{
    for (size_t i = 0; i < e->socket_count; i++) {
        close(e->sockets[i].fd);
    }
    e->socket_count = 0;
    close_descriptors(e);
    GIVE_UP(e->multi);
    for (size_t i = 0; i < e->idle_count; i++) {
        GIVE_UP(e->idle[i]);
    }
    for (call *c = e->active.first; c != NULL; c = c->next) {
        GIVE_UP(c->easy);
    }
    e->multi = NULL;
    e->idle_count = 0;
    list_free(&e->queue);
    list_free(&e->active);
    list_free(&e->done);
}

/* To be called first by every function. False: the engine could not be made anew in this child. */
static bool own_process(rtc_engine *e)
{
    if (e->pid != getpid()) {
        abandon(e);
        if (!open_engine(e)) {
            e->pid = 0;
            return false;
        }
    }
    return true;
}

/* ---- life ---- */

static void free_options(rtc_engine *e)
{
    free((char *)e->options.ca_file);
    free((char *)e->options.ca_path);
    free((char *)e->options.cert_file);
    free((char *)e->options.key_file);
    if (e->options.proxy != NULL) {
        explicit_bzero((char *)e->options.proxy, strlen(e->options.proxy)); /* it may hold a password */
        free((char *)e->options.proxy);
    }
}

static void close_engine(rtc_engine *e)
{
    while (e->active.first != NULL) {
        call *c = e->active.first;
        leave_wire(c);
        list_remove(c);
        call_free(c);
    }
    list_free(&e->queue);
    list_free(&e->done);
    for (size_t i = 0; i < e->idle_count; i++) {
        curl_easy_cleanup(e->idle[i]);
    }
    if (e->multi != NULL) {
        curl_multi_cleanup(e->multi);
    }
    close_descriptors(e);
}

void rtc_engine_free(rtc_engine *e)
{
    if (e == NULL) {
        return;
    }
    if (e->pid == getpid()) {
        close_engine(e);
    } else {
        abandon(e);
    }
    free(e->idle);
    free(e->sockets);
    free_options(e);
    free(e);
}

static bool copy_option(const char **to, const char *from)
{
    *to = from != NULL ? strdup(from) : NULL;
    return from == NULL || *to != NULL;
}

/* Should memory fail for one, the others are copied or NULL all the same, so that all can be freed. */
static bool copy_options(rtc_engine_options *to, const rtc_engine_options *from)
{
    *to = *from;
    bool copied = copy_option(&to->ca_file, from->ca_file);
    copied = copy_option(&to->ca_path, from->ca_path) && copied;
    copied = copy_option(&to->cert_file, from->cert_file) && copied;
    copied = copy_option(&to->key_file, from->key_file) && copied;
    return copy_option(&to->proxy, from->proxy) && copied;
}

rtc_engine *rtc_engine_new(const rtc_engine_options *options, const char **why)
{
    if (curl_version_info(CURLVERSION_NOW)->version_num < 0x075700) {
        *why = "the libcurl that was loaded is older than 7.87";
        return NULL;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        *why = "libcurl could not be initialised";
        return NULL;
    }
    rtc_engine *e = calloc(1, sizeof *e);
    if (e == NULL) {
        *why = "not enough memory";
        return NULL;
    }
    e->epoll = -1;
    e->timer = -1;
    bool copied = copy_options(&e->options, options);
    e->idle = calloc(options->connections, sizeof *e->idle);
    if (!copied || e->idle == NULL || !open_engine(e)) {
        *why = "not enough memory or file descriptors";
        e->pid = getpid();
        rtc_engine_free(e);
        return NULL;
    }
    return e;
}

/* ---- the rest of the interface ---- */

int64_t rtc_engine_submit(rtc_engine *e, const rtc_request *request)
{
    call *c = own_process(e) ? call_new(e, request) : NULL;
    if (c == NULL) {
        return 0;
    }
    c->exchange.id = ++e->last_id;
    list_append(&e->queue, c);
    note_limit(e, c);
    arm_timer(e);
    return c->exchange.id;
}

static bool has_work(rtc_engine *e)
{
    return e->done.count > 0 || can_start(e);
}

/* Without memory to look at them all, somebody may have something to do. */
bool rtc_engine_wait(rtc_engine *const *engines, size_t count, double seconds)
{
    struct pollfd *descriptors = calloc(count + 1, sizeof *descriptors); /* one more: of none it may be NULL */
    bool ready = descriptors == NULL;
    for (size_t i = 0; i < count && !ready; i++) {
        ready = own_process(engines[i]) && has_work(engines[i]);
        descriptors[i] = (struct pollfd){.fd = engines[i]->epoll, .events = POLLIN};
    }
    if (!ready) {
        int milliseconds = seconds < 0 ? -1 : seconds > 2e6 ? 2000000000 : (int)ceil(seconds * 1e3);
        ready = poll(descriptors, (nfds_t)count, milliseconds) > 0;
    }
    free(descriptors);
    return ready;
}

size_t rtc_engine_step(rtc_engine *e, double budget)
{
    if (!own_process(e)) {
        return 0;
    }
    double until = budget < 0 ? NEVER : rtc_engine_now() + budget;
    work_until(e, until);
    expire(e, until); /* after what was ready: an answer that has come counts, even if nobody stepped in time */
    arm_timer(e);
    return e->done.count;
}

rtc_exchange *rtc_engine_next(rtc_engine *e)
{
    if (!own_process(e) || e->done.first == NULL) {
        return NULL;
    }
    call *c = e->done.first;
    list_remove(c);
    return &c->exchange;
}

rtc_exchange *rtc_engine_cancel(rtc_engine *e, int64_t id)
{
    if (!own_process(e)) {
        return NULL;
    }
    call *c = list_find(&e->done, id);
    if (c != NULL) {
        list_remove(c);
        return &c->exchange;
    }
    c = list_find(&e->active, id);
    if (c != NULL) {
        leave_wire(c);
    } else {
        c = list_find(&e->queue, id);
    }
    if (c == NULL) {
        return NULL;
    }
    snprintf(c->exchange.message, sizeof c->exchange.message, "cancelled");
    close_call(c, RTC_CANCELLED);
    arm_timer(e);
    return &c->exchange;
}

size_t rtc_engine_pending(rtc_engine *e)
{
    return own_process(e) ? e->queue.count + e->active.count + e->done.count : 0;
}

size_t rtc_engine_unsent(rtc_engine *e)
{
    if (!own_process(e)) {
        return 0;
    }
    size_t count = e->queue.count;
    for (const call *c = e->active.first; c != NULL; c = c->next) {
        count += was_sent(c) ? 0 : 1;
    }
    return count;
}

int rtc_engine_fd(rtc_engine *e)
{
    return own_process(e) ? e->epoll : -1;
}

double rtc_engine_timeout(rtc_engine *e)
{
    if (!own_process(e)) {
        return -1;
    }
    double when = e->done.count > 0 ? 0 : due(e);
    if (when == NEVER) {
        return -1;
    }
    double left = when - rtc_engine_now();
    return left > 0 ? left : 0;
}
