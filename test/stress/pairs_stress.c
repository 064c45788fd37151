/* SPDX-License-Identifier: MIT */
/*
 * pairs_stress.c: every two things that threads can do at once, at once.
 *
 * Goal: no pair of calls races, whatever the rest does. Method: a table of roles, each a loop that does one
 * thing to the same shared data; for every pair of them (a role with itself, too) two threads run the two for
 * a slice of time, at the same moment. Threads are new for each pair, so a pair also meets the start and
 * the end of caches. Blocks are marked and handed over through shared places. The number of pairs is
 * checked and printed. fork is left out: what it does to other threads is test/api's.
 *
 * pairs_stress [SECONDS] [SEED], all pairs together; without SECONDS the environment's AP_TEST_SECONDS, or 6.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "decay/decay.h"
#include "heap/heap_limits.h"
#include "os/os.h"
#include "stress.h"

enum { PLACES = 32, MIB = 1 << 20, SMALL_MOST = 2000, LARGE_LEAST = (256 << 10) + 1 };

/* ------------------------------------------------------------ shared blocks */

static _Atomic(struct stress_block *) places[PLACES];

/* What was there is now this thread's. acquire and release: contents travel with the record. */
static struct stress_block *swap(struct stress_random *random, struct stress_block *block)
{
    return atomic_exchange_explicit(&places[stress_random_below(random, PLACES)], block,
                                    memory_order_acq_rel);
}

static void destroy(struct stress_block *block)
{
    if (block != NULL) {
        stress_block_free(block);
        ap_free(block);
    }
}

/* A record for a block that some call has returned. */
static void keep(struct stress_random *random, void *p, size_t size, size_t alignment)
{
    struct stress_block *block = ap_malloc(sizeof *block);
    STRESS_CHECK(p != NULL && block != NULL);
    stress_block_fill(block, p, size, alignment, stress_random_next(random));
    destroy(swap(random, block));
}

static size_t small_size(struct stress_random *random)
{
    return stress_random_below(random, SMALL_MOST);
}

static size_t large_size(struct stress_random *random)
{
    return LARGE_LEAST + stress_random_below(random, MIB);
}

/* Of either kind, the large ones seldom. */
static size_t any_size(struct stress_random *random)
{
    return stress_random_below(random, 8) == 0 ? large_size(random) : small_size(random);
}

/* ------------------------------------------------------------ roles */

static void do_malloc(struct stress_random *random)
{
    size_t size = small_size(random);
    keep(random, ap_malloc(size), size, 16);
}

static void do_malloc_large(struct stress_random *random)
{
    size_t size = large_size(random);
    keep(random, ap_malloc(size), size, 16);
}

static void do_calloc(struct stress_random *random)
{
    size_t size = any_size(random);
    unsigned char *p = ap_calloc(1, size);
    for (size_t i = 0; i < size; i += 251) {
        STRESS_CHECK(p[i] == 0);
    }
    keep(random, p, size, 16);
}

static void resize(struct stress_random *random, bool as_array)
{
    struct stress_block *block = swap(random, NULL);
    size_t size = 1 + any_size(random);
    if (block == NULL) {
        keep(random, as_array ? ap_reallocarray(NULL, 1, size) : ap_realloc(NULL, size), size, 16);
        return;
    }
    if (as_array) {
        size_t kept = size < block->size ? size : block->size;
        block->p = ap_reallocarray(block->p, size, 1);
        STRESS_CHECK(block->p != NULL);
        stress_block_check(block, kept);
        stress_block_fill(block, block->p, size, 16, block->mark);
    } else {
        stress_block_realloc(block, size);
    }
    destroy(swap(random, block));
}

static void do_realloc(struct stress_random *random)
{
    resize(random, false);
}

static void do_reallocarray(struct stress_random *random)
{
    resize(random, true);
}

/* Frees what others have left; leaves something itself, so that there is something to free. */
static void do_free(struct stress_random *random)
{
    destroy(swap(random, NULL));
    do_malloc(random);
    destroy(swap(random, NULL));
}

static void do_cfree(struct stress_random *random)
{
    struct stress_block *block = swap(random, NULL);
    if (block != NULL) {
        stress_block_check(block, block->size);
        ap_cfree(block->p);
        ap_cfree(block);
    }
}

static void do_free_sized(struct stress_random *random)
{
    size_t size = any_size(random);
    ap_free_sized(ap_malloc(size), size);
}

static void do_free_aligned_sized(struct stress_random *random)
{
    size_t size = any_size(random), alignment = (size_t)16 << stress_random_below(random, 9);
    ap_free_aligned_sized(ap_aligned_alloc(alignment, size), alignment, size);
}

static void do_aligned_alloc(struct stress_random *random)
{
    size_t size = any_size(random), alignment = (size_t)16 << stress_random_below(random, 14);
    keep(random, ap_aligned_alloc(alignment, size), size, alignment);
}

