/* SPDX-License-Identifier: MIT */
/*
 * decay_stress.c: memory goes back to the kernel while threads take and give it.
 * Goal: what is in use keeps its contents, what calloc hands out is zero, and the helper thread races with
 * nobody. Method: every thread keeps a table of marked blocks of all sizes and now and then lets go of
 * most of them, so that there is always something to give back; APMALLOC_CONF makes that
 * soon. The helper must have been there, unless the option forbids it.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "stress.h"
#include "support/process_view.h"

enum { THREADS = 4, BLOCKS = 400, SIZE_MOST = 3 << 20, CHECK_TIME_EVERY = 64 };

static _Atomic(bool) was_helped;

/* Zero all over: the pages of a big block come from anywhere. */
static void check_zero(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i += i < 4096 ? 1 : 61) {
        STRESS_CHECK(p[i] == 0);
    }
    STRESS_CHECK(size == 0 || p[size - 1] == 0);
}

static void allocate_zero(struct stress_block *block, size_t size, struct stress_random *random)
{
    unsigned char *p = ap_calloc(1, size);
    *block = (struct stress_block){0};
    if (p != NULL) {
        check_zero(p, size);
        stress_block_fill(block, p, size, 16, stress_random_next(random));
    }
}

static void change(struct stress_block *block, struct stress_random *random)
{
    size_t size = stress_random_size(random, SIZE_MOST);
    size_t what = stress_random_below(random, 8);
    if (block->p == NULL && what < 4) {
        allocate_zero(block, size, random);
    } else if (block->p == NULL) {
        stress_block_allocate(block, size, random);
    } else if (what == 0) {
        stress_block_realloc(block, size);
    } else {
        stress_block_free(block);
    }
}

/* Scattered survivors, so that pages inside spans become free. */
static void free_most(struct stress_block *blocks, struct stress_random *random)
{
    for (unsigned b = 0; b < BLOCKS; b++) {
        if (stress_random_below(random, 20) != 0) {
            stress_block_free(&blocks[b]);
        }
    }
    view_sleep_ms((int64_t)stress_random_below(random, 30));
}

static void body(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    struct stress_block *blocks = ap_calloc(BLOCKS, sizeof *blocks);
    uint64_t done = 0;
    STRESS_CHECK(blocks != NULL);
    while (done % CHECK_TIME_EVERY != 0 || !stress_is_over()) {
        change(&blocks[stress_random_below(&random, BLOCKS)], &random);
        if (stress_random_below(&random, 3000) == 0) {
            free_most(blocks, &random);
            if (view_helper() != 0) {
                atomic_store_explicit(&was_helped, true, memory_order_relaxed);
            }
        }
        done++;
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        stress_block_free(&blocks[b]);
    }
    ap_free(blocks);
    stress_count(done);
}

int main(int argc, char **argv)
{
    const char *conf = getenv("APMALLOC_CONF");
    bool helped = conf != NULL && strstr(conf, "helper:false") == NULL;
    stress_begin(argc, argv, "decay_stress");
    stress_run_threads(THREADS, body);
    STRESS_CHECK(atomic_load(&was_helped) == helped);
    return stress_finish();
}
