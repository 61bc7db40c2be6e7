/* One result: the mean squared error of an autoencoder's output against its input (ad01). */
#include "dut.h"
#include "float_input.h"

size_t dut_result_count(void) {
    return 1;
}

double dut_result(size_t index) {
    (void)index;
    const nn_tensor *output = &dut_model.output;
    float sum = 0.0F;
    for (size_t i = 0; i < output->size; i++) {
        const float restored = (float)(output->data[i] - output->zero_point) * output->scale;
        const float difference = restored - float_input[i];
        sum += difference * difference;
    }
    return (double)(sum / (float)output->size);
}
