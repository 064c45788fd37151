/* SPDX-License-Identifier: MIT */
/*
 * consistency.c: the walk. See consistency.h.
 *
 * Locks are taken as a fork takes them: all by rank, with the window open in which this thread passes through
 * its own, so that the layers' functions can be called meanwhile. A lock that cannot be had for a long time is
 * a fault, not a hang. Every list is followed no further than there are records, so that a damaged one ends.
 */
#include "support/consistency.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/format.h"
#include "base/hash.h"
#include "cache/cache_limits.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/shards.h"
#include "central/transfer_cache.h"
#include "heap/page_heap.h"
#include "meta/meta.h"
#include "os/lock.h"
#include "os/os.h"
#include "table/large_table.h"

enum {
    PURGE_MS = 20000,
    TREE_DEPTH_MAX = 400,
    SEEN_SLOTS = 1 << 18, /* of the table of blocks that are kept, unless there are very many */
    WORD_BITS = 64,
    TEXT_BYTES = 256,
    RESIDENT_MAX = 4096, /* pages asked about at a time */
};

unsigned consistency_lock_seconds = 20;

/* What is walked, and what has been found. One thread at a time. */
static char text[TEXT_BYTES];
static bool found;
static bool is_child; /* of a process with other threads */
static bool is_part;  /* the page heap only: the test may have records in its hands */
static bool is_busy;  /* a purge has a span */
static struct consistency_sums sums;
static struct ap__page_heap_view heap;
static uint32_t records;

static const struct timespec pause_1_ms = {0, 1000000};

/* By shard and class, from the records. */
static struct class_sums {
    size_t spans, listed, claimed;
} class_sums[AP_CENTRAL_SHARDS_MAX][AP_CLASS_COUNT];

/* The first fault stays. */
static void fault(const char *what, const void *where, size_t number)
{
    if (found) {
        return;
    }
    struct ap__format f;
    ap__format_init(&f, text, sizeof text);
    ap__format_text(&f, what);
    ap__format_text(&f, " (at ");
    ap__format_pointer(&f, where);
    ap__format_text(&f, ", ");
    ap__format_decimal(&f, number);
    ap__format_text(&f, ")");
    found = true;
}

/* The condition that must hold. Returns it. */
static bool check(bool condition, const char *what, const void *where, size_t number)
{
    if (!condition) {
        fault(what, where, number);
    }
    return condition;
}

static void check_span(bool condition, const char *what, const struct ap__span *span)
{
    (void)check(condition, what, (const void *)span->start, span->index);
}

/* ------------------------------------------------------------ locks */

#ifdef AP_THREAD_SANITIZER
/* Its search for deadlocks ends the program where a thread holds 64 locks. Debug builds see to the order. */
__attribute__((used)) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}
#endif

typedef void lock_function(struct ap__lock *lock);

static void for_each_lock(lock_function *function)
{
    function(ap__thread_lock());
    for (unsigned shard = 0; shard < ap__transfer_shards(); shard++) {
        for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
            function(ap__transfer_lock(shard, c));
        }
    }
    for (unsigned shard = 0; shard < AP_CENTRAL_SHARDS_MAX; shard++) {
        for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
            if (shard < ap__central_shards(c)) {
                function(ap__central_lock(shard, c));
            }
        }
    }
    function(ap__page_heap_lock());
    function(ap__meta_lock());
}

