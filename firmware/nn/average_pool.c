#include "fixed_point.h"
#include "nn.h"

/* Returns the rounded mean of the pixels under the window, without padding. */
static int32_t mean(const nn_average_pool_params *p, const int8_t *in, int32_t in_y, int32_t in_x,
                    int32_t channel) {
    int32_t sum = 0, count = 0;
    for (int32_t y = in_y; y < in_y + p->window.height; y++) {
        for (int32_t x = in_x; x < in_x + p->window.width; x++) {
            if (y < 0 || y >= p->in.height || x < 0 || x >= p->in.width) {
                continue;
            }
            sum += in[(y * p->in.width + x) * p->in.channels + channel];
            count++;
        }
    }
    return (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

void nn_average_pool(const nn_average_pool_params *p, const int8_t *in, int8_t *out) {
    for (int32_t y = 0; y < p->out.height; y++) {
        const int32_t in_y = y * p->window.stride_y - p->window.pad_top;
        for (int32_t x = 0; x < p->out.width; x++) {
            const int32_t in_x = x * p->window.stride_x - p->window.pad_left;
            for (int32_t c = 0; c < p->out.channels; c++) {
                *out++ = fixed_clamp(mean(p, in, in_y, in_x, c), p->range);
            }
        }
    }
}
