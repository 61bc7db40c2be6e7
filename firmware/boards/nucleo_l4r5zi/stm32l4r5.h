/* Registers of the STM32L4R5 that this port uses, from reference manual RM0432 (for the core, from
 * the ARMv7-M architecture manual). */
#ifndef LABD_STM32L4R5_H
#define LABD_STM32L4R5_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Reset and clock control */
#define RCC_CR REGISTER(0x40021000)
#define RCC_CR_HSION (1U << 8)
#define RCC_CR_HSIRDY (1U << 10)
#define RCC_CR_PLLON (1U << 24)
#define RCC_CR_PLLRDY (1U << 25)
#define RCC_CFGR REGISTER(0x40021008)
#define RCC_CFGR_SW_HSI16 1U
#define RCC_CFGR_SW_PLL 3U
#define RCC_CFGR_SW_MASK 3U
#define RCC_CFGR_SWS_SHIFT 2
#define RCC_CFGR_HPRE_MASK (15U << 4)
#define RCC_CFGR_HPRE_DIV2 (8U << 4)
#define RCC_PLLCFGR REGISTER(0x4002100C)
#define RCC_PLLCFGR_SRC_HSI16 2U
#define RCC_PLLCFGR_M(divider) (((divider) - 1U) << 4)
#define RCC_PLLCFGR_N(factor) ((uint32_t)(factor) << 8)
#define RCC_PLLCFGR_REN (1U << 24)
#define RCC_PLLCFGR_R(divider) (((divider) / 2U - 1U) << 25)
#define RCC_AHB2ENR REGISTER(0x4002104C)
#define RCC_AHB2ENR_GPIOE (1U << 4)
#define RCC_AHB2ENR_GPIOF (1U << 5)
#define RCC_AHB2ENR_GPIOG (1U << 6)
#define RCC_APB1ENR1 REGISTER(0x40021058)
#define RCC_APB1ENR1_TIM2 (1U << 0)
#define RCC_APB1ENR1_PWR (1U << 28)
#define RCC_APB1ENR2 REGISTER(0x4002105C)
#define RCC_APB1ENR2_LPUART1 (1U << 0)
#define RCC_CCIPR REGISTER(0x40021088)
#define RCC_CCIPR_LPUART1_MASK (3U << 10)
#define RCC_CCIPR_LPUART1_HSI16 (2U << 10)

/* Power control */
#define PWR_CR2 REGISTER(0x40007004)
#define PWR_CR2_IOSV (1U << 9)
#define PWR_SR2 REGISTER(0x40007014)
#define PWR_SR2_VOSF (1U << 10)
#define PWR_CR5 REGISTER(0x40007080)
#define PWR_CR5_R1MODE (1U << 8)

/* Flash memory interface */
#define FLASH_ACR REGISTER(0x40022000)
#define FLASH_ACR_LATENCY_MASK 15U
#define FLASH_ACR_PRFTEN (1U << 8)

/* General-purpose I/O; a pin takes two bits of MODER and PUPDR */
typedef struct {
    volatile uint32_t moder, otyper, ospeedr, pupdr, idr, odr, bsrr, lckr, afr[2];
} gpio;
#define GPIOE ((gpio *)0x48001000)
#define GPIOF ((gpio *)0x48001400)
#define GPIOG ((gpio *)0x48001800)
enum { GPIO_MODE_OUTPUT = 1, GPIO_MODE_ALTERNATE = 2 };

/* Low-power UART, with FIFO */
typedef struct {
    volatile uint32_t cr1, cr2, cr3, brr, gtpr, rtor, rqr, isr, icr, rdr, tdr, presc;
} lpuart;
#define LPUART1 ((lpuart *)0x40008000)
#define LPUART_CR1_UE (1U << 0)
#define LPUART_CR1_RE (1U << 2)
#define LPUART_CR1_TE (1U << 3)
#define LPUART_CR1_RXNEIE (1U << 5)
#define LPUART_CR1_FIFOEN (1U << 29)
#define LPUART_ISR_FE (1U << 1)
#define LPUART_ISR_NE (1U << 2)
#define LPUART_ISR_ORE (1U << 3)
#define LPUART_ISR_RXNE (1U << 5)
#define LPUART_ISR_TC (1U << 6)
#define LPUART_ISR_TXE (1U << 7)
/* the same bits clear the flags in ICR */
#define LPUART_RX_ERRORS (LPUART_ISR_FE | LPUART_ISR_NE | LPUART_ISR_ORE)
enum { LPUART1_IRQ = 70 };

/* General-purpose timer */
typedef struct {
    volatile uint32_t cr1, cr2, smcr, dier, sr, egr, ccmr1, ccmr2, ccer, cnt, psc, arr;
} timer;
#define TIM2 ((timer *)0x40000000)
#define TIM_CR1_CEN (1U << 0)
#define TIM_EGR_UG (1U << 0)

/* Core */
#define NVIC_ISER(irq) REGISTER(0xE000E100 + 4U * ((irq) / 32U))
#define NVIC_ICPR(irq) REGISTER(0xE000E280 + 4U * ((irq) / 32U))
#define NVIC_BIT(irq) (1U << ((irq) % 32U))
#define SCB_CPACR REGISTER(0xE000ED88)
#define SCB_CPACR_FPU_FULL_ACCESS (15U << 20)

#endif
