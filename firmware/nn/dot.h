/* Dot products of a column of widened activations with rows of int8 weights.
 *
 * The column holds the int16 differences (activation - zero point) of one output position, laid
 * out as the weights are. Cores with the DSP extension multiply two pairs at once with SMLAD. The
 * sums are exact integers, so both variants give the same result. */
#ifndef LABD_NN_DOT_H
#define LABD_NN_DOT_H

#include <stdint.h>

#ifdef __ARM_FEATURE_DSP
#include <arm_acle.h>

/* Loads an unaligned word: a single LDR on ARMv7E-M. */
static inline uint32_t dot_word(const void *at) {
    uint32_t word;
    __builtin_memcpy(&word, at, sizeof word);
    return word;
}

/* Puts every four elements into the order 0 2 1 3: SXTB16 unpacks bytes 0 and 2 of a word of
 * weights, and with a rotation bytes 1 and 3, so the pairs then match without packing. */
static inline void dot_prepare(int16_t *column, int32_t count) {
    for (int32_t i = 0; i + 4 <= count; i += 4) {
        const int16_t swapped = column[i + 1];
        column[i + 1] = column[i + 2];
        column[i + 2] = swapped;
    }
}

static inline int32_t dot_four(uint32_t weights, uint32_t even, uint32_t odd, int32_t sum) {
    const uint32_t rotated = weights >> 8 | weights << 24; /* folds into SXTB16 */
    sum = __smlad(__sxtb16((int8x4_t)weights), (int16x2_t)even, sum);
    return __smlad(__sxtb16((int8x4_t)rotated), (int16x2_t)odd, sum);
}

static inline int32_t dot_row(const int16_t *column, const int8_t *row, int32_t count,
                              int32_t sum) {
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        sum = dot_four(dot_word(row + i), dot_word(column + i), dot_word(column + i + 2), sum);
    }
    for (; i < count; i++) {
        sum += column[i] * row[i];
    }
    return sum;
}

/* Computes two rows at once: each word of the column is loaded once. */
static inline void dot_two_rows(const int16_t *column, const int8_t *row, int32_t count,
                                int32_t sums[2]) {
    const int8_t *next = row + count;
    int32_t first = sums[0], second = sums[1];
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const uint32_t even = dot_word(column + i), odd = dot_word(column + i + 2);
        first = dot_four(dot_word(row + i), even, odd, first);
        second = dot_four(dot_word(next + i), even, odd, second);
    }
    for (; i < count; i++) {
        first += column[i] * row[i];
        second += column[i] * next[i];
    }
    sums[0] = first;
    sums[1] = second;
}

#else

static inline void dot_prepare(int16_t *column, int32_t count) {
    (void)column;
    (void)count;
}

static inline int32_t dot_row(const int16_t *column, const int8_t *row, int32_t count,
                              int32_t sum) {
    for (int32_t i = 0; i < count; i++) {
        sum += column[i] * row[i];
    }
    return sum;
}

static inline void dot_two_rows(const int16_t *column, const int8_t *row, int32_t count,
                                int32_t sums[2]) {
    sums[0] = dot_row(column, row, count, sums[0]);
    sums[1] = dot_row(column, row + count, count, sums[1]);
}

#endif

/* Writes count widened activations and returns their end. */
static inline int16_t *dot_widen(int16_t *column, const int8_t *in, int32_t count,
                                 int32_t zero_point) {
    for (int32_t i = 0; i < count; i++) {
        column[i] = (int16_t)(in[i] - zero_point);
    }
    return column + count;
}

#endif
