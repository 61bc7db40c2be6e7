/* The `db` commands: fill the input buffer from the host, and show it. */
#ifndef LABD_INPUT_BUFFER_H
#define LABD_INPUT_BUFFER_H

#include "benchmark.h"
#include "text.h"

/* Replies to `db` with the given arguments. */
void input_buffer_command(text arguments, const benchmark *bench);

/* Returns whether the buffer holds exactly one input; if not, sends its size to the host. */
bool input_buffer_ready(const benchmark *bench);

#endif
