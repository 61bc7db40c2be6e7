#include "dot.h"
#include "fixed_point.h"
#include "nn.h"

static int8_t finish(const nn_fully_connected_params *p, int32_t sum) {
    return fixed_clamp(fixed_scale(sum, p->factor) + p->out_zero_point, p->range);
}

void nn_fully_connected(const nn_fully_connected_params *p, const int8_t *in, int8_t *out,
                        int16_t *column) {
    dot_widen(column, in, p->inputs, p->in_zero_point);
    dot_prepare(column, p->inputs);
    const int8_t *row = p->weights;
    int32_t n = 0;
    for (; n + 2 <= p->outputs; n += 2, row += 2 * p->inputs) {
        int32_t sums[2] = {p->bias[n], p->bias[n + 1]};
        dot_two_rows(column, row, p->inputs, sums);
        out[n] = finish(p, sums[0]);
        out[n + 1] = finish(p, sums[1]);
    }
    if (n < p->outputs) {
        out[n] = finish(p, dot_row(column, row, p->inputs, p->bias[n]));
    }
}
