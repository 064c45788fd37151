/* SPDX-License-Identifier: MIT */
/*
 * recycled_program.c: what caches hold of packed blocks that replace each other, as a program meets it.
 * Goal: no request gets one that is not aligned as it must be, also where they come to be kept while it is under way; and
 * at a limit what was freed can be had again, in blocks of the same size and of any other. Method: one mode a run.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "entry_points.h"
#include "expect.h"
#include "modes.h"

enum { MOST = 40000, PER_CLASS_MOST = 4000 };

static void *blocks[MOST];

/* Of places `first` on, `count` of them. */
static void exchange(unsigned first, unsigned count, size_t size, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        void **block = &blocks[first + i % count];
        ap_free(*block);
        *block = ap_malloc(size);
        expect(*block != NULL, "a block is had");
    }
}

static size_t take_up_to(void **where, size_t most, size_t size)
{
    size_t count = 0;
    while (count < most && (where[count] = ap_malloc(size)) != NULL) {
        count++;
    }
    return count;
}

/* --- pack:always,helper:false,soft_limit:4M: a request polls, which calls this --- */

static bool is_told;

static void bring_packed_blocks(void *context, size_t used_bytes, size_t limit_bytes)
{
    enum { COUNT = 63, SIZE = 4096 };
    (void)context;
    (void)used_bytes;
    (void)limit_bytes;
    is_told = true;
    (void)ap_malloc(1200); /* so that the others do not begin where a page does */
    (void)take_up_to(blocks, COUNT, SIZE);
    exchange(0, COUNT, SIZE, 300);
    for (unsigned i = 0; i < COUNT; i += 2) {
        ap_free(blocks[i]);
    }
}

static void aligned(void)
{
    expect(ap_malloc(8 << 20) != NULL, "a large block is had");
    ap_set_pressure_callback(bring_packed_blocks, NULL);
    void *p = ap_aligned_alloc(4096, 4096);
    expect(is_told, "the class has come to be kept meanwhile");
    expect(p != NULL && (uintptr_t)p % 4096 == 0, "a block is aligned");
    ap_free(p);
}

/* --- pack:auto,limit:40M --- */

static void same_size(void)
{
    enum { EXCHANGED = 4000, FREED = 100, SIZE = 1100, OTHER_SIZE = 1250 };
    (void)take_up_to(blocks, EXCHANGED, OTHER_SIZE);
    size_t count = take_up_to(blocks + EXCHANGED, MOST - EXCHANGED, SIZE);
    expect(count > 4 * FREED && EXCHANGED + count < MOST, "the limit is met");
    exchange(1500, 2000, OTHER_SIZE, 3000);
    for (unsigned i = 0; i < FREED; i++) {
        ap_free(blocks[EXCHANGED + 1000 + i]);
    }
    size_t again = take_up_to(blocks + EXCHANGED + 1000, FREED, SIZE);
    expect(again >= FREED * 3 / 4, "what was freed is had again");
}

/* --- pack:always,limit:20M --- */

static const size_t sizes[] = {1280,  2048,  3072,  4096,  6144,  8192,
                               12288, 16384, 24576, 32768, 49152, 65536};
enum { SIZES = sizeof sizes / sizeof *sizes };
static void *of_size[SIZES][PER_CLASS_MOST];
static size_t counts[SIZES];

/* From before the limit is met, where a thread could not start. */
static pthread_barrier_t is_full;

static void *free_much(void *freed)
{
    (void)pthread_barrier_wait(&is_full);
    for (unsigned s = 0; s < SIZES; s++) {
        for (size_t i = 0; i < counts[s]; i++) {
            ap_free(of_size[s][i]);
            *(size_t *)freed += sizes[s];
        }
    }
    return NULL;
}

static void other_size(void)
{
    enum { EXCHANGED = 8, PER_CLASS_BYTES = 192 << 10, SIZE = 30000 };
    pthread_t thread;
    size_t freed = 0;
    expect(pthread_barrier_init(&is_full, NULL, 2) == 0, "a barrier");
    expect(pthread_create(&thread, NULL, free_much, &freed) == 0, "a thread");
    for (unsigned s = 0; s < SIZES; s++) {
        (void)take_up_to(blocks, EXCHANGED, sizes[s]);
        exchange(0, EXCHANGED, sizes[s], 600);
        for (unsigned i = 0; i < EXCHANGED; i++) {
            ap_free(blocks[i]);
        }
    }
    for (unsigned s = 0; s < SIZES; s++) {
        counts[s] = take_up_to(of_size[s], PER_CLASS_BYTES / sizes[s], sizes[s]);
    }
    for (size_t size = 65536; size >= 64; size /= 2) {
        (void)take_up_to(blocks, MOST, size);
    }
    (void)pthread_barrier_wait(&is_full);
    expect(pthread_join(thread, NULL) == 0, "the thread ends");
    size_t had = take_up_to(blocks, MOST, SIZE) * SIZE;
    if (had < freed / 4 * 3) {
        fail("of %zu bytes that were freed %zu are had again", freed, had);
    }
}

static const struct mode modes[] = {
    {"aligned", aligned},
    {"same_size", same_size},
    {"other_size", other_size},
};

int main(int argc, char **argv)
{
    (void)argc;
    run_mode(modes, sizeof modes / sizeof *modes, argv[1]);
    return 0;
}
