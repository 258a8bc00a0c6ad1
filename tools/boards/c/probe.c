/* Stands between a self-test and the exported function: what a call touches of its stack and of work, and the
 * bits that it gives. The self-test is compiled with -DNAME=probed_NAME, so that it calls this file's function.
 * PROBE_HEADER: NAME.h in quotes; PROBE_CALL, PROBED: NAME and probed_NAME; PROBE_WORK: bytes of work;
 * PROBE_RESULTS: {bytes of an element, whether it is a float, elements, the argument it updates or -1}, ...
 */
#include <stdio.h>
#include <stdlib.h>

#include PROBE_HEADER

#ifndef PROBE_STACK
#define PROBE_STACK 262144 /* bytes below the caller that are painted */
#endif

#if defined(__arm__) || defined(__aarch64__) || defined(__riscv)
#define PROBE_SP(x) __asm__ volatile("mov %0, sp" : "=r"(x))
#ifdef __riscv
#undef PROBE_SP
#define PROBE_SP(x) __asm__ volatile("mv %0, sp" : "=r"(x))
#endif
#else
#define PROBE_SP(x) __asm__ volatile("mov %%rsp, %0" : "=r"(x))
#endif

struct probe_result {
    unsigned width, is_float;
    size_t count;
    int updates;
};

static const struct probe_result probe_results[] = {PROBE_RESULTS};
static size_t probe_stack, probe_work, probe_calls;
static uint64_t probe_bits, probe_words;

/* Differs from word to word and from call to call: what was written differs from it in some call. */
static uint32_t probe_canary(uintptr_t at) { return (uint32_t)(at * 2654435761u) ^ 0xA5C35A3Cu ^ (uint32_t)probe_calls * 0x01010101u; }

/* A sum over words, each mixed with its place (as SplitMix64 does), which NumPy can compute as well (tests/boards/bits.py).
 * All NaNs are one, since processors differ in the sign of those that they make. */
static void probe_hash(const void *data, const struct probe_result *kind) {
    const unsigned char *bytes = (const unsigned char *)data;
    size_t k;
    unsigned j;
    for (k = 0; k < kind->count; k++, bytes += kind->width) {
        uint64_t word = 0, rest;
        for (j = kind->width; j-- > 0;) word = word << 8 | bytes[j];
        rest = kind->width == 8 ? UINT64_C(0x7ff0000000000000) : UINT64_C(0x7f800000);
        if (kind->is_float && (word & (rest | (rest - 1))) > rest) word = rest | (rest >> 1 & ~rest);
        word += ++probe_words * UINT64_C(0x9e3779b97f4a7c15);
        word = (word ^ word >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb);
        probe_bits += word ^ word >> 31;
    }
}

static void probe_report(void) {
    (void)printf("probe: calls %lu stack %lu work %lu of %lu bits %08lx%08lx\n", (unsigned long)probe_calls,
                 (unsigned long)probe_stack, (unsigned long)probe_work, (unsigned long)PROBE_WORK,
                 (unsigned long)(probe_bits >> 32), (unsigned long)(probe_bits & 0xffffffffu));
}

int PROBED(const PROBE_TYPE *const *in, PROBE_TYPE *const *out, void *work);
int PROBED(const PROBE_TYPE *const *in, PROBE_TYPE *const *out, void *work) {
    volatile uint32_t *word, *const scratch = (volatile uint32_t *)work;
    uintptr_t sp, low;
    size_t k;
    int status;
    if (probe_calls++ == 0) (void)atexit(probe_report);
    for (k = 0; k < PROBE_WORK / 4; k++) scratch[k] = probe_canary(k);
    PROBE_SP(sp);
    low = sp - PROBE_STACK;
    for (word = (volatile uint32_t *)sp; (uintptr_t)--word >= low;) *word = probe_canary((uintptr_t)word);
    status = PROBE_CALL(in, out, work);
    for (word = (volatile uint32_t *)low; (uintptr_t)word < sp && *word == probe_canary((uintptr_t)word);) word++;
    if (sp - (uintptr_t)word > probe_stack) probe_stack = sp - (uintptr_t)word;
    for (k = PROBE_WORK / 4; k > 0 && scratch[k - 1] == probe_canary(k - 1);) k--;
    if (4 * k > probe_work) probe_work = 4 * k;
    for (k = 0; status == 0 && k < sizeof probe_results / sizeof probe_results[0]; k++) {
        const void *at = out[k];
        if (at == NULL && probe_results[k].updates >= 0) at = in[probe_results[k].updates];
        if (at != NULL) probe_hash(at, &probe_results[k]);
    }
    return status;
}
