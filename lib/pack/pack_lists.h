/* SPDX-License-Identifier: MIT */
/*
 * pack_lists.h: packed spans in lists by the longest run of free units that they may have.
 *
 * A span says how long a run it has at most: exact when somebody looked in vain for a longer one, too much after
 * the longest was taken from. Four lists per doubling; a list is circular, with spans whose free pages have been given
 * back at its tail, so that claims prefer memory that is there.
 * Does not: lock, or look at bitmaps. The caller holds the lock of packed spans.
 */
#ifndef AP_PACK_PACK_LISTS_H
#define AP_PACK_PACK_LISTS_H

#include "heap/span.h"
#include "pack/unit_map.h"

enum { AP_PACK_PARTS = 8 };     /* of a span: each is searched by itself */
enum { AP_PACK_RUN_MAX = 512 }; /* units; longer runs hold any block, and count as so long */

/* Lists, and what a span says that is on none. */
enum {
    AP_PACK_RUN_SHIFT = 3, /* shorter runs than eight units hold no block that is packed */
    AP_PACK_BUCKETS = 25,
    AP_PACK_NO_BUCKET = AP_PACK_BUCKETS, /* no run that would do */
    AP_PACK_AWAY                         /* being purged, so that nothing is claimed from it */
};

struct ap__pack_lists {
    struct ap__span *buckets[AP_PACK_BUCKETS];
    uint32_t occupied; /* bit b: bucket b is not empty */
};

/* Puts a span that is on no list where it belongs. */
void ap__pack_lists_insert(struct ap__pack_lists *lists, struct ap__span *span);

/* Takes a span off the list it is on, if any; `why` it is on none now: AP_PACK_NO_BUCKET or AP_PACK_AWAY. */
void ap__pack_lists_remove(struct ap__pack_lists *lists, struct ap__span *span, unsigned why);

/* Puts a span that is not away on the list where it belongs now. */
void ap__pack_lists_move(struct ap__pack_lists *lists, struct ap__span *span);

/* Whether it is on another one. */
bool ap__pack_lists_is_misplaced(const struct ap__span *span);

/* A span that may have a run of `units`, of those with the shortest such runs; NULL: there is none, or only behind many
 * with runs that are nearly as long. */
struct ap__span *ap__pack_lists_find(const struct ap__pack_lists *lists, unsigned units);

/* The same, however long it takes. NULL: there is none. */
struct ap__span *ap__pack_lists_find_any(const struct ap__pack_lists *lists, unsigned units);

#endif
