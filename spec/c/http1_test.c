/* Tests of src/http1.c. Prints a line for each, "ok NAME" or "not ok NAME: why", and then how many there were; the exit
 * code is 1 when one failed. http1_spec.lua compiles and runs it.
 *
 * Linked with --wrap for malloc, calloc and realloc, so that each allocation can be made to fail. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http1.h"

#define BYTES(literal)                                                                                                 \
    {                                                                                                                  \
        (literal), sizeof(literal) - 1                                                                                 \
    }
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum { ROOM = 2048, MAX_BODY = 100, MAX_HEADERS = 65536, MOST_HEADERS = 256 };

/* ---- allocations that fail ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static long allocations_left = -1; /* -1: as many as wanted */
static size_t largest_allocation;

static bool may_allocate(size_t size)
{
    if (size > largest_allocation) {
        largest_allocation = size;
    }
    if (allocations_left > 0) {
        allocations_left--;
        return true;
    }
    return allocations_left < 0;
}

void *__wrap_malloc(size_t size)
{
    return may_allocate(size) ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return may_allocate(count * size) ? __real_calloc(count, size) : NULL;
}

void *__wrap_realloc(void *old, size_t size)
{
    return may_allocate(size) ? __real_realloc(old, size) : NULL;
}

/* ---- reports ---- */

static size_t tests, failures;

static void report(const char *name, const char *why)
{
    tests++;
    if (why == NULL) {
        printf("ok %s\n", name);
        return;
    }
    failures++;
    printf("not ok %s: ", name);
    for (; *why != 0; why++) {
        putchar(*why == '\n' ? ' ' : *why);
    }
    putchar('\n');
}

/* Text that is cut rather than too long. */
typedef struct note {
    char text[ROOM];
    size_t len;
} note;

