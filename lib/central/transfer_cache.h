/* SPDX-License-Identifier: MIT */
/*
 * transfer_cache.h: whole batches of block addresses on their way between threads.
 *
 * Does: takes a batch from one thread and hands it to another; copies addresses. Does not: touch
 * blocks, spans or the page heap's lock.
 * One stack of addresses per class and shard; a thread uses the shard of the processor it runs on.
 * Callers: any thread; one lock per stack, inside.
 *
 * Idea: tcmalloc's transfer cache, the depot of Bonwick and Adams, "Magazines and Vmem", 2001.
 */
#ifndef AP_CENTRAL_TRANSFER_CACHE_H
#define AP_CENTRAL_TRANSFER_CACHE_H

#include "base/size_class.h"

struct ap__lock;

enum { AP_TRANSFER_SHARDS_MAX = 8 };

/* `shards` of 0: as many as suit the number of processors. Once, before the first use. */
void ap__transfer_init(unsigned shards, size_t class_bytes_max);

/* Blocks of the class cost more to bring back than to keep: its stacks hold up to half of their bound from now on also of
 * what returns to its giver. Any thread, takes no lock. */
void ap__transfer_keep_all(unsigned size_class);

/* How many blocks would probably be kept now. Takes no lock, may be late. */
unsigned ap__transfer_room(unsigned size_class);

/* Keeps the first blocks of a batch and returns how many; the others are still the caller's. */
unsigned ap__transfer_give(unsigned size_class, void *const *blocks, unsigned count);

/* Up to `count` blocks, those given last first; 0 when there are none. */
unsigned ap__transfer_take(unsigned size_class, void **blocks, unsigned count);

/* Whether the block is kept here now. Takes the locks of the class, one after the other. */
bool ap__transfer_holds(unsigned size_class, const void *p);

/* Up to `count` blocks of a class from any shard; for emptying. */
unsigned ap__transfer_drain(unsigned size_class, void **blocks, unsigned count);

/*
 * Up to `count` of the blocks of a class that nobody has wanted since the last look, oldest first. 0:
 * there are no more; the next look begins. Called by one thread at a time.
 */
unsigned ap__transfer_take_unused(unsigned size_class, unsigned shard, void **blocks,
                                  unsigned count);

/* Blocks of a class in all shards. */
size_t ap__transfer_count(unsigned size_class);

unsigned ap__transfer_shards(void);
struct ap__lock *ap__transfer_lock(unsigned shard, unsigned size_class); /* for fork only */

/* One stack. For tests and debuggers: the caller holds its lock. */
struct ap__transfer_view {
    void *const *blocks; /* NULL: never used */
    unsigned count;
    unsigned capacity;
    unsigned limit;
    unsigned unused;
};
void ap__transfer_view_locked(unsigned shard, unsigned size_class, struct ap__transfer_view *view);

#endif