static time_t now_seconds(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void check_lock(struct ap__lock *lock)
{
    if (found || !check(!ap__lock_is_mine(lock), "this thread holds a lock", lock, lock->rank)) {
        return;
    }
    time_t end = now_seconds() + (time_t)consistency_lock_seconds;
    while (pthread_mutex_trylock(&lock->mutex) != 0) {
        if (now_seconds() > end) {
            fault("a lock is never released", lock, lock->rank);
            return;
        }
        (void)nanosleep(&pause_1_ms, NULL);
    }
    (void)check(lock->recursion == 0, "a free lock has been taken twice", lock, lock->recursion);
    (void)check(atomic_load(&lock->owner) == 0, "a free lock has an owner", lock, lock->rank);
    (void)pthread_mutex_unlock(&lock->mutex);
}

static void take_all(void)
{
    ap__lock_fork_window_open();
    for_each_lock(ap__lock_take);
}

static void release_all(void)
{
    for_each_lock(ap__lock_release);
    ap__lock_fork_window_close();
}

/* ------------------------------------------------------------ the page heap */

static void check_maps(const struct ap__span *span, size_t first)
{
    unsigned size_class = span->state == AP__SPAN_SMALL ? span->size_class : 0;
    for (size_t i = first; i < first + span->granules && !found; i++) {
        check_span(ap__region_class_of(i) == size_class, "the class map has another class", span);
        check_span(size_class == 0 || ap__region_span_of(i) == span,
                   "a granule of a small span leads elsewhere", span);
    }
}

/* Whether resident pages of these granules read as zero; what is not resident does. */
static bool is_zero(size_t first, size_t granules)
{
    static unsigned char resident[RESIDENT_MAX];
    const uint64_t *words = (const uint64_t *)ap__region_address_of(first);
    size_t page = ap__os_page_size();
    size_t pages = granules * AP_GRANULE / page;
    if (syscall(SYS_mincore, words, granules * AP_GRANULE, resident) != 0) {
        return true; /* a sandbox */
    }
    for (size_t i = 0; i < pages; i++) {
        for (size_t w = 0; (resident[i] & 1) != 0 && w < page / sizeof *words; w++) {
            if (words[i * (page / sizeof *words) + w] != 0) {
                return false;
            }
        }
    }
    return true;
}

/* What the clean map says is known to be zero. */
static void check_clean(const struct ap__span *span, size_t first)
{
    size_t most = RESIDENT_MAX * ap__os_page_size() / AP_GRANULE;
    for (size_t at = first, end = first + span->granules; at < end && !found;) {
        size_t run = 0;
        while (run < most && at + run < end && ap__region_is_clean(at + run)) {
            run++;
        }
        check_span(run == 0 || is_zero(at, run), "clean memory is not zero", span);
        at += ap__max(run, 1);
    }
}

static void add_to_sums(const struct ap__span *span)
{
    switch (span->state) {
    case AP__SPAN_FREE:
        sums.free_spans++;
        sums.free_granules += span->granules;
        sums.dirty_granules += span->tree.dirty_granules;
        break;
    case AP__SPAN_LARGE:
        sums.large_spans++;
        sums.large_granules += span->granules;
        break;
    case AP__SPAN_SMALL:
        sums.small_spans++;
        break;
    default:
        break;
    }
}

static bool is_tile(const struct ap__span *span, size_t at, size_t limit)
{
    const void *where = (const void *)ap__region_address_of(at);
    return check(span != NULL, "no span begins at a granule", where, at) &&
           check(ap__span_is_valid(span), "a span's record is not valid", where, span->state) &&
           check(!span->outside, "a span in the region says it is outside", where, span->index) &&
           check(ap__region_granule_of(span->start) == at,
                 "a span begins at another granule than its record says", where, span->index) &&
           check(span->granules <= limit - at, "a span ends beyond the region", where,
                 span->index) &&
           check(ap__region_span_of(at + span->granules - 1) == span,
                 "a span's last granule leads elsewhere", where, span->index);
}

/* Returns how many spans tile the region. */
static size_t check_tiles(void)
{
    size_t limit = ap__region_limit_granules();
    bool free_before = false;
    size_t count = 0;
    for (size_t at = ap__region_first_granule(); at < limit && !found; count++) {
        const struct ap__span *span = ap__region_span_of(at);
        if (!is_tile(span, at, limit)) {
            break;
        }
        bool is_free = span->state == AP__SPAN_FREE;
        check_span(!(is_free && free_before), "two free spans are side by side", span);
        check_span(!is_free ||
                       span->tree.dirty_granules == ap__region_count_dirty(at, span->granules),
                   "a free span's dirty count is not that of the clean map", span);
        free_before = is_free;
        check_maps(span, at);
        if (is_free) {
            check_clean(span, at);
        }
        add_to_sums(span);
        at += span->granules;
    }
    return count;
}

static bool precedes(const struct ap__span *a, const struct ap__span *b)
{
    return a->granules != b->granules ? a->granules < b->granules : a->start < b->start;
}

/* A subtree whose keys lie between two others. Returns its nodes. */
static size_t check_tree(const struct ap__span *node, const struct ap__span *low,
                         const struct ap__span *high, uint64_t priority_max, unsigned depth)
{
    if (node == NULL || found) {
        return 0;
    }
    check_span(depth < TREE_DEPTH_MAX, "the tree of free spans is too deep", node);
    check_span(node->state == AP__SPAN_FREE, "a span in the tree is not free", node);
    check_span(low == NULL || precedes(low, node), "the tree is out of order to the left", node);
    check_span(high == NULL || precedes(node, high), "the tree is out of order to the right", node);
    check_span(node->tree.priority <= priority_max, "a priority is above its parent's", node);
    check_span(node->tree.priority == ap__hash_address(node->start, 0),
               "a priority is not its address' hash", node);
    unsigned below = depth + 1;
    size_t left = check_tree(node->tree.left, low, node, node->tree.priority, below);
    size_t right = check_tree(node->tree.right, node, high, node->tree.priority, below);
    return left + right + 1;
}

/* Returns the spans on the list. */
static size_t check_dirty_list(int kind)
{
    size_t count = 0;
    size_t granules = 0;
    const struct ap__span *previous = NULL;
    const struct ap__span *span = heap.dirty[kind].newest;
    for (; span != NULL && !found; previous = span, span = span->link.next, count++) {
        bool is_long = span->granules >= AP_LONG_SPAN_GRANULES;
        check_span(count <= records, "a dirty list has no end", span);
        check_span(span->state == AP__SPAN_FREE, "a span on a dirty list is not free", span);
        check_span(span->link.previous == previous, "a dirty list's links differ", span);
        check_span(span->tree.dirty_granules != 0, "a clean span is on a dirty list", span);
        check_span(is_long == (kind == AP__DIRTY_LONG), "a span is on the other dirty list", span);
        granules += span->tree.dirty_granules;
    }
    (void)check(heap.dirty[kind].oldest == previous, "a dirty list's end is another span", previous,
                count);
    (void)check(heap.dirty[kind].granules == granules, "a dirty list's sum is wrong", NULL,
                granules);
    return count;
}

static size_t count_recycled(void)
{
    size_t count = 0;
    for (const struct ap__span *span = ap__span_recycled(); span != NULL && !found;
         span = span->link.next, count++) {
        check_span(count <= records, "the list of recycled records has no end", span);
        check_span(span->state == AP__SPAN_UNUSED, "a recycled record is in use", span);
    }
    return count;
}

/* What the records say, by state. */
struct tally {
    size_t unused, in_region, free, dirty, outside, outside_granules, large, large_granules;
};

static void tally_record(struct tally *tally, const struct ap__span *span)
{
    if (span->state == AP__SPAN_UNUSED) {
        tally->unused++;
        return;
    }
    check_span(ap__span_is_valid(span), "a record is not valid", span);
    tally->free += span->state == AP__SPAN_FREE;
    tally->dirty += span->state == AP__SPAN_FREE && span->tree.dirty_granules != 0;
    if (span->state == AP__SPAN_LARGE) {
        tally->large++;
        tally->large_granules += span->granules;
    }
    if (span->outside) {
        tally->outside++;
        tally->outside_granules += span->granules;
        check_span(!ap__region_contains(span->start), "a span outside is in the region", span);
    } else {
        tally->in_region++;
    }
}

static void check_page_heap(void)
{
    struct tally tally = {0};
    for (uint32_t i = 0; i < records && !found; i++) {
        const struct ap__span *span = ap__span_by_index(i);
        check_span(span->index == i, "a record has another's index", span);
        tally_record(&tally, span);
    }
    size_t tiles = check_tiles();
    (void)check(tiles == tally.in_region, "a record's span is not in the region", NULL,
                tally.in_region);
    size_t recycled = count_recycled();
    (void)check(recycled == tally.unused || (is_part && recycled < tally.unused),
                "an unused record is lost", NULL, tally.unused);
    size_t nodes = check_tree(heap.tree_root, NULL, NULL, UINT64_MAX, 0);
    (void)check(nodes == tally.free, "a free span is not in the tree", NULL, tally.free);
    (void)check(nodes == heap.tree_count, "the tree's count is wrong", NULL, heap.tree_count);
    size_t listed = check_dirty_list(AP__DIRTY_SHORT) + check_dirty_list(AP__DIRTY_LONG);
    (void)check(listed == tally.dirty, "a dirty span is on no list", NULL, tally.dirty);
    (void)check(heap.free_granules == sums.free_granules, "the sum of free granules is wrong", NULL,
                heap.free_granules);
    (void)check(heap.large_count == tally.large, "the count of large spans is wrong", NULL,
                heap.large_count);
    (void)check(heap.large_granules == tally.large_granules, "the sum of large granules is wrong",
                NULL, heap.large_granules);
    (void)check(heap.outside_granules == tally.outside_granules,
                "the sum of granules outside is wrong", NULL, heap.outside_granules);
    sums.outside_spans = tally.outside;
    sums.large_spans = tally.large;
    sums.large_granules = tally.large_granules;
}

/* ------------------------------------------------------------ central free lists */

static void check_bitmap(const struct ap__span *span, const struct ap__size_class *info)
{
    unsigned words = (info->slots + WORD_BITS - 1u) / WORD_BITS;
    unsigned tail = info->slots % WORD_BITS;
    size_t set = 0;
    for (unsigned i = 0; i < words; i++) {
        uint64_t word = span->slots.bitmap[i];
        set += (size_t)__builtin_popcountll(word);
        check_span(word == 0 || i >= span->slots.first_word,
                   "a slot is free before the first word with one", span);
        check_span(i + 1 < words || tail == 0 || word >> tail == 0,
                   "a bit is set behind the last slot", span);
    }
    check_span(set == span->slots.free_slots, "the number of free slots is not the bitmap's", span);
}

static void check_small_span(const struct ap__span *span)
{
    const struct ap__size_class *info = &ap__size_class[span->size_class];
    unsigned name = atomic_load(&span->shard);
    unsigned number = (name >> 8) - 1;
    check_span(span->granules == info->span_granules, "a small span's length is wrong", span);
    if (!check(ap__shard_named(name, span->size_class) != NULL &&
                   number < ap__central_shards(span->size_class),
               "a small span names no shard of its class", span, span->index) ||
        !check(span->slots.bitmap != NULL, "a small span has no bitmap", span, span->index)) {
        return;
    }
    struct class_sums *class_sum = &class_sums[number][span->size_class];
    check_bitmap(span, info);
    bool is_away = span->slots.bucket == AP_SPAN_AWAY;
    unsigned bucket = span->slots.free_slots == 0
                          ? AP_SPAN_NO_BUCKET
                          : (span->slots.free_slots - 1u) * AP_SPAN_BUCKETS / info->slots;
    is_busy |= is_away;
    check_span(is_away || span->slots.bucket == bucket,
               "a span's bucket is not that of its free slots", span);
    class_sum->spans++;
    class_sum->listed += span->slots.bucket < AP_SPAN_BUCKETS;
    check_span(is_away || span->slots.free_slots != info->slots,
               "a span without live blocks is kept", span);
    class_sum->claimed += info->slots - (size_t)span->slots.free_slots;
}

/* Returns the spans on the list. */
static size_t check_bucket(unsigned number, unsigned size_class, unsigned bucket)
{
    const struct ap__span_lists *lists = &ap__shard_at(number, size_class)->lists;
    const struct ap__span *head = lists->buckets[bucket];
    const struct ap__span *span = head;
    bool purged_before = false;
    size_t count = 0;
    (void)check(((lists->occupied >> bucket & 1) != 0) == (head != NULL),
                "the bit of a bucket is wrong", head, bucket);
    while (span != NULL && !found) {
        check_span(count <= records, "a bucket's list has no end", span);
        check_span(span->state == AP__SPAN_SMALL && span->size_class == size_class,
                   "a span on a bucket's list is not of the class", span);
        check_span(atomic_load(&span->shard) == ap__shard_name(number, size_class),
                   "a span on a shard's list names another", span);
        check_span(span->slots.bucket == bucket, "a span is on another list than it says", span);
        check_span(span->link.next->link.previous == span, "a bucket's links differ", span);
        check_span(span->slots.is_purged || !purged_before,
                   "a span with its pages is behind a purged one", span);
        purged_before = span->slots.is_purged;
        count++;
        span = span->link.next == head ? NULL : span->link.next;
    }
    return count;
}

static void check_shard(unsigned number, unsigned size_class)
{
    const struct class_sums *expected = &class_sums[number][size_class];
    const struct ap__shard *shard = ap__shard_at(number, size_class);
    uint64_t claimed = atomic_load(&shard->claimed);
    size_t listed = 0;
    for (unsigned bucket = 0; bucket < AP_SPAN_BUCKETS; bucket++) {
        listed += check_bucket(number, size_class, bucket);
    }
    (void)check(listed == expected->listed, "a span is not on the list it says", NULL, size_class);
    (void)check(atomic_load(&shard->lists.has_spare) == (listed >= 2),
                "a shard's spare span is not what it says", NULL, size_class);
    (void)check(shard->lists.members == expected->spans, "a class' count of spans is wrong", NULL,
                size_class);
    (void)check(claimed == expected->claimed, "a class' count of claimed blocks is wrong", NULL,
                size_class);
    sums.claimed_blocks += claimed;
}

static void check_central(void)
{
    for (uint32_t i = 0; i < records && !found; i++) {
        const struct ap__span *span = ap__span_by_index(i);
        if (span->state == AP__SPAN_SMALL) {
            check_small_span(span);
        } else {
            check_span(atomic_load(&span->shard) == 0, "a span of no class names a shard", span);
        }
    }
    for (unsigned c = 1; c < AP_CLASS_COUNT && !found; c++) {
        for (unsigned number = 0; number < ap__central_shards(c); number++) {
            check_shard(number, c);
        }
    }
}

/* ------------------------------------------------------------ large objects */

static void check_entry(void *entries, uintptr_t address, uint32_t record)
{
    const void *where = (const void *)address;
    ++*(size_t *)entries;
    if (found || !check(record < records, "an entry of the table has no record", where, record)) {
        return;
    }
    const struct ap__span *span = ap__span_by_index(record);
    if (span->state == AP__SPAN_SMALL) {
        (void)check(span->outside && address - span->start < ap__span_bytes(span) &&
                        address % AP_GRANULE == 0,
                    "an entry of the table leads to another small span", where, record);
    } else {
        (void)check(span->state == AP__SPAN_LARGE && span->start == address,
                    "an entry of the table leads to no large span", where, record);
    }
}

/* Returns how many entries there must be. */
static size_t check_span_is_entered(const struct ap__span *span)
{
    uint32_t record = 0;
    if (span->state == AP__SPAN_LARGE) {
        bool entered = ap__large_table_find(span->start, &record);
        check_span(is_child || (entered && record == span->index),
                   "a large span is not in the table", span);
        check_span(is_child || span->large.alignment == 0 ||
                       span->start % span->large.alignment == 0,
                   "a large span is not aligned as it says", span);
        return 1;
    }
    if (span->state != AP__SPAN_SMALL || !span->outside) {
        return 0;
    }
    for (size_t i = 0; i < span->granules; i++) {
        bool entered = ap__large_table_find(span->start + i * AP_GRANULE, &record);
        check_span(entered && record == span->index, "a granule outside is not in the table", span);
    }
    return span->granules;
}

static void check_table(void)
{
    struct ap__large_table_stats stats;
    size_t entries = 0;
    size_t wanted = 0;
    (void)check(ap__large_table_is_valid(), "the table's own invariants do not hold", NULL, 0);
    ap__large_table_visit(check_entry, &entries);
    for (uint32_t i = 0; i < records && !found; i++) {
        wanted += check_span_is_entered(ap__span_by_index(i));
    }
    ap__large_table_stats(&stats);
    (void)check(is_child ? entries <= wanted : entries == wanted,
                "the table has not one entry for each span", NULL, entries);
    (void)check(is_child ? entries <= stats.live : entries == stats.live,
                "the table's count of entries is wrong", NULL, stats.live);
}

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

static void check_kept(unsigned size_class, const void *p)
{
    const struct ap__size_class *info = &ap__size_class[size_class];
    const struct ap__span *span = p == NULL ? NULL : ap__page_heap_span_of((uintptr_t)p);
    if (!check(span != NULL && span->state == AP__SPAN_SMALL && span->size_class == size_class,
               "a block that is kept is in no span of its class", p, size_class)) {
        return;
    }
    size_t offset = (uintptr_t)p - span->start;
    size_t slot = offset / info->size;
    (void)check(offset % info->size == 0 && slot < info->slots, "a block that is kept is no slot",
                p, size_class);
    (void)check(found || (span->slots.bitmap[slot / WORD_BITS] >> slot % WORD_BITS & 1) == 0,
                "a block that is kept is free in its span", p, size_class);
    (void)check(found || seen_add(p), "a block is kept twice", p, size_class);
}

/* ------------------------------------------------------------ thread caches */

static bool is_walked(const struct ap__thread_cache *cache)
{
    /* A dead thread's, in a child; or one whose thread was cancelled in the middle of its work. */
    bool in_use = atomic_load_explicit(&cache->in_use, memory_order_relaxed);
    return !(is_child && !in_use) && !cache->at_work;
}

static void check_unused_list(const struct ap__free_list *list,
                              const struct ap__free_list_info *info)
{
    (void)check(ap__free_list_top(list) == &ap__free_list_none && list->full == &ap__free_list_none,
                "a list without an array is not empty and full", list, info->capacity);
    (void)check(info->capacity == 0 && info->room == 0 && info->hidden == 0,
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
        check(count >= 0 && count <= info->capacity, "a list holds more than its capacity", list,
              (size_t)count) &&
        check(info->capacity <= info->room, "a list's capacity is beyond its array", list,
              info->capacity) &&
        check(ap__free_list_top(list) <= list->full && list->full <= bottom + info->capacity,
              "a list is full elsewhere", list, info->capacity) &&
        check(info->hidden <= count, "a fold is above the top of its list", list, info->hidden) &&
        check(info->gone <= info->hidden, "more is gone from a list than its fold hides", list,
              info->gone);
    for (ptrdiff_t i = 0; fits && i <= count && !found; i++) {
        const void *p = ap__slot_load(&bottom[i]);
        if (i == info->hidden || i < info->gone) {
            (void)check(p == NULL, "a list has no NULL where its blocks end", list, size_class);
        } else {
            check_kept(size_class, p);
            sums.cached_blocks++;
        }
    }
}

static void check_cache(const struct ap__thread_cache *cache)
{
    size_t bytes = 0;
    check_unused_list(&cache->lists[0], &cache->infos[0]);
    for (unsigned c = 1; c < AP_CLASS_COUNT && !found; c++) {
        check_list(cache, c);
        bytes += cache->infos[c].capacity * (size_t)ap__size_class[c].size;
    }
    (void)check(cache->capacity_bytes == bytes, "a cache's sum of capacities is wrong", cache,
                bytes);
    (void)check(bytes <= AP_CACHE_FREE_BYTES + cache->granted_bytes,
                "a cache has more room than it was granted", cache, bytes);
    (void)check(bytes == 0 || atomic_load(&cache->in_use), "a cache that nobody has is not empty",
                cache, bytes);
}

static void check_caches(void)
{
    size_t granted = 0;
    size_t all = 0;
    bool complete = true;
    (void)check(ap__slot_load(&ap__free_list_none) == NULL, "the NULL of unused lists is gone",
                &ap__free_list_none, 0);
    for (const struct ap__thread_cache *cache = ap__thread_caches(); cache != NULL && !found;
         cache = cache->next) {
        if (is_walked(cache)) {
            check_cache(cache);
            granted += cache->granted_bytes;
        } else {
            complete = false;
        }
        all++;
    }
    (void)check(found || !(complete || is_child) || granted == ap__cache_limits_granted(),
                "the sum of all grants is wrong", NULL, granted);
    (void)check(ap__thread_count() <= all, "more threads have a cache than there are caches", NULL,
                all);
}

/* ------------------------------------------------------------ transfer caches */

static void check_transfer(unsigned shard, unsigned size_class)
{
    struct ap__transfer_view view;
    ap__transfer_view_locked(shard, size_class, &view);
    bool fits =
        check(view.count <= view.capacity, "a transfer cache holds more than its capacity",
              view.blocks, size_class) &&
        check(view.limit <= view.capacity, "a transfer cache's limit is beyond its array",
              view.blocks, size_class) &&
        check(view.unused <= view.count, "a transfer cache has fewer blocks than unused ones",
              view.blocks, size_class) &&
        check((view.blocks == NULL) == (view.capacity == 0),
              "a transfer cache has a capacity without an array", view.blocks, size_class);
    for (unsigned i = 0; fits && i < view.count && !found; i++) {
        check_kept(size_class, view.blocks[i]);
        sums.transfer_blocks++;
    }
}

static void check_transfers(void)
{
    for (unsigned shard = 0; shard < ap__transfer_shards() && !found; shard++) {
        for (unsigned c = 1; c < AP_CLASS_COUNT && !found; c++) {
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

static void check_kept_blocks(void)
{
    if (!seen_open(count_kept())) {
        fault("no memory for the walk itself", NULL, seen_slots);
        return;
    }
    check_caches();
    check_transfers();
    seen_close();
    sums.live_blocks = sums.claimed_blocks - sums.cached_blocks - sums.transfer_blocks;
}

/* ------------------------------------------------------------ the walk */

static void begin_walk(void)
{
    found = false;
    is_busy = false;
    memset(&sums, 0, sizeof sums);
    memset(class_sums, 0, sizeof class_sums);
    records = ap__span_record_count();
    ap__page_heap_view_locked(&heap);
    for (uint32_t i = 0; i < records; i++) {
        is_busy |= ap__span_by_index(i)->state == AP__SPAN_PURGING;
    }
}

static void walk_page_heap(void)
{
    begin_walk();
    check_page_heap();
}

static void walk_all(void)
{
    walk_page_heap();
    if (!found) {
        check_central();
    }
    if (!found) {
        check_table();
    }
    if (!found) {
        check_kept_blocks();
    }
}

/* Again while a purge, the helper's, has spans in its hands; in a child nobody will ever settle those. */
static const char *find_fault(void (*walk)(void), bool in_child)
{
    found = false;
    is_child = in_child;
    is_part = walk == walk_page_heap;
    if (ap__lock_is_at_work()) {
        fault("this thread holds a lock, or is in the allocator", NULL, 0);
        return text;
    }
    for_each_lock(check_lock);
    for (int ms = 0; !found; ms++) {
        ap__page_heap_settle(); /* spans that wait for an owner are in no sum and in no table */
        take_all();
        walk();
        release_all();
        if (!is_busy || is_child || ms == PURGE_MS) {
            (void)check(!is_busy || is_child, "a purge never ends", NULL, PURGE_MS);
            break;
        }
        (void)nanosleep(&pause_1_ms, NULL);
    }
    return found ? text : NULL;
}

const char *consistency_find_fault(void)
{
    return find_fault(walk_all, false);
}

const char *consistency_find_fault_in_child(void)
{
    return find_fault(walk_all, true);
}

const char *consistency_find_page_heap_fault(void)
{
    return find_fault(walk_page_heap, false);
}

struct consistency_sums consistency_sums(void)
{
    return sums;
}
