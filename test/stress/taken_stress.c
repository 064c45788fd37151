/* SPDX-License-Identifier: MIT */
/*
 * taken_stress.c: the blocks of threads at work are taken from their lists all the time.
 *
 * Goal: a block that another thread takes while its owner pops has one owner afterwards, and none is lost. Method: owners
 * let one marked block come and go at the top of a list, which is where the other looks, or some of them;
 * they also sleep there, and go on from what was taken; one thread hides and takes all that any cache has, which else
 * happens to threads that have slept for long. In the end, nothing is left in use. Build with yields to have owners
 * stopped between any two steps.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "cache/idle.h"
#include "cache/thread_cache.h"
#include "stress.h"
#include "support/consistency.h"

enum { OWNERS = 3, MOST = 40, SIZES = 4 };
static const size_t sizes[SIZES] = {16, 64, 700, 4000};

static _Atomic(uint64_t) taken;

static void sleep_for(struct stress_random *random, size_t nanoseconds)
{
    (void)nanosleep(&(struct timespec){0, (long)stress_random_below(random, nanoseconds)}, NULL);
}

static uintptr_t *take(size_t size, uintptr_t mark)
{
    uintptr_t *p = ap_malloc(size);
    STRESS_CHECK(p != NULL);
    p[0] = mark;
    p[1] = ~mark;
    return p;
}

static void give(uintptr_t *p, uintptr_t mark)
{
    STRESS_CHECK(p[0] == mark && p[1] == ~mark);
    p[0] = p[1] = 0;
    ap_free(p);
}

static void come_and_go(struct stress_random *random, uintptr_t mark)
{
    size_t size = sizes[stress_random_below(random, SIZES)];
    for (size_t left = stress_random_below(random, 500); left > 0; left--) {
        give(take(size, mark), mark);
    }
}

static void swing(struct stress_random *random, uintptr_t mark)
{
    uintptr_t *held[MOST];
    size_t size = sizes[stress_random_below(random, SIZES)];
    size_t count = 1 + stress_random_below(random, MOST);
    for (size_t i = 0; i < count; i++) {
        held[i] = take(size, mark + i);
    }
    for (size_t i = count; i-- > 0;) {
        give(held[i], mark + i);
    }
}

static void own(struct stress_random *random, unsigned number)
{
    uintptr_t mark = (uintptr_t)(number + 1) << 32;
    while (!stress_is_over()) {
        size_t way = stress_random_below(random, 200);
        if (way == 0) {
            sleep_for(random, 1000000);
        } else if (way < 100) {
            come_and_go(random, mark);
        } else {
            swing(random, mark);
        }
        stress_count(1);
    }
    ap_thread_idle();
}

static void take_from_all(struct stress_random *random)
{
    while (!stress_is_over()) {
        (void)ap__thread_caches_take_idle(0); /* sees where tops are, and takes what is hidden */
        (void)ap__thread_caches_take_idle(0); /* and now the rest, where they are there still */
        atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
        /* Owners who meet a claim wait for the lock, which would be taken most of the time. */
        sleep_for(random, 50000);
    }
}

static void run(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    if (number == OWNERS) {
        take_from_all(&random);
    } else {
        own(&random, number);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "taken_stress");
    ap_thread_idle();
    STRESS_CHECK(consistency_find_fault() == NULL);
    size_t before = consistency_sums().live_blocks;
    stress_run_threads(OWNERS + 1, run);
    ap_thread_idle();
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        (void)fprintf(stderr, "%s\n", fault);
    }
    STRESS_CHECK(fault == NULL);
    STRESS_CHECK(consistency_sums().live_blocks == before);
    (void)printf("taken_stress: %llu times\n", (unsigned long long)atomic_load(&taken));
    return stress_finish();
}
