/* SPDX-License-Identifier: MIT */
/*
 * pack_traffic.h: whether packed blocks of a size stay, or replace each other.
 *
 * For each size class that is not fine: of the last 64 blocks taken or so, how many were taken when the last thing that
 * had happened in the class was that one came back? All, where blocks of one size replace each other; a half, where all
 * sizes do so at random; few, where many are freed and then many allocated, as by sessions of some length. Three eighths
 * (beyond 16 KiB three quarters), and their users are better off with thread caches: these spare them lock and search, and it
 * is not growth that the memory is about. To have waited for the lock counts as well, since caches spare the wait, too.
 * Does not: lock. The caller holds the lock of the pool that the figures are of.
 */
#ifndef AP_PACK_PACK_TRAFFIC_H
#define AP_PACK_PACK_TRAFFIC_H

#include "base/size_class.h"

enum {
    AP_PACK_KINDS = 6 * AP_CLASSES_PER_DOUBLING / 2
}; /* six doublings, without the fine classes */

/* All zero: nothing has been seen. */
struct ap__pack_traffic {
    /* Of 65,536 blocks, those that took the place of one, in a mean that forgets a 64th. */
    uint16_t replacing[AP_PACK_KINDS];
    bool given_last[AP_PACK_KINDS];
    /* The same for blocks of all sizes together. */
    uint16_t all_replacing;
    bool all_given_last;
};

/* A block of so many bytes was taken; `waited`: somebody had to wait for the lock. `true`: such blocks replace each
 * other; said each time that it is found anew. */
bool ap__pack_traffic_taken(struct ap__pack_traffic *traffic, size_t size_bytes, bool waited);

/* A block has come back. */
void ap__pack_traffic_given(struct ap__pack_traffic *traffic, size_t size_bytes);

#endif
