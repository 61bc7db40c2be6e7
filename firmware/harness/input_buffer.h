/* The `db` commands: filling the input buffer from the host, and showing it. */
#ifndef LABD_INPUT_BUFFER_H
#define LABD_INPUT_BUFFER_H

#include "benchmark.h"
#include "text.h"

/* Answers `db`, whose arguments are given. */
void input_buffer_command(text arguments, const benchmark *bench);

/* True when the buffer holds exactly one input; otherwise says to the host what it holds. */
bool input_buffer_ready(const benchmark *bench);

#endif
