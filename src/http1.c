#include "http1.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "header_syntax.h"

enum {
    MAX_FIELDS = 256,     /* headers of one answer, its trailers counted in */
    MAX_CHUNK_LINE = 256, /* bytes of the line with a chunk's size, its extensions and line end counted in */
    MAX_INTERIM = 16,     /* 1xx answers before the one that counts */
    FIRST_ROOM = 512
};

#define PREFIX "HTTP/1."
#define PREFIX_LEN (sizeof PREFIX - 1)

/* ---- text ---- */

static rtc_bytes text(const char *s)
{
    return (rtc_bytes){s, strlen(s)};
}

static bool equals(rtc_bytes a, const char *b)
{
    return a.len == strlen(b) && memcmp(a.data, b, a.len) == 0;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Names of headers and options are the same in any case, but in ASCII only: no locale has a say. */
static bool is_called(rtc_bytes name, const char *lower_case)
{
    size_t len = strlen(lower_case);
    for (size_t i = 0; i < name.len && i < len; i++) {
        if (lower(name.data[i]) != lower_case[i]) {
            return false;
        }
    }
    return name.len == len;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static rtc_bytes trimmed(rtc_bytes bytes)
{
    while (bytes.len > 0 && is_blank(bytes.data[0])) {
        bytes.data++;
        bytes.len--;
    }
    while (bytes.len > 0 && is_blank(bytes.data[bytes.len - 1])) {
        bytes.len--;
    }
    return bytes;
}

static rtc_bytes without_first(rtc_bytes bytes, size_t count)
{
    return (rtc_bytes){bytes.data + count, bytes.len - count};
}

static bool starts_with(rtc_bytes bytes, const char *start)
{
    size_t len = strlen(start);
    return bytes.len >= len && memcmp(bytes.data, start, len) == 0;
}

/* The number that a text of digits stands for, or UINT64_MAX when it is more than that. False when it is anything but
 * digits. */
static bool read_number(rtc_bytes digits, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (!is_digit(digits.data[i])) {
            return false;
        }
        uint64_t digit = (uint64_t)(digits.data[i] - '0');
        *number = *number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *number * 10 + digit;
    }
    return digits.len > 0;
}

/* Takes the next element of a comma-separated list, RFC 9110 section 5.6.1. */
static bool next_element(rtc_bytes *list, rtc_bytes *element)
{
    if (list->len == 0) {
        return false;
    }
    const char *comma = memchr(list->data, ',', list->len);
    size_t len = comma != NULL ? (size_t)(comma - list->data) : list->len;
    *element = trimmed((rtc_bytes){list->data, len});
    *list = without_first(*list, comma != NULL ? len + 1 : len);
    return true;
}

/* ---- checking a request ---- */

static bool refuse(rtc_http1_problem *problem, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool refuse(rtc_http1_problem *problem, const char *field, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    problem->field = field;
    vsnprintf(problem->message, sizeof problem->message, format, arguments);
    va_end(arguments);
    return false;
}

static bool is_method(rtc_bytes method)
{
    for (size_t i = 0; i < method.len; i++) {
        if (method.data[i] < 'A' || method.data[i] > 'Z') {
            return false;
        }
    }
    return method.len > 0;
}

/* What a request-target can hold at all: printable ASCII, and no fragment, which is the client's own. */
static bool is_encoded(rtc_bytes target)
{
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.data[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') {
            return false;
        }
    }
    return target.len > 0;
}

/* host:port, RFC 9112 section 3.2.3. The host may be an IPv6 address in brackets. */
static bool is_authority(rtc_bytes target)
{
    size_t host = target.len;
    while (host > 0 && is_digit(target.data[host - 1])) {
        host--;
    }
    size_t digits = target.len - host;
    if (digits < 1 || digits > 5 || host < 2 || target.data[host - 1] != ':') {
        return false;
    }
    for (size_t i = 0; i < host; i++) {
        if (strchr("/?@", target.data[i]) != NULL) {
            return false;
        }
    }
    return true;
}

static bool check_target(const rtc_http1_request *r, rtc_http1_problem *problem)
{
    rtc_bytes target = r->target;
    if (!is_encoded(target)) {
        return refuse(problem, "target",
                      "target must be given, and without blanks, control characters, \"#\" and what is not ASCII: "
                      "percent-encode them");
    }
    if (equals(r->method, "CONNECT")) {
        return is_authority(target) ||
               refuse(problem, "target", "target must be host:port for CONNECT, such as \"example.com:443\"");
    }
    return target.data[0] == '/' || starts_with(target, "http://") || starts_with(target, "https://") ||
           refuse(problem, "target", "target must start with \"/\", or with \"http://\" or \"https://\" to a proxy");
}

/* What frames the request, or would make the server wait before its answer: said by the caller too, the server might
 * take something else for the request than what was meant. */
static bool is_framing(rtc_bytes name)
{
    return is_called(name, "content-length") || is_called(name, "transfer-encoding") || is_called(name, "connection") ||
           is_called(name, "expect");
}

static bool check_header(const rtc_pair *header, size_t number, rtc_http1_problem *problem)
{
    if (!rtc_is_token(header->name.data, header->name.len)) {
        return refuse(problem, "headers", "headers[%zu] has a name that is no HTTP header name", number);
    }
    if (!rtc_is_field_value(header->value.data, header->value.len)) {
        return refuse(problem, "headers",
                      "headers[%zu] has a control character in its value, such as CR, LF or NUL: take it out", number);
    }
    return !is_framing(header->name) ||
           refuse(problem, "headers",
                  "headers must not hold Content-Length, Transfer-Encoding, Connection or Expect: leave them out, what "
                  "is needed of them is written by itself");
}

static bool check_headers(const rtc_http1_request *r, rtc_http1_problem *problem)
{
    size_t hosts = 0;
    for (size_t i = 0; i < r->header_count; i++) {
        if (!check_header(&r->headers[i], i + 1, problem)) {
            return false;
        }
        hosts += is_called(r->headers[i].name, "host");
    }
    return hosts == 1 || refuse(problem, "headers", "headers must hold Host once; they hold it %zu times", hosts);
}

/* Content in these has no meaning, or is forbidden: RFC 9110 sections 9.3.2, 9.3.6 and 9.3.8. */
static bool may_have_body(rtc_bytes method)
{
    return !equals(method, "HEAD") && !equals(method, "CONNECT") && !equals(method, "TRACE");
}

static bool check_request(const rtc_http1_request *r, rtc_http1_problem *problem)
{
    if (!is_method(r->method)) {
        return refuse(problem, "method", "method must be an HTTP method in upper case, such as \"POST\"");
    }
    if (r->body.len > 0 && !may_have_body(r->method)) {
        return refuse(problem, "body", "body must be empty for HEAD, CONNECT and TRACE: leave it out");
    }
    return check_target(r, problem) && check_headers(r, problem);
}

/* ---- writing a request ---- */

/* Counts bytes, and copies them when it has where to. */
typedef struct sink {
    char *to;
    size_t len;
    bool overflown;
} sink;

static void put(sink *s, rtc_bytes bytes)
{
    if (bytes.len > SIZE_MAX - s->len) {
        s->overflown = true;
        return;
    }
    if (s->to != NULL && bytes.len > 0) {
        memcpy(s->to + s->len, bytes.data, bytes.len);
    }
    s->len += bytes.len;
}

static void put_text(sink *s, const char *what)
{
    put(s, text(what));
}

static void put_header(sink *s, const rtc_pair *header)
{
    put(s, header->name);
    put_text(s, ": ");
    put(s, header->value);
    put_text(s, "\r\n");
}

/* Host first, as RFC 9110 section 7.2 wishes; the others as they are given. */
static void put_headers(sink *s, const rtc_http1_request *r)
{
    for (size_t i = 0; i < r->header_count; i++) {
        if (is_called(r->headers[i].name, "host")) {
            put_header(s, &r->headers[i]);
        }
    }
    for (size_t i = 0; i < r->header_count; i++) {
        if (!is_called(r->headers[i].name, "host")) {
            put_header(s, &r->headers[i]);
        }
    }
}

/* With a body always, and an empty one too where the method means one: RFC 9110 section 8.6. */
static bool needs_length(const rtc_http1_request *r)
{
    return r->body.len > 0 || equals(r->method, "POST") || equals(r->method, "PUT") || equals(r->method, "PATCH");
}

static void put_length(sink *s, size_t length)
{
    char line[48];
    int len = snprintf(line, sizeof line, "Content-Length: %zu\r\n", length);
    put(s, (rtc_bytes){line, (size_t)len});
}

static void put_request(sink *s, const rtc_http1_request *r)
{
    put(s, r->method);
    put_text(s, " ");
    put(s, r->target);
    put_text(s, " HTTP/1.1\r\n");
    put_headers(s, r);
    if (needs_length(r)) {
        put_length(s, r->body.len);
    }
    put_text(s, "\r\n");
    put(s, r->body);
}

rtc_http1_writing rtc_http1_write(const rtc_http1_request *request, char **bytes, size_t *len,
                                  rtc_http1_problem *problem)
{
    if (!check_request(request, problem)) {
        return RTC_HTTP1_BAD_REQUEST;
    }
    sink measure = {0};
    put_request(&measure, request);
    sink copy = {.to = measure.overflown ? NULL : malloc(measure.len)};
    if (copy.to == NULL) {
        return RTC_HTTP1_TOO_BIG;
    }
    put_request(&copy, request);
    *bytes = copy.to;
    *len = copy.len;
    return RTC_HTTP1_WRITTEN;
}

/* ---- a reader ---- */

/* Where in the answer the next byte is. */
typedef enum place {
    IN_STATUS_LINE, /* or before it */
    IN_HEADERS,
    IN_BODY, /* by Content-Length */
    IN_CHUNK_SIZE,
    IN_CHUNK,
    IN_CHUNK_END, /* the line end behind a chunk's bytes */
    IN_TRAILERS,
    IN_BODY_UNTIL_CLOSE,
    BEYOND, /* the answer is whole */
    NOWHERE /* it failed */
} place;

/* Memory that grows with what came, whatever was announced. */
typedef struct memory {
    char *data;
    size_t len;
    size_t cap;
} memory;

/* What the head of an answer says. */
typedef struct head {
    int status;
    bool is_1_0;
    size_t lengths;  /* Content-Length headers */
    bool bad_length; /* the last of them is no number */
    uint64_t length;
    size_t codings; /* Transfer-Encoding headers */
    bool chunked;   /* what the last of them says, and nothing else */
    bool close;
    bool keep_alive;
    int32_t keep_alive_timeout; /* -1: not said */
    size_t fields;
} head;

struct rtc_http1_reader {
    bool to_head;
    bool to_connect;
    size_t max_body;
    place place;
    head head;         /* of the last answer that began */
    size_t head_bytes; /* of all heads and trailers */
    size_t interim;    /* 1xx answers so far */
    size_t left;       /* bytes of the body, or of the chunk, to come */
    size_t beyond;
    memory line;   /* one that has come in part */
    memory fields; /* each header as name:value, LF */
    memory body;
    bool until_close;
    rtc_http1_failure failure;
    char message[160];
};

static void fail(rtc_http1_reader *r, rtc_http1_failure failure, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void fail(rtc_http1_reader *r, rtc_http1_failure failure, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    r->place = NOWHERE;
    r->failure = failure;
    vsnprintf(r->message, sizeof r->message, format, arguments);
    va_end(arguments);
}

static void fail_too_large(rtc_http1_reader *r)
{
    fail(r, RTC_HTTP1_ANSWER_TOO_LARGE, "the answer is longer than %zu bytes (max_response)", r->max_body);
}

static void memory_free(memory *m)
{
    free(m->data);
    *m = (memory){0};
}

/* Makes room for `more` bytes, of at most `most` in all, which the caller has made sure of. Doubling keeps the time
 * linear in what came. */
static bool reserve(rtc_http1_reader *r, memory *m, size_t more, size_t most)
{
    if (more <= m->cap - m->len) {
        return true;
    }
    size_t cap = m->cap > most / 2 ? most : 2 * m->cap;
    if (cap < m->len + more) {
        cap = m->len + more;
    }
    if (cap < FIRST_ROOM) {
        cap = FIRST_ROOM;
    }
    char *data = realloc(m->data, cap);
    if (data == NULL) {
        fail(r, RTC_HTTP1_NO_MEMORY, "there is not enough memory for the answer");
        return false;
    }
    m->data = data;
    m->cap = cap;
    return true;
}

static bool append(rtc_http1_reader *r, memory *m, rtc_bytes bytes, size_t most)
{
    if (!reserve(r, m, bytes.len, most)) {
        return false;
    }
    if (bytes.len > 0) {
        memcpy(m->data + m->len, bytes.data, bytes.len);
        m->len += bytes.len;
    }
    return true;
}

/* ---- lines ---- */

static bool is_in_head(const rtc_http1_reader *r)
{
    return r->place == IN_STATUS_LINE || r->place == IN_HEADERS || r->place == IN_TRAILERS;
}

/* Seen at its first byte: what speaks another protocol may never send a line end. */
static bool has_prefix(const rtc_http1_reader *r, rtc_bytes in)
{
    size_t seen = r->line.len;
    for (size_t i = 0; i < in.len && seen + i < PREFIX_LEN; i++) {
        if (in.data[i] != PREFIX[seen + i]) {
            return false;
        }
    }
    return true;
}

static size_t room_for_line(const rtc_http1_reader *r)
{
    if (is_in_head(r)) {
        return RTC_MAX_HEADERS - r->head_bytes;
    }
    return (r->place == IN_CHUNK_SIZE ? MAX_CHUNK_LINE : 2) - r->line.len;
}

static void fail_long_line(rtc_http1_reader *r)
{
    if (is_in_head(r)) {
        fail(r, RTC_HTTP1_ANSWER_TOO_LARGE, "the answer's headers are longer than %d bytes", (int)RTC_MAX_HEADERS);
    } else if (r->place == IN_CHUNK_SIZE) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "the line with a chunk's size is longer than %d bytes", (int)MAX_CHUNK_LINE);
    } else {
        fail(r, RTC_HTTP1_BAD_ANSWER, "a chunk of the answer's body is not as long as it says");
    }
}