static void do_posix_memalign(struct stress_random *random)
{
    size_t size = any_size(random), alignment = (size_t)8 << stress_random_below(random, 12);
    void *p = NULL;
    STRESS_CHECK(ap_posix_memalign(&p, alignment, size) == 0);
    keep(random, p, size, alignment);
}

static void do_memalign(struct stress_random *random)
{
    size_t size = any_size(random);
    keep(random, ap_memalign(100, size), size, 128);
}

static void do_valloc(struct stress_random *random)
{
    size_t size = any_size(random);
    keep(random, ap_valloc(size), size, 4096);
}

static void do_pvalloc(struct stress_random *random)
{
    size_t size = any_size(random);
    keep(random, ap_pvalloc(size), size, 4096);
}

static void do_usable_size(struct stress_random *random)
{
    struct stress_block *block = swap(random, NULL);
    if (block != NULL) {
        size_t usable = ap_usable_size(block->p);
        STRESS_CHECK(usable >= block->size && usable == ap_malloc_usable_size(block->p));
        destroy(swap(random, block));
    }
    size_t size = any_size(random);
    STRESS_CHECK(ap_good_size(size) >= size);
}

/* More objects than the table has slots at first, so that it grows under the other role. */
static void do_many_large(struct stress_random *random)
{
    static _Atomic(unsigned) at_once;
    void *many[400];
    if (atomic_fetch_add(&at_once, 1) < 4) {
        for (size_t i = 0; i < 400; i++) {
            many[i] = ap_malloc(LARGE_LEAST);
            STRESS_CHECK(many[i] != NULL);
        }
        for (size_t i = 0; i < 400; i++) {
            ap_free(many[i]);
        }
    }
    atomic_fetch_sub(&at_once, 1);
    (void)random;
}

static void do_thread_idle(struct stress_random *random)
{
    ap_free(ap_malloc(small_size(random)));
    ap_thread_idle();
}

static void do_trim(struct stress_random *random)
{
    (void)random;
    (void)ap_trim();
}

static void do_malloc_trim(struct stress_random *random)
{
    STRESS_CHECK((ap_malloc_trim(small_size(random)) & ~1) == 0);
}

static void do_mallinfo2(struct stress_random *random)
{
    struct ap_mallinfo2 i = ap_mallinfo2();
    (void)random;
    STRESS_CHECK(i.arena < (size_t)1 << 40 && i.uordblks < (size_t)1 << 40);
    STRESS_CHECK(i.fsmblks < (size_t)1 << 40 && i.hblkhd < (size_t)1 << 40);
    STRESS_CHECK(i.fordblks <= i.arena);
}

static void do_mallinfo(struct stress_random *random)
{
    struct ap_mallinfo i = ap_mallinfo();
    (void)random;
    STRESS_CHECK(i.arena >= 0 && i.uordblks >= 0 && i.fordblks >= 0 && i.fordblks <= i.arena);
}

static void do_malloc_info(struct stress_random *random)
{
    FILE *stream = fopen("/dev/null", "w");
    (void)random;
    STRESS_CHECK(stream != NULL && ap_malloc_info(0, stream) == 0);
    (void)fclose(stream);
}

static void do_mallopt(struct stress_random *random)
{
    STRESS_CHECK(ap_mallopt(-1, (int)small_size(random)) == 1); /* M_TRIM_THRESHOLD */
    STRESS_CHECK(ap_mallopt(12345, 0) == 0);
}

static void do_update_limits(struct stress_random *random)
{
    (void)random;
    ap_update_limits();
}

/* Two functions, each of which knows its context: a mixture of the two is an error. */
static char context_a, context_b;

static void be_told(const void *context, const char *expected, size_t used_bytes)
{
    STRESS_CHECK(context == expected);
    ap_free(ap_malloc(used_bytes % SMALL_MOST));
}

static void tell_a(void *context, size_t used_bytes, size_t limit_bytes)
{
    (void)limit_bytes;
    be_told(context, &context_a, used_bytes);
}

static void tell_b(void *context, size_t used_bytes, size_t limit_bytes)
{
    (void)limit_bytes;
    be_told(context, &context_b, used_bytes);
}

static void do_set_callback(struct stress_random *random)
{
    switch (stress_random_below(random, 5)) {
    case 0:
        ap_set_pressure_callback(NULL, NULL);
        break;
    case 1:
    case 2:
        ap_set_pressure_callback(tell_a, &context_a);
        break;
    default:
        ap_set_pressure_callback(tell_b, &context_b);
        break;
    }
}

/* Pressure that comes and goes calls the function. */
static void do_pressure(struct stress_random *random)
{
    ap__heap_limits_set_soft(stress_random_below(random, 2) == 0 ? 1 : SIZE_MAX);
    ap_free(ap_malloc(large_size(random)));
    (void)ap__decay_step(ap__os_now_ms());
}

