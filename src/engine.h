/* Many HTTP exchanges at once behind one descriptor: libcurl's multi interface on an epoll set. No Lua.
 *
 * The engine makes exactly one try of each request: it never sends anything twice by itself. It does no scheduling:
 * whoever drives it waits for the descriptor (or calls rtc_engine_wait), calls rtc_engine_step, and takes what is done
 * with rtc_engine_next. Nothing but rtc_engine_wait ever waits. Not for two threads at once.
 *
 * After fork() the child's first call makes the engine anew, with nothing in it; the parent's sockets are closed there
 * without a byte written to them. */
#ifndef RTC_ENGINE_H
#define RTC_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rtc_engine rtc_engine;

typedef struct rtc_engine_options {
    size_t connections;    /* most exchanges on the wire at once, the others queue; and most idle connections kept */
    long idle_timeout;     /* seconds after which an idle connection is not used again; 0: none is ever */
    long max_age;          /* seconds after which no connection is used again */
    const char *ca_file;   /* PEM; NULL: libcurl's own */
    const char *ca_path;   /* a folder as c_rehash makes it; NULL: none */
    const char *cert_file; /* PEM, for a server that asks for a certificate; NULL: it gets none */
    const char *key_file;  /* PEM, not encrypted: the key of cert_file's certificate; NULL: it stands there too */
    const char *proxy;     /* of requests that name none: URL; "": none at all; NULL: the environment's */
} rtc_engine_options;

typedef struct rtc_header {
    const char *name;
    const char *value;
} rtc_header;

typedef struct rtc_request {
    const char *url;
    const char *method;
    const rtc_header *headers;
    size_t header_count;
    const char *body;
    size_t body_len;
    double timeout;         /* seconds from submit, the queue included */
    double try_timeout;     /* seconds from leaving the queue */
    double connect_timeout; /* seconds until the connection stands, TLS included */
    size_t max_response;    /* bytes of an answer's body */
    const char *proxy;      /* URL; "": none at all; NULL: the engine's */
    bool fresh;             /* over a connection made for it, which is kept like any other */
} rtc_request;

typedef enum rtc_failure {
    RTC_ANSWERED, /* no failure */
    RTC_DNS_FAILED,
    RTC_CONNECT_FAILED,
    RTC_TLS_FAILED,         /* the handshake broke off */
    RTC_CERTIFICATE_FAILED, /* one does not verify, or can't be used: trying again can't help */
    RTC_PROXY_FAILED,
    RTC_SEND_FAILED,
    RTC_CONNECTION_CLOSED,
    RTC_ENGINE_FAILED,
    RTC_TIMEOUT,
    RTC_CANCELLED,
    RTC_ANSWER_TOO_LARGE,
    RTC_BAD_ANSWER
} rtc_failure;

/* A request and what became of it. Whoever takes one from the engine owns it. */
typedef struct rtc_exchange {
    struct rtc_exchange *next; /* for whoever took it */
    int64_t id;
    rtc_failure failure;
    char message[256]; /* of a failure */
    bool sent;         /* the kernel took the request's last byte; true where that can't be told */
    bool reused;       /* over a connection that had served before */
    int status;        /* of the answer */
    int proxy_status;  /* of the proxy's answer to this exchange's CONNECT; 0: none came */
    double elapsed;    /* seconds since submit */
    char *headers;     /* the answer's header lines, each ended by CR LF; not NUL-terminated */
    size_t headers_len;
    char *body;
    size_t body_len;
} rtc_exchange;

/* NULL when memory, descriptors or libcurl fail; then *why is a static sentence that says what. */
rtc_engine *rtc_engine_new(const rtc_engine_options *options, const char **why);

/* Ends every exchange and connection. NULL is allowed. */
void rtc_engine_free(rtc_engine *engine);

/* Takes a copy of the request and returns its id, or 0 when memory fails. */
int64_t rtc_engine_submit(rtc_engine *engine, const rtc_request *request);

/* Waits until one of these engines has something to do, `seconds` have passed (negative: no limit) or a signal came.
 * True when there is something to do. */
bool rtc_engine_wait(rtc_engine *const *engines, size_t count, double seconds);

/* Does what can be done without waiting, for about `budget` seconds at most (negative: no limit).
 * Returns how many exchanges can be taken. */
size_t rtc_engine_step(rtc_engine *engine, double budget);

/* The next exchange that is done, or NULL. */
rtc_exchange *rtc_engine_next(rtc_engine *engine);

/* Ends an exchange and returns it; one that is done already is returned as it ended. NULL: there is none of that id. */
rtc_exchange *rtc_engine_cancel(rtc_engine *engine, int64_t id);

void rtc_exchange_free(rtc_exchange *exchange);

/* How many exchanges were submitted and not yet taken. */
size_t rtc_engine_pending(rtc_engine *engine);

/* How many of them have not left this machine whole, and still may. */
size_t rtc_engine_unsent(rtc_engine *engine);

/* The descriptor to wait for: readable when rtc_engine_step has work. It is another one after a fork. */
int rtc_engine_fd(rtc_engine *engine);

/* Seconds until rtc_engine_step is due even if the descriptor stays silent; negative: never. */
double rtc_engine_timeout(rtc_engine *engine);

/* Monotonic seconds. */
double rtc_engine_now(void);

#endif
