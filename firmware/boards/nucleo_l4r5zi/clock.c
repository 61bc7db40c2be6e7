#include "clock.h"

#include "stm32l4r5.h"

static void await(volatile uint32_t *flags, uint32_t mask, uint32_t value) {
    while ((*flags & mask) != value) {
    }
}

static void switch_system_clock(uint32_t source) {
    RCC_CFGR = (RCC_CFGR & ~RCC_CFGR_SW_MASK) | source;
    await(&RCC_CFGR, RCC_CFGR_SW_MASK << RCC_CFGR_SWS_SHIFT, source << RCC_CFGR_SWS_SHIFT);
}

#if BOARD_CLOCK_MHZ == 120

static void set_flash_wait_states(uint32_t wait_states) {
    FLASH_ACR = (FLASH_ACR & ~FLASH_ACR_LATENCY_MASK) | wait_states | FLASH_ACR_PRFTEN;
    await(&FLASH_ACR, FLASH_ACR_LATENCY_MASK, wait_states); /* in effect when it reads back */
}

/* 16 MHz / 2 * 30 / 2 */
static void start_pll(void) {
    RCC_PLLCFGR = RCC_PLLCFGR_SRC_HSI16 | RCC_PLLCFGR_M(2U) | RCC_PLLCFGR_N(30U) |
                  RCC_PLLCFGR_R(2U) | RCC_PLLCFGR_REN;
    RCC_CR |= RCC_CR_PLLON;
    await(&RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY);
}

/* The new clock must run at half rate for 1 us first; 100 rounds take more than 2 us at 60 MHz. */
static void wait_one_microsecond(void) {
    for (volatile int rounds = 0; rounds < 100; rounds++) {
    }
}

/* RM0432, dynamic voltage scaling, range 1 normal to range 1 boost: halve HCLK, enter boost, raise
 * the wait states, switch, wait, and run HCLK at full rate. */
static void raise_to_120_mhz(void) {
    RCC_CFGR = (RCC_CFGR & ~RCC_CFGR_HPRE_MASK) | RCC_CFGR_HPRE_DIV2;
    PWR_CR5 &= ~PWR_CR5_R1MODE;
    await(&PWR_SR2, PWR_SR2_VOSF, 0);
    set_flash_wait_states(5U); /* 100 to 120 MHz in range 1 boost */
    start_pll();
    switch_system_clock(RCC_CFGR_SW_PLL);
    wait_one_microsecond();
    RCC_CFGR &= ~RCC_CFGR_HPRE_MASK;
}

#endif

void clock_init(void) {
    RCC_APB1ENR1 |= RCC_APB1ENR1_PWR;
    (void)RCC_APB1ENR1; /* two cycles until the peripheral responds */
    RCC_CR |= RCC_CR_HSION;
    await(&RCC_CR, RCC_CR_HSIRDY, RCC_CR_HSIRDY);
    switch_system_clock(RCC_CFGR_SW_HSI16); /* no wait state up to 20 MHz in range 1 */
#if BOARD_CLOCK_MHZ == 120
    raise_to_120_mhz();
#endif
}
