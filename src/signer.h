/* Volcengine HMAC-SHA256 request signatures ("V4"): bytes and a time in, headers out. No Lua, no I/O.
 *
 * Rules: https://www.volcengine.com/docs/6369/67269 (steps) and the behaviour that the official SDKs
 * share; where these differ, the comment at the code says which one is followed and why. */
#ifndef RTC_SIGNER_H
#define RTC_SIGNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

/* Most query pairs, and most headers, that one request may have. */
enum { RTC_SIGN_MAX_PAIRS = 64 };

typedef struct rtc_credentials {
    rtc_bytes access_key;
    rtc_bytes secret_key;
    rtc_bytes session_token; /* empty: none */
    rtc_bytes region;
    rtc_bytes service;
} rtc_credentials;

typedef struct rtc_sign_request {
    rtc_bytes method;
    rtc_bytes host;
    rtc_bytes path;                  /* not yet percent-encoded; empty: "/" */
    const rtc_pair *query;           /* not yet percent-encoded, any order */
    size_t query_count;              /* at most RTC_SIGN_MAX_PAIRS */
    const rtc_pair *headers;         /* to be sent beside those that the signer makes */
    size_t header_count;             /* at most RTC_SIGN_MAX_PAIRS */
    rtc_bytes body;                  /* the exact bytes to be sent */
    int64_t time;                    /* Unix seconds */
    const rtc_bytes *signed_headers; /* lower-case names in the order wanted; NULL: all, sorted */
    size_t signed_header_count;      /* at most RTC_SIGN_MAX_PAIRS */
} rtc_sign_request;

/* Memory that grows, and that is cleansed before it is freed. */
typedef struct rtc_buffer {
    char *data;
    size_t len;
    size_t cap;
    bool failed; /* an allocation failed */
} rtc_buffer;

/* What a signature consists of: one that starts zeroed may be filled again and again, and is freed by
 * rtc_signed_free. All bytes lie in its own memory and live until it is filled anew. */
typedef struct rtc_signed {
    rtc_buffer memory;
    rtc_pair headers[RTC_SIGN_MAX_PAIRS + 5]; /* all that must be sent, Host and Authorization among them */
    size_t header_count;
    rtc_bytes query; /* encoded and sorted; must go into the URL unchanged */
    rtc_bytes canonical_request;
    rtc_bytes string_to_sign;
    rtc_bytes signed_headers; /* joined by ';' */
    rtc_bytes credential_scope;
    rtc_bytes signature;
} rtc_signed;

typedef enum rtc_sign_status {
    RTC_SIGN_OK,
    RTC_SIGN_BAD_REQUEST, /* the problem says which field and why */
    RTC_SIGN_NO_MEMORY,
    RTC_SIGN_CRYPTO /* OpenSSL failed */
} rtc_sign_status;

typedef struct rtc_sign_problem {
    const char *field; /* a static string: "host", "headers" … */
    char message[240];
} rtc_sign_problem;

typedef struct rtc_signer rtc_signer;

/* A signer with copies of the credentials; NULL when memory or OpenSSL fails. Not for two threads at once. */
rtc_signer *rtc_signer_new(const rtc_credentials *credentials);

/* Cleanses every secret and frees all. NULL is allowed. */
void rtc_signer_free(rtc_signer *signer);

/* Signs one request. Fills *result when it returns RTC_SIGN_OK, and *problem when it returns RTC_SIGN_BAD_REQUEST. The
 * signer and the result stay usable after any failure. */
rtc_sign_status rtc_signer_sign(rtc_signer *signer, const rtc_sign_request *request, rtc_signed *result,
                                rtc_sign_problem *problem);

void rtc_signed_free(rtc_signed *result);

#endif
