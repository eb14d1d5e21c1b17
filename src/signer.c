#include "signer.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "header_syntax.h"

#define ALGORITHM "HMAC-SHA256"

enum {
    DIGEST_LEN = 32,
    DIGEST_HEX_LEN = 2 * DIGEST_LEN,
    DAY_LEN = 8,   /* YYYYMMDD */
    DATE_LEN = 16, /* YYYYMMDDThhmmssZ */
    MAX_ENTRIES = RTC_SIGN_MAX_PAIRS + 4
};

/* 9999-12-31T23:59:59Z: the last second whose X-Date has four digits of year. */
static const int64_t TIME_MAX = 253402300799;

/* A place in the buffer. An offset, not a pointer, because the buffer moves when it grows. */
typedef struct span {
    size_t at;
    size_t len;
} span;

/* A header as it will be sent and, by its lower-case name, signed. */
typedef struct entry {
    span name; /* as spelled by the caller or by us */
    span lower;
    span value; /* trimmed, inner white space collapsed */
} entry;

/* What is worked out on the way to a signature, as places in the buffer. */
typedef struct parts {
    span date, body_hash, query, scope, signed_headers, canonical, to_sign, signature, authorization;
} parts;

struct rtc_signer {
    EVP_MD *sha256;
    EVP_MD_CTX *digest;
    EVP_MAC *hmac;
    EVP_MAC_CTX *chain;   /* derives the day's signing key */
    EVP_MAC_CTX *signing; /* holds the day's signing key, ready to be used again */
    char day[DAY_LEN];    /* the day of that key; day[0] == 0: none yet */
    rtc_credentials credentials;
    size_t secret_len; /* bytes of secrets[], which hold all credentials end to end */
    char secrets[];
};

/* ---- buffer ---- */

static void buffer_free(rtc_buffer *b)
{
    if (b->data != NULL) {
        OPENSSL_cleanse(b->data, b->cap);
        free(b->data);
    }
    *b = (rtc_buffer){0};
}

static bool buffer_reserve(rtc_buffer *b, size_t more)
{
    if (b->failed || more > SIZE_MAX / 2 - b->len) {
        b->failed = true;
        return false;
    }
    if (more <= b->cap - b->len) {
        return true;
    }
    size_t cap = b->cap < 1024 ? 1024 : b->cap;
    while (cap < b->len + more) {
        cap *= 2;
    }
    /* Not realloc: it could leave a copy of a session token behind in freed memory. */
    char *data = malloc(cap);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    if (b->data != NULL) {
        memcpy(data, b->data, b->len);
        OPENSSL_cleanse(b->data, b->cap);
        free(b->data);
    }
    b->data = data;
    b->cap = cap;
    return true;
}

static void put(rtc_buffer *b, const void *data, size_t len)
{
    if (len > 0 && buffer_reserve(b, len)) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
    }
}

static void put_char(rtc_buffer *b, char c)
{
    put(b, &c, 1);
}

static void put_text(rtc_buffer *b, const char *text)
{
    put(b, text, strlen(text));
}

static void put_bytes(rtc_buffer *b, rtc_bytes bytes)
{
    put(b, bytes.data, bytes.len);
}

/* Appends what already stands elsewhere in the same buffer. */
static void put_span(rtc_buffer *b, span s)
{
    if (buffer_reserve(b, s.len)) {
        memcpy(b->data + b->len, b->data + s.at, s.len);
        b->len += s.len;
    }
}

static void put_hex(rtc_buffer *b, const unsigned char *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        put_char(b, digits[data[i] >> 4]);
        put_char(b, digits[data[i] & 15]);
    }
}

static bool is_unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.' || c == '~';
}

/* Percent-encoding of RFC 3986, section 2: all but unreserved characters, hex digits in upper case, a space is %20.
 * `keep` (or 0) is left as it is: '/' in a path. */
static void put_encoded(rtc_buffer *b, rtc_bytes bytes, char keep)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.data[i];
        if (is_unreserved(c) || (keep != 0 && bytes.data[i] == keep)) {
            put_char(b, bytes.data[i]);
        } else {
            char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};
            put(b, escaped, sizeof escaped);
        }
    }
}

static span since(const rtc_buffer *b, size_t start)
{
    return (span){start, b->len - start};
}

