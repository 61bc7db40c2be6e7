/* Inputs that are the quantised tensor itself (kws01: MFCC features). */
#include "dut.h"

const size_t dut_input_element_size = 1;

void dut_load_input(const uint8_t *bytes) {
    for (size_t i = 0; i < dut_model.input.size; i++) {
        dut_model.input.data[i] = (int8_t)bytes[i];
    }
}
