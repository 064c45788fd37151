/* SPDX-License-Identifier: MIT */
/*
 * central_free_list.h: one size class: the spans with free blocks; a batch out, a batch in.
 *
 * Does: claims and releases blocks in the occupancy bitmaps of spans, takes spans from the page heap
 * and gives drained ones back. Recognises what is no block: on the way in every address is checked
 * against its span, and a bit that is already set is a double free.
 * Does not: touch the blocks' memory, or know threads.
 * Callers: any thread; one lock per class and shard, inside (shards.h); the page heap's lock is taken under it.
 * Invariants: free slots of a span = set bits of its bitmap; those of shards.h.
 *
 * Idea: the central free list of tcmalloc; out-of-band bitmaps as in jemalloc's slabs.
 */
#ifndef AP_CENTRAL_CENTRAL_FREE_LIST_H
#define AP_CENTRAL_CENTRAL_FREE_LIST_H

#include "base/size_class.h"

struct ap__lock;

/* Blocks of more bytes need not be used to the end, buffers say: what of them is, their users fault in. */
enum { AP__POPULATE_SIZE_MAX = 8192 };

/* Whether fresh spans of classes in much use get their memory at once; how many shards a class may be divided into, 0: as
 * many as there can be. Once, before the first use. */
void ap__central_init(bool populate, unsigned shards);

/* Several threads allocate from now on: blocks given back pass through the transfer cache, and classes in much use may be
 * divided among them. */
void ap__central_share(void);

/* Whether there ever were several. Takes no lock, may be late. */
bool ap__central_is_shared(void);

/* The calling thread's number, by which it claims from shards; 0 until it says so. */
void ap__central_set_thread(unsigned number);

/* Whether the class has been divided. Then threads take what they gave back from the spans it went to, and need no
 * transfer cache for that. Takes no lock, may be late. */
bool ap__central_is_spread(unsigned size_class);

/* Up to `count` blocks into `blocks`: the lowest addresses of the fullest spans of the thread's shard, the best one last,
 * as on a stack. Fewer than asked, or 0, when memory runs out. */
unsigned ap__central_take(unsigned size_class, void **blocks, unsigned count);

/*
 * Up to `count` blocks that fill whole cache lines, the lowest last, from one of the spans that are there. 0: none of
 * the first spans has such lines free.
 */
unsigned ap__central_take_lines(unsigned size_class, void **blocks, unsigned count);

/*
 * A class with a bound adds no span beyond so many bytes of them: whoever asks for blocks has another place for those that
 * the spans do not hold. SIZE_MAX: no bound. Any thread; takes no lock, may be seen late.
 */
void ap__central_set_bound(unsigned size_class, size_t bytes);

/* The bound of the class; SIZE_MAX: none. Also where it is lifted. */
size_t ap__central_bound(unsigned size_class);

/* The other place has no memory for a span of `granules`: the bound is not in force until the page heap has room for one,
 * which is looked at when a span is to be added. */
void ap__central_lift_bound(unsigned size_class, size_t granules);

/* Whether it is lifted. Takes no lock, may be late. */
bool ap__central_is_bound_lifted(unsigned size_class);

/* Adds a span to the thread's shard, whatever the bound is, unless that has free slots. `false`: no memory. */
bool ap__central_add_span(unsigned size_class);

/* Whether a claim has been refused for that, and no block has come back since. Takes no lock, may be late. */
bool ap__central_is_at_bound(unsigned size_class);

/* Takes blocks back. What is not a claimed block of the class is misuse of `function`. */
void ap__central_give(unsigned size_class, void *const *blocks, unsigned count,
                      const char *function);

/* Whether `p` is the start of a slot of the class (claimed or not). Takes no lock. */
bool ap__central_is_slot(unsigned size_class, const void *p);

/* Ends the process if one of the blocks is not the start of a slot of the class. Takes no lock. */
void ap__central_check_slots(unsigned size_class, void *const *blocks, unsigned count,
                             const char *function);

/* Whether the slot that starts at `p` is free here. */
bool ap__central_is_free(unsigned size_class, const void *p);

/* Time, as spans see it: counts up, wraps at 256. */
void ap__central_set_epoch(unsigned epoch);
uint8_t ap__central_epoch(void);

/*
 * Gives the whole free pages inside the partly used spans of a class to the kernel, as far as blocks
 * have come back since the last time: of spans from which no block has been taken for `age_least` to
 * `age_most` epochs, which is drawn for each span, so that not all go at one moment. Returns the bytes;
 * *pending becomes true if some spans are too young. Other threads use the class meanwhile, but not the spans that are at work.
 */
size_t ap__central_purge(unsigned size_class, unsigned age_least, unsigned age_most, bool *pending);

struct ap__central_stats {
    size_t spans;
    size_t slots;   /* in them */
    size_t claimed; /* of those, outside of the central free list */
};

/* Blocks of the class outside of the central free list. Takes no lock, may be late. */
size_t ap__central_claimed(unsigned size_class);

void ap__central_stats(unsigned size_class, struct ap__central_stats *stats);

/* How many shards the class has. Never fewer; more only by a thread that has the lock of one of them: who takes all,
 * the first one first, and looks before each whether there is one more, has all. Others may see it late. */
unsigned ap__central_shards(unsigned size_class);

/* For fork and statistics only. */
struct ap__lock *ap__central_lock(unsigned shard, unsigned size_class);

#endif
