#include "dut.h"
#include "harness.h"

#ifndef DUT_BUFFER_SIZE
#error "define DUT_BUFFER_SIZE as the bytes that `db load` may ask for"
#endif

static uint8_t buffer[DUT_BUFFER_SIZE];

static void infer(void) {
    nn_invoke(&dut_model);
}

int main(void) {
    const benchmark bench = {
        .model = dut_model.name,
        .buffer = buffer,
        .buffer_size = sizeof buffer,
        .element_size = dut_input_element_size,
        .element_count = dut_model.input.size,
        .load = dut_load_input,
        .infer = infer,
        .result_count = dut_result_count(),
        .result = dut_result,
    };
    harness_run(&bench);
}