static rtc_bytes view(const rtc_buffer *b, span s)
{
    return (rtc_bytes){b->data + s.at, s.len};
}

/* ---- comparing ---- */

static int compare_bytes(rtc_bytes a, rtc_bytes b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    if (order != 0) {
        return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

static bool equals(rtc_bytes a, rtc_bytes b)
{
    return compare_bytes(a, b) == 0;
}

static rtc_bytes text(const char *s)
{
    return (rtc_bytes){s, strlen(s)};
}

/* By key, then by value: the one order that every known verifier reads the same way when keys repeat. */
static int compare_pairs(const void *a, const void *b)
{
    const rtc_pair *x = a;
    const rtc_pair *y = b;
    int order = compare_bytes(x->name, y->name);
    return order != 0 ? order : compare_bytes(x->value, y->value);
}

/* ---- problems ---- */

__attribute__((format(printf, 3, 4))) static rtc_sign_status refuse(rtc_sign_problem *problem, const char *field,
                                                                    const char *format, ...)
{
    va_list args;
    va_start(args, format);
    problem->field = field;
    vsnprintf(problem->message, sizeof problem->message, format, args);
    va_end(args);
    return RTC_SIGN_BAD_REQUEST;
}

/* For "%.*s" in a message: long names are cut. */
static int shown(rtc_bytes bytes)
{
    return bytes.len > 60 ? 60 : (int)bytes.len;
}

/* ---- names and values of headers ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static span put_lower(rtc_buffer *b, rtc_bytes bytes)
{
    size_t start = b->len;
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.data[i];
        put_char(b, c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c);
    }
    return since(b, start);
}

/* Trimmed, and inner runs of white space made one space: the official signers disagree about inner runs, so a value
 * that has none is signed and sent. */
static span put_normalised(rtc_buffer *b, rtc_bytes bytes)
{
    size_t start = b->len;
    bool gap = false;
    for (size_t i = 0; i < bytes.len; i++) {
        if (is_blank(bytes.data[i])) {
            gap = b->len > start;
            continue;
        }
        if (gap) {
            put_char(b, ' ');
            gap = false;
        }
        put_char(b, bytes.data[i]);
    }
    return since(b, start);
}

/* ---- hashing ---- */

static bool put_sha256(rtc_signer *s, rtc_buffer *b, rtc_bytes data, span *hex)
{
    unsigned char digest[DIGEST_LEN];
    unsigned int len = 0;
    if (EVP_DigestInit_ex2(s->digest, s->sha256, NULL) != 1 || EVP_DigestUpdate(s->digest, data.data, data.len) != 1 ||
        EVP_DigestFinal_ex(s->digest, digest, &len) != 1) {
        return false;
    }
    size_t start = b->len;
    put_hex(b, digest, len);
    *hex = since(b, start);
    return true;
}

static bool hmac_finish(EVP_MAC_CTX *ctx, rtc_bytes data, unsigned char digest[DIGEST_LEN])
{
    size_t len = 0;
    return EVP_MAC_update(ctx, (const unsigned char *)data.data, data.len) == 1 &&
           EVP_MAC_final(ctx, digest, &len, DIGEST_LEN) == 1;
}

static bool hmac_key(EVP_MAC_CTX *ctx, const unsigned char *key, size_t len)
{
    char digest_name[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name, 0),
                           OSSL_PARAM_construct_end()};
    return EVP_MAC_init(ctx, key, len, params) == 1;
}

/* Leaves the signing key of `day` in s->signing: HMAC over day, region, service and "request" in turn, starting
 * from the secret's own bytes (no prefix, not decoded). The key changes once a day only, so it is kept. */
static bool use_day_key(rtc_signer *s, const char *day)
{
    if (memcmp(s->day, day, DAY_LEN) == 0) {
        return true;
    }
    s->day[0] = 0;
    const rtc_bytes steps[] = {{day, DAY_LEN}, s->credentials.region, s->credentials.service, {"request", 7}};
    unsigned char key[DIGEST_LEN];
    const unsigned char *from = (const unsigned char *)s->credentials.secret_key.data;
    size_t from_len = s->credentials.secret_key.len;
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof steps / sizeof steps[0]; i++) {
        ok = hmac_key(s->chain, from, from_len) && hmac_finish(s->chain, steps[i], key);
        from = key;
        from_len = sizeof key;
    }
    ok = ok && hmac_key(s->signing, key, sizeof key);
    OPENSSL_cleanse(key, sizeof key);
    if (ok) {
        memcpy(s->day, day, DAY_LEN);
    }
    return ok;
}

