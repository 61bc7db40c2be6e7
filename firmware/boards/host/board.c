/* A board for tests: a process whose standard input and output are the serial line.
 *
 * Pin changes are bytes above 0x7F in the output, among the text where they happened: 0x80 and
 * 0x81 are the timestamp pin low and high, 0x82 and 0x83 the processing pin. In the input 0xFF is
 * a damaged byte. The end of the input ends the process. */
#include "board.h"

#include <stdio.h>
#include <stdlib.h>

#ifndef BOARD_FIRST_MICROSECOND
#define BOARD_FIRST_MICROSECOND 1000U
#endif

enum { TIMESTAMP_LOW = 0x80, PROCESSING_LOW = 0x82, DAMAGED = 0xFF, MICROSECONDS_A_READING = 10 };

const char board_name[] = "labd-host";

void board_init(void) {
}

int board_getc(void) {
    const int c = getchar();
    if (c == EOF) {
        exit(EXIT_SUCCESS);
    }
    return c == DAMAGED ? BOARD_RX_DAMAGED : c;
}

void board_discard_input(void) {
}

void board_putc(char c) {
    putchar(c);
}

void board_flush(void) {
    fflush(stdout);
}

uint32_t board_microseconds(void) {
    static uint32_t now = BOARD_FIRST_MICROSECOND;
    now += MICROSECONDS_A_READING;
    return now;
}

void board_pulse_timestamp(void) {
    putchar(TIMESTAMP_LOW);
    putchar(TIMESTAMP_LOW + 1);
}

void board_set_processing(bool active) {
    putchar(PROCESSING_LOW + (active ? 1 : 0));
}
