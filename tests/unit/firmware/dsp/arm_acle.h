/* The two DSP instructions that the kernels use, for a host without them, by the ARMv7-M manual. */
#ifndef LABD_TEST_ARM_ACLE_H
#define LABD_TEST_ARM_ACLE_H

#include <stdint.h>

typedef uint32_t int8x4_t, int16x2_t;

/* Sign-extends bytes 0 and 2 to the two halves. */
static inline int16x2_t __sxtb16(int8x4_t word) {
    const uint16_t low = (uint16_t)(int8_t)(word & 0xFFU);
    const uint16_t high = (uint16_t)(int8_t)(word >> 16 & 0xFFU);
    return (uint32_t)high << 16 | low;
}

/* Adds both products of the signed halves. */
static inline int32_t __smlad(int16x2_t a, int16x2_t b, int32_t sum) {
    const int32_t low = (int16_t)(a & 0xFFFFU) * (int16_t)(b & 0xFFFFU);
    const int32_t high = (int16_t)(a >> 16) * (int16_t)(b >> 16);
    return (int32_t)((uint32_t)sum + (uint32_t)low + (uint32_t)high);
}

#endif