static void *live_shortly(void *stream)
{
    for (int i = 0; i < 20; i++) {
        do_malloc(stream);
        destroy(swap(stream, NULL));
    }
    return NULL;
}

static void do_thread(struct stress_random *random)
{
    pthread_t thread;
    struct stress_random stream = {stress_random_next(random)};
    STRESS_CHECK(pthread_create(&thread, NULL, live_shortly, &stream) == 0);
    STRESS_CHECK(pthread_join(thread, NULL) == 0);
}

/* What the helper does, by another thread: steps of decay in a time that runs fast. */
static void do_decay(struct stress_random *random)
{
    static _Atomic(uint64_t) gained_ms;
    uint64_t gained = atomic_fetch_add(&gained_ms, stress_random_below(random, 400));
    ap__decay_expect_work();
    (void)ap__decay_step(ap__os_now_ms() + gained);
    ap__decay_poll();
}

/* Every entry point of include/apmalloc.h but ap_version() and ap_malloc_stats() (ap_malloc_info()'s
 * figures on standard error), and what goes on by itself. */
static const struct role {
    const char *name;
    void (*act)(struct stress_random *random);
} roles[] = {
    {"malloc", do_malloc},
    {"malloc, large", do_malloc_large},
    {"calloc", do_calloc},
    {"realloc", do_realloc},
    {"reallocarray", do_reallocarray},
    {"free", do_free},
    {"cfree", do_cfree},
    {"free_sized", do_free_sized},
    {"free_aligned_sized", do_free_aligned_sized},
    {"aligned_alloc", do_aligned_alloc},
    {"posix_memalign", do_posix_memalign},
    {"memalign", do_memalign},
    {"valloc", do_valloc},
    {"pvalloc", do_pvalloc},
    {"usable_size and good_size", do_usable_size},
    {"many large objects", do_many_large},
    {"thread_idle", do_thread_idle},
    {"trim", do_trim},
    {"malloc_trim", do_malloc_trim},
    {"mallinfo2", do_mallinfo2},
    {"mallinfo", do_mallinfo},
    {"malloc_info", do_malloc_info},
    {"mallopt", do_mallopt},
    {"update_limits", do_update_limits},
    {"set_pressure_callback", do_set_callback},
    {"pressure", do_pressure},
    {"thread start and end", do_thread},
    {"decay", do_decay},
};
enum { ROLES = sizeof roles / sizeof *roles, PAIRS = ROLES * (ROLES + 1) / 2 };

/* ------------------------------------------------------------ pairs */

static pthread_barrier_t start;
static const struct role *pair[2];
static uint64_t slice_us;
static unsigned pair_number;
static bool was_run[ROLES][ROLES];

static void body(unsigned number)
{
    struct stress_random random = stress_random_stream(2 * pair_number + number);
    uint64_t done = 0;
    (void)pthread_barrier_wait(&start);
    uint64_t end = ap__os_now_us() + slice_us;
    do {
        pair[number]->act(&random);
        done++;
    } while (ap__os_now_us() < end);
    stress_count(done);
}

static void run_pair(size_t first, size_t second)
{
    pair[0] = &roles[first];
    pair[1] = &roles[second];
    stress_run_threads(2, body);
    was_run[first][second] = true;
    pair_number++;
}

static unsigned count_pairs(void)
{
    unsigned count = 0;
    for (size_t first = 0; first < ROLES; first++) {
        for (size_t second = first; second < ROLES; second++) {
            count += was_run[first][second];
        }
    }
    return count;
}

int main(int argc, char **argv)
{
    const char *seconds = getenv("AP_TEST_SECONDS");
    char default_seconds[] = "6";
    char *arguments[] = {argv[0],
                         argc > 1          ? argv[1]
                         : seconds != NULL ? (char *)seconds
                                           : default_seconds,
                         argc > 2 ? argv[2] : NULL, NULL};
    stress_begin(argc > 2 ? 3 : 2, arguments, "pairs_stress");
    slice_us = (uint64_t)(strtod(arguments[1], NULL) * 1e6) / PAIRS;
    (void)pthread_barrier_init(&start, NULL, 2);
    for (size_t first = 0; first < ROLES; first++) {
        for (size_t second = first; second < ROLES; second++) {
            run_pair(first, second);
        }
    }
    ap_set_pressure_callback(NULL, NULL);
    for (size_t i = 0; i < PLACES; i++) {
        destroy(atomic_exchange(&places[i], NULL));
    }
    (void)printf("pairs_stress: %u of %u pairs of %u roles\n", count_pairs(), (unsigned)PAIRS,
                 (unsigned)ROLES);
    STRESS_CHECK(count_pairs() == PAIRS);
    return stress_finish();
}
