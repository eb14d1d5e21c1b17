/* What may stand in an HTTP header, RFC 9110 section 5: one rule for what is signed and for what is sent. */
#ifndef RTC_HEADER_SYNTAX_H
#define RTC_HEADER_SYNTAX_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Bytes of an answer's header lines in all, those of interim (1xx) answers and trailers too: a server can't send
 * headers for ever. */
enum { RTC_MAX_HEADERS = 65536 };

static inline bool rtc_is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* A method or a header's name. */
static inline bool rtc_is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!rtc_is_token_char((unsigned char)text[i])) {
            return false;
        }
    }
    return len > 0;
}

/* No control characters but tab: CR, LF and NUL would let a value add headers of its own, or end it early. */
static inline bool rtc_is_field_value(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

#endif