/* Takes off a line's end. In the head a single LF is one, too: RFC 9112 section 2.2 allows it, libcurl takes it, and
 * it can't be misread. Of chunks it is not said, and there the two ends of a connection must agree to the byte. */
static bool strip_line_end(const rtc_http1_reader *r, rtc_bytes *line)
{
    line->len--;
    if (line->len > 0 && line->data[line->len - 1] == '\r') {
        line->len--;
        return true;
    }
    return is_in_head(r);
}

/* Takes bytes of a line from *in. True when it is whole: *line, which lives until the next call or the end of *in. */
static bool take_line(rtc_http1_reader *r, rtc_bytes *in, rtc_bytes *line)
{
    const char *newline = memchr(in->data, '\n', in->len);
    size_t len = newline != NULL ? (size_t)(newline - in->data) + 1 : in->len;
    if (r->place == IN_STATUS_LINE && !has_prefix(r, *in)) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "what came is no HTTP/1.0 or HTTP/1.1 answer");
        return false;
    }
    if (len > room_for_line(r)) {
        fail_long_line(r);
        return false;
    }
    if (is_in_head(r)) {
        r->head_bytes += len;
    }
    *line = (rtc_bytes){in->data, len};
    *in = without_first(*in, len);
    if (newline == NULL || r->line.len > 0) {
        if (!append(r, &r->line, *line, RTC_MAX_HEADERS) || newline == NULL) {
            return false;
        }
        *line = (rtc_bytes){r->line.data, r->line.len};
        r->line.len = 0;
    }
    if (!strip_line_end(r, line)) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "a chunk's line in the answer's body does not end in CR LF");
        return false;
    }
    return true;
}

