/* Interface of the harness to a board. A port implements these functions. */
#ifndef LABD_BOARD_H
#define LABD_BOARD_H

#include <stdbool.h>
#include <stdint.h>

enum { BOARD_RX_DAMAGED = -1 };

/* Reply to the `name` command. */
extern const char board_name[];

/* Sets up clocks, pins, UART and counter, from the state after a reset. */
void board_init(void);

/* Waits at low power for the next byte from the host and returns it, 0..255, or BOARD_RX_DAMAGED
 * where the UART lost a byte or received a broken one. */
int board_getc(void);

/* Discards all received bytes. */
void board_discard_input(void);

/* Queues a byte for the host. */
void board_putc(char c);

/* Waits until the last bit of the last queued byte has been sent. */
void board_flush(void);

/* Returns the microseconds since boot, modulo 2^32. */
uint32_t board_microseconds(void);

/* Sends one low pulse on the timestamp pin, which idles high; the falling edge is the event. */
void board_pulse_timestamp(void);

/* Drives the processing pin, which is high while the timed inferences run. */
void board_set_processing(bool active);

#endif
