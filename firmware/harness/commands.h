/* The command set, without framing. */
#ifndef LABD_COMMANDS_H
#define LABD_COMMANDS_H

#include "benchmark.h"
#include "text.h"

/* Replies to one command line; the caller sends `m-ready`. */
void command_execute(text line, const benchmark *bench);

#endif
