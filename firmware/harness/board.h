/* What the harness asks of a board. A port implements these functions. */
#ifndef LABD_BOARD_H
#define LABD_BOARD_H

#include <stdbool.h>
#include <stdint.h>

enum { BOARD_RX_DAMAGED = -1 };

/* The answer to the `name` command. */
extern const char board_name[];

/* Clocks, pins, UART and counter, from whatever reset leaves. */
void board_init(void);

/* The next byte from the host, 0..255, waiting for it at low power; BOARD_RX_DAMAGED where the
 * UART lost a byte or received a broken one. */
int board_getc(void);

/* Forgets what was received so far. */
void board_discard_input(void);

/* Queues a byte for the host. */
void board_putc(char c);

/* Waits until the last queued byte has left the wire. */
void board_flush(void);

/* Microseconds since boot, modulo 2^32. */
uint32_t board_microseconds(void);

/* One falling pulse on the timestamp pin, which idles high; the falling edge is the event. */
void board_pulse_timestamp(void);

/* Drives the processing pin, which is high while the timed inferences run. */
void board_set_processing(bool active);

#endif