/* ---- the head ---- */

/* HTTP-version SP status-code SP [reason], RFC 9112 section 4, which lets the second blank be missing with an empty
 * reason. */
static void read_status_line(rtc_http1_reader *r, rtc_bytes line)
{
    const char *at = line.data + PREFIX_LEN;
    bool ok = line.len >= PREFIX_LEN + 5 && (at[0] == '0' || at[0] == '1') && at[1] == ' ' && is_digit(at[2]) &&
              is_digit(at[3]) && is_digit(at[4]) && (line.len == PREFIX_LEN + 5 || at[5] == ' ') &&
              rtc_is_field_value(line.data, line.len);
    int status = ok ? (at[2] - '0') * 100 + (at[3] - '0') * 10 + (at[4] - '0') : 0;
    if (status < 100 || status > 599) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "the answer's first line is no HTTP/1.0 or HTTP/1.1 status line");
        return;
    }
    r->head = (head){.status = status, .is_1_0 = at[0] == '0', .keep_alive_timeout = -1};
    r->fields.len = 0;
    r->place = IN_HEADERS;
}

/* What must be refused, RFC 9110 section 5.5. Other control characters may be kept, and libcurl keeps them, too. */
static bool is_safe_value(rtc_bytes value)
{
    return memchr(value.data, '\r', value.len) == NULL && memchr(value.data, '\0', value.len) == NULL;
}

