/* System clock: 16 MHz from HSI16, or 120 MHz from the PLL in voltage range 1 boost. */
#ifndef LABD_CLOCK_H
#define LABD_CLOCK_H

#ifndef BOARD_CLOCK_MHZ
#error "define BOARD_CLOCK_MHZ as 16 or 120"
#endif
#if BOARD_CLOCK_MHZ != 16 && BOARD_CLOCK_MHZ != 120
#error "BOARD_CLOCK_MHZ must be 16 or 120"
#endif

/* HSI16 runs in both cases: it clocks the UART, so the baud rate does not depend on the core. */
enum { CLOCK_HSI16_HZ = 16000000 };

/* Starts the clock tree and the clock of the power controller. */
void clock_init(void);

#endif
