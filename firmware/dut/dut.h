/* Interface between the harness and one model. A build links one input_*.c, one output_*.c and
 * the generated tables of the model. */
#ifndef LABD_DUT_H
#define LABD_DUT_H

#include <stddef.h>
#include <stdint.h>

#include "nn.h"

/* The generated tables of the model under test. */
extern const nn_model dut_model;

/* Bytes per input element, as the host sends it. */
extern const size_t dut_input_element_size;

/* Converts one input, as the host sent it, into the model's input tensor. */
void dut_load_input(const uint8_t *bytes);

/* The values of `m-results`. */
size_t dut_result_count(void);
double dut_result(size_t index);

#endif
