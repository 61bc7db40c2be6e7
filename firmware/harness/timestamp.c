#include "timestamp.h"

#include "board.h"
#include "reply.h"

#ifndef HARNESS_ENERGY
#error "define HARNESS_ENERGY as 0 (performance build) or 1 (energy build)"
#endif

#if HARNESS_ENERGY

void timestamp_announce(void) {
    reply_line("m-timestamp-mode-energy");
}

void timestamp(void) {
    board_pulse_timestamp();
}

#else

void timestamp_announce(void) {
    reply_line("m-timestamp-mode-performance");
}

void timestamp(void) {
    const uint32_t now = board_microseconds();
    reply_text("m-lap-us-");
    reply_unsigned(now);
    reply_end();
}

#endif
