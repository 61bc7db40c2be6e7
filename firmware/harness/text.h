/* A part of the command line, not terminated by a NUL. */
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
    NUMBER_MALFORMED, /* a sign, a letter, or empty: not decimal digits */
    NUMBER_TOO_LARGE, /* decimal digits of a number above 32 bits */
} number_status;

/* Removes the next token from *rest and returns it; empty at the end. Spaces separate tokens. */
text text_token(text *rest);

bool text_equals(text token, const char *literal);
number_status text_number(text token, uint32_t *value);

/* Returns the byte of two hex digits, or -1. */
int text_hex_byte(const char digits[2]);

#endif
