/* SPDX-License-Identifier: MIT */
/*
 * long_lived: long-lived small blocks among short-lived ones, which leave holes between them.
 * The pattern: sessions, symbols and cache entries made while requests are served; isolated objects that stay
 * keep whole pages of others' memory (Wilson et al., Dynamic Storage Allocation, IWMM 1995; Powers et al.,
 * mesh, PLDI 2019). One block of 16 stays; what comes after has other sizes and cannot use the holes.
 * Options: heap_mib (small blocks at the peak), operations (medium blocks afterwards), idle_s, hold. Also
 * prints the lines of idle.h.
 */
#include "idle.h"

enum { LEAST_BYTES = 32, MOST_BYTES = 512, STAYS_ONE_IN = 16 };
enum { MEDIUM_LEAST_BYTES = 2048, MEDIUM_MOST_BYTES = 32768, MEDIUM_LIVE = 64, SAMPLES = 10 };

static struct bench_random random_numbers = {1};

static size_t between(size_t least, size_t most)
{
    return least + bench_random_below(&random_numbers, most - least + 1);
}

/* Samples ten times in `amount` steps. */
static void sample_at(uint64_t step, uint64_t amount, uint64_t live_bytes)
{
    if (step % (amount / SAMPLES + 1) == 0)
        bench_sample(live_bytes);
}

/* Frees those that do not stay, in the order they were made in. */
static struct blocks keep_few(struct blocks *made)
{
    struct blocks kept = blocks_make(made->live_bytes, LEAST_BYTES);
    uint64_t live = made->live_bytes;
    for (size_t i = 0; i < made->count; i++) {
        uint32_t *block = made->items[i];
        sample_at(i, made->count, live);
        if (bench_random_below(&random_numbers, STAYS_ONE_IN) == 0) {
            kept.items[kept.count++] = block;
            kept.live_bytes += *block + sizeof block;
        } else {
            live -= *block + sizeof block;
            free(block);
        }
    }
    made->count = 0;
    blocks_trim(made);
    return kept;
}

/* Medium blocks, each of which lives until as many others as there is room for have been made. */
static void serve(size_t operations, uint64_t live_bytes)
{
    char *window[MEDIUM_LIVE] = {NULL};
    for (size_t i = 0; i < operations; i++) {
        size_t bytes = between(MEDIUM_LEAST_BYTES, MEDIUM_MOST_BYTES);
        sample_at(i, operations, live_bytes);
        free(window[i % MEDIUM_LIVE]);
        window[i % MEDIUM_LIVE] = (char *)memset(bench_allocate(bytes), 1, bytes);
    }
    for (size_t i = 0; i < MEDIUM_LIVE; i++)
        free(window[i]);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    uint64_t heap = (uint64_t)bench_number("heap_mib", 256) << 20;
    size_t operations = (size_t)bench_number("operations", 200000);
    long idle_s = bench_number("idle_s", 30);
    struct blocks made = blocks_make(heap, LEAST_BYTES);
    bench_start();
    for (uint64_t next_sample = 0; made.live_bytes < heap;) {
        blocks_add(&made, between(LEAST_BYTES, MOST_BYTES));
        if (made.live_bytes >= next_sample) {
            bench_sample(made.live_bytes);
            next_sample += heap / SAMPLES;
        }
    }
    uint64_t done = made.count + operations, peak_live = made.live_bytes;
    struct blocks kept = keep_few(&made);
    serve(operations, kept.live_bytes);
    idle_for(idle_s, kept.live_bytes);
    idle_print_peak(peak_live);
    bench_end(done, kept.live_bytes);
    return 0;
}
