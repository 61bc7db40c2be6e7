/* Interface of the harness to a benchmark. */
#ifndef LABD_BENCHMARK_H
#define LABD_BENCHMARK_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *model; /* reply to the `profile` command */
    uint8_t *buffer;   /* filled by the `db` commands */
    size_t buffer_size;
    size_t element_size;  /* bytes per input element, as sent */
    size_t element_count; /* input elements per inference */
    void (*load)(const uint8_t *bytes);
    void (*infer)(void);
    size_t result_count;
    double (*result)(size_t index); /* of the last inference */
} benchmark;

#endif
