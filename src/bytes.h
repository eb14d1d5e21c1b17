/* Bytes that someone else owns, and pairs of them. */
#ifndef RTC_BYTES_H
#define RTC_BYTES_H

#include <stddef.h>

typedef struct rtc_bytes {
    const char *data; /* not NUL-terminated; may be NULL when len is 0 */
    size_t len;
} rtc_bytes;

/* A header, or what a query consists of. */
typedef struct rtc_pair {
    rtc_bytes name;
    rtc_bytes value;
} rtc_pair;

#endif
