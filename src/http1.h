/* HTTP/1.1 as a client speaks it: writes a request, and reads its answer from bytes in any chunking. No Lua, no I/O.
 *
 * Rules: RFC 9112 (messages) and RFC 9110 (what they mean). What an answer says must have one meaning only: where the
 * RFCs let a client guess, the comment at the code says what is done. */
#ifndef RTC_HTTP1_H
#define RTC_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

/* ---- requests ---- */

typedef struct rtc_http1_request {
    rtc_bytes method;        /* upper case */
    rtc_bytes target;        /* "/path?query", an http:// or https:// URL (to a proxy), or "host:port" for CONNECT */
    const rtc_pair *headers; /* Host once among them; not what frames the request: that is written here */
    size_t header_count;
    rtc_bytes body;
} rtc_http1_request;

typedef enum rtc_http1_writing {
    RTC_HTTP1_WRITTEN,
    RTC_HTTP1_BAD_REQUEST, /* the problem says which field and why */
    RTC_HTTP1_TOO_BIG      /* for this machine's memory */
} rtc_http1_writing;

typedef struct rtc_http1_problem {
    const char *field; /* a static string: "method", "target", "headers" or "body" */
    char message[240]; /* a whole sentence, without a value in it: one may be a secret */
} rtc_http1_problem;

/* Fills *bytes and *len with the request's bytes when it returns RTC_HTTP1_WRITTEN, and *problem when it returns
 * RTC_HTTP1_BAD_REQUEST. The bytes are the caller's, to be given to free(). */
rtc_http1_writing rtc_http1_write(const rtc_http1_request *request, char **bytes, size_t *len,
                                  rtc_http1_problem *problem);

/* ---- answers ---- */

typedef struct rtc_http1_reader rtc_http1_reader;

typedef enum rtc_http1_progress {
    RTC_HTTP1_MORE, /* bytes are missing yet */
    RTC_HTTP1_DONE, /* the answer is whole */
    RTC_HTTP1_FAILED
} rtc_http1_progress;

typedef enum rtc_http1_failure {
    RTC_HTTP1_NO_FAILURE,
    RTC_HTTP1_BAD_ANSWER,
    RTC_HTTP1_ANSWER_TOO_LARGE,
    RTC_HTTP1_CONNECTION_CLOSED, /* before the answer was whole */
    RTC_HTTP1_NO_MEMORY
} rtc_http1_failure;

/* A reader of one answer, to a request with that method, whose body may have so many bytes; NULL when there is no
 * memory. */
rtc_http1_reader *rtc_http1_reader_new(rtc_bytes method, size_t max_body);

/* Frees it and all bytes that it gave out. NULL is allowed. */
void rtc_http1_reader_free(rtc_http1_reader *reader);

/* Takes the next bytes that came. The result does not depend on how they are cut. Once an answer is whole, further
 * bytes are counted only; once it failed, they are nothing to it. */
rtc_http1_progress rtc_http1_feed(rtc_http1_reader *reader, rtc_bytes bytes);

/* The server has closed the connection. Never RTC_HTTP1_MORE. */
rtc_http1_progress rtc_http1_finish(rtc_http1_reader *reader);

rtc_http1_failure rtc_http1_failed(const rtc_http1_reader *reader);

/* What went wrong, "" when nothing did. It holds nothing that the server wrote. */
const char *rtc_http1_message(const rtc_http1_reader *reader);

bool rtc_http1_is_whole(const rtc_http1_reader *reader);

/* All of these are about a whole answer, and what they point to lives as long as the reader. */

int rtc_http1_status(const rtc_http1_reader *reader);

/* The next header after *at, which starts at 0: its name in lower case, its value without blanks around it. False when
 * there is none. Headers come in the order in which they were sent, each as often as it was sent; no trailers. */
bool rtc_http1_next_header(const rtc_http1_reader *reader, size_t *at, rtc_pair *header);

rtc_bytes rtc_http1_body(const rtc_http1_reader *reader);

/* Whether the connection can carry another request: never when bytes came beyond the answer. It says nothing about the
 * tunnel that a CONNECT has opened. */
bool rtc_http1_keeps_alive(const rtc_http1_reader *reader);

/* After how many idle seconds the server closes the connection, by its Keep-Alive header; -1 when it does not say. */
int32_t rtc_http1_keep_alive_timeout(const rtc_http1_reader *reader);

/* How many bytes came behind the answer. */
size_t rtc_http1_beyond(const rtc_http1_reader *reader);

#endif
