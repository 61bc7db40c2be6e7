/* Inputs that are pixels 0..255 (ic01, vww01, digits01); the tensor has the pixel minus 128. */
#include "dut.h"

const size_t dut_input_element_size = 1;

void dut_load_input(const uint8_t *bytes) {
    for (size_t i = 0; i < dut_model.input.size; i++) {
        dut_model.input.data[i] = (int8_t)(bytes[i] - 128);
    }
}