static void add(note *n, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(note *n, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(n->text + n->len, ROOM - n->len, format, arguments);
    va_end(arguments);
    if (len > 0) {
        n->len = n->len + (size_t)len < ROOM ? n->len + (size_t)len : ROOM - 1;
    }
}

static rtc_bytes text(const char *s)
{
    return (rtc_bytes){s, strlen(s)};
}

static int shown(size_t len)
{
    return len < 64 ? (int)len : 64;
}

/* ---- answers: what a reader makes of them, as one line of text ---- */

typedef struct answer {
    const char *method;
    rtc_bytes bytes;
    bool closes; /* the server closes the connection behind them */
} answer;

static bool frames(rtc_bytes name)
{
    static const char *const names[] = {"content-length", "transfer-encoding", "connection", "keep-alive"};
    for (size_t i = 0; i < COUNT(names); i++) {
        if (name.len == strlen(names[i]) && memcmp(name.data, names[i], name.len) == 0) {
            return true;
        }
    }
    return false;
}

static void add_answer(note *n, const rtc_http1_reader *reader)
{
    rtc_bytes body = rtc_http1_body(reader);
    size_t at = 0;
    rtc_pair header;
    add(n, "%d %s", rtc_http1_status(reader), rtc_http1_keeps_alive(reader) ? "keeps" : "closes");
    if (rtc_http1_keep_alive_timeout(reader) >= 0) {
        add(n, " %ds", (int)rtc_http1_keep_alive_timeout(reader));
    }
    if (rtc_http1_beyond(reader) > 0) {
        add(n, " +%zu", rtc_http1_beyond(reader));
    }
    while (rtc_http1_next_header(reader, &at, &header)) {
        if (!frames(header.name)) {
            add(n, " [%.*s=%.*s]", (int)header.name.len, header.name.data, shown(header.value.len), header.value.data);
        }
    }
    if (body.len > 64) {
        add(n, " %zu bytes", body.len);
    } else if (body.len > 0) {
        add(n, " %.*s", (int)body.len, body.data);
    }
}

static void add_outcome(note *n, const rtc_http1_reader *reader, rtc_http1_progress progress)
{
    static const char *const names[] = {"no failure", "BadAnswer", "AnswerTooLarge", "ConnectionClosed", "NoMemory"};
    if (progress == RTC_HTTP1_FAILED) {
        add(n, "%s: %s", names[rtc_http1_failed(reader)], rtc_http1_message(reader));
    } else if (progress == RTC_HTTP1_MORE) {
        add(n, "more");
    } else {
        add_answer(n, reader);
    }
    if (rtc_http1_is_whole(reader) != (progress == RTC_HTTP1_DONE) ||
        (rtc_http1_failed(reader) != RTC_HTTP1_NO_FAILURE) != (progress == RTC_HTTP1_FAILED)) {
        add(n, " (and the reader says otherwise)");
    }
}

/* Feeds a copy that ends where its memory does, and is gone afterwards: a sanitizer sees every step beyond. */
static rtc_http1_progress feed(rtc_http1_reader *reader, const char *data, size_t len)
{
    char *copy = __real_malloc(len > 0 ? len : 1);
    if (copy == NULL) {
        abort();
    }
    memcpy(copy, data, len);
    rtc_http1_progress progress = rtc_http1_feed(reader, (rtc_bytes){copy, len});
    free(copy);
    return progress;
}

/* Pieces of an answer: at first `first` bytes, then `each` at a time. */
typedef struct cut {
    size_t first;
    size_t each;
} cut;

/* Reads an answer in pieces. Memory may run out on the way. */
static note read_pieces(const answer *a, size_t max_body, cut pieces)
{
    note n = {0};
    rtc_http1_reader *reader = rtc_http1_reader_new(text(a->method), max_body);
    if (reader == NULL) {
        add(&n, "no reader");
        return n;
    }
    rtc_http1_progress progress = RTC_HTTP1_MORE;
    size_t at = 0;
    size_t len = pieces.first;
    while (at < a->bytes.len) {
        if (len > a->bytes.len - at) {
            len = a->bytes.len - at;
        }
        rtc_http1_progress next = feed(reader, a->bytes.data + at, len);
        if (progress != RTC_HTTP1_MORE && next != progress) {
            add(&n, "(what was said first was taken back) ");
        }
        progress = next;
        at += len;
        len = pieces.each;
    }
    if (a->closes) {
        progress = rtc_http1_finish(reader);
    }
    add_outcome(&n, reader, progress);
    rtc_http1_reader_free(reader);
    return n;
}

/* Reads it whole, byte by byte, and cut in two at every `step`th place. */
static void test_answer(const char *name, const answer *a, size_t max_body, size_t step, const char *expected)
{
    size_t len = a->bytes.len;
    note whole = read_pieces(a, max_body, (cut){len, len});
    note bytewise = read_pieces(a, max_body, (cut){1, 1});
    note why = {0};
    if (strcmp(whole.text, expected) != 0) {
        add(&why, "gave \"%.400s\" instead of \"%.400s\"", whole.text, expected);
    } else if (strcmp(bytewise.text, expected) != 0) {
        add(&why, "byte by byte it gave \"%.400s\" instead of \"%.400s\"", bytewise.text, expected);
    }
    for (size_t at = 1; at < len && why.len == 0; at += step) {
        note halves = read_pieces(a, max_body, (cut){at, len - at});
        if (strcmp(halves.text, expected) != 0) {
            add(&why, "cut at %zu it gave \"%.400s\" instead of \"%.400s\"", at, halves.text, expected);
        }
    }
    report(name, why.len > 0 ? why.text : NULL);
}

typedef struct answer_test {
    const char *name;
    answer answer;
    const char *expected;
} answer_test;

#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"
#define OPEN false
#define CLOSED true

#define NO_ANSWER "BadAnswer: what came is no HTTP/1.0 or HTTP/1.1 answer"
#define NO_STATUS_LINE "BadAnswer: the answer's first line is no HTTP/1.0 or HTTP/1.1 status line"
#define NO_FIELD(n) "BadAnswer: line " n " of the answer's headers is no \"name: value\""
#define UNSAFE(n) "BadAnswer: line " n " of the answer's headers has a CR or NUL in its value"
#define NO_SIZE "BadAnswer: a chunk of the answer's body has no hexadecimal size"
#define BAD_CHUNK "BadAnswer: a chunk of the answer's body is not as long as it says"
#define BAD_LINE_END "BadAnswer: a chunk's line in the answer's body does not end in CR LF"
#define BAD_LENGTH "BadAnswer: the answer has a Content-Length that is no number"
#define TWO_LENGTHS "BadAnswer: the answer has more than one Content-Length or Transfer-Encoding"
#define BOTH_LENGTHS "BadAnswer: the answer has both Content-Length and Transfer-Encoding"
#define BAD_CODING "BadAnswer: the answer has a Transfer-Encoding that is not \"chunked\""
#define TOO_LONG "AnswerTooLarge: the answer is longer than 100 bytes (max_response)"
#define CLOSED_IN_HEADERS "ConnectionClosed: the connection was closed within the answer's headers"
#define CLOSED_IN_BODY "ConnectionClosed: the connection was closed before the end of the answer's body"
#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const answer_test answers[] = {
    /* the status line */
    {"reads an answer with a Content-Length",
     {"POST", BYTES(OK "Content-Length: 3\r\n\r\nabc"), OPEN},
     "200 keeps abc"},
    {"reads an answer without a reason",
     {"POST", BYTES("HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"), OPEN},
     "404 keeps"},
    {"reads an answer without the blank before a reason that is not there",
     {"POST", BYTES("HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "503 keeps"},
    {"reads a reason of any words, in any script",
     {"POST", BYTES("HTTP/1.1 200 \xe5\xa5\xbd ja\twohl\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 keeps"},
    {"takes status 599", {"POST", BYTES("HTTP/1.1 599 x\r\nContent-Length: 0\r\n\r\n"), OPEN}, "599 keeps"},
    {"refuses status 600", {"POST", BYTES("HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses status 099", {"POST", BYTES("HTTP/1.1 099 x\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses a status of two digits", {"POST", BYTES("HTTP/1.1 20 OK\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses a status of four digits", {"POST", BYTES("HTTP/1.1 2000 OK\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses a status that is no number", {"POST", BYTES("HTTP/1.1 2x0 OK\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses two blanks before the status", {"POST", BYTES("HTTP/1.1  200 OK\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses a tab before the status", {"POST", BYTES("HTTP/1.1\t200 OK\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses a first line that ends after the version", {"POST", BYTES("HTTP/1.1\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses a control character in the reason", {"POST", BYTES("HTTP/1.1 200 O\0K\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses a CR in the reason", {"POST", BYTES("HTTP/1.1 200 O\rK\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses HTTP/1.2", {"POST", BYTES("HTTP/1.2 200 OK\r\n\r\n"), OPEN}, NO_STATUS_LINE},
    {"refuses HTTP/2", {"POST", BYTES("HTTP/2 200\r\n\r\n"), OPEN}, NO_ANSWER},
    {"refuses HTTP/0.9 at its first byte", {"POST", BYTES("<"), OPEN}, NO_ANSWER},
    {"refuses an empty line before the answer", {"POST", BYTES("\r\nHTTP/1.1 200 OK\r\n\r\n"), OPEN}, NO_ANSWER},
    {"refuses http in lower case", {"POST", BYTES("http/1.1 200 OK\r\n\r\n"), OPEN}, NO_ANSWER},
    {"refuses a first line that is too short", {"POST", BYTES("HTTP\r\n"), OPEN}, NO_ANSWER},
    /* headers */
    {"gives headers in their order, names in lower case, without blanks around values",
     {"POST", BYTES(OK "X-B: two\r\nX-A:one\r\nX-b: \t three  four \t\r\nContent-Length:0\r\n\r\n"), OPEN},
     "200 keeps [x-b=two] [x-a=one] [x-b=three  four]"},
    {"gives an empty value", {"POST", BYTES(OK "X:\r\nY: \r\nContent-Length: 0\r\n\r\n"), OPEN}, "200 keeps [x=] [y=]"},
    {"gives a value with colons and with bytes outside ASCII",
     {"POST", BYTES(OK "X: a:b: \xff\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 keeps [x=a:b: \xff]"},
    {"gives a value with control characters but NUL, CR and LF",
     {"POST", BYTES(OK "X: a\x01\x1b\x7fz\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 keeps [x=a\x01\x1b\x7fz]"},
    {"takes a single LF for a line's end in the head",
     {"POST", BYTES("HTTP/1.1 200 OK\nX: a\nContent-Length: 3\n\nabc"), OPEN},
     "200 keeps [x=a] abc"},
    {"refuses a blank before the colon", {"POST", BYTES(OK "X-A : b\r\n\r\n"), OPEN}, NO_FIELD("1")},
    {"refuses a line without a colon", {"POST", BYTES(OK "X: a\r\nabc\r\n\r\n"), OPEN}, NO_FIELD("2")},
    {"refuses a header without a name", {"POST", BYTES(OK ": b\r\n\r\n"), OPEN}, NO_FIELD("1")},
    {"refuses a name with a NUL", {"POST", BYTES(OK "X\0: b\r\n\r\n"), OPEN}, NO_FIELD("1")},
    {"refuses a name outside ASCII", {"POST", BYTES(OK "\xc3\xa9: b\r\n\r\n"), OPEN}, NO_FIELD("1")},
    {"refuses a NUL in a value", {"POST", BYTES(OK "X: a\0b\r\n\r\n"), OPEN}, UNSAFE("1")},
    {"refuses a CR in a value", {"POST", BYTES(OK "X: a\rY: b\r\n\r\n"), OPEN}, UNSAFE("1")},
    {"refuses a CR before the line end's own", {"POST", BYTES(OK "X: a\r\r\n\r\n"), OPEN}, UNSAFE("1")},
    {"refuses a CR on the line that ends the head", {"POST", BYTES(OK "X: a\r\n\r\r\n"), OPEN}, NO_FIELD("2")},
    {"refuses a value that goes on in the next line",
     {"POST", BYTES(OK "X: a\r\n b\r\n\r\n"), OPEN},
     "BadAnswer: line 2 of the answer's headers starts with a blank"},
    {"refuses a first header line that starts with a tab",
     {"POST", BYTES(OK "\tX: a\r\n\r\n"), OPEN},
     "BadAnswer: line 1 of the answer's headers starts with a blank"},
    /* Content-Length */
    {"reads an empty body", {"POST", BYTES(OK "Content-Length: 0\r\n\r\n"), OPEN}, "200 keeps"},
    {"reads a body with NULs and line ends",
     {"POST", BYTES(OK "content-length: 05\r\n\r\n\r\n\r\n."), OPEN},
     "200 keeps \r\n\r\n."},
    {"takes a body of exactly the limit",
     {"POST", BYTES(OK "Content-Length: 100\r\n\r\n" HUNDRED), OPEN},
     "200 keeps 100 bytes"},
    {"refuses a longer body before it comes", {"POST", BYTES(OK "Content-Length: 101\r\n\r\n"), OPEN}, TOO_LONG},
    {"refuses a length that no number can hold",
     {"POST", BYTES(OK "Content-Length: 18446744073709551621\r\n\r\n"), OPEN},
     TOO_LONG},
    {"refuses a length that none could ever hold",
     {"POST", BYTES(OK "Content-Length: " HUNDRED "\r\n\r\n"), OPEN},
     TOO_LONG},
    {"refuses a length with a sign", {"POST", BYTES(OK "Content-Length: +3\r\n\r\nabc"), OPEN}, BAD_LENGTH},
    {"refuses a negative length", {"POST", BYTES(OK "Content-Length: -3\r\n\r\nabc"), OPEN}, BAD_LENGTH},
    {"refuses an empty length", {"POST", BYTES(OK "Content-Length:\r\n\r\n"), OPEN}, BAD_LENGTH},
    {"refuses a length in hexadecimal", {"POST", BYTES(OK "Content-Length: 0x3\r\n\r\nabc"), OPEN}, BAD_LENGTH},
    {"refuses a length in two words", {"POST", BYTES(OK "Content-Length: 3 3\r\n\r\nabc"), OPEN}, BAD_LENGTH},
    {"refuses a list of equal lengths", {"POST", BYTES(OK "Content-Length: 3, 3\r\n\r\nabc"), OPEN}, BAD_LENGTH},
    {"refuses two equal lengths",
     {"POST", BYTES(OK "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), OPEN},
     TWO_LENGTHS},
    {"refuses two lengths of which the first is bad",
     {"POST", BYTES(OK "Content-Length: x\r\nContent-Length: 3\r\n\r\nabc"), OPEN},
     TWO_LENGTHS},
    {"refuses a length beside a coding",
     {"POST", BYTES(OK "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), OPEN},
     BOTH_LENGTHS},
    {"refuses a coding beside a length",
     {"POST", BYTES(OK "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"), OPEN},
     BOTH_LENGTHS},
    {"waits for the rest of a body", {"POST", BYTES(OK "Content-Length: 3\r\n\r\nab"), OPEN}, "more"},
    {"says how much of a body came before the end",
     {"POST", BYTES(OK "Content-Length: 3\r\n\r\nab"), CLOSED},
     "ConnectionClosed: the connection was closed after 2 of the 3 bytes of the answer's body"},
    {"counts what comes beyond, and does not keep the connection then",
     {"POST", BYTES(OK "Content-Length: 3\r\n\r\nabcHTTP/1.1"), OPEN},
     "200 closes +8 abc"},
    /* chunks */
    {"reads chunks", {"POST", BYTES(CHUNKED "3\r\nabc\r\n00A\r\n" TEN "\r\n0\r\n\r\n"), OPEN}, "200 keeps abc" TEN},
    {"reads a chunked body of nothing", {"POST", BYTES(CHUNKED "0\r\n\r\n"), OPEN}, "200 keeps"},
    {"takes the coding's name in any case",
     {"POST", BYTES(OK "Transfer-encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n"), OPEN},
     "200 keeps a"},
    {"takes sizes with digits in any case",
     {"POST", BYTES(CHUNKED "a\r\n" TEN "\r\nA\r\n" TEN "\r\n0\r\n\r\n"), OPEN},
     "200 keeps " TEN TEN},
    {"reads line ends inside a chunk",
     {"POST", BYTES(CHUNKED "4\r\n\r\n\r\n\r\n0\r\n\r\n"), OPEN},
     "200 keeps \r\n\r\n"},
    {"skips extensions",
     {"POST", BYTES(CHUNKED "3;a=b\r\nabc\r\n1 ; c=\"d;e\"\r\nd\r\n0;last\r\n\r\n"), OPEN},
     "200 keeps abcd"},
    {"drops trailers",
     {"POST", BYTES(CHUNKED "3\r\nabc\r\n0\r\nX: y\r\nContent-Length: 7\r\nConnection: close\r\n\r\n"), OPEN},
     "200 keeps abc"},
    {"takes a single LF for a trailer line's end", {"POST", BYTES(CHUNKED "0\r\nX: y\n\n"), OPEN}, "200 keeps"},
    {"refuses a bad trailer", {"POST", BYTES(CHUNKED "0\r\nx\r\n\r\n"), OPEN}, NO_FIELD("2")},
    {"counts what comes beyond the last chunk", {"POST", BYTES(CHUNKED "0\r\n\r\n\r\n"), OPEN}, "200 closes +2"},
    {"refuses a size that is none", {"POST", BYTES(CHUNKED "g\r\n"), OPEN}, NO_SIZE},
    {"refuses a line without a size", {"POST", BYTES(CHUNKED "\r\n"), OPEN}, NO_SIZE},
    {"refuses an extension without a size", {"POST", BYTES(CHUNKED ";a\r\n"), OPEN}, NO_SIZE},
    {"refuses a size with a sign", {"POST", BYTES(CHUNKED "+3\r\nabc\r\n"), OPEN}, NO_SIZE},
    {"refuses a size with 0x", {"POST", BYTES(CHUNKED "0x3\r\nabc\r\n"), OPEN}, NO_SIZE},
    {"refuses a blank before a size", {"POST", BYTES(CHUNKED " 3\r\nabc\r\n"), OPEN}, NO_SIZE},
    {"refuses a blank behind a size", {"POST", BYTES(CHUNKED "3 \r\nabc\r\n"), OPEN}, NO_SIZE},
    {"refuses a NUL in an extension", {"POST", BYTES(CHUNKED "3;\0\r\nabc\r\n"), OPEN}, NO_SIZE},
    {"refuses a CR in an extension", {"POST", BYTES(CHUNKED "3;\r0\r\nabc\r\n"), OPEN}, NO_SIZE},
    {"refuses a single LF behind a size", {"POST", BYTES(CHUNKED "3\nabc\r\n0\r\n\r\n"), OPEN}, BAD_LINE_END},
    {"refuses a single LF behind a chunk", {"POST", BYTES(CHUNKED "3\r\nabc\n0\r\n\r\n"), OPEN}, BAD_LINE_END},
    {"refuses a chunk that is longer than its size",
     {"POST", BYTES(CHUNKED "3\r\nabcd\r\n0\r\n\r\n"), OPEN},
     BAD_CHUNK},
    {"refuses a chunk that is much longer than its size",
     {"POST", BYTES(CHUNKED "1\r\nabcdef\r\n0\r\n\r\n"), OPEN},
     BAD_CHUNK},
    {"refuses a chunk that is shorter than its size",
     {"POST", BYTES(CHUNKED "4\r\nabc\r\n0\r\n\r\n"), OPEN},
     BAD_LINE_END},
    {"refuses a CR too many behind a chunk", {"POST", BYTES(CHUNKED "1\r\na\r\r\n0\r\n\r\n"), OPEN}, BAD_CHUNK},
    {"takes chunks of exactly the limit",
     {"POST", BYTES(CHUNKED "32\r\n" TEN TEN TEN TEN TEN "\r\n32\r\n" TEN TEN TEN TEN TEN "\r\n0\r\n\r\n"), OPEN},
     "200 keeps 100 bytes"},
    {"refuses more, before it comes", {"POST", BYTES(CHUNKED "64\r\n" HUNDRED "\r\n1\r\n"), OPEN}, TOO_LONG},
    {"refuses a chunk of more", {"POST", BYTES(CHUNKED "65\r\n"), OPEN}, TOO_LONG},
    {"refuses a size that no number can hold", {"POST", BYTES(CHUNKED "10000000000000003\r\nabc\r\n"), OPEN}, TOO_LONG},
    {"refuses a size of all bits", {"POST", BYTES(CHUNKED "ffffffffffffffff\r\nabc\r\n"), OPEN}, TOO_LONG},
    {"refuses another coding", {"POST", BYTES(OK "Transfer-Encoding: gzip\r\n\r\n"), OPEN}, BAD_CODING},
    {"refuses chunked behind another coding",
     {"POST", BYTES(OK "Transfer-Encoding: gzip, chunked\r\n\r\n"), OPEN},
     BAD_CODING},
    {"refuses what is only like chunked", {"POST", BYTES(OK "Transfer-Encoding: xchunked\r\n\r\n"), OPEN}, BAD_CODING},
    {"refuses chunked with a parameter", {"POST", BYTES(OK "Transfer-Encoding: chunked;a\r\n\r\n"), OPEN}, BAD_CODING},
    {"refuses an empty coding", {"POST", BYTES(OK "Transfer-Encoding:\r\n\r\n"), OPEN}, BAD_CODING},
    {"refuses identity", {"POST", BYTES(OK "Transfer-Encoding: identity\r\n\r\n"), OPEN}, BAD_CODING},
    {"refuses chunked said twice",
     {"POST", BYTES(OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), OPEN},
     TWO_LENGTHS},
    {"waits for the last chunk", {"POST", BYTES(CHUNKED "3\r\nabc\r\n"), OPEN}, "more"},
    {"waits for the end of the trailers", {"POST", BYTES(CHUNKED "0\r\n"), OPEN}, "more"},
    {"says that chunks are missing", {"POST", BYTES(CHUNKED "3\r\nabc\r\n"), CLOSED}, CLOSED_IN_BODY},
    {"says that a chunk was cut", {"POST", BYTES(CHUNKED "3\r\nab"), CLOSED}, CLOSED_IN_BODY},
    {"says that the last chunk was cut", {"POST", BYTES(CHUNKED "0\r\n"), CLOSED}, CLOSED_IN_BODY},
    {"says that a chunk's size was cut", {"POST", BYTES(CHUNKED "1"), CLOSED}, CLOSED_IN_BODY},
    /* up to the connection's end */
    {"reads a body up to the connection's end", {"POST", BYTES(OK "\r\nabc"), CLOSED}, "200 closes abc"},
    {"reads an empty body up to the connection's end", {"POST", BYTES(OK "\r\n"), CLOSED}, "200 closes"},
    {"does not keep what ended, whatever it says",
     {"POST", BYTES(OK "Connection: keep-alive\r\n\r\nabc"), CLOSED},
     "200 closes abc"},
    {"waits for the connection's end", {"POST", BYTES(OK "\r\nabc"), OPEN}, "more"},
    {"takes as much as the limit", {"POST", BYTES(OK "\r\n" HUNDRED), CLOSED}, "200 closes 100 bytes"},
    {"refuses more than the limit", {"POST", BYTES(OK "\r\n" HUNDRED "x"), OPEN}, TOO_LONG},
    {"says that no answer came",
     {"POST", BYTES(""), CLOSED},
     "ConnectionClosed: the connection was closed before an answer came"},
    {"says that only an interim answer came",
     {"POST", BYTES("HTTP/1.1 100 Continue\r\n\r\n"), CLOSED},
     "ConnectionClosed: the connection was closed before an answer came"},
    {"says that the status line was cut", {"POST", BYTES("H"), CLOSED}, CLOSED_IN_HEADERS},
    {"says that the headers were cut", {"POST", BYTES(OK), CLOSED}, CLOSED_IN_HEADERS},
    {"says that a header was cut", {"POST", BYTES(OK "X: "), CLOSED}, CLOSED_IN_HEADERS},
    {"is not troubled by the connection's end behind a whole answer",
     {"POST", BYTES(OK "Content-Length: 3\r\n\r\nabc"), CLOSED},
     "200 keeps abc"},
    {"stays with a failure at the connection's end", {"POST", BYTES("SSH-2.0-x\r\n"), CLOSED}, NO_ANSWER},
    /* HTTP/1.0 */
    {"does not keep the connection of HTTP/1.0",
     {"POST", BYTES("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"), OPEN},
     "200 closes abc"},
    {"keeps it when HTTP/1.0 says so",
     {"POST", BYTES("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\nabc"), OPEN},
     "200 keeps abc"},
    {"reads HTTP/1.0 up to the connection's end",
     {"POST", BYTES("HTTP/1.0 200 OK\r\n\r\nabc"), CLOSED},
     "200 closes abc"},
    {"refuses chunks in HTTP/1.0",
     {"POST", BYTES("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), OPEN},
     "BadAnswer: the answer has a Transfer-Encoding, which HTTP/1.0 does not know"},
    /* the connection */
    {"does not keep what is to be closed",
     {"POST", BYTES(OK "Connection: close\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 closes"},
    {"finds close in a list, in any case, and believes it before keep-alive",
     {"POST", BYTES(OK "Connection: keep-alive ,\tCLOSE\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 closes"},
    {"finds close in the first of two headers",
     {"POST", BYTES(OK "Connection: close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 closes"},
    {"does not take for close what only holds the word",
     {"POST", BYTES(OK "Connection: closed, x-close\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 keeps"},
    {"reads Keep-Alive: timeout",
     {"POST", BYTES(OK "Keep-Alive: max=100, Timeout=5\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 keeps 5s"},
    {"reads a timeout of nothing",
     {"POST", BYTES(OK "Keep-Alive: timeout=0\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 keeps 0s"},
    {"takes a timeout that no number can hold for a long one",
     {"POST", BYTES(OK "Keep-Alive: timeout=99999999999999999999\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 keeps 2147483647s"},
    {"leaves a timeout alone that is no number",
     {"POST", BYTES(OK "Keep-Alive: timeout=, timeout=5s, xtimeout=7, timeout\r\nContent-Length: 0\r\n\r\n"), OPEN},
     "200 keeps"},
    /* interim answers */
    {"skips interim answers and all that they say",
     {"POST",
      BYTES("HTTP/1.1 100 Continue\r\nX: a\r\nContent-Length: 7\r\nConnection: close\r\n\r\n"
            "HTTP/1.1 103 Early Hints\r\nLink: b\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=3\r\n\r\n"
            "HTTP/1.1 201 Created\r\nY: c\r\nContent-Length: 3\r\n\r\nabc"),
      OPEN},
     "201 keeps [y=c] abc"},
    {"waits behind an interim answer", {"POST", BYTES("HTTP/1.1 102 Processing\r\n\r\n"), OPEN}, "more"},
    {"refuses to switch protocols",
     {"POST", BYTES("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), OPEN},
     "BadAnswer: the server switches to another protocol (101), which nobody asked for"},
    {"refuses a body behind an interim answer",
     {"POST", BYTES("HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n"), OPEN},
     NO_ANSWER},
    /* answers without a body */
    {"reads no body with 204", {"POST", BYTES("HTTP/1.1 204 No Content\r\n\r\n"), OPEN}, "204 keeps"},
    {"reads none with 204, whatever its length says",
     {"POST", BYTES("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"), OPEN},
     "204 keeps"},
    {"reads none with 304",
     {"GET", BYTES("HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\n\r\n"), OPEN},
     "304 keeps"},
    {"counts what comes behind 204", {"POST", BYTES("HTTP/1.1 204 No Content\r\n\r\nabc"), OPEN}, "204 closes +3"},
    {"reads none for HEAD", {"HEAD", BYTES(OK "Content-Length: 12345\r\n\r\n"), OPEN}, "200 keeps"},
    {"reads none for HEAD where it would be chunked", {"HEAD", BYTES(CHUNKED), OPEN}, "200 keeps"},
    {"reads none for HEAD where it would end with the connection", {"HEAD", BYTES(OK "\r\n"), OPEN}, "200 keeps"},
    {"refuses two lengths for HEAD, too",
     {"HEAD", BYTES(OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), OPEN},
     BOTH_LENGTHS},
    {"reads none for a CONNECT that was heard, and counts the tunnel's bytes",
     {"CONNECT", BYTES(OK "Content-Length: x\r\nTransfer-Encoding: y\r\n\r\n\x16\x03"), OPEN},
     "200 closes +2"},
    {"reads none for a CONNECT over HTTP/1.0",
     {"CONNECT", BYTES("HTTP/1.0 200 Connection established\r\n\r\n"), OPEN},
     "200 closes"},
    {"reads one for a CONNECT that was refused",
     {"CONNECT", BYTES("HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\nabc"), OPEN},
     "407 keeps abc"},
};

/* ---- limits ---- */

static char long_bytes[4 * MAX_HEADERS];

/* Appends text to the bytes of a long answer. */
static void extend(answer *a, const char *more)
{
    size_t len = strlen(more);
    if (len > sizeof long_bytes - a->bytes.len) {
        abort();
    }
    memcpy(long_bytes + a->bytes.len, more, len);
    a->bytes.len += len;
}

static answer long_answer(const char *start)
{
    answer a = {"POST", {long_bytes, 0}, OPEN};
    extend(&a, start);
    return a;
}

static void repeat(answer *a, const char *what, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        extend(a, what);
    }
}

/* A head of exactly so many bytes, whose last header makes up for what is missing. */
static answer head_of(size_t size)
{
    static const char end[] = "\r\nContent-Length: 0\r\n\r\n";
    answer a = long_answer(OK "X: ");
    repeat(&a, "x", size - a.bytes.len - (sizeof end - 1));
    extend(&a, end);
    return a;
}

#define TOO_LONG_HEADERS "AnswerTooLarge: the answer's headers are longer than 65536 bytes"
#define SIXTY_FOUR "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void test_head_limits(void)
{
    answer a = head_of(MAX_HEADERS);
    test_answer("takes a head of exactly the limit", &a, MAX_BODY, 997, "200 keeps [x=" SIXTY_FOUR "]");
    a = head_of(MAX_HEADERS + 1);
    test_answer("refuses a head of a byte more", &a, MAX_BODY, 997, TOO_LONG_HEADERS);
    a = long_answer("HTTP/1.1 200 ");
    repeat(&a, "x", MAX_HEADERS);
    test_answer("refuses a status line without end", &a, MAX_BODY, 997, TOO_LONG_HEADERS);
    a = long_answer("");
    repeat(&a, "x", MAX_HEADERS + 1);
    test_answer("refuses a long line that is no status line for that", &a, MAX_BODY, 997, NO_ANSWER);
    a = long_answer("HTTP/1.1 100 C\r\nX: ");
    repeat(&a, "x", MAX_HEADERS / 2);
    extend(&a, "\r\n\r\nHTTP/1.1 200 OK\r\nX: ");
    repeat(&a, "x", MAX_HEADERS / 2);
    extend(&a, "\r\n\r\n");
    test_answer("counts the headers of interim answers", &a, MAX_BODY, 997, TOO_LONG_HEADERS);
    a = long_answer(CHUNKED "0\r\nX: ");
    repeat(&a, "x", MAX_HEADERS);
    test_answer("counts trailers as headers", &a, MAX_BODY, 997, TOO_LONG_HEADERS);
}

static void test_count_limits(void)
{
    answer a = long_answer(OK "Content-Length: 0\r\n");
    repeat(&a, "a:b\r\n", MOST_HEADERS - 1);
    extend(&a, "\r\n");
    note n = read_pieces(&a, MAX_BODY, (cut){a.bytes.len, 1});
    test_answer("takes as many headers as the limit", &a, MAX_BODY, 13, n.text);
    report("counts them", strncmp(n.text, "200 keeps [a=b]", 15) == 0 ? NULL : n.text);
    a = long_answer(OK "Content-Length: 0\r\n");
    repeat(&a, "a:b\r\n", MOST_HEADERS);
    test_answer("refuses one more", &a, MAX_BODY, 13, "AnswerTooLarge: the answer has more than 256 headers");
    a = long_answer(CHUNKED "0\r\n");
    repeat(&a, "a:b\r\n", MOST_HEADERS);
    test_answer("refuses more headers and trailers", &a, MAX_BODY, 13,
                "AnswerTooLarge: the answer has more than 256 headers");
    a = long_answer("");
    repeat(&a, "HTTP/1.1 100 C\r\n\r\n", 16);
    extend(&a, OK "Content-Length: 3\r\n\r\nabc");
    test_answer("skips sixteen interim answers", &a, MAX_BODY, 1, "200 keeps abc");
    a = long_answer("");
    repeat(&a, "HTTP/1.1 100 C\r\n\r\n", 17);
    test_answer("refuses one more interim answer", &a, MAX_BODY, 1,
                "BadAnswer: more than 16 interim (1xx) answers came");
}

#define LONG_CHUNK_LINE "BadAnswer: the line with a chunk's size is longer than 256 bytes"

static void test_chunk_limits(void)
{
    answer a = long_answer(CHUNKED "3;");
    repeat(&a, "x", 256 - 4);
    extend(&a, "\r\nabc\r\n0\r\n\r\n");
    test_answer("takes a chunk's line of exactly the limit", &a, MAX_BODY, 1, "200 keeps abc");
    a = long_answer(CHUNKED "3;");
    repeat(&a, "x", 256 - 3);
    extend(&a, "\r\nabc\r\n0\r\n\r\n");
    test_answer("refuses a chunk's line of a byte more", &a, MAX_BODY, 1, LONG_CHUNK_LINE);
    a = long_answer(CHUNKED);
    repeat(&a, "0", 300);
    test_answer("refuses a chunk's size without end", &a, MAX_BODY, 1, LONG_CHUNK_LINE);
    a = long_answer(CHUNKED "3\r\nabc\r\n");
    repeat(&a, "1\r\nx\r\n", 10000);
    extend(&a, "0\r\n\r\n");
    test_answer("reads ten thousand chunks", &a, 10003, 997, "200 keeps 10003 bytes");
}

static void test_body_limits(void)
{
    answer a = long_answer(OK "Content-Length: 0\r\n\r\n");
    test_answer("takes an empty body where none may come", &a, 0, 1, "200 keeps");
    a = long_answer(OK "Content-Length: 1\r\n\r\n");
    test_answer("refuses one byte where none may come", &a, 0, 1,
                "AnswerTooLarge: the answer is longer than 0 bytes (max_response)");
    a = long_answer(OK "\r\nx");
    test_answer("refuses one byte up to the end where none may come", &a, 0, 1,
                "AnswerTooLarge: the answer is longer than 0 bytes (max_response)");
    a = long_answer(OK "Content-Length: 100000\r\n\r\n");
    repeat(&a, TEN, 10000);
    test_answer("reads a long body", &a, 100000, 9973, "200 keeps 100000 bytes");
    a = long_answer(OK "\r\n");
    repeat(&a, TEN, 10000);
    a.closes = CLOSED;
    test_answer("reads a long body up to the connection's end", &a, SIZE_MAX, 9973, "200 closes 100000 bytes");
    a = long_answer(CHUNKED "ffffffffffffffff\r\nabc");
    a.closes = CLOSED;
    test_answer("counts to the limit of what can be counted", &a, SIZE_MAX, 1, CLOSED_IN_BODY);
}

/* What is announced is not there yet. */
static void test_announced_memory(void)
{
    answer a = {"POST", BYTES(OK "Content-Length: 1000000000\r\n\r\nabc"), OPEN};
    answer chunk = {"POST", BYTES(CHUNKED "3b9aca00\r\nabc"), OPEN};
    note why = {0};
    largest_allocation = 0;
    read_pieces(&a, 1000000000, (cut){a.bytes.len, 1});
    read_pieces(&chunk, 1000000000, (cut){chunk.bytes.len, 1});
    if (largest_allocation > 4096) {
        add(&why, "%zu bytes at once", largest_allocation);
    }
    report("allocates memory for what came, not for what is announced", why.len > 0 ? why.text : NULL);
}

/* Each allocation fails once. */
static void test_answer_without_memory(void)
{
    answer a = long_answer(OK "X: y\r\nTransfer-Encoding: chunked\r\n\r\n");
    repeat(&a, "a;x=y\r\n" TEN "\r\n", 1000);
    extend(&a, "0\r\n\r\n");
    const char *expected = "200 keeps [x=y] 10000 bytes";
    note why = {0};
    long limit = 0;
    bool whole = false;
    while (!whole && why.len == 0) {
        allocations_left = limit;
        note n = read_pieces(&a, 10000, (cut){10, 7});
        allocations_left = -1;
        whole = strcmp(n.text, expected) == 0;
        if (!whole &&
            strcmp(n.text, limit == 0 ? "no reader" : "NoMemory: there is not enough memory for the answer")) {
            add(&why, "after %ld allocations: %.400s", limit, n.text);
        }
        limit++;
    }
    if (limit < 5) {
        add(&why, "only %ld allocations", limit - 1);
    }
    report("says so when memory runs out, wherever", why.len > 0 ? why.text : NULL);
}

/* ---- chance, always the same ---- */

static uint64_t seed = 0x9e3779b97f4a7c15u;

static size_t below(size_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed % limit);
}

static void insert(answer *a, size_t at, rtc_bytes what)
{
    memmove(long_bytes + at + what.len, long_bytes + at, a->bytes.len - at);
    memcpy(long_bytes + at, what.data, what.len);
    a->bytes.len += what.len;
}

static void mutate(answer *a)
{
    static const rtc_bytes pieces[] = {BYTES("\r"),
                                       BYTES("\n"),
                                       BYTES("\r\n"),
                                       BYTES("\0"),
                                       BYTES(" "),
                                       BYTES("\r\n\r\n"),
                                       BYTES("0\r\n\r\n"),
                                       BYTES("; x\r\n"),
                                       BYTES("ffffffff"),
                                       BYTES("HTTP/1.1 100 \r\n\r\n"),
                                       BYTES("HTTP/1.0 "),
                                       BYTES("\r\nX: y"),
                                       BYTES("\r\n x"),
                                       BYTES("close"),
                                       BYTES("\r\nContent-Length: 3"),
                                       BYTES(":"),
                                       BYTES("204"),
                                       BYTES("1\r\n"),
                                       BYTES("Connection: "),
                                       BYTES("Transfer-Encoding: "),
                                       BYTES("chunked"),
                                       BYTES("Keep-Alive:")};
    size_t at = below(a->bytes.len + 1);
    size_t rest = a->bytes.len - at;
    switch (below(4)) {
    case 0:
        insert(a, at, pieces[below(COUNT(pieces))]);
        break;
    case 1: {
        size_t gone = below(rest < 8 ? rest + 1 : 8);
        memmove(long_bytes + at, long_bytes + at + gone, rest - gone);
        a->bytes.len -= gone;
        break;
    }
    case 2:
        if (rest > 0) {
            long_bytes[at] = (char)below(256);
        }
        break;
    default: {
        char twice[64];
        size_t len = below(rest < sizeof twice ? rest + 1 : sizeof twice);
        memcpy(twice, long_bytes + at, len);
        insert(a, at, (rtc_bytes){twice, len});
        break;
    }
    }
}

static void add_hex(note *n, rtc_bytes bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        add(n, "%02x", (unsigned char)bytes.data[i]);
    }
}

static void test_mutations(void)
{
    note why = {0};
    size_t read = 0;
    size_t refused = 0;
    for (size_t i = 0; i < 20000 && why.len == 0; i++) {
        const answer *original = &answers[below(COUNT(answers))].answer;
        answer a = {original->method, {long_bytes, original->bytes.len}, below(2) == 0};
        memcpy(long_bytes, original->bytes.data, original->bytes.len);
        for (size_t changes = 1 + below(4); changes > 0; changes--) {
            mutate(&a);
        }
        note whole = read_pieces(&a, MAX_BODY, (cut){a.bytes.len, 1});
        note bytewise = read_pieces(&a, MAX_BODY, (cut){1, 1});
        note pieces = read_pieces(&a, MAX_BODY, (cut){1 + below(60), 1 + below(60)});
        read += whole.text[0] == '2';
        refused += whole.text[0] == 'B';
        if (strcmp(whole.text, bytewise.text) != 0 || strcmp(whole.text, pieces.text) != 0) {
            add(&why, "\"%.300s\", \"%.300s\" and \"%.300s\" for ", whole.text, bytewise.text, pieces.text);
            add_hex(&why, a.bytes);
        }
    }
    report("makes the same of what chance made of answers, however it is cut", why.len > 0 ? why.text : NULL);
    report("takes some of those, and refuses others", read > 1000 && refused > 1000 ? NULL : "only one of the two");
}

/* ---- requests ---- */

typedef struct request_test {
    const char *name;
    const char *method;
    rtc_bytes target;
    rtc_pair headers[3];
    size_t header_count;
    rtc_bytes body;
    const char *expected; /* the bytes, or "field: message" */
} request_test;

#define HOST                                                                                                           \
    {                                                                                                                  \
        BYTES("Host"), BYTES("example.com")                                                                            \
    }
#define FRAMING                                                                                                        \
    "headers: headers must not hold Content-Length, Transfer-Encoding, Connection or Expect: leave them out, what is " \
    "needed of them is written by itself"
#define BAD_METHOD "method: method must be an HTTP method in upper case, such as \"POST\""
#define NOT_ENCODED                                                                                                    \
    "target: target must be given, and without blanks, control characters, \"#\" and what is not ASCII: "              \
    "percent-encode them"
#define BAD_TARGET "target: target must start with \"/\", or with \"http://\" or \"https://\" to a proxy"
#define BAD_AUTHORITY "target: target must be host:port for CONNECT, such as \"example.com:443\""
#define BAD_NAME "headers: headers[1] has a name that is no HTTP header name"
#define BAD_VALUE "headers: headers[1] has a control character in its value, such as CR, LF or NUL: take it out"
#define NO_BODY "body: body must be empty for HEAD, CONNECT and TRACE: leave it out"

static const request_test requests[] = {
    {"writes a request with a body, Host first",
     "POST",
     BYTES("/?Action=A"),
     {{BYTES("X-A"), BYTES("b")}, HOST, {BYTES("x-a"), BYTES("")}},
     3,
     BYTES("a\0c"),
     "POST /?Action=A HTTP/1.1\r\nHost: example.com\r\nX-A: b\r\nx-a: \r\nContent-Length: 3\r\n\r\na\\0c"},
    {"says that the body of POST is empty",
     "POST",
     BYTES("/"),
     {HOST},
     1,
     BYTES(""),
     "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n"},
    {"says that the body of PUT is empty",
     "PUT",
     BYTES("/"),
     {HOST},
     1,
     BYTES(""),
     "PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n"},
    {"says that the body of PATCH is empty",
     "PATCH",
     BYTES("/"),
     {HOST},
     1,
     BYTES(""),
     "PATCH / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n"},
    {"says nothing of a body of GET",
     "GET",
     BYTES("/a?b"),
     {HOST},
     1,
     BYTES(""),
     "GET /a?b HTTP/1.1\r\nHost: example.com\r\n\r\n"},
    {"writes a body of GET",
     "GET",
     BYTES("/"),
     {HOST},
     1,
     BYTES("x"),
     "GET / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\n\r\nx"},
    {"says nothing of a body of HEAD",
     "HEAD",
     BYTES("/"),
     {HOST},
     1,
     BYTES(""),
     "HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n"},
    {"writes a URL for a proxy",
     "POST",
     BYTES("http://example.com:8080/a"),
     {HOST},
     1,
     BYTES("x"),
     "POST http://example.com:8080/a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\n\r\nx"},
    {"writes a CONNECT",
     "CONNECT",
     BYTES("example.com:443"),
     {HOST},
     1,
     BYTES(""),
     "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n"},
    {"writes a CONNECT to an IPv6 address",
     "CONNECT",
     BYTES("[::1]:443"),
     {HOST},
     1,
     BYTES(""),
     "CONNECT [::1]:443 HTTP/1.1\r\nHost: example.com\r\n\r\n"},
    {"refuses a method in lower case", "post", BYTES("/"), {HOST}, 1, BYTES(""), BAD_METHOD},
    {"refuses a method with a blank", "GET /", BYTES("/"), {HOST}, 1, BYTES(""), BAD_METHOD},
    {"refuses no method", "", BYTES("/"), {HOST}, 1, BYTES(""), BAD_METHOD},
    {"refuses no target", "GET", BYTES(""), {HOST}, 1, BYTES(""), NOT_ENCODED},
    {"refuses a target with a blank", "GET", BYTES("/a b"), {HOST}, 1, BYTES(""), NOT_ENCODED},
    {"refuses a target with a line end", "GET", BYTES("/\r\nX: y"), {HOST}, 1, BYTES(""), NOT_ENCODED},
    {"refuses a target with a NUL", "GET", BYTES("/\0"), {HOST}, 1, BYTES(""), NOT_ENCODED},
    {"refuses a target outside ASCII", "GET", BYTES("/\xc3\xa9"), {HOST}, 1, BYTES(""), NOT_ENCODED},
    {"refuses a fragment", "GET", BYTES("/#a"), {HOST}, 1, BYTES(""), NOT_ENCODED},
    {"refuses a target without a slash", "GET", BYTES("a"), {HOST}, 1, BYTES(""), BAD_TARGET},
    {"refuses a URL of another scheme", "GET", BYTES("ftp://a"), {HOST}, 1, BYTES(""), BAD_TARGET},
    {"refuses a path for CONNECT", "CONNECT", BYTES("/a:1"), {HOST}, 1, BYTES(""), BAD_AUTHORITY},
    {"refuses a URL for CONNECT", "CONNECT", BYTES("http://a:80"), {HOST}, 1, BYTES(""), BAD_AUTHORITY},
    {"refuses no port for CONNECT", "CONNECT", BYTES("example.com"), {HOST}, 1, BYTES(""), BAD_AUTHORITY},
    {"refuses an empty port for CONNECT", "CONNECT", BYTES("example.com:"), {HOST}, 1, BYTES(""), BAD_AUTHORITY},
    {"refuses no host for CONNECT", "CONNECT", BYTES(":443"), {HOST}, 1, BYTES(""), BAD_AUTHORITY},
    {"refuses a port without a colon for CONNECT", "CONNECT", BYTES("ab443"), {HOST}, 1, BYTES(""), BAD_AUTHORITY},
    {"refuses digits only for CONNECT", "CONNECT", BYTES("443"), {HOST}, 1, BYTES(""), BAD_AUTHORITY},
    {"refuses a long port for CONNECT", "CONNECT", BYTES("a:123456"), {HOST}, 1, BYTES(""), BAD_AUTHORITY},
    {"refuses no Host",
     "GET",
     BYTES("/"),
     {{BYTES("X-Host"), BYTES("a")}},
     1,
     BYTES(""),
     "headers: headers must hold Host once; they hold it 0 times"},
    {"refuses two Hosts",
     "GET",
     BYTES("/"),
     {HOST, {BYTES("hOST"), BYTES("b")}},
     2,
     BYTES(""),
     "headers: headers must hold Host once; they hold it 2 times"},
    {"refuses a Content-Length", "POST", BYTES("/"), {{BYTES("content-length"), BYTES("1")}}, 1, BYTES(""), FRAMING},
    {"refuses a Transfer-Encoding",
     "POST",
     BYTES("/"),
     {{BYTES("TRANSFER-ENCODING"), BYTES("chunked")}},
     1,
     BYTES(""),
     FRAMING},
    {"refuses a Connection", "POST", BYTES("/"), {{BYTES("Connection"), BYTES("close")}}, 1, BYTES(""), FRAMING},
    {"refuses an Expect", "POST", BYTES("/"), {{BYTES("Expect"), BYTES("100-continue")}}, 1, BYTES(""), FRAMING},
    {"refuses a header without a name", "GET", BYTES("/"), {{BYTES(""), BYTES("a")}, HOST}, 2, BYTES(""), BAD_NAME},
    {"refuses a name with a colon", "GET", BYTES("/"), {{BYTES("A:"), BYTES("a")}, HOST}, 2, BYTES(""), BAD_NAME},
    {"refuses a name with a line end", "GET", BYTES("/"), {{BYTES("A\n"), BYTES("a")}, HOST}, 2, BYTES(""), BAD_NAME},
    {"refuses a value with a CR", "GET", BYTES("/"), {{BYTES("A"), BYTES("a\rb")}, HOST}, 2, BYTES(""), BAD_VALUE},
    {"refuses a value with a LF", "GET", BYTES("/"), {{BYTES("A"), BYTES("a\nb")}, HOST}, 2, BYTES(""), BAD_VALUE},
    {"refuses a value with a NUL", "GET", BYTES("/"), {{BYTES("A"), BYTES("a\0b")}, HOST}, 2, BYTES(""), BAD_VALUE},
    {"refuses a body of HEAD", "HEAD", BYTES("/"), {HOST}, 1, BYTES("x"), NO_BODY},
    {"refuses a body of CONNECT", "CONNECT", BYTES("a:1"), {HOST}, 1, BYTES("x"), NO_BODY},
};

static void add_bytes(note *n, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == 0) {
            add(n, "\\0");
        } else {
            add(n, "%c", bytes[i]);
        }
    }
}

static note write_request(const rtc_http1_request *request)
{
    note n = {0};
    char *bytes = NULL;
    size_t len = 0;
    rtc_http1_problem problem = {"", ""};
    switch (rtc_http1_write(request, &bytes, &len, &problem)) {
    case RTC_HTTP1_WRITTEN:
        add_bytes(&n, bytes, len);
        free(bytes);
        break;
    case RTC_HTTP1_BAD_REQUEST:
        add(&n, "%s: %s", problem.field, problem.message);
        break;
    case RTC_HTTP1_TOO_BIG:
        add(&n, "too big");
        break;
    }
    return n;
}

static rtc_http1_request request_of(const request_test *test)
{
    return (rtc_http1_request){.method = text(test->method),
                               .target = test->target,
                               .headers = test->headers,
                               .header_count = test->header_count,
                               .body = test->body};
}

static void test_request(const request_test *test)
{
    rtc_http1_request request = request_of(test);
    note n = write_request(&request);
    note why = {0};
    if (strcmp(n.text, test->expected) != 0) {
        add(&why, "gave \"%.600s\" instead of \"%.600s\"", n.text, test->expected);
    }
    report(test->name, why.len > 0 ? why.text : NULL);
}

static void test_request_without_memory(void)
{
    rtc_http1_request request = request_of(&requests[0]);
    allocations_left = 0;
    note n = write_request(&request);
    allocations_left = -1;
    report("says that there is no memory for a request", strcmp(n.text, "too big") == 0 ? NULL : n.text);
    request.body.len = SIZE_MAX - 10;
    n = write_request(&request);
    report("refuses a request that no memory can hold", strcmp(n.text, "too big") == 0 ? NULL : n.text);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < COUNT(requests); i++) {
        test_request(&requests[i]);
    }
    test_request_without_memory();
    for (size_t i = 0; i < COUNT(answers); i++) {
        test_answer(answers[i].name, &answers[i].answer, MAX_BODY, 1, answers[i].expected);
    }
    test_head_limits();
    test_count_limits();
    test_chunk_limits();
    test_body_limits();
    test_announced_memory();
    test_answer_without_memory();
    test_mutations();
    printf("%zu tests, %zu failed\n", tests, failures);
    return failures == 0 ? 0 : 1;
}
