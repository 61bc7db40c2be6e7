/* Results: the output tensor as real numbers (classifiers). */
#include "dut.h"

size_t dut_result_count(void) {
    return dut_model.output.size;
}

/* Exact in double: 8 bits times the 24 bits of the scale. */
double dut_result(size_t index) {
    const nn_tensor *output = &dut_model.output;
    return (double)(output->data[index] - output->zero_point) * (double)output->scale;
}
