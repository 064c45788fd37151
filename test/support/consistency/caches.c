/* SPDX-License-Identifier: MIT */
/*
 * caches.c: the lists of thread caches and transfer caches, and every block in them: a claimed slot or a packed block,
 * kept once.
 */
#include "support/consistency/walk.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/hash.h"
#include "cache/cache_limits.h"
#include "cache/thread.h"
#include "central/transfer_cache.h"
#include "heap/page_heap.h"
#include "pack/pack.h"

enum {
    SEEN_SLOTS = 1 << 18, /* of the table of blocks that are kept, unless there are very many */
    WORD_BITS = 64,
};

/* ------------------------------------------------------------ blocks that are kept */

static uintptr_t seen_first[SEEN_SLOTS];
static uintptr_t *seen;
static size_t seen_slots; /* a power of two */

/* Makes room to remember `blocks`. Past the allocator and what stands between it and the kernel. */
static bool seen_open(size_t blocks)
{
    seen = seen_first;
    seen_slots = ap__power_of_two_ceiling(2 * ap__max(blocks, 1));
    if (seen_slots <= SEEN_SLOTS) {
        memset(seen_first, 0, seen_slots * sizeof *seen);
        return true;
    }
    long mapping = syscall(SYS_mmap, NULL, seen_slots * sizeof *seen, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    seen = (uintptr_t *)mapping;
    return mapping != -1;
}

static void seen_close(void)
{
    if (seen != seen_first) {
        (void)syscall(SYS_munmap, seen, seen_slots * sizeof *seen);
    }
}

/* `false`: it was there already. */
static bool seen_add(const void *p)
{
    size_t at = ap__hash_address((uintptr_t)p >> 4, 1) & (seen_slots - 1);
    while (seen[at] != 0) {
        if (seen[at] == (uintptr_t)p) {
            return false;
        }
        at = (at + 1) & (seen_slots - 1);
    }
    seen[at] = (uintptr_t)p;
    return true;
}

/* As ap__pack_usable_size(), which may take a lock; the walk has it. */
static size_t packed_bytes(const struct ap__span *span, const void *p)
{
    struct ap__unit_map map = ap__unit_map_of(span);
    unsigned unit = (unsigned)(((uintptr_t)p - span->start) / AP_UNIT_BYTES);
    bool is_block = (uintptr_t)p % AP_UNIT_BYTES == 0 && ap__unit_map_is_start(&map, unit);
    return is_block ? ap__unit_map_length(&map, unit) * (size_t)AP_UNIT_BYTES : 0;
}

/* Of classes whose packed blocks are kept with the others. */
static void check_kept_packed(unsigned size_class, const struct ap__span *span, const void *p)
{
    (void)walk_check(ap__pack_is_recycled(size_class),
                     "a packed block is kept for a class that has none", p, size_class);
    (void)walk_check(walk.found || packed_bytes(span, p) == ap__size_class[size_class].size,
                     "a packed block that is kept is not as long as its class", p, size_class);
    (void)walk_check(walk.found || seen_add(p), "a block is kept twice", p, size_class);
}

static void check_kept(unsigned size_class, const struct ap__span *span, const void *p)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    if (!walk_check(span != NULL && span->state == AP__SPAN_SMALL && span->size_class == size_class,
                    "a block that is kept is in no span of its class", p, size_class)) {
        return;
    }
    size_t offset = (uintptr_t)p - span->start;
    size_t slot = offset / info->size;
    (void)walk_check(offset % info->size == 0 && slot < info->slots,
                     "a block that is kept is no slot", p, size_class);
    (void)walk_check(walk.found ||
                         (span->slots.bitmap[slot / WORD_BITS] >> slot % WORD_BITS & 1) == 0,
                     "a block that is kept is free in its span", p, size_class);
    (void)walk_check(walk.found || seen_add(p), "a block is kept twice", p, size_class);
}

static const struct ap__span *span_of_kept(const void *p)
{
    return p == NULL ? NULL : ap__page_heap_span_of((uintptr_t)p);
}

/* Of a thread's list or a transfer cache; *slots: counts those of spans of the class. */
static void check_either(unsigned size_class, const void *p, size_t *slots)
{
    const struct ap__span *span = span_of_kept(p);
    if (span != NULL && span->state == AP__SPAN_PACKED) {
        check_kept_packed(size_class, span, p);
        walk.sums.cached_packed_blocks++;
    } else {
        check_kept(size_class, span, p);
        ++*slots;
    }
}

/* ------------------------------------------------------------ thread caches */

static bool is_walked(const struct ap__thread_cache *cache)
{
    /* A dead thread's, in a child; or one whose thread was cancelled in the middle of its work. */
    bool in_use = atomic_load_explicit(&cache->in_use, memory_order_relaxed);
    return !(walk.is_child && !in_use) && !cache->at_work;
}

static void check_unused_list(const struct ap__free_list *list,
                              const struct ap__free_list_info *info)
{
    (void)walk_check(ap__free_list_top(list) == &ap__free_list_none &&
                         list->full == &ap__free_list_none,
                     "a list without an array is not empty and full", list, info->capacity);
    (void)walk_check(info->capacity == 0 && info->room == 0 && info->hidden == 0,
                     "a list without an array has a capacity", list, info->capacity);
}

