/* SPDX-License-Identifier: MIT */
/*
 * false_sharing: does the allocator put small blocks of several threads on one cache line?
 * Active: threads allocate 8 bytes at the same time and write them often. Passive: one thread allocates
 * neighbours, gives one to each thread, which frees it and goes on with blocks of its own. From Berger et
 * al., Hoard (ASPLOS 2000): "cache-thrash" and "cache-scratch".
 * Options: mode (active, passive), threads, operations (blocks of each thread), writes (to each block), hold.
 */
#include "bench.h"

enum { BYTES = 8 };

static long operations, writes;

static void *run(void *argument)
{
    free(*(void **)argument);
    for (long i = 0; i < operations; i++) {
        volatile char *block = (volatile char *)bench_allocate(BYTES);
        for (long k = 0; k < writes; k++)
            block[k % BYTES]++;
        free((void *)block);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    const char *mode = bench_word("mode", "active");
    size_t threads = (size_t)bench_number("threads", 2);
    operations = bench_number("operations", 500000);
    writes = bench_number("writes", 1000);
    void **gifts = (void **)calloc(threads, sizeof *gifts);
    for (size_t i = 0; i < threads && strcmp(mode, "passive") == 0; i++)
        gifts[i] = bench_allocate_touched(BYTES);
    bench_start();
    bench_threads_run(threads, run, gifts, sizeof *gifts);
    bench_end((uint64_t)operations * threads, 0);
    return 0;
}
