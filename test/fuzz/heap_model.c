/* SPDX-License-Identifier: MIT */
/* heap_model.c: a table of ranges under one lock; contents from the block's mark and the place in it. */
#include "heap_model.h"

#include <pthread.h>

#include "fuzz.h"
#include "heap/region.h"

struct heap_run heap_run;

/* Everybody's live blocks, to find out when two overlap. */
static pthread_mutex_t live_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct range {
    uintptr_t start, end;
} live[MODEL_BLOCKS_MAX];
static size_t live_bytes; /* usable */

void model_claim(const struct block *block)
{
    uintptr_t start = (uintptr_t)block->p, end = start + block->usable;
    struct range *vacant = NULL;
    (void)pthread_mutex_lock(&live_mutex);
    for (size_t i = 0; i < MODEL_BLOCKS_MAX; i++) {
        FUZZ_CHECK(end <= live[i].start || live[i].end <= start);
        if (live[i].start == 0) {
            vacant = &live[i];
        }
    }
    FUZZ_CHECK(vacant != NULL);
    *vacant = (struct range){start, end};
    live_bytes += block->usable;
    (void)pthread_mutex_unlock(&live_mutex);
}

void model_give_up(const struct block *block)
{
    bool found = false;
    (void)pthread_mutex_lock(&live_mutex);
    for (size_t i = 0; i < MODEL_BLOCKS_MAX && !found; i++) {
        if (live[i].start == (uintptr_t)block->p) {
            FUZZ_CHECK(live[i].end == live[i].start + block->usable);
            live[i] = (struct range){0, 0};
            found = true;
        }
    }
    FUZZ_CHECK(found);
    live_bytes -= block->usable;
    (void)pthread_mutex_unlock(&live_mutex);
}

size_t model_live_bytes(void)
{
    (void)pthread_mutex_lock(&live_mutex);
    size_t bytes = live_bytes;
    (void)pthread_mutex_unlock(&live_mutex);
    return bytes;
}

bool model_is_room_for(size_t size)
{
    (void)pthread_mutex_lock(&live_mutex);
    bool fits = size <= LIVE_MAX && live_bytes <= LIVE_MAX - size;
    (void)pthread_mutex_unlock(&live_mutex);
    return fits;
}

/* ------------------------------------------------------------ contents */

/* Both ends are marked densely, the middle once a page, or once a granule if there is much of it. */
static size_t next_index(size_t index, size_t size)
{
    if (index < 2048 || index + 2048 >= size) {
        return index + 1;
    }
    size_t next = (index | (size >> 20 == 0 ? 4095 : AP_GRANULE - 1)) + 1;
    return next < size - 2048 ? next : size - 2048;
}

static unsigned char byte_at(const struct block *block, size_t index)
{
    return (unsigned char)((block->mark * (index + 1)) >> 40 ^ index);
}

void model_fill(struct block *block)
{
    for (size_t i = 0; i < block->usable; i = next_index(i, block->usable)) {
        block->p[i] = byte_at(block, i);
    }
}

void model_check_contents(const struct block *block, size_t bytes)
{
    for (size_t i = 0; i < bytes; i = next_index(i, block->usable)) {
        if (block->p[i] != byte_at(block, i)) {
            (void)fprintf(
                stderr,
                "byte %zu of the first %zu of block %p (asked for %zu, was %zu) is %#x, not %#x\n",
                i, bytes, (void *)block->p, block->size, block->usable, block->p[i],
                byte_at(block, i));
            abort();
        }
    }
}

void model_check_zero(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i = next_index(i, size)) {
        FUZZ_CHECK(p[i] == 0);
    }
}