/* name ":" OWS value OWS, RFC 9112 section 5. A value that goes on in the next line (obs-fold, section 5.2) might be
 * joined; nobody has sent one for long, and what is refused can't be misread. */
static bool split_field(rtc_http1_reader *r, rtc_bytes line, rtc_pair *field)
{
    size_t number = r->head.fields + 1;
    if (is_blank(line.data[0])) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "line %zu of the answer's headers starts with a blank", number);
        return false;
    }
    const char *colon = memchr(line.data, ':', line.len);
    size_t len = colon != NULL ? (size_t)(colon - line.data) : 0;
    if (!rtc_is_token(line.data, len)) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "line %zu of the answer's headers is no \"name: value\"", number);
        return false;
    }
    field->name = (rtc_bytes){line.data, len};
    field->value = trimmed(without_first(line, len + 1));
    if (!is_safe_value(field->value)) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "line %zu of the answer's headers has a CR or NUL in its value", number);
        return false;
    }
    return true;
}

static void keep_field(rtc_http1_reader *r, const rtc_pair *field)
{
    memory *m = &r->fields;
    if (!reserve(r, m, field->name.len + field->value.len + 2, RTC_MAX_HEADERS)) {
        return;
    }
    for (size_t i = 0; i < field->name.len; i++) {
        m->data[m->len++] = lower(field->name.data[i]);
    }
    m->data[m->len++] = ':';
    if (field->value.len > 0) {
        memcpy(m->data + m->len, field->value.data, field->value.len);
        m->len += field->value.len;
    }
    m->data[m->len++] = '\n';
}

