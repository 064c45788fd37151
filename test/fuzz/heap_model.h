/* SPDX-License-Identifier: MIT */
/*
 * heap_model.h: the shadow model of fuzz_heap.c: which blocks are live, and what they hold.
 *
 * Any thread may call, about blocks that are its own.
 */
#ifndef TEST_FUZZ_HEAP_MODEL_H
#define TEST_FUZZ_HEAP_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_BLOCKS_MAX = 68, STALE_ERRNO = 1789 };

#define SURE_MAX ((size_t)32 << 20)  /* a block of this size must be had, */
#define LIVE_MAX ((size_t)128 << 20) /* and all together, */
#define ALIGN_MAX ((size_t)1 << 21)  /* at this alignment */

/* Which sized free a block may be given to. */
enum origin { BY_MALLOC, BY_ALIGNED_ALLOC, BY_OTHERS };

struct block {
    unsigned char *p; /* NULL: none */
    size_t size;
    size_t usable;
    size_t alignment; /* that was asked for */
    uint64_t mark;
    enum origin origin;
};

/* How the heap is run. */
extern struct heap_run {
    bool is_free_running; /* threads run at once */
    bool is_limited;      /* an option may refuse any request */
    bool
        is_watched; /* blocks have canaries, or are sampled: the figures count more than is usable */
} heap_run;

/* A block is live from now on, and overlaps no other; no longer. */
void model_claim(const struct block *block);
void model_give_up(const struct block *block);

/* Usable, of all live blocks. */
size_t model_live_bytes(void);

bool model_is_room_for(size_t size);

/* All that is usable may be written. */
void model_fill(struct block *block);

void model_check_contents(const struct block *block, size_t bytes);
void model_check_zero(const unsigned char *p, size_t size);

#endif
