/* SPDX-License-Identifier: MIT */
/*
 * yield.c: what a yield point does in the builds that have them.
 *
 * Mostly nothing; often the time of some operations on another processor, now and then a turn of the
 * scheduler, seldom a sleep that is long enough for whole slow paths of others. By a generator of each
 * thread, from AP_YIELD_SEED or the clock; the seed is written to standard error.
 */
#include "os/yield.h"

#ifdef AP_YIELDS

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/format.h"
#include "base/hash.h"
#include "os/os.h"

extern char **environ;

static _Atomic(uint64_t) process_seed;
static _Atomic(uint64_t) threads;
static AP_TLS uint64_t state; /* 0: not begun */

static uint64_t seed_from_environment(void)
{
    static const char name[] = "AP_YIELD_SEED=";
    uint64_t seed = 0;
    for (char **at = environ; at != NULL && *at != NULL; at++) {
        if (strncmp(*at, name, sizeof name - 1) == 0) {
            for (const char *digit = *at + sizeof name - 1; *digit >= '0' && *digit <= '9';) {
                seed = seed * 10 + (uint64_t)(*digit++ - '0');
            }
        }
    }
    return seed != 0 ? seed : ap__os_now_us() | 1;
}

static void say(uint64_t seed)
{
    char text[64];
    struct ap__format f;
    ap__format_init(&f, text, sizeof text);
    ap__format_text(&f, "apmalloc: AP_YIELD_SEED=");
    ap__format_decimal(&f, seed);
    ap__format_text(&f, "\n");
    ap__os_write_stderr(f.buffer, f.length);
}

static AP_COLD void begin_thread(void)
{
    uint64_t none = 0, seed = seed_from_environment();
    if (atomic_compare_exchange_strong(&process_seed, &none, seed)) {
        say(seed);
    } else {
        seed = none;
    }
    uint64_t number = 1 + atomic_fetch_add(&threads, 1);
    state = (seed ^ number * UINT64_C(0x9E3779B97F4A7C15)) | 1;
}

/* xorshift64*: Marsaglia 2003, Vigna 2016. */
static uint32_t next_random(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)(state * UINT64_C(0x2545F4914F6CDD1D) >> 32);
}

void ap__yield_at_random(void)
{
    if (AP_UNLIKELY(state == 0)) {
        begin_thread();
    }
    uint32_t choice = next_random() % 16384;
    int saved_errno = errno;
    if (choice < 512) {
        for (volatile uint32_t spins = choice; spins > 0; spins--) {
        }
    } else if (choice < 576) {
        (void)syscall(SYS_sched_yield);
    } else if (choice < 580) {
        (void)syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = 50000}, NULL);
    }
    errno = saved_errno;
}

#endif