/* Options of the connection, RFC 9112 section 9.3. */
static void note_connection(head *h, rtc_bytes options)
{
    rtc_bytes option;
    while (next_element(&options, &option)) {
        h->close = h->close || is_called(option, "close");
        h->keep_alive = h->keep_alive || is_called(option, "keep-alive");
    }
}

/* timeout=N among the header's parameters, RFC 2068 section 19.7.1.1. Of what is no number nothing is known. */
static void note_keep_alive(head *h, rtc_bytes parameters)
{
    static const char name[] = "timeout=";
    rtc_bytes parameter;
    uint64_t seconds = 0;
    while (next_element(&parameters, &parameter)) {
        rtc_bytes start = {parameter.data, parameter.len < sizeof name - 1 ? parameter.len : sizeof name - 1};
        if (is_called(start, name) && read_number(without_first(parameter, start.len), &seconds)) {
            h->keep_alive_timeout = seconds > INT32_MAX ? INT32_MAX : (int32_t)seconds;
        }
    }
}

static void note_field(head *h, const rtc_pair *field)
{
    if (is_called(field->name, "content-length")) {
        h->lengths++;
        h->bad_length = !read_number(field->value, &h->length);
    } else if (is_called(field->name, "transfer-encoding")) {
        h->codings++;
        h->chunked = is_called(field->value, "chunked");
    } else if (is_called(field->name, "connection")) {
        note_connection(h, field->value);
    } else if (is_called(field->name, "keep-alive")) {
        note_keep_alive(h, field->value);
    }
}