static bool put_signature(rtc_signer *s, rtc_buffer *b, parts *p)
{
    unsigned char digest[DIGEST_LEN];
    /* No key given to EVP_MAC_init: it starts anew with the key that the context holds. */
    if (!use_day_key(s, b->data + p->date.at) || EVP_MAC_init(s->signing, NULL, 0, NULL) != 1 ||
        !hmac_finish(s->signing, view(b, p->to_sign), digest)) {
        return false;
    }
    size_t start = b->len;
    put_hex(b, digest, sizeof digest);
    p->signature = since(b, start);
    return true;
}

/* ---- the parts of a request ---- */

/* The port is left out where it is the scheme's own, as clients do in Host. */
static rtc_bytes without_default_port(rtc_bytes host)
{
    static const char *const ports[] = {":443", ":80"};
    for (size_t i = 0; i < 2; i++) {
        size_t len = strlen(ports[i]);
        if (host.len > len && memcmp(host.data + host.len - len, ports[i], len) == 0) {
            host.len -= len;
            break;
        }
    }
    return host;
}

static bool is_host(rtc_bytes host)
{
    for (size_t i = 0; i < host.len; i++) {
        unsigned char c = (unsigned char)host.data[i];
        if (c <= 0x20 || c >= 0x7f || strchr("/?#@\\\"<>", c) != NULL) {
            return false;
        }
    }
    return host.len > 0;
}

static rtc_sign_status check_request(const rtc_sign_request *r, rtc_sign_problem *problem)
{
    if (!rtc_is_token(r->method.data, r->method.len)) {
        return refuse(problem, "method", "method must be an HTTP method such as \"POST\"");
    }
    if (!is_host(r->host)) {
        return refuse(problem, "host",
                      "host must be a host name, with a port if need be, such as "
                      "\"rtc.volcengineapi.com\": no scheme, no path, no white space");
    }
    if (r->path.len > 0 && r->path.data[0] != '/') {
        return refuse(problem, "path", "path must start with \"/\"");
    }
    if (r->time < 0 || r->time > TIME_MAX) {
        return refuse(problem, "time", "time must be Unix seconds, from 0 to %lld", (long long)TIME_MAX);
    }
    if (r->query_count > RTC_SIGN_MAX_PAIRS) {
        return refuse(problem, "query", "query has %zu pairs; at most %d are taken", r->query_count,
                      RTC_SIGN_MAX_PAIRS);
    }
    if (r->header_count > RTC_SIGN_MAX_PAIRS) {
        return refuse(problem, "headers", "headers has %zu entries; at most %d are taken", r->header_count,
                      RTC_SIGN_MAX_PAIRS);
    }
    for (size_t i = 0; i < r->query_count; i++) {
        if (r->query[i].name.len == 0) {
            return refuse(problem, "query", "query[%zu] has an empty name", i + 1);
        }
    }
    return RTC_SIGN_OK;
}

static bool put_date(rtc_buffer *b, int64_t seconds, span *date)
{
    time_t when = (time_t)seconds;
    struct tm utc;
    char formatted[DATE_LEN + 1];
    if (gmtime_r(&when, &utc) == NULL || strftime(formatted, sizeof formatted, "%Y%m%dT%H%M%SZ", &utc) != DATE_LEN) {
        return false;
    }
    size_t start = b->len;
    put(b, formatted, DATE_LEN);
    *date = since(b, start);
    return true;
}

static span put_copy(rtc_buffer *b, rtc_bytes bytes)
{
    size_t start = b->len;
    put_bytes(b, bytes);
    return since(b, start);
}

static entry make_entry(rtc_buffer *b, rtc_bytes name, rtc_bytes value)
{
    entry e;
    e.name = put_copy(b, name);
    e.lower = put_lower(b, name);
    e.value = put_normalised(b, value);
    return e;
}

static const entry *find_entry(const rtc_buffer *b, const entry *entries, size_t count, rtc_bytes lower)
{
    for (size_t i = 0; i < count; i++) {
        if (equals(view(b, entries[i].lower), lower)) {
            return &entries[i];
        }
    }
    return NULL;
}

