/* SPDX-License-Identifier: MIT */
/*
 * quarantine.h: freed memory that waits before it can be handed out again.
 *
 * Does: one queue for the process, first in, first out, with a bound on the bytes in it. What is pushed
 * comes out again when newer memory needs its place. A stale pointer is so long met by a freed
 * block instead of somebody else's live one. Does not: look into what it holds.
 * Callers: any thread; its lock is its own, and what comes out is given back without it.
 */
#ifndef AP_HARDENED_QUARANTINE_H
#define AP_HARDENED_QUARANTINE_H

#include "base/compiler.h"

struct ap__lock;

struct ap__quarantined {
    void *p;
    uint32_t bytes;      /* of memory that it holds */
    uint32_t size_class; /* 0: `p` is the record of a large object's span */
};

/* `bytes_most` in the queue; 0: no queue. Once, before the first use. */
void ap__quarantine_init(size_t bytes_most);

/* Takes an entry. `false`: it is too large, or there is no memory for the queue; it is still the caller's. */
bool ap__quarantine_push(struct ap__quarantined entry);

/*
 * The oldest entries while there are more bytes than the bound, or all with `everything`. Returns how many were
 * written to `entries`; fewer than `most` means that there are no more.
 */
unsigned ap__quarantine_pop(struct ap__quarantined *entries, unsigned most, bool everything);

struct ap__quarantine_stats {
    size_t blocks, block_bytes; /* of slots */
    size_t large, large_bytes;  /* large objects, and bytes of their spans */
};
void ap__quarantine_stats(struct ap__quarantine_stats *stats);

struct ap__lock *ap__quarantine_lock(void); /* for fork only */

#endif
