/* SPDX-License-Identifier: MIT */
/*
 * stats.h: one snapshot of the heap's figures.
 *
 * Does: adds up what every layer counts. Each layer's figures are exact for the moment its lock was held;
 * together they are from slightly different moments while other threads run, and exact at rest.
 * Callers: any thread holding no lock.
 */
#ifndef AP_OBSERVE_STATS_H
#define AP_OBSERVE_STATS_H

#include "base/size_class.h"
#include "hardened/quarantine.h"
#include "hardened/sampled.h"
#include "heap/page_heap.h"
#include "os/lock.h"
#include "pack/pack.h"
#include "table/large_table.h"

struct ap__class_stats {
    size_t spans;
    size_t slots; /* in them */
    size_t live; /* blocks the program holds, and those in quarantine; less packed ones in caches */
    size_t cached;   /* blocks in thread caches */
    size_t transfer; /* blocks in transfer caches */
};

struct ap__stats {
    struct ap__class_stats classes[AP_CLASS_COUNT];
    struct ap__page_heap_stats heap;
    struct ap__pack_stats packed; /* with those in thread caches */
    struct ap__large_table_stats table;
    size_t live_bytes;    /* in blocks and large objects the program holds */
    size_t cached_blocks; /* in thread and transfer caches */
    size_t cached_bytes;
    struct ap__quarantine_stats quarantine; /* neither live nor cached */
    struct ap__sampled_stats sampled;
    size_t metadata_bytes;       /* mapped for records, the region's maps not counted */
    size_t metadata_empty_bytes; /* of these, in pages that hold nothing: given back, as a rule */
    size_t threads;              /* with a cache */
    uint64_t refills;            /* of thread caches since start */
    uint64_t flushes;
    uint64_t blocks_in; /* by refills */
    uint64_t blocks_out;
    struct ap__lock_stats locks;
};

void ap__stats_collect(struct ap__stats *stats);

#endif