/* Whether the head says in one way how long the body is: RFC 9112 section 6. That asks for less: a client may take
 * "5, 5" for 5, and Transfer-Encoding before Content-Length. But where two say the length, the next one in the chain
 * may go by the other. */
static bool check_framing(rtc_http1_reader *r)
{
    const head *h = &r->head;
    const char *fault = NULL;
    if (h->lengths > 0 && h->codings > 0) {
        fault = "both Content-Length and Transfer-Encoding";
    } else if (h->lengths > 1 || h->codings > 1) {
        fault = "more than one Content-Length or Transfer-Encoding";
    } else if (h->bad_length) {
        fault = "a Content-Length that is no number";
    } else if (h->codings > 0 && h->is_1_0) {
        fault = "a Transfer-Encoding, which HTTP/1.0 does not know";
    } else if (h->codings > 0 && !h->chunked) {
        fault = "a Transfer-Encoding that is not \"chunked\"";
    }
    if (fault != NULL) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "the answer has %s", fault);
    }
    return fault == NULL;
}

/* An interim answer, RFC 9110 section 15.2: another follows. */
static void end_interim(rtc_http1_reader *r)
{
    r->interim++;
    if (r->head.status == 101) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "the server switches to another protocol (101), which nobody asked for");
    } else if (r->interim > MAX_INTERIM) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "more than %d interim (1xx) answers came", (int)MAX_INTERIM);
    } else {
        r->place = IN_STATUS_LINE;
    }
}

/* RFC 9112 section 6.3, points 1 and 2. */
static bool has_no_body(const rtc_http1_reader *r)
{
    return r->to_head || r->head.status == 204 || r->head.status == 304;
}

static void begin_body(rtc_http1_reader *r)
{
    const head *h = &r->head;
    if (h->codings > 0) {
        r->place = IN_CHUNK_SIZE;
    } else if (h->lengths == 0) {
        r->until_close = true;
        r->place = IN_BODY_UNTIL_CLOSE;
    } else if (h->length > r->max_body) {
        fail_too_large(r);
    } else {
        r->left = (size_t)h->length;
        r->place = r->left > 0 ? IN_BODY : BEYOND;
    }
}

static void end_head(rtc_http1_reader *r)
{
    bool tunnel = r->to_connect && r->head.status >= 200 && r->head.status < 300;
    if (r->head.status < 200) {
        end_interim(r);
    } else if (tunnel) { /* whatever it says of a length is ignored: RFC 9110 section 9.3.6 */
        r->place = BEYOND;
    } else if (!check_framing(r)) {
        return;
    } else if (has_no_body(r)) {
        r->place = BEYOND;
    } else {
        begin_body(r);
    }
}

static bool read_field(rtc_http1_reader *r, rtc_bytes line, rtc_pair *field)
{
    if (r->head.fields == MAX_FIELDS) {
        fail(r, RTC_HTTP1_ANSWER_TOO_LARGE, "the answer has more than %d headers", (int)MAX_FIELDS);
        return false;
    }
    if (!split_field(r, line, field)) {
        return false;
    }
    r->head.fields++;
    return true;
}

static void read_header_line(rtc_http1_reader *r, rtc_bytes line)
{
    rtc_pair field;
    if (line.len == 0) {
        end_head(r);
    } else if (read_field(r, line, &field)) {
        note_field(&r->head, &field);
        keep_field(r, &field);
    }
}

