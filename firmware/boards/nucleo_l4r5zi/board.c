/* NUCLEO-L4R5ZI port.
 *
 *   PG7, PG8  LPUART1 TX, RX: ST-LINK virtual COM port, 8N1 at BOARD_BAUD
 *   PF13      timestamp (Arduino D7): open drain, idle high, falling pulse of 100 us
 *   PE9       processing (Arduino D6): push-pull, high around the timed inferences */
#include "board.h"

#include "clock.h"
#include "stm32l4r5.h"

#ifndef BOARD_BAUD
#error "define BOARD_BAUD as the UART's bits per second"
#endif

enum {
    TIMESTAMP_PIN = 13,
    PROCESSING_PIN = 9,
    UART_TX_PIN = 7,
    UART_RX_PIN = 8,
    UART_ALTERNATE_FUNCTION = 8,
    TIMESTAMP_PULSE_US = 100,
};

const char board_name[] = "labd-nucleo-l4r5zi";

/* Writes the field of `width` bits that belongs to a pin. */
static void set_field(volatile uint32_t *fields, uint32_t pin, uint32_t width, uint32_t value) {
    const uint32_t shift = pin * width, mask = (1U << width) - 1U;
    *fields = (*fields & ~(mask << shift)) | (value << shift);
}

static void set_pin(gpio *port, uint32_t pin, bool high) {
    port->bsrr = high ? 1U << pin : 1U << (pin + 16U);
}

/* Sets levels before modes, so that no line glitches when it becomes an output. */
static void init_outputs(void) {
    set_pin(GPIOF, TIMESTAMP_PIN, true);
    set_field(&GPIOF->otyper, TIMESTAMP_PIN, 1, 1); /* open drain */
    set_field(&GPIOF->pupdr, TIMESTAMP_PIN, 2, 1);  /* in case the bench has no pull-up */
    set_field(&GPIOF->moder, TIMESTAMP_PIN, 2, GPIO_MODE_OUTPUT);
    set_pin(GPIOE, PROCESSING_PIN, false);
    set_field(&GPIOE->moder, PROCESSING_PIN, 2, GPIO_MODE_OUTPUT);
}

static void init_uart_pin(uint32_t pin) {
    set_field(&GPIOG->afr[pin / 8U], pin % 8U, 4, UART_ALTERNATE_FUNCTION);
    set_field(&GPIOG->pupdr, pin, 2, 1);
    set_field(&GPIOG->moder, pin, 2, GPIO_MODE_ALTERNATE);
}

/* RM0432, LPUART baud rate generation: BRR = 256 * clock / baud, rounded. */
static void init_uart(void) {
    const uint64_t clock_times_256 = (uint64_t)CLOCK_HSI16_HZ * 256U;
    PWR_CR2 |= PWR_CR2_IOSV; /* port G is on its own supply, isolated until it is declared valid */
    init_uart_pin(UART_TX_PIN);
    init_uart_pin(UART_RX_PIN);
    LPUART1->brr = (uint32_t)((clock_times_256 + BOARD_BAUD / 2U) / BOARD_BAUD);
    LPUART1->cr1 = LPUART_CR1_FIFOEN | LPUART_CR1_RXNEIE | LPUART_CR1_TE | LPUART_CR1_RE;
    LPUART1->cr1 |= LPUART_CR1_UE;
    NVIC_ISER(LPUART1_IRQ) = NVIC_BIT(LPUART1_IRQ); /* for WFI alone: PRIMASK is set */
}

/* All 32 bits at 1 MHz; the update event loads the prescaler. */
static void init_microseconds(void) {
    TIM2->psc = BOARD_CLOCK_MHZ - 1;
    TIM2->arr = UINT32_MAX;
    TIM2->egr = TIM_EGR_UG;
    TIM2->cr1 = TIM_CR1_CEN;
}

void board_init(void) {
    clock_init();
    RCC_CCIPR = (RCC_CCIPR & ~RCC_CCIPR_LPUART1_MASK) | RCC_CCIPR_LPUART1_HSI16;
    RCC_AHB2ENR |= RCC_AHB2ENR_GPIOE | RCC_AHB2ENR_GPIOF | RCC_AHB2ENR_GPIOG;
    RCC_APB1ENR1 |= RCC_APB1ENR1_TIM2;
    RCC_APB1ENR2 |= RCC_APB1ENR2_LPUART1;
    (void)RCC_APB1ENR2; /* two cycles until the peripherals respond */
    init_outputs();
    init_uart();
    init_microseconds();
}

/* Sleeps while no byte is received. The interrupt line ends WFI and is level-sensitive: a
 * byte received between the test and WFI is pending, so WFI does not wait. */
static uint32_t await_receiver(void) {
    for (;;) {
        const uint32_t status = LPUART1->isr;
        if (status & (LPUART_ISR_RXNE | LPUART_RX_ERRORS)) {
            return status;
        }
        __asm volatile("wfi");
        NVIC_ICPR(LPUART1_IRQ) = NVIC_BIT(LPUART1_IRQ);
    }
}

int board_getc(void) {
    const uint32_t errors = await_receiver() & LPUART_RX_ERRORS;
    if (errors != 0) {
        LPUART1->icr = errors; /* the content of the FIFO stays and is read next */
        return BOARD_RX_DAMAGED;
    }
    return (int)(LPUART1->rdr & 0xFFU);
}

void board_discard_input(void) {
    while (LPUART1->isr & LPUART_ISR_RXNE) {
        (void)LPUART1->rdr;
    }
    LPUART1->icr = LPUART_RX_ERRORS;
}

void board_putc(char c) {
    while (!(LPUART1->isr & LPUART_ISR_TXE)) {
    }
    LPUART1->tdr = (uint8_t)c;
}

void board_flush(void) {
    while (!(LPUART1->isr & LPUART_ISR_TC)) {
    }
}

uint32_t board_microseconds(void) {
    return TIM2->cnt;
}

void board_pulse_timestamp(void) {
    set_pin(GPIOF, TIMESTAMP_PIN, false);
    const uint32_t start = TIM2->cnt;
    while (TIM2->cnt - start < TIMESTAMP_PULSE_US) {
    }
    set_pin(GPIOF, TIMESTAMP_PIN, true);
}

void board_set_processing(bool active) {
    set_pin(GPIOE, PROCESSING_PIN, active);
}
