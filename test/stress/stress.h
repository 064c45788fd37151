/* SPDX-License-Identifier: MIT */
/*
 * stress.h: what the stress programs have in common: arguments, random numbers, marked blocks, the
 * end.
 *
 * The programs use the ap_ names only, so that they run under ThreadSanitizer (malloc stays the
 * sanitizer's). Arguments of each: [SECONDS] [SEED]; the seed is printed. They end with status 0,
 * or with one line and abort() at the first error.
 */
#ifndef TEST_STRESS_STRESS_H
#define TEST_STRESS_STRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apmalloc.h"

/* Reads the arguments, prints the seed, starts the clock. */
void stress_begin(int argc, char **argv, const char *name);

/* Whether the time is up, or some thread has said that it is. Cheap enough for an inner loop. */
bool stress_is_over(void);

/* Ends the run from any thread. */
void stress_end(void);

/* Prints what was done and returns the status for main(). */
int stress_finish(void);

/* Adds to the count of operations that stress_finish() prints. */
void stress_count(uint64_t operations);

#define STRESS_CHECK(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            stress_fail(#condition, __FILE__, __LINE__);                                           \
        }                                                                                          \
    } while (0)
_Noreturn void stress_fail(const char *condition, const char *file, int line);

/* --- random numbers: one stream per thread, all from the seed --- */

struct stress_random {
    uint64_t state;
};

struct stress_random stress_random_stream(unsigned number);
uint64_t stress_random_next(struct stress_random *random);
/* 0 .. bound-1; bound at least 1. */
size_t stress_random_below(struct stress_random *random, size_t bound);
/* Mostly small, sometimes up to 32 KiB, rarely up to `most`. */
size_t stress_random_size(struct stress_random *random, size_t most);

/* --- blocks that know what they should contain --- */

struct stress_block {
    unsigned char *p;
    size_t size;
    uint64_t mark; /* decides the contents, with the place */
};

/* Checks alignment and usable size of a new block and fills it. Only the ends of large ones are
 * filled, and some places between, so that they cost page faults, not time. */
void stress_block_fill(struct stress_block *block, void *p, size_t size, size_t alignment,
                       uint64_t mark);
/* Checks the first `size` bytes as they were filled. */
void stress_block_check(const struct stress_block *block, size_t size);
/* A new block by malloc with a random mark; p is NULL and size 0 if there is no memory. */
void stress_block_allocate(struct stress_block *block, size_t size, struct stress_random *random);
/* Checks and frees; the block is then empty. An empty block is left alone. */
void stress_block_free(struct stress_block *block);
void stress_block_realloc(struct stress_block *block, size_t size);

/* --- threads --- */

typedef void stress_body(unsigned number);

/* Runs threads 0 .. count-1 to their end. */
void stress_run_threads(unsigned count, stress_body *body);

#endif
