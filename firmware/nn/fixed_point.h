/* Fixed-point arithmetic, bit for bit that of the TensorFlow Lite reference kernels.
 *
 * Right shifts of negative numbers are arithmetic: implementation-defined in C11, arithmetic in
 * every compiler used. Left shifts go through unsigned types, where they may wrap. */
#ifndef LABD_NN_FIXED_POINT_H
#define LABD_NN_FIXED_POINT_H

#include "nn.h"

/* round(a * b / 2^31), ties upwards; the one product that does not fit saturates. */
static inline int32_t fixed_multiply(int32_t a, int32_t b) {
    if (a == INT32_MIN && b == INT32_MIN) {
        return INT32_MAX;
    }
    return (int32_t)(((int64_t)a * b + (INT64_C(1) << 30)) >> 31);
}

/* round(x / 2^exponent), ties away from zero; exponent 0..31. */
static inline int32_t fixed_divide_by_power_of_two(int32_t x, int32_t exponent) {
    const int32_t mask = (int32_t)((INT64_C(1) << exponent) - 1);
    const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return (x >> exponent) + ((x & mask) > threshold ? 1 : 0);
}

static inline int32_t fixed_shift_left(int32_t x, int32_t exponent) {
    return (int32_t)((uint32_t)x << exponent);
}

/* x * 2^exponent, clipped to the range of int32_t. */
static inline int32_t fixed_saturating_shift_left(int32_t x, int32_t exponent) {
    const int64_t shifted = (int64_t)x * (INT64_C(1) << exponent);
    if (shifted > INT32_MAX) {
        return INT32_MAX;
    }
    return shifted < INT32_MIN ? INT32_MIN : (int32_t)shifted;
}

/* x * factor, rounded twice as in the reference: to 2^31, then at the final shift. */
static inline int32_t fixed_scale(int32_t x, nn_factor factor) {
    const int32_t left = factor.shift > 0 ? factor.shift : 0;
    const int32_t right = factor.shift > 0 ? 0 : -factor.shift;
    const int32_t product = fixed_multiply(fixed_shift_left(x, left), factor.multiplier);
    return fixed_divide_by_power_of_two(product, right);
}

static inline int8_t fixed_clamp(int32_t x, nn_range range) {
    if (x < range.min) {
        return (int8_t)range.min;
    }
    return (int8_t)(x > range.max ? range.max : x);
}

#endif
