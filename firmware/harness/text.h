/* Reading what the host sent: a stretch of the command line, not terminated by a NUL. */
#ifndef LABD_TEXT_H
#define LABD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *start;
    size_t length;
} text;

typedef enum {
    NUMBER_VALID,
    NUMBER_MALFORMED, /* anything but decimal digits: a sign, a letter, nothing */
    NUMBER_TOO_LARGE, /* digits, but more than 32 bits hold */
} number_status;

/* Takes the next token off *rest; runs of spaces separate. Empty when there is none. */
text text_token(text *rest);

bool text_equals(text token, const char *literal);
number_status text_number(text token, uint32_t *value);

/* The byte that two hex digits spell, or -1. */
int text_hex_byte(const char digits[2]);

#endif