/* Word `hidden` is the NULL; all others up to the top are blocks, but for those that others have taken. */
static void check_list(const struct ap__thread_cache *cache, unsigned size_class)
{
    const struct ap__free_list *list = &cache->lists[size_class];
    const struct ap__free_list_info *info = &cache->infos[size_class];
    const ap__slot *bottom = atomic_load_explicit(&info->bottom, memory_order_relaxed);
    if (bottom == NULL) {
        check_unused_list(list, info);
        return;
    }
    ptrdiff_t count = ap__free_list_top(list) - bottom;
    bool fits =
        walk_check(count >= 0 && count <= info->capacity, "a list holds more than its capacity",
                   list, (size_t)count) &&
        walk_check(info->capacity <= info->room, "a list's capacity is beyond its array", list,
                   info->capacity) &&
        walk_check(ap__free_list_top(list) <= list->full && list->full <= bottom + info->capacity,
                   "a list is full elsewhere", list, info->capacity) &&
        walk_check(info->hidden <= count, "a fold is above the top of its list", list,
                   info->hidden) &&
        walk_check(info->gone <= info->hidden, "more is gone from a list than its fold hides", list,
                   info->gone);
    for (ptrdiff_t i = 0; fits && i <= count && !walk.found; i++) {
        const void *p = ap__slot_load(&bottom[i]);
        if (i == info->hidden || i < info->gone) {
            (void)walk_check(p == NULL, "a list has no NULL where its blocks end", list,
                             size_class);
        } else {
            check_either(size_class, p, &walk.sums.cached_blocks);
        }
    }
}

static void check_cache(const struct ap__thread_cache *cache)
{
    size_t bytes = 0;
    check_unused_list(&cache->lists[0], &cache->infos[0]);
    for (unsigned c = 1; c < AP_CLASS_COUNT && !walk.found; c++) {
        check_list(cache, c);
        bytes += cache->infos[c].capacity * (size_t)ap__size_class[c].size;
    }
    (void)walk_check(cache->capacity_bytes == bytes, "a cache's sum of capacities is wrong", cache,
                     bytes);
    (void)walk_check(bytes <= AP_CACHE_FREE_BYTES + cache->granted_bytes,
                     "a cache has more room than it was granted", cache, bytes);
    (void)walk_check(bytes == 0 || atomic_load(&cache->in_use),
                     "a cache that nobody has is not empty", cache, bytes);
}

static void check_caches(void)
{
    size_t granted = 0;
    size_t all = 0;
    bool complete = true;
    (void)walk_check(ap__slot_load(&ap__free_list_none) == NULL, "the NULL of unused lists is gone",
                     &ap__free_list_none, 0);
    for (const struct ap__thread_cache *cache = ap__thread_caches(); cache != NULL && !walk.found;
         cache = cache->next) {
        if (is_walked(cache)) {
            check_cache(cache);
            granted += cache->granted_bytes;
        } else {
            complete = false;
        }
        all++;
    }
    (void)walk_check(walk.found || !(complete || walk.is_child) ||
                         granted == ap__cache_limits_granted(),
                     "the sum of all grants is wrong", NULL, granted);
    (void)walk_check(ap__thread_count() <= all, "more threads have a cache than there are caches",
                     NULL, all);
}

/* ------------------------------------------------------------ transfer caches */

static void check_transfer(unsigned shard, unsigned size_class)
{
    struct ap__transfer_view view;
    ap__transfer_view_locked(shard, size_class, &view);
    bool fits =
        walk_check(view.count <= view.capacity, "a transfer cache holds more than its capacity",
                   view.blocks, size_class) &&
        walk_check(view.limit <= view.capacity, "a transfer cache's limit is beyond its array",
                   view.blocks, size_class) &&
        walk_check(view.unused <= view.count, "a transfer cache has fewer blocks than unused ones",
                   view.blocks, size_class) &&
        walk_check((view.blocks == NULL) == (view.capacity == 0),
                   "a transfer cache has a capacity without an array", view.blocks, size_class);
    for (unsigned i = 0; fits && i < view.count && !walk.found; i++) {
        check_either(size_class, view.blocks[i], &walk.sums.transfer_blocks);
    }
}

static void check_transfers(void)
{
    for (unsigned shard = 0; shard < ap__transfer_shards() && !walk.found; shard++) {
        for (unsigned c = 1; c < AP_CLASS_COUNT && !walk.found; c++) {
            check_transfer(shard, c);
        }
    }
}

/* An upper bound of the blocks that are kept. */
static size_t count_kept(void)
{
    size_t kept = 0;
    for (const struct ap__thread_cache *cache = ap__thread_caches(); cache != NULL;
         cache = cache->next) {
        for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
            kept += cache->infos[c].capacity;
        }
    }
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        kept += ap__transfer_count(c);
    }
    return kept;
}

void walk_caches(void)
{
    if (!seen_open(count_kept())) {
        walk_fault("no memory for the walk itself", NULL, seen_slots);
        return;
    }
    check_caches();
    check_transfers();
    seen_close();
    walk.sums.live_blocks =
        walk.sums.claimed_blocks - walk.sums.cached_blocks - walk.sums.transfer_blocks;
}
