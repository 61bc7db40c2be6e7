#include "reply.h"

#include <stdbool.h>

#include "board.h"

void reply_text(const char *literal) {
    while (*literal != '\0') {
        board_putc(*literal++);
    }
}

void reply_unsigned(uint32_t value) {
    char digits[10];
    int count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0) {
        board_putc(digits[--count]);
    }
}

void reply_hex(uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    board_putc(digits[byte >> 4]);
    board_putc(digits[byte & 0xF]);
}

void reply_echo(text received) {
    for (size_t i = 0; i < received.length; i++) {
        const char c = received.start[i];
        board_putc(c >= ' ' && c <= '~' ? c : '?');
    }
}

/* Returns the nearest integer, ties to even; |value| < 2^31. */
static int32_t nearest(double value) {
    const int32_t whole = (int32_t)value; /* towards zero */
    const double rest = value < 0 ? whole - value : value - whole;
    const bool away = rest > 0.5 || (rest == 0.5 && whole % 2 != 0);
    if (!away) {
        return whole;
    }
    return value < 0 ? whole - 1 : whole + 1;
}

void reply_thousandths(double value) {
    const double limit = 2e6;
    if (!(value >= -limit && value <= limit)) {
        reply_text("nan");
        return;
    }
    const int32_t thousandths = nearest(value * 1000.0);
    const uint32_t magnitude = (uint32_t)(thousandths < 0 ? -thousandths : thousandths);
    if (thousandths < 0) {
        board_putc('-');
    }
    reply_unsigned(magnitude / 1000);
    board_putc('.');
    board_putc((char)('0' + magnitude / 100 % 10));
    board_putc((char)('0' + magnitude / 10 % 10));
    board_putc((char)('0' + magnitude % 10));
}

void reply_end(void) {
    reply_text("\r\n");
    board_flush();
}

void reply_line(const char *literal) {
    reply_text(literal);
    reply_end();
}

void reply_error(const char *reason) {
    reply_text("e-[");
    reply_text(reason);
    reply_line("]");
}
