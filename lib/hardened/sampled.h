/* SPDX-License-Identifier: MIT */
/*
 * sampled.h: a few blocks of the program, each on a page of its own between inaccessible ones.
 *
 *   | guard | page of block 0 | guard | page of block 1 | guard | ...
 *
 * Does: hands out a block in place of an ordinary one now and then, at the end of its page or at its start;
 * makes the page inaccessible when the block is freed, and leaves it so as long as other pages can be
 * used; reports an access to a freed block, or beyond either end of a live one, with the places where the
 * block was allocated and freed and where it was touched. Does not: decide what is done about sizes
 * above a page (such blocks are not sampled).
 * Callers: any thread, holding no lock. One lock inside.
 *
 * Which allocations: every N-th block, in the mean, that reaches a thread's cache from below (the
 * hit path counts nothing, so blocks that are freed and handed out again within one thread are not counted
 * again); with `hardened`, every N-th of all.
 *
 * Idea: Electric Fence by Bruce Perens; sampled, GWP-ASan.
 */
#ifndef AP_HARDENED_SAMPLED_H
#define AP_HARDENED_SAMPLED_H

#include "base/compiler.h"
#include "os/fault.h"

struct ap__lock;

/* The pool; constant once set. */
extern AP_HIDDEN uintptr_t ap__sampled_start;
extern AP_HIDDEN size_t ap__sampled_bytes;

/* One of `every` allocations from now on. `false`: no address space for the pool. Once, at start. */
bool ap__sampled_init(uint64_t every, uint64_t secret);

static inline bool ap__sampled_is_on(void)
{
    return ap__sampled_bytes != 0;
}

/* Whether the address lies in the pool; of any pointer. */
static inline bool ap__sampled_contains(const void *p)
{
    return (uintptr_t)p - ap__sampled_start < ap__sampled_bytes;
}

/* Counts `allocations` of this thread. `true`: the next one shall be sampled. */
bool ap__sampled_is_due(uint64_t allocations);

/* A block; zeroed. `alignment` is a power of two. `caller`: where the heap was called from (os/stack_trace.h). NULL: too
 * large, or all pages are in use or, unless this is the `last_resort`, have been until a short while ago, or there can
 * be no stack trace. */
void *ap__sampled_take(size_t alignment, size_t size, bool last_resort, const void *caller);

/* Frees a block of the pool; anything but the start of a live one is misuse of `function`. */
void ap__sampled_give(void *p, const char *function, const void *caller);

/* Bytes of the live block at `p`, as they were asked for; anything else is misuse of `function`. */
size_t ap__sampled_size(const void *p, const char *function);

/* Says on standard error which block an access to an inaccessible address of the pool was meant for, and
 * its history. In a signal handler. */
void ap__sampled_explain(uintptr_t address, enum ap__access access, const void *caller);

struct ap__sampled_stats {
    uint64_t taken; /* blocks since start */
    size_t live;    /* of them */
    size_t live_bytes;
    uint64_t failed; /* allocations that found no page */
};
void ap__sampled_stats(struct ap__sampled_stats *stats);

struct ap__lock *ap__sampled_lock(void); /* for fork only */

#endif
