#include "fixed_point.h"
#include "nn.h"

/* The part [from, to) of a window axis that lies inside the input. */
typedef struct {
    int32_t from, to;
} span;

static span inside(int32_t start, int32_t window, int32_t size) {
    const int32_t from = start < 0 ? -start : 0;
    const int32_t to = size - start < window ? size - start : window;
    return (span){from, to};
}

/* Computes every channel of the output position whose window starts at input (in_y, in_x). */
static void position(const nn_conv_params *p, const int8_t *in, int32_t in_y, int32_t in_x,
                     int8_t *out) {
    const int32_t channels = p->out.channels;
    const span rows = inside(in_y, p->window.height, p->in.height);
    const span columns = inside(in_x, p->window.width, p->in.width);
    for (int32_t c = 0; c < channels; c++) {
        int32_t sum = p->bias[c];
        for (int32_t ky = rows.from; ky < rows.to; ky++) {
            const int32_t first = (in_y + ky) * p->in.width + in_x + columns.from;
            const int8_t *x = in + first * channels + c;
            const int8_t *w = p->weights + (ky * p->window.width + columns.from) * channels + c;
            for (int32_t kx = columns.from; kx < columns.to; kx++) {
                sum += *w * (*x - p->in_zero_point);
                x += channels;
                w += channels;
            }
        }
        out[c] = fixed_clamp(fixed_scale(sum, p->factors[c]) + p->out_zero_point, p->range);
    }
}

void nn_depthwise_conv(const nn_conv_params *p, const int8_t *in, int8_t *out) {
    for (int32_t y = 0; y < p->out.height; y++) {
        const int32_t in_y = y * p->window.stride_y - p->window.pad_top;
        for (int32_t x = 0; x < p->out.width; x++) {
            const int32_t in_x = x * p->window.stride_x - p->window.pad_left;
            position(p, in, in_y, in_x, out);
            out += p->out.channels;
        }
    }
}
