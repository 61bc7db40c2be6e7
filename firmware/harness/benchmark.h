/* What the harness asks of the benchmark it runs. */
#ifndef LABD_BENCHMARK_H
#define LABD_BENCHMARK_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *model; /* the answer to the `profile` command */
    uint8_t *buffer;   /* what the `db` commands fill */
    size_t buffer_size;
    size_t element_size;  /* bytes of an input element as sent */
    size_t element_count; /* an inference needs exactly this many */
    void (*load)(const uint8_t *bytes);
    void (*infer)(void);
    size_t result_count;
    double (*result)(size_t index); /* of the last inference */
} benchmark;

#endif
