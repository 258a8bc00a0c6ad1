/* Reset code for Cortex-M4F and -M7 under QEMU (mps2-an386, mps2-an500), with semihosting for output. */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t board_stack_top[], board_data_from[], board_data[], board_data_end[], board_bss[], board_bss_end[];
extern void initialise_monitor_handles(void);
int main(void);

void board_reset(void);
static void board_fault(void);

__attribute__((section(".vectors"), used)) static void (*const board_vectors[16])(void) = {
    (void (*)(void))board_stack_top, board_reset, board_fault, board_fault, board_fault, board_fault, board_fault,
};

__attribute__((noreturn)) void board_reset(void) {
    volatile uint32_t *const cpacr = (volatile uint32_t *)0xE000ED88u;
    const uint32_t *from = board_data_from;
    uint32_t *to;
    *cpacr |= 0xFu << 20; /* the floating-point unit is off after a reset */
    __asm__ volatile("dsb\n isb" ::: "memory");
    for (to = board_data; to < board_data_end;) *to++ = *from++;
    for (to = board_bss; to < board_bss_end;) *to++ = 0;
    initialise_monitor_handles();
    exit(main());
}

/* A fault ends the emulator with status 1 (SYS_EXIT, ADP_Stopped_RunTimeErrorUnknown), not with a hang. */
static void board_fault(void) {
    register uint32_t call __asm__("r0") = 0x18;
    register uint32_t reason __asm__("r1") = 0x20023;
    __asm__ volatile("bkpt 0xAB" : : "r"(call), "r"(reason) : "memory");
    for (;;) {
    }
}
