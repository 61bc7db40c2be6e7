/* Inputs that are little-endian float32 (ad01), quantised here. */
#include "dut.h"
#include "float_input.h"

const size_t dut_input_element_size = sizeof(float);

float float_input[DUT_BUFFER_SIZE / sizeof(float)];

/* Returns the nearest step of the tensor, ties away from zero; NaN becomes the least. */
static int8_t quantise(float value) {
    const nn_tensor *input = &dut_model.input;
    const float steps = value / input->scale;
    if (!(steps > (float)(INT8_MIN - input->zero_point))) {
        return INT8_MIN;
    }
    if (steps >= (float)(INT8_MAX - input->zero_point)) {
        return INT8_MAX;
    }
    const int32_t rounded = (int32_t)(steps < 0.0F ? steps - 0.5F : steps + 0.5F);
    return (int8_t)(rounded + input->zero_point);
}

void dut_load_input(const uint8_t *bytes) {
    __builtin_memcpy(float_input, bytes, dut_model.input.size * sizeof(float));
    for (size_t i = 0; i < dut_model.input.size; i++) {
        dut_model.input.data[i] = quantise(float_input[i]);
    }
}
