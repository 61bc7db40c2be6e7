#include "dot.h"
#include "fixed_point.h"
#include "nn.h"

static int16_t *widen_padding(int16_t *column, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        column[i] = 0; /* padding has the value of the zero point */
    }
    return column + count;
}

/* Gathers the window of output position (y, x), in the order of the weights. */
static void gather(const nn_conv_params *p, const int8_t *in, int32_t y, int32_t x,
                   int16_t *column) {
    const int32_t channels = p->in.channels;
    int16_t *end = column;
    for (int32_t ky = 0; ky < p->window.height; ky++) {
        const int32_t in_y = y * p->window.stride_y - p->window.pad_top + ky;
        for (int32_t kx = 0; kx < p->window.width; kx++) {
            const int32_t in_x = x * p->window.stride_x - p->window.pad_left + kx;
            if (in_y < 0 || in_y >= p->in.height || in_x < 0 || in_x >= p->in.width) {
                end = widen_padding(end, channels);
            } else {
                const int8_t *pixel = in + (in_y * p->in.width + in_x) * channels;
                end = dot_widen(end, pixel, channels, p->in_zero_point);
            }
        }
    }
    dot_prepare(column, (int32_t)(end - column));
}

static int8_t finish(const nn_conv_params *p, int32_t channel, int32_t sum) {
    return fixed_clamp(fixed_scale(sum, p->factors[channel]) + p->out_zero_point, p->range);
}

/* Computes every output channel of one position. */
static void multiply(const nn_conv_params *p, const int16_t *column, int8_t *out) {
    const int32_t count = p->window.height * p->window.width * p->in.channels;
    const int8_t *row = p->weights;
    int32_t channel = 0;
    for (; channel + 2 <= p->out.channels; channel += 2, row += 2 * count) {
        int32_t sums[2] = {p->bias[channel], p->bias[channel + 1]};
        dot_two_rows(column, row, count, sums);
        out[channel] = finish(p, channel, sums[0]);
        out[channel + 1] = finish(p, channel + 1, sums[1]);
    }
    if (channel < p->out.channels) {
        out[channel] = finish(p, channel, dot_row(column, row, count, p->bias[channel]));
    }
}

void nn_conv(const nn_conv_params *p, const int8_t *in, int8_t *out, int16_t *column) {
    for (int32_t y = 0; y < p->out.height; y++) {
        for (int32_t x = 0; x < p->out.width; x++) {
            gather(p, in, y, x, column);
            multiply(p, column, out);
            out += p->out.channels;
        }
    }
}
