/* SPDX-License-Identifier: MIT */
/*
 * transfer_cache.c: a stack of block addresses per size class and shard.
 *
 * A stack rather than a queue: what was given last is still in some processor's cache. The array of a
 * stack is taken on its first use, so classes that never travel cost nothing.
 *
 * How much a stack may hold follows its use. Blocks kept here pin the spans they are of, and a thread that
 * takes back what it gave itself would have them from the central free list at the same cost. So the limit
 * starts at one small batch; a batch that goes from one thread to another doubles it, up to the
 * bound; one that returns to its giver halves it. But where blocks come from a search, returning is as good as travelling.
 *
 * Shards: up to SHARD_FREE_CPUS processors one is enough: the lock is held for a copy of a batch of
 * addresses, of a few batches at most. Beyond that, one for every CPUS_PER_SHARD processors.
 */
#include "central/transfer_cache.h"

#include <stdatomic.h>
#include <string.h>

#include "central/shards.h"
#include "heap/page_heap.h"
#include "meta/meta.h"
#include "os/bell.h"
#include "os/lock.h"
#include "os/os.h"
#include "os/yield.h"

enum {
    SHARD_FREE_CPUS = 4,
    CPUS_PER_SHARD = 4,
    BATCHES_MIN = 2,   /* within the bound, so that a batch in each direction fits */
    BLOCKS_MAX = 2048, /* room for */
    KEPT_DIVISOR = 2,  /* see ap__transfer_keep_all() */
    LAST_SHARD = AP_TRANSFER_SHARDS_MAX - 1,
    LAST_CLASS = AP_CLASS_COUNT - 1
};
#define INITIAL_BYTES ((size_t)8 << 10) /* but for one block at least */

struct transfer {
    struct ap__lock lock;
    void **blocks; /* NULL until first used; under `lock` */
    /* Written under `lock`; a look without it may be late. */
    _Atomic(unsigned) count;
    unsigned capacity; /* of the array; under `lock` */
    /* Blocks to hold at most now; written under `lock`. 0: no array yet. */
    _Atomic(unsigned) limit;
    uintptr_t giver; /* the last thread that gave; under `lock` */
    /* Blocks at the bottom that nobody has wanted since the last look; under `lock`. */
    unsigned unused;
} AP_CACHE_ALIGNED;

static struct transfer transfers[AP_TRANSFER_SHARDS_MAX][AP_CLASS_COUNT] = {
    [0 ... LAST_SHARD] = {[0 ... LAST_CLASS] = {.lock = AP_LOCK_INIT(AP__RANK_TRANSFER_CACHE)}}};

/* Set by init, constant afterwards. */
static unsigned shard_count = 1;
static size_t bytes_max;

void ap__transfer_init(unsigned shards, size_t class_bytes_max)
{
    if (shards == 0) {
        unsigned cpus = ap__os_cpu_count();
        shards = cpus <= SHARD_FREE_CPUS ? 1 : (cpus + CPUS_PER_SHARD - 1) / CPUS_PER_SHARD;
    }
    shard_count = shards < AP_TRANSFER_SHARDS_MAX ? shards : AP_TRANSFER_SHARDS_MAX;
    bytes_max = class_bytes_max / shard_count;
}

unsigned ap__transfer_shards(void)
{
    return shard_count;
}

struct ap__lock *ap__transfer_lock(unsigned shard, unsigned size_class)
{
    return &transfers[shard][size_class].lock;
}

static struct transfer *mine(unsigned size_class)
{
    unsigned shard = shard_count == 1 ? 0 : ap__os_current_cpu() % shard_count;
    return &transfers[shard][size_class];
}

static unsigned capacity_of(unsigned size_class)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    if (bytes_max == 0) {
        return 0;
    }
    size_t blocks = bytes_max / info->size;
    blocks = ap__max(blocks, (size_t)BATCHES_MIN * info->batch);
    return (unsigned)ap__min(blocks, BLOCKS_MAX);
}

static _Atomic(bool) keeps_all[AP_CLASS_COUNT];

void ap__transfer_keep_all(unsigned size_class)
{
    /* relaxed: a stack that does not know yet keeps fewer. */
    atomic_store_explicit(&keeps_all[size_class], true, memory_order_relaxed);
}

/* The least that a stack may hold when it is full. */
static unsigned initial_limit(unsigned size_class, unsigned capacity)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    size_t blocks = ap__min(INITIAL_BYTES / info->size, info->batch);
    if (atomic_load_explicit(&keeps_all[size_class], memory_order_relaxed)) {
        blocks = ap__max(capacity / KEPT_DIVISOR, (size_t)BATCHES_MIN * info->batch);
    }
    return (unsigned)ap__min(ap__max(blocks, 1), capacity);
}

/* relaxed: under the lock it is exact; without it, it only says how much is worth trying. */
static unsigned limit_of(const struct transfer *transfer)
{
    return atomic_load_explicit(&transfer->limit, memory_order_relaxed);
}

static void set_limit_locked(struct transfer *transfer, unsigned limit)
{
    atomic_store_explicit(&transfer->limit, limit, memory_order_relaxed);
}

/* Gives the stack its array. */
static bool open_locked(struct transfer *transfer, unsigned size_class)
{
    unsigned capacity = capacity_of(size_class);
    if (transfer->blocks == NULL && capacity != 0) {
        transfer->blocks = ap__meta_take(capacity * sizeof(void *));
        if (transfer->blocks != NULL) {
            transfer->capacity = capacity;
            AP__YIELD_POINT();
            set_limit_locked(transfer, initial_limit(size_class, capacity));
        }
    }
    return transfer->blocks != NULL;
}

