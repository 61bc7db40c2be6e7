/* From reset to main(): vector table, FPU, data and bss. */
#include <stdnoreturn.h>

#include "stm32l4r5.h"

extern uint32_t stack_top, data_load, data_start, data_end, bss_start, bss_end;

int main(void);
noreturn void Reset_Handler(void);

/* A fault stops here without output: the bench's deadline passes and it cycles the power. */
static noreturn void halt(void) {
    for (;;) {
    }
}

/* Interrupts stay masked (a pending one only ends WFI), so the table ends with the system
 * exceptions. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {
    .stack = &stack_top,
    .handlers = {Reset_Handler, halt, halt, halt, halt, halt, 0, 0, 0, 0, halt, halt, 0, halt, halt},
};

noreturn void Reset_Handler(void) {
    __asm volatile("cpsid i");
    SCB_CPACR |= SCB_CPACR_FPU_FULL_ACCESS;
    __asm volatile("dsb\n\tisb" ::: "memory");
    const uint32_t *load = &data_load;
    for (volatile uint32_t *data = &data_start; data < &data_end; data++) {
        *data = *load++;
    }
    for (volatile uint32_t *bss = &bss_start; bss < &bss_end; bss++) {
        *bss = 0; /* volatile: the compiler must not call memset() here */
    }
    main();
    halt();
}
