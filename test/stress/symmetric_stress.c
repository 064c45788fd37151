/* SPDX-License-Identifier: MIT */
/*
 * symmetric_stress.c: every thread allocates, resizes and frees blocks of its own.
 * Goal: threads that share nothing but the allocator never share a block. Method: each thread keeps
 * a table of marked blocks and does a random thing to a random one; sometimes it empties its cache.
 */
#include "stress.h"

enum { THREADS = 6, BLOCKS = 600, SIZE_MOST = 400 << 10, CHECK_TIME_EVERY = 64 };

static void body(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    struct stress_block blocks[BLOCKS] = {{0}};
    uint64_t done = 0;
    while (done % CHECK_TIME_EVERY != 0 || !stress_is_over()) {
        struct stress_block *block = &blocks[stress_random_below(&random, BLOCKS)];
        if (block->p == NULL) {
            stress_block_allocate(block, stress_random_size(&random, SIZE_MOST), &random);
        } else if (stress_random_below(&random, 5) == 0) {
            stress_block_realloc(block, stress_random_size(&random, SIZE_MOST));
        } else {
            stress_block_free(block);
        }
        if (stress_random_below(&random, 20000) == 0) {
            ap_thread_idle();
        }
        done++;
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        stress_block_free(&blocks[b]);
    }
    stress_count(done);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "symmetric_stress");
    stress_run_threads(THREADS, body);
    return stress_finish();
}
