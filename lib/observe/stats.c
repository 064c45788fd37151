/* SPDX-License-Identifier: MIT */
/*
 * stats.c: the sum over classes, threads and layers.
 *
 * Live blocks are not counted where they are allocated (the hit path counts nothing): they are the
 * slots claimed from spans less those that lie in caches.
 */
#include "observe/stats.h"

#include <string.h>

#include "base/bits.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/transfer_cache.h"
#include "meta/meta.h"
#include "os/yield.h"
#include "pack/pack_pools.h"

static void collect_thread(struct ap__stats *stats, const struct ap__thread_cache *cache)
{
    stats->threads += atomic_load_explicit(&cache->in_use, memory_order_relaxed);
    stats->refills += atomic_load_explicit(&cache->refills, memory_order_relaxed);
    stats->flushes += atomic_load_explicit(&cache->flushes, memory_order_relaxed);
    stats->blocks_in += atomic_load_explicit(&cache->blocks_in, memory_order_relaxed);
    stats->blocks_out += atomic_load_explicit(&cache->blocks_out, memory_order_relaxed);
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        stats->classes[c].cached += ap__thread_cache_count(cache, c);
        AP__YIELD_POINT();
    }
}

/* Before what lies in caches is counted. What goes home from there meanwhile is claimed no more afterwards, and what comes
 * was not before: so the greater of the two figures is taken, and live blocks are never too few by what one thread moves. */
static void note_claimed(struct ap__stats *stats)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        stats->classes[c].live = ap__central_claimed(c);
    }
    stats->packed.block_bytes = ap__pack_block_bytes();
}

static void collect_packed(struct ap__stats *stats)
{
    size_t before = stats->packed.block_bytes;
    ap__pack_stats(&stats->packed);
    stats->packed.block_bytes = ap__max(before, stats->packed.block_bytes);
}

static void collect_class(struct ap__stats *stats, unsigned size_class)
{
    struct ap__class_stats *figures = &stats->classes[size_class];
    struct ap__central_stats central;
    ap__central_stats(size_class, &central);
    AP__YIELD_POINT();
    figures->spans = central.spans;
    figures->slots = central.slots;
    figures->transfer = ap__transfer_count(size_class);
    size_t claimed = ap__max(central.claimed, figures->live);
    size_t idle = figures->cached + figures->transfer;
    /* While threads run, a block may be seen in two places or in none. */
    figures->live = claimed > idle ? claimed - idle : 0;
    /* Of those in caches some may be packed, and more than are claimed here: modulo 2^64, until the packed ones are added. */
    size_t live = ap__pack_is_recycled(size_class) ? claimed - idle : figures->live;
    stats->live_bytes += live * ap__size_class[size_class].size;
    stats->cached_blocks += idle;
    stats->cached_bytes += idle * ap__size_class[size_class].size;
}

static void collect_locks(struct ap__lock_stats *sums)
{
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        for (unsigned shard = 0; shard < ap__central_shards(c); shard++) {
            ap__lock_add_stats(ap__central_lock(shard, c), sums);
        }
        for (unsigned shard = 0; shard < ap__transfer_shards(); shard++) {
            ap__lock_add_stats(ap__transfer_lock(shard, c), sums);
        }
    }
    for (unsigned number = 0; number < AP_PACK_POOLS; number++) {
        ap__lock_add_stats(&ap__pack_pools[number].lock, sums);
    }
    ap__lock_add_stats(ap__page_heap_lock(), sums);
    ap__lock_add_stats(ap__meta_lock(), sums);
    ap__lock_add_stats(ap__thread_lock(), sums);
    ap__lock_add_stats(ap__quarantine_lock(), sums);
    ap__lock_add_stats(ap__sampled_lock(), sums);
}

void ap__stats_collect(struct ap__stats *stats)
{
    memset(stats, 0, sizeof *stats);
    collect_locks(&stats->locks); /* first: what follows takes locks itself */
    note_claimed(stats);
    for (const struct ap__thread_cache *cache = ap__thread_caches(); cache != NULL;
         cache = cache->next) {
        collect_thread(stats, cache);
    }
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        collect_class(stats, c);
    }
    AP__YIELD_POINT();
    ap__page_heap_stats(&stats->heap);
    collect_packed(stats);
    ap__large_table_stats(&stats->table);
    ap__quarantine_stats(&stats->quarantine);
    ap__sampled_stats(&stats->sampled);
    stats->heap.large_spans -= ap__min(stats->quarantine.large, stats->heap.large_spans);
    stats->heap.large_bytes -= ap__min(stats->quarantine.large_bytes, stats->heap.large_bytes);
    stats->live_bytes -= ap__min(stats->quarantine.block_bytes, stats->live_bytes);
    stats->live_bytes +=
        stats->heap.large_bytes + stats->packed.block_bytes + stats->sampled.live_bytes;
    /* Below 0: figures of several moments. */
    stats->live_bytes = stats->live_bytes > PTRDIFF_MAX ? 0 : stats->live_bytes;
    struct ap__meta_stats meta;
    ap__meta_stats(&meta);
    stats->metadata_bytes = meta.mapped_bytes + stats->table.mapped_bytes;
    stats->metadata_empty_bytes = meta.empty_bytes;
}
