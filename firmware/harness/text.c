#include "text.h"

enum { SEPARATOR = ' ' };

text text_token(text *rest) {
    while (rest->length > 0 && *rest->start == SEPARATOR) {
        rest->start++;
        rest->length--;
    }
    text token = {rest->start, 0};
    while (token.length < rest->length && token.start[token.length] != SEPARATOR) {
        token.length++;
    }
    rest->start += token.length;
    rest->length -= token.length;
    return token;
}

bool text_equals(text token, const char *literal) {
    for (size_t i = 0; i < token.length; i++) {
        /* a literal that ends early differs here: its NUL never equals a received NUL */
        if (literal[i] == '\0' || literal[i] != token.start[i]) {
            return false;
        }
    }
    return literal[token.length] == '\0';
}

number_status text_number(text token, uint32_t *value) {
    uint64_t number = 0;
    if (token.length == 0) {
        return NUMBER_MALFORMED;
    }
    for (size_t i = 0; i < token.length; i++) {
        const char c = token.start[i];
        if (c < '0' || c > '9') {
            return NUMBER_MALFORMED;
        }
        if (number <= UINT32_MAX) { /* too large stays too large; the rest must be digits */
            number = number * 10 + (uint64_t)(c - '0');
        }
    }
    *value = (uint32_t)number;
    return number > UINT32_MAX ? NUMBER_TOO_LARGE : NUMBER_VALID;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int text_hex_byte(const char digits[2]) {
    const int high = hex_digit(digits[0]), low = hex_digit(digits[1]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}