/* Adds the caller's headers to the `own` entries that the signer made. One of those may be given too, if it says
 * the same: a caller that prints or stores requests has it at hand. */
static rtc_sign_status add_headers(rtc_buffer *b, const rtc_sign_request *r, entry *entries, size_t own, size_t *count,
                                   rtc_sign_problem *problem)
{
    *count = own;
    for (size_t i = 0; i < r->header_count; i++) {
        const rtc_pair *given = &r->headers[i];
        if (!rtc_is_token(given->name.data, given->name.len)) {
            return refuse(problem, "headers", "headers[%zu] has a name that is no HTTP header name", i + 1);
        }
        int len = shown(given->name);
        if (!rtc_is_field_value(given->value.data, given->value.len)) {
            return refuse(problem, "headers",
                          "headers[%zu] (%.*s) has a control character in its value, such as CR, LF or NUL", i + 1, len,
                          given->name.data);
        }
        entry e = make_entry(b, given->name, given->value);
        if (b->failed) {
            return RTC_SIGN_NO_MEMORY;
        }
        rtc_bytes lower = view(b, e.lower);
        if (equals(lower, text("authorization"))) {
            return refuse(problem, "headers", "headers must not hold Authorization: the signer makes it");
        }
        rtc_bytes value = view(b, e.value);
        if (equals(lower, text("host"))) {
            value = without_default_port(value);
        }
        const entry *same = find_entry(b, entries, *count, lower);
        if (same == NULL) {
            entries[(*count)++] = e;
        } else if (same >= entries + own) {
            return refuse(problem, "headers", "headers holds %.*s twice", len, given->name.data);
        } else if (!equals(view(b, same->value), value)) {
            return refuse(problem, "headers",
                          "headers holds a %.*s that differs from what is signed; leave it out: the signer makes it "
                          "from host, time, body and session_token",
                          len, given->name.data);
        }
    }
    return RTC_SIGN_OK;
}

static void sort_by_name(const rtc_buffer *b, const entry **chosen, size_t count)
{
    /* An insertion sort: there are five or so, and qsort could not be given the buffer. */
    for (size_t i = 1; i < count; i++) {
        const entry *e = chosen[i];
        size_t at = i;
        while (at > 0 && compare_bytes(view(b, chosen[at - 1]->lower), view(b, e->lower)) > 0) {
            chosen[at] = chosen[at - 1];
            at--;
        }
        chosen[at] = e;
    }
}

/* Which headers are signed, and in which order. */
static rtc_sign_status choose_headers(const rtc_buffer *b, const rtc_sign_request *r, const entry *entries,
                                      size_t count, const entry **chosen, size_t *chosen_count,
                                      rtc_sign_problem *problem)
{
    *chosen_count = 0;
    if (r->signed_headers == NULL) {
        for (size_t i = 0; i < count; i++) {
            chosen[i] = &entries[i];
        }
        *chosen_count = count;
        sort_by_name(b, chosen, count);
        return RTC_SIGN_OK;
    }
    bool has_date = false;
    for (size_t i = 0; i < r->signed_header_count; i++) {
        rtc_bytes name = r->signed_headers[i];
        const entry *e = find_entry(b, entries, count, name);
        if (e == NULL) {
            return refuse(problem, "signed_headers",
                          "signed_headers names \"%.*s\", which is not among the headers (names are in lower case)",
                          shown(name), name.len > 0 ? name.data : "");
        }
        for (size_t k = 0; k < *chosen_count; k++) {
            if (chosen[k] == e) {
                return refuse(problem, "signed_headers", "signed_headers names \"%.*s\" twice", shown(name), name.data);
            }
        }
        chosen[(*chosen_count)++] = e;
        has_date = has_date || equals(name, text("x-date"));
    }
    if (!has_date) {
        return refuse(problem, "signed_headers",
                      "signed_headers must name \"x-date\": the service refuses a signature without it");
    }
    return RTC_SIGN_OK;
}

