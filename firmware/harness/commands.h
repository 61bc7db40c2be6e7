/* The command set, all but framing. */
#ifndef LABD_COMMANDS_H
#define LABD_COMMANDS_H

#include "benchmark.h"
#include "text.h"

/* Answers one command line; the caller sends `m-ready`. */
void command_execute(text line, const benchmark *bench);

#endif
