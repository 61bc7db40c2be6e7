#include "fixed_point.h"
#include "nn.h"

enum { HEADROOM_BITS = 20 }; /* left shift of both operands before scaling, as in the reference */

void nn_add(const nn_add_params *p, const int8_t *a, const int8_t *b, int8_t *out) {
    for (int32_t i = 0; i < p->count; i++) {
        const int32_t raised_a = fixed_shift_left(a[i] - p->a_zero_point, HEADROOM_BITS);
        const int32_t raised_b = fixed_shift_left(b[i] - p->b_zero_point, HEADROOM_BITS);
        const int32_t sum = fixed_scale(raised_a, p->a_factor) + fixed_scale(raised_b, p->b_factor);
        out[i] = fixed_clamp(fixed_scale(sum, p->out_factor) + p->out_zero_point, p->range);
    }
}