static span put_query(rtc_buffer *b, const rtc_sign_request *r)
{
    rtc_pair sorted[RTC_SIGN_MAX_PAIRS];
    size_t start = b->len;
    if (r->query_count > 0) {
        memcpy(sorted, r->query, r->query_count * sizeof sorted[0]);
        qsort(sorted, r->query_count, sizeof sorted[0], compare_pairs);
    }
    for (size_t i = 0; i < r->query_count; i++) {
        if (i > 0) {
            put_char(b, '&');
        }
        put_encoded(b, sorted[i].name, 0);
        put_char(b, '=');
        put_encoded(b, sorted[i].value, 0);
    }
    return since(b, start);
}

static void put_method(rtc_buffer *b, rtc_bytes method)
{
    for (size_t i = 0; i < method.len; i++) {
        char c = method.data[i];
        put_char(b, c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c);
    }
}

static void put_canonical_request(rtc_buffer *b, const rtc_sign_request *r, const entry *const *chosen, size_t count,
                                  parts *p)
{
    size_t start = b->len;
    put_method(b, r->method);
    put_char(b, '\n');
    put_encoded(b, r->path.len > 0 ? r->path : text("/"), '/');
    put_char(b, '\n');
    p->query = put_query(b, r);
    put_char(b, '\n');
    for (size_t i = 0; i < count; i++) {
        put_span(b, chosen[i]->lower);
        put_char(b, ':');
        put_span(b, chosen[i]->value);
        put_char(b, '\n');
    }
    put_char(b, '\n');
    size_t names = b->len;
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            put_char(b, ';');
        }
        put_span(b, chosen[i]->lower);
    }
    p->signed_headers = since(b, names);
    put_char(b, '\n');
    put_span(b, p->body_hash);
    p->canonical = since(b, start);
}

static void put_scope(const rtc_signer *s, rtc_buffer *b, parts *p)
{
    size_t start = b->len;
    put_span(b, (span){p->date.at, DAY_LEN});
    put_char(b, '/');
    put_bytes(b, s->credentials.region);
    put_char(b, '/');
    put_bytes(b, s->credentials.service);
    put_text(b, "/request");
    p->scope = since(b, start);
}

static bool put_string_to_sign(rtc_signer *s, rtc_buffer *b, parts *p)
{
    span hash;
    if (!put_sha256(s, b, view(b, p->canonical), &hash)) {
        return false;
    }
    size_t start = b->len;
    put_text(b, ALGORITHM "\n");
    put_span(b, p->date);
    put_char(b, '\n');
    put_span(b, p->scope);
    put_char(b, '\n');
    put_span(b, hash);
    p->to_sign = since(b, start);
    return true;
}

static void put_authorization(const rtc_signer *s, rtc_buffer *b, parts *p)
{
    size_t start = b->len;
    put_text(b, ALGORITHM " Credential=");
    put_bytes(b, s->credentials.access_key);
    put_char(b, '/');
    put_span(b, p->scope);
    put_text(b, ", SignedHeaders=");
    put_span(b, p->signed_headers);
    put_text(b, ", Signature=");
    put_span(b, p->signature);
    p->authorization = since(b, start);
}

static void fill_result(const entry *entries, size_t count, const parts *p, rtc_signed *result)
{
    const rtc_buffer *b = &result->memory;
    for (size_t i = 0; i < count; i++) {
        result->headers[i] = (rtc_pair){view(b, entries[i].name), view(b, entries[i].value)};
    }
    result->headers[count] = (rtc_pair){text("Authorization"), view(b, p->authorization)};
    result->header_count = count + 1;
    result->query = view(b, p->query);
    result->canonical_request = view(b, p->canonical);
    result->string_to_sign = view(b, p->to_sign);
    result->signed_headers = view(b, p->signed_headers);
    result->credential_scope = view(b, p->scope);
    result->signature = view(b, p->signature);
}

/* The headers that the signer makes itself. */
static size_t add_own_headers(const rtc_signer *s, rtc_buffer *b, const rtc_sign_request *r, const parts *p,
                              entry *entries)
{
    size_t count = 0;
    entries[count++] = make_entry(b, text("Host"), without_default_port(r->host));
    entries[count] = make_entry(b, text("X-Date"), text(""));
    entries[count++].value = p->date;
    entries[count] = make_entry(b, text("X-Content-Sha256"), text(""));
    entries[count++].value = p->body_hash;
    if (s->credentials.session_token.len > 0) {
        entries[count++] = make_entry(b, text("X-Security-Token"), s->credentials.session_token);
    }
    return count;
}

