/* The `infer` and `results` commands. */
#ifndef LABD_INFER_H
#define LABD_INFER_H

#include "benchmark.h"
#include "text.h"

void infer_command(text arguments, const benchmark *bench);
void infer_results_command(text arguments, const benchmark *bench);

#endif
