/* Softmax in fixed point. Qm.n below means m integer and n fraction bits and the sign. */
#include "fixed_point.h"
#include "nn.h"

enum {
    DIFFERENCE_FRACTION_BITS = 26, /* differences are Q5.26 */
    SUM_INTEGER_BITS = 12,         /* the sum of exponentials is Q12.19 */
    OUTPUT_BITS = 8,
};

/* exp(x) in Q0.31 for x in [-1/4, 0) in Q0.31: a Taylor polynomial of degree 4 around -1/8. */
static int32_t exp_of_quarter(int32_t x) {
    const int32_t exp_minus_eighth = 1895147668, third = 715827883;
    const int32_t t = x + (1 << 28);
    const int32_t t2 = fixed_multiply(t, t);
    const int32_t t3 = fixed_multiply(t2, t);
    const int32_t t4_over_4 = fixed_divide_by_power_of_two(fixed_multiply(t2, t2), 2);
    const int32_t higher = fixed_divide_by_power_of_two(
        fixed_multiply(t4_over_4 + t3, third) + t2, 1); /* t^2/2 + t^3/6 + t^4/24 */
    return exp_minus_eighth + fixed_multiply(exp_minus_eighth, t + higher);
}

/* exp(x) in Q0.31 for x <= 0 in Q5.26: exp of the remainder modulo 1/4, times exp(-2^k)
 * for every power of two from 1/4 to 16 in the rest. */
static int32_t exp_of_negative(int32_t x) {
    static const int32_t exp_minus_power[] = {1672461947, 1302514674, 790015084, 290630308,
                                              39332535,   720401,     242};
    enum { QUARTER_BITS = DIFFERENCE_FRACTION_BITS - 2 };
    if (x == 0) {
        return INT32_MAX;
    }
    const int32_t quarter = 1 << QUARTER_BITS;
    const int32_t modulo = (x & (quarter - 1)) - quarter;
    const int32_t remainder = modulo - x;
    int32_t result = exp_of_quarter(fixed_saturating_shift_left(modulo, 5));
    for (int32_t i = 0; i < 7; i++) {
        if (remainder & (1 << (QUARTER_BITS + i))) {
            result = fixed_multiply(result, exp_minus_power[i]);
        }
    }
    return result;
}

/* 1 / (1 + x) in Q0.31 for x in [0, 1) in Q0.31: three Newton steps in Q2.29. */
static int32_t reciprocal_of_one_plus(int32_t x) {
    const int32_t forty_eight_over_17 = 1515870810, minus_thirty_two_over_17 = -1010580540;
    const int32_t half_denominator = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
    int32_t y = forty_eight_over_17 + fixed_multiply(half_denominator, minus_thirty_two_over_17);
    for (int32_t i = 0; i < 3; i++) {
        const int32_t error = (1 << 29) - fixed_multiply(half_denominator, y);
        y += fixed_saturating_shift_left(fixed_multiply(y, error), 2);
    }
    return fixed_saturating_shift_left(y, 1);
}

static int32_t maximum(const int8_t *in, int32_t count) {
    int32_t max = in[0];
    for (int32_t i = 1; i < count; i++) {
        max = in[i] > max ? in[i] : max;
    }
    return max;
}

static int32_t exp_of_difference(const nn_softmax_params *p, int32_t difference) {
    const int32_t raised = fixed_shift_left(difference, p->factor.shift);
    return exp_of_negative(fixed_multiply(raised, p->factor.multiplier));
}

void nn_softmax(const nn_softmax_params *p, const int8_t *in, int8_t *out) {
    const nn_range range = {INT8_MIN, INT8_MAX};
    const int32_t max = maximum(in, p->count);
    int32_t sum = 0;
    for (int32_t i = 0; i < p->count; i++) {
        if (in[i] - max >= p->difference_min) {
            sum += fixed_divide_by_power_of_two(exp_of_difference(p, in[i] - max),
                                                SUM_INTEGER_BITS);
        }
    }
    const int32_t leading_zeros = __builtin_clz((uint32_t)sum); /* sum >= exp(0) > 0 */
    const int32_t fraction = (int32_t)(((uint32_t)sum << leading_zeros) - (UINT32_C(1) << 31));
    const int32_t reciprocal = reciprocal_of_one_plus(fraction);
    const int32_t exponent = SUM_INTEGER_BITS - leading_zeros + 31 - OUTPUT_BITS;
    for (int32_t i = 0; i < p->count; i++) {
        if (in[i] - max < p->difference_min) {
            out[i] = INT8_MIN;
            continue;
        }
        const int32_t product = fixed_multiply(reciprocal, exp_of_difference(p, in[i] - max));
        out[i] = fixed_clamp(fixed_divide_by_power_of_two(product, exponent) + INT8_MIN, range);
    }
}
