/* SPDX-License-Identifier: MIT */
/*
 * walk.h: what the parts of the walk share: what is wrong, and what has been counted.
 *
 * For the files of consistency.c only; tests include consistency.h. The parts run with all locks held, in the order
 * below, as long as nothing has been found.
 */
#ifndef TEST_SUPPORT_CONSISTENCY_WALK_H
#define TEST_SUPPORT_CONSISTENCY_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heap/span.h"
#include "support/consistency.h"

/* One thread at a time. */
struct walk {
    bool found;
    bool is_child; /* of a process with other threads */
    bool is_part;  /* the page heap only: the test may have records in its hands */
    bool is_busy;  /* a purge has a span */
    uint32_t records;
    struct consistency_sums sums;
};
extern struct walk walk;

/* The first fault stays. */
void walk_fault(const char *what, const void *where, size_t number);

/* The condition that must hold. Returns it: seen where it is called, so that an analyzer knows what holds then. */
static inline bool walk_check(bool condition, const char *what, const void *where, size_t number)
{
    if (!condition) {
        walk_fault(what, where, number);
    }
    return condition;
}

void walk_check_span(bool condition, const char *what, const struct ap__span *span);

/* Before the first walk, without any lock: each can be had, and is as a free lock should be. */
void walk_check_locks(void);

/* All of them by rank. In between the layers' functions can be called. */
void walk_take_locks(void);
void walk_release_locks(void);

void walk_meta(void);
void walk_page_heap(void);
void walk_central(void);
void walk_pack(void);
void walk_table(void);
void walk_caches(void); /* needs the sum of claimed blocks */

#endif