/* After a batch was taken. */
static void adapt_limit_locked(struct transfer *transfer, unsigned size_class)
{
    unsigned limit = limit_of(transfer);
    if (transfer->giver != ap__lock_self()) {
        limit = (unsigned)ap__min(2 * (size_t)limit, transfer->capacity);
    } else {
        limit = (unsigned)ap__max(limit / 2, initial_limit(size_class, transfer->capacity));
    }
    set_limit_locked(transfer, limit);
}

/* relaxed: under the lock it is exact; without it, it only decides whether to take the lock. */
static unsigned count_of(const struct transfer *transfer)
{
    return atomic_load_explicit(&transfer->count, memory_order_relaxed);
}

static void set_count_locked(struct transfer *transfer, unsigned count)
{
    atomic_store_explicit(&transfer->count, count, memory_order_relaxed);
}

unsigned ap__transfer_room(unsigned size_class)
{
    const struct transfer *transfer = mine(size_class);
    unsigned limit = limit_of(transfer);
    AP__YIELD_POINT();
    unsigned used = count_of(transfer);
    if (limit == 0) {
        return initial_limit(size_class, capacity_of(size_class));
    }
    return used < limit ? limit - used : 0;
}

unsigned ap__transfer_give(unsigned size_class, void *const *blocks, unsigned count)
{
    struct transfer *transfer = mine(size_class);
    unsigned kept = 0;
    AP__YIELD_POINT();
    ap__lock_take(&transfer->lock);
    unsigned used = count_of(transfer);
    if (open_locked(transfer, size_class) && used < limit_of(transfer)) {
        kept = (unsigned)ap__min(count, limit_of(transfer) - used);
        memcpy(transfer->blocks + used, blocks, kept * sizeof *blocks);
        AP__YIELD_POINT();
        set_count_locked(transfer, used + kept);
        transfer->giver = ap__lock_self();
    }
    ap__lock_release(&transfer->lock);
    AP__YIELD_POINT();
    ap__shard_leave_bound(size_class);
    ap__bell_ring(&ap__heap_bell);
    return kept;
}

static unsigned pop_locked(struct transfer *transfer, void **blocks, unsigned count)
{
    unsigned used = count_of(transfer);
    unsigned got = count < used ? count : used;
    if (got != 0) {
        memcpy(blocks, transfer->blocks + used - got, got * sizeof *blocks);
        set_count_locked(transfer, used - got);
        transfer->unused = (unsigned)ap__min(transfer->unused, used - got);
    }
    return got;
}

unsigned ap__transfer_take(unsigned size_class, void **blocks, unsigned count)
{
    struct transfer *transfer = mine(size_class);
    if (count_of(transfer) == 0) {
        return 0;
    }
    AP__YIELD_POINT();
    ap__lock_take(&transfer->lock);
    unsigned got = pop_locked(transfer, blocks, count);
    if (got != 0) {
        adapt_limit_locked(transfer, size_class);
    }
    ap__lock_release(&transfer->lock);
    return got;
}

unsigned ap__transfer_drain(unsigned size_class, void **blocks, unsigned count)
{
    unsigned got = 0;
    for (unsigned shard = 0; shard < shard_count && got == 0; shard++) {
        struct transfer *transfer = &transfers[shard][size_class];
        ap__lock_take(&transfer->lock);
        got = pop_locked(transfer, blocks, count);
        ap__lock_release(&transfer->lock);
    }
    return got;
}

/* Takes blocks that lay unused off the bottom. The look ends when there are no more: then what is there
 * counts as unused until somebody takes it. */
static unsigned take_unused_locked(struct transfer *transfer, void **blocks, unsigned count)
{
    unsigned used = count_of(transfer);
    unsigned got = (unsigned)ap__min(transfer->unused, count);
    if (got == 0) {
        transfer->unused = used;
        return 0;
    }
    memcpy(blocks, transfer->blocks, got * sizeof *blocks);
    memmove(transfer->blocks, transfer->blocks + got, (used - got) * sizeof *blocks);
    set_count_locked(transfer, used - got);
    transfer->unused -= got;
    return got;
}

unsigned ap__transfer_take_unused(unsigned size_class, unsigned shard, void **blocks,
                                  unsigned count)
{
    struct transfer *transfer = &transfers[shard][size_class];
    if (limit_of(transfer) == 0) {
        return 0; /* never used */
    }
    AP__YIELD_POINT();
    ap__lock_take(&transfer->lock);
    unsigned got = take_unused_locked(transfer, blocks, count);
    ap__lock_release(&transfer->lock);
    return got;
}

bool ap__transfer_holds(unsigned size_class, const void *p)
{
    bool found = false;
    for (unsigned shard = 0; shard < shard_count && !found; shard++) {
        struct transfer *transfer = &transfers[shard][size_class];
        ap__lock_take(&transfer->lock);
        for (unsigned i = 0; i < count_of(transfer) && !found; i++) {
            found = transfer->blocks[i] == p;
        }
        ap__lock_release(&transfer->lock);
    }
    return found;
}

size_t ap__transfer_count(unsigned size_class)
{
    size_t count = 0;
    for (unsigned shard = 0; shard < shard_count; shard++) {
        count += count_of(&transfers[shard][size_class]);
        AP__YIELD_POINT();
    }
    return count;
}

void ap__transfer_view_locked(unsigned shard, unsigned size_class, struct ap__transfer_view *view)
{
    const struct transfer *transfer = &transfers[shard][size_class];
    *view = (struct ap__transfer_view){
        .blocks = transfer->blocks,
        .count = count_of(transfer),
        .capacity = transfer->capacity,
        .limit = limit_of(transfer),
        .unused = transfer->unused,
    };
}
