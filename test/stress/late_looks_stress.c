/* SPDX-License-Identifier: MIT */
/*
 * late_looks_stress.c: wrong pointers are looked up while the spans that they lie in come and go.
 *
 * Goal: a look at an address where a packed block was never reads anything wild, and what it finds can be read; blocks that
 * are there keep their bytes. Method: threads take and free packed blocks and larger objects, all of them now and then, so
 * that records of spans change hands; others ask for the length of what was freed, for why it is none, and for another
 * length, as the functions do that get such a pointer. In the end the walk of support/consistency.h must find no fault.
 * Not under ThreadSanitizer: whose bitmaps are read too late may be other metadata by then.
 */
#include <stdatomic.h>
#include <stdio.h>

#include "heap/region.h"
#include "pack/pack.h"
#include "pack/pack_place.h"
#include "stress.h"
#include "support/consistency.h"

enum {
    OWNERS = 2, /* threads of even numbers; the others look */
    THREADS = 2 * OWNERS,
    OWN = 24,
    PLACES = 4096,
    LARGE_LEAST = 300000,
    LARGE_SPREAD = 2000000,
};
#define NO_LENGTH ((size_t)AP__PACK_SPAN_GRANULES * AP_GRANULE) /* that a packed block has */

/* Where blocks were. */
static _Atomic(unsigned char *) places[PLACES];

static void free_and_note(struct stress_block *block, struct stress_random *random)
{
    if (block->p != NULL) {
        /* relaxed: a wrong pointer comes from anywhere. */
        atomic_store_explicit(&places[stress_random_below(random, PLACES)], block->p,
                              memory_order_relaxed);
    }
    stress_block_free(block);
}

static void own(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    struct stress_block blocks[OWN] = {{0}};
    uint64_t done = 0;
    while (!stress_is_over()) {
        bool all = stress_random_below(&random, 30) == 0;
        for (unsigned i = 0; i < OWN; i++) {
            if (all || stress_random_below(&random, 2) == 0) {
                free_and_note(&blocks[i], &random);
            }
        }
        struct stress_block *block = &blocks[stress_random_below(&random, OWN)];
        bool is_large = stress_random_below(&random, 4) == 0;
        size_t size = is_large ? LARGE_LEAST + stress_random_below(&random, LARGE_SPREAD)
                               : AP__PACK_SIZE_MIN + stress_random_below(&random, 60000);
        free_and_note(block, &random);
        stress_block_allocate(block, size, &random);
        done++;
    }
    for (unsigned i = 0; i < OWN; i++) {
        stress_block_free(&blocks[i]);
    }
    stress_count(done);
}

static void look_at(const unsigned char *p)
{
    struct ap__span *span = ap__pack_span_of(p);
    if (span == NULL) {
        return;
    }
    size_t bytes = ap__pack_usable_size(span, p);
    STRESS_CHECK(bytes <= NO_LENGTH);
    if (bytes != 0) {
        STRESS_CHECK(ap__region_contains((uintptr_t)p + bytes - 1));
        (void)*(volatile const unsigned char *)&p[bytes - 1];
    } else {
        enum ap__misuse_cause cause = ap__pack_why_no_block(span, p);
        STRESS_CHECK(cause == AP__MISUSE_NOT_LIVE || cause == AP__MISUSE_INTERIOR);
    }
    STRESS_CHECK(!ap__pack_resize(span, p, NO_LENGTH, AP__PACK_SIZE_MIN));
}

static void look(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    uint64_t done = 0;
    while (!stress_is_over()) {
        const unsigned char *p = atomic_load_explicit(&places[stress_random_below(&random, PLACES)],
                                                      memory_order_relaxed);
        if (p != NULL) {
            look_at(p + stress_random_below(&random, 4) * AP_UNIT_BYTES);
            done++;
        }
    }
    stress_count(done);
}

static void body(unsigned number)
{
    if (number % 2 == 0) {
        own(number);
    } else {
        look(number);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "late_looks_stress");
    stress_run_threads(THREADS, body);
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        (void)fprintf(stderr, "%s\n", fault);
    }
    STRESS_CHECK(fault == NULL);
    return stress_finish();
}
