/* The DUT side of the MLPerf Tiny serial protocol. Portable: the board comes in by board.h, the
 * benchmark by benchmark.h. HARNESS_ENERGY selects at compile time how timestamps are given. */
#ifndef LABD_HARNESS_H
#define LABD_HARNESS_H

#include <stdnoreturn.h>

#include "benchmark.h"

/* Initialises the board, sends the boot prologue and replies to commands, without end. */
noreturn void harness_run(const benchmark *bench);

#endif