/* From the chosen headers to the Authorization. */
static rtc_sign_status put_signed_parts(rtc_signer *s, rtc_buffer *b, const rtc_sign_request *r,
                                        const entry *const *chosen, size_t count, parts *p)
{
    put_canonical_request(b, r, chosen, count, p);
    put_scope(s, b, p);
    if (b->failed) {
        return RTC_SIGN_NO_MEMORY;
    }
    if (!put_string_to_sign(s, b, p)) {
        return RTC_SIGN_CRYPTO;
    }
    if (b->failed) {
        return RTC_SIGN_NO_MEMORY;
    }
    if (!put_signature(s, b, p)) {
        return RTC_SIGN_CRYPTO;
    }
    put_authorization(s, b, p);
    return b->failed ? RTC_SIGN_NO_MEMORY : RTC_SIGN_OK;
}

rtc_sign_status rtc_signer_sign(rtc_signer *s, const rtc_sign_request *r, rtc_signed *result, rtc_sign_problem *problem)
{
    rtc_buffer *b = &result->memory;
    parts p = {0};
    entry entries[MAX_ENTRIES];
    const entry *chosen[MAX_ENTRIES];
    size_t count = 0;
    size_t chosen_count = 0;
    b->len = 0;
    b->failed = false;

    rtc_sign_status status = check_request(r, problem);
    if (status != RTC_SIGN_OK) {
        return status;
    }
    if (!put_date(b, r->time, &p.date) || !put_sha256(s, b, r->body, &p.body_hash)) {
        return RTC_SIGN_CRYPTO;
    }
    size_t own = add_own_headers(s, b, r, &p, entries);
    if (b->failed) {
        return RTC_SIGN_NO_MEMORY;
    }
    status = add_headers(b, r, entries, own, &count, problem);
    if (status == RTC_SIGN_OK) {
        status = choose_headers(b, r, entries, count, chosen, &chosen_count, problem);
    }
    if (status == RTC_SIGN_OK) {
        status = put_signed_parts(s, b, r, chosen, chosen_count, &p);
    }
    if (status == RTC_SIGN_OK) {
        fill_result(entries, count, &p, result);
    }
    return status;
}

void rtc_signed_free(rtc_signed *result)
{
    buffer_free(&result->memory);
}

/* ---- life ---- */

static rtc_bytes keep(rtc_signer *s, rtc_bytes from)
{
    rtc_bytes kept = {s->secrets + s->secret_len, from.len};
    if (from.len > 0) {
        memcpy(s->secrets + s->secret_len, from.data, from.len);
        s->secret_len += from.len;
    }
    return kept;
}

static bool make_contexts(rtc_signer *s)
{
    /* Fetched once: the implicit fetch of each one-shot call costs more than the hash itself. */
    s->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    s->digest = EVP_MD_CTX_new();
    s->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (s->sha256 == NULL || s->digest == NULL || s->hmac == NULL) {
        return false;
    }
    s->chain = EVP_MAC_CTX_new(s->hmac);
    s->signing = EVP_MAC_CTX_new(s->hmac);
    return s->chain != NULL && s->signing != NULL;
}

rtc_signer *rtc_signer_new(const rtc_credentials *c)
{
    const rtc_bytes all[] = {c->access_key, c->secret_key, c->session_token, c->region, c->service};
    size_t total = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i].len > SIZE_MAX / 8) {
            return NULL;
        }
        total += all[i].len;
    }
    rtc_signer *s = calloc(1, sizeof *s + total);
    if (s == NULL) {
        return NULL;
    }
    s->credentials.access_key = keep(s, c->access_key);
    s->credentials.secret_key = keep(s, c->secret_key);
    s->credentials.session_token = keep(s, c->session_token);
    s->credentials.region = keep(s, c->region);
    s->credentials.service = keep(s, c->service);
    if (!make_contexts(s)) {
        rtc_signer_free(s);
        return NULL;
    }
    return s;
}

void rtc_signer_free(rtc_signer *s)
{
    if (s == NULL) {
        return;
    }
    EVP_MAC_CTX_free(s->signing);
    EVP_MAC_CTX_free(s->chain);
    EVP_MAC_free(s->hmac);
    EVP_MD_CTX_free(s->digest);
    EVP_MD_free(s->sha256);
    OPENSSL_cleanse(s, sizeof *s + s->secret_len);
    free(s);
}