/* Whoever sent a trailer may be less trusted than the head's sender, RFC 9110 section 6.5: they are read and dropped.
 */
static void read_trailer_line(rtc_http1_reader *r, rtc_bytes line)
{
    rtc_pair field;
    if (line.len == 0) {
        r->place = BEYOND;
    } else {
        read_field(r, line, &field);
    }
}

/* ---- the body ---- */

static int hex_digit(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 1*HEXDIG [ chunk-ext ], RFC 9112 section 7.1. Extensions are skipped, as none is known. */
static void read_chunk_size(rtc_http1_reader *r, rtc_bytes line)
{
    size_t digits = 0;
    size_t size = 0;
    while (digits < line.len && hex_digit(line.data[digits]) >= 0) {
        size_t digit = (size_t)hex_digit(line.data[digits]);
        size = size > (SIZE_MAX - digit) / 16 ? SIZE_MAX : size * 16 + digit;
        digits++;
    }
    rtc_bytes rest = without_first(line, digits);
    rtc_bytes extension = trimmed(rest);
    bool skipped = rest.len == 0 || (extension.len > 0 && extension.data[0] == ';');
    if (digits == 0 || !skipped || !rtc_is_field_value(rest.data, rest.len)) {
        fail(r, RTC_HTTP1_BAD_ANSWER, "a chunk of the answer's body has no hexadecimal size");
    } else if (size > r->max_body - r->body.len) {
        fail_too_large(r);
    } else {
        r->left = size;
        r->place = size > 0 ? IN_CHUNK : IN_TRAILERS;
    }
}

static void read_line(rtc_http1_reader *r, rtc_bytes line)
{
    switch (r->place) {
    case IN_STATUS_LINE:
        read_status_line(r, line);
        break;
    case IN_HEADERS:
        read_header_line(r, line);
        break;
    case IN_CHUNK_SIZE:
        read_chunk_size(r, line);
        break;
    case IN_CHUNK_END: /* with room for CR LF only, the line is empty */
        r->place = IN_CHUNK_SIZE;
        break;
    case IN_TRAILERS:
        read_trailer_line(r, line);
        break;
    case IN_BODY:
    case IN_CHUNK:
    case IN_BODY_UNTIL_CLOSE:
    case BEYOND:
    case NOWHERE:
        break;
    }
}

/* Takes bytes of a body or a chunk whose length is known. */
static void take_counted(rtc_http1_reader *r, rtc_bytes *in)
{
    size_t len = in->len < r->left ? in->len : r->left;
    if (!append(r, &r->body, (rtc_bytes){in->data, len}, r->max_body)) {
        return;
    }
    *in = without_first(*in, len);
    r->left -= len;
    if (r->left == 0) {
        r->place = r->place == IN_CHUNK ? IN_CHUNK_END : BEYOND;
    }
}

static void take_until_close(rtc_http1_reader *r, rtc_bytes *in)
{
    if (in->len > r->max_body - r->body.len) {
        fail_too_large(r);
    } else if (append(r, &r->body, *in, r->max_body)) {
        *in = without_first(*in, in->len);
    }
}

static void count_beyond(rtc_http1_reader *r, rtc_bytes *in)
{
    r->beyond = in->len > SIZE_MAX - r->beyond ? SIZE_MAX : r->beyond + in->len;
    *in = without_first(*in, in->len);
}

/* Takes some of the bytes, at least one unless it fails. */
static void step(rtc_http1_reader *r, rtc_bytes *in)
{
    rtc_bytes line;
    switch (r->place) {
    case IN_BODY:
    case IN_CHUNK:
        take_counted(r, in);
        break;
    case IN_BODY_UNTIL_CLOSE:
        take_until_close(r, in);
        break;
    case BEYOND:
        count_beyond(r, in);
        break;
    case IN_STATUS_LINE:
    case IN_HEADERS:
    case IN_CHUNK_SIZE:
    case IN_CHUNK_END:
    case IN_TRAILERS:
        if (take_line(r, in, &line)) {
            read_line(r, line);
        }
        break;
    case NOWHERE:
        break;
    }
}

/* ---- what others see ---- */

rtc_http1_reader *rtc_http1_reader_new(rtc_bytes method, size_t max_body)
{
    rtc_http1_reader *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    r->to_head = equals(method, "HEAD");
    r->to_connect = equals(method, "CONNECT");
    r->max_body = max_body;
    r->place = IN_STATUS_LINE;
    return r;
}

void rtc_http1_reader_free(rtc_http1_reader *r)
{
    if (r == NULL) {
        return;
    }
    memory_free(&r->line);
    memory_free(&r->fields);
    memory_free(&r->body);
    free(r);
}

static rtc_http1_progress progress(const rtc_http1_reader *r)
{
    if (r->place == NOWHERE) {
        return RTC_HTTP1_FAILED;
    }
    return r->place == BEYOND ? RTC_HTTP1_DONE : RTC_HTTP1_MORE;
}

rtc_http1_progress rtc_http1_feed(rtc_http1_reader *r, rtc_bytes bytes)
{
    while (bytes.len > 0 && r->place != NOWHERE) {
        step(r, &bytes);
    }
    return progress(r);
}

rtc_http1_progress rtc_http1_finish(rtc_http1_reader *r)
{
    switch (r->place) {
    case IN_STATUS_LINE:
    case IN_HEADERS:
        if (r->place == IN_STATUS_LINE && r->line.len == 0) {
            fail(r, RTC_HTTP1_CONNECTION_CLOSED, "the connection was closed before an answer came");
        } else {
            fail(r, RTC_HTTP1_CONNECTION_CLOSED, "the connection was closed within the answer's headers");
        }
        break;
    case IN_BODY:
        fail(r, RTC_HTTP1_CONNECTION_CLOSED,
             "the connection was closed after %zu of the %zu bytes of the answer's body", r->body.len,
             r->body.len + r->left);
        break;
    case IN_CHUNK_SIZE:
    case IN_CHUNK:
    case IN_CHUNK_END:
    case IN_TRAILERS:
        fail(r, RTC_HTTP1_CONNECTION_CLOSED, "the connection was closed before the end of the answer's body");
        break;
    case IN_BODY_UNTIL_CLOSE:
        r->place = BEYOND;
        break;
    case BEYOND:
    case NOWHERE:
        break;
    }
    return progress(r);
}

rtc_http1_failure rtc_http1_failed(const rtc_http1_reader *r)
{
    return r->failure;
}

const char *rtc_http1_message(const rtc_http1_reader *r)
{
    return r->message;
}

bool rtc_http1_is_whole(const rtc_http1_reader *r)
{
    return r->place == BEYOND;
}

int rtc_http1_status(const rtc_http1_reader *r)
{
    return r->head.status;
}

bool rtc_http1_next_header(const rtc_http1_reader *r, size_t *at, rtc_pair *header)
{
    if (*at >= r->fields.len) {
        return false;
    }
    const char *start = r->fields.data + *at;
    const char *end = memchr(start, '\n', r->fields.len - *at);
    const char *colon = memchr(start, ':', (size_t)(end - start));
    header->name = (rtc_bytes){start, (size_t)(colon - start)};
    header->value = (rtc_bytes){colon + 1, (size_t)(end - colon) - 1};
    *at += (size_t)(end - start) + 1;
    return true;
}

rtc_bytes rtc_http1_body(const rtc_http1_reader *r)
{
    return (rtc_bytes){r->body.data, r->body.len};
}

bool rtc_http1_keeps_alive(const rtc_http1_reader *r)
{
    bool agreed = r->head.is_1_0 ? r->head.keep_alive : true;
    return r->place == BEYOND && r->beyond == 0 && !r->until_close && agreed && !r->head.close;
}

int32_t rtc_http1_keep_alive_timeout(const rtc_http1_reader *r)
{
    return r->head.keep_alive_timeout;
}

size_t rtc_http1_beyond(const rtc_http1_reader *r)
{
    return r->beyond;
}
