/* SPDX-License-Identifier: MIT */
/*
 * consistency_test.c: the walk of consistency.h finds what it says it looks for.
 * Goal: no fault in a heap of everything; each invariant, damaged alone, is named. Method: a child builds the
 * heap, walks it, spoils one word, walks it again. Run with a region so small that some spans are outside.
 */
#include "support/consistency.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apmalloc.h"
#include "cache/cache_limits.h"
#include "cache/thread.h"
#include "central/central_free_list.h"
#include "central/shards.h"
#include "central/slot_map.h"
#include "central/transfer_cache.h"
#include "damage.h"
#include "heap/page_heap.h"
#include "meta/meta.h"
#include "os/lock.h"
#include "support/child.h"
#include "table/large_table.h"

TestSuite(consistency, .timeout = 120);

enum { SMALL = 64, MIDDLING = 5000, SENT = 96, SPREAD_SPANS = 3, LARGES = 7, PAIR = 8 };
#define LARGE_BYTES ((size_t)300 << 10)
#define LONG_BYTES ((size_t)2 << 20)

/* What the heap of the tests holds. */
static unsigned small_class, middling_class, sent_class;
static void *small_live, *small_cached, *middling_live, *outside_large, *outside_small;
static void *larges[LARGES]; /* 0, 2 and 4 are freed: two short spans and a long one */
static struct ap__span *free_long, *free_short;
static struct ap__span *spread[SPREAD_SPANS]; /* of one bucket */

static struct ap__span *span_of(const void *p)
{
    return ap__page_heap_span_of((uintptr_t)p);
}

static struct ap__thread_cache *my_cache(void)
{
    return ap__thread_cache_or_null();
}

static void build_small(void)
{
    void *blocks[300];
    small_class = ap__class_of_size(SMALL);
    for (size_t i = 0; i < 300; i++) {
        blocks[i] = ap_malloc(SMALL);
    }
    for (size_t i = 0; i < 200; i += 2) {
        ap_free(blocks[i]);
        small_cached = blocks[i];
    }
    small_live = blocks[299];
}

/* Spans that are all but empty, side by side on one list. */
static void build_spread(void)
{
    static void *blocks[SPREAD_SPANS * AP_SLOTS_MAX];
    middling_class = ap__class_of_size(MIDDLING);
    size_t slots = ap__size_class[middling_class].slots;
    size_t count = SPREAD_SPANS * slots;
    cr_assert_eq(ap__central_take(middling_class, blocks, 1), 1);
    for (size_t i = 1; i < count; i++) {
        cr_assert_eq(ap__central_take(middling_class, &blocks[i], 1), 1);
    }
    for (size_t i = 0; i < count; i++) {
        if (i % slots == 0) {
            spread[i / slots] = span_of(blocks[i]);
        } else {
            ap__central_give(middling_class, &blocks[i], 1, "free");
        }
    }
    middling_live = blocks[0];
}

static void build_transfer(void)
{
    void *blocks[PAIR];
    sent_class = ap__class_of_size(SENT);
    cr_assert_eq(ap__central_take(sent_class, blocks, PAIR), PAIR);
    cr_assert_eq(ap__transfer_give(sent_class, blocks, PAIR), PAIR);
}

static void build(void)
{
    ap__shards_init(2); /* whatever processors there are: for a shard that no span is of */
    for (size_t i = 0; i < LARGES; i++) {
        larges[i] = ap_malloc(i == 0 ? LONG_BYTES : LARGE_BYTES);
        memset(larges[i], 1, LARGE_BYTES);
    }
    build_small();
    build_spread();
    build_transfer();
    outside_large = ap_malloc((size_t)32 << 20);
    do {
        outside_small = ap_malloc(6500);
    } while (!span_of(outside_small)->outside);
    free_long = span_of(larges[0]);
    free_short = span_of(larges[2]);
    ap_free(larges[0]);
    ap_free(larges[2]);
    ap_free(larges[4]);
    ap__page_heap_settle();
}

/* ------------------------------------------------------------ the damages */

static void tile_start(void)
{
    span_of(larges[1])->start += AP_GRANULE;
}

static void tile_too_long(void)
{
    span_of(larges[1])->granules++;
}

static void last_granule(void)
{
    size_t first = ap__region_granule_of((uintptr_t)larges[1]);
    ap__region_set_span(first + span_of(larges[1])->granules - 1, 1, free_long);
}

static void class_map(void)
{
    ap__region_set_class(ap__region_granule_of((uintptr_t)small_live), 1, small_class + 1);
}

static void class_map_of_large(void)
{
    ap__region_set_class(ap__region_granule_of((uintptr_t)larges[1]), 1, 1);
}

static void small_granule(void)
{
    /* Not an end of it: the class has spans of three granules. */
    ap__region_set_span(ap__region_granule_of(spread[0]->start) + 1, 1, spread[1]);
}

static void unlink_side_by_side(void)
{
    /* A free span becomes two. */
    struct ap__span *second = ap__span_record_take();
    free_long->granules--;
    *second = (struct ap__span){.start = free_long->start + ap__span_bytes(free_long),
                                .granules = 1,
                                .index = second->index,
                                .state = AP__SPAN_FREE,
                                .tree.dirty_granules = 1};
    free_long->tree.dirty_granules--;
    size_t first = ap__region_granule_of(free_long->start);
    ap__region_set_span_ends(first, free_long->granules, free_long);
    ap__region_set_span_ends(first + free_long->granules, 1, second);
}

static void dirty_count(void)
{
    free_long->tree.dirty_granules--;
}

static void clean_map(void)
{
    ap__region_set_clean(ap__region_granule_of(free_short->start), 1, true);
}

static void not_zero(void)
{
    (void)ap_trim();
    ((char *)free_long->start)[3 * AP_GRANULE + 12345] = 1;
}

static void lost_tile(void)
{
    struct ap__span *lost = ap__span_record_take();
    *lost = *span_of(larges[1]);
    lost->index = ap__span_record_count() - 1;
}

static void lost_record(void)
{
    (void)ap__span_record_take();
}

static void record_index(void)
{
    span_of(larges[1])->index++;
}

static void record_state(void)
{
    span_of(larges[1])->state = 77;
}

static void says_outside(void)
{
    span_of(larges[1])->outside = true;
}

static void says_inside(void)
{
    span_of(outside_large)->outside = false;
}

static void priority(void)
{
    free_short->tree.priority ^= 1;
}

/* The two short ones are of one length; which is the other's child depends on the addresses. */
static void tree_order(void)
{
    struct ap__page_heap_view view;
    ap__page_heap_view_locked(&view);
    struct ap__span *root = ap__span_by_index(view.tree_root->index);
    struct ap__span *left = root->tree.left;
    root->tree.left = root->tree.right;
    root->tree.right = left;
}

static void dirty_link(void)
{
    struct ap__page_heap_view view;
    ap__page_heap_view_locked(&view);
    ap__span_by_index(view.dirty[AP__DIRTY_SHORT].oldest->index)->link.previous = free_long;
}

static void free_sum(void)
{
    damage_page_heap_sum(DAMAGE_FREE_GRANULES);
}

static void large_sum(void)
{
    damage_page_heap_sum(DAMAGE_LARGE_GRANULES);
}

static void large_count(void)
{
    damage_page_heap_sum(DAMAGE_LARGE_COUNT);
}

static void outside_sum(void)
{
    damage_page_heap_sum(DAMAGE_OUTSIDE_GRANULES);
}

static void tree_count(void)
{
    damage_page_heap_sum(DAMAGE_TREE_COUNT);
}

static void short_sum(void)
{
    damage_page_heap_sum(DAMAGE_SHORT_DIRTY);
}

static void long_sum(void)
{
    damage_page_heap_sum(DAMAGE_LONG_DIRTY);
}

static void bit_and_count(void)
{
    spread[0]->slots.free_slots--;
}

static void bit_behind(void)
{
    unsigned slots = ap__size_class[middling_class].slots;
    spread[0]->slots.bitmap[slots / 64] |= UINT64_C(1) << (slots % 64);
}

static void first_word(void)
{
    spread[0]->slots.first_word = 1;
}

static void bucket(void)
{
    spread[0]->slots.bucket--;
}

static void wrong_length(void)
{
    /* One granule is cut off, as a large object of its own. */
    struct ap__span *rest = ap__span_record_take();
    struct ap__span *span = spread[0];
    span->granules--;
    *rest = (struct ap__span){.start = span->start + ap__span_bytes(span),
                              .granules = 1,
                              .index = rest->index,
                              .state = AP__SPAN_LARGE};
    ap__region_set_span_ends(ap__region_granule_of(rest->start), 1, rest);
    ap__region_set_class(ap__region_granule_of(rest->start), 1, 0);
    damage_page_heap_sum(DAMAGE_LARGE_COUNT);
    damage_page_heap_sum(DAMAGE_LARGE_GRANULES);
}

static void no_bitmap(void)
{
    spread[0]->slots.bitmap = NULL;
}

static void list_link(void)
{
    spread[0]->link.previous = spread[0];
}

static void purged_order(void)
{
    const struct ap__span_lists *lists = &ap__shard_at(0, middling_class)->lists;
    lists->buckets[spread[0]->slots.bucket]->slots.is_purged = true;
}

static void not_listed(void)
{
    damage_forget_listed(small_class);
}

static void class_spans(void)
{
    damage_central_count(middling_class, DAMAGE_SPANS);
}

static void drained(void)
{
    struct ap__span *span = spread[0];
    unsigned slots = ap__size_class[middling_class].slots;
    ap__slot_map_fill(span, slots);
}

static void class_claimed(void)
{
    damage_central_count(middling_class, DAMAGE_CLAIMED);
}

static void class_occupied(void)
{
    damage_central_count(middling_class, DAMAGE_OCCUPIED);
}

static void class_spare(void)
{
    damage_central_count(middling_class, DAMAGE_SPARE);
}

static void no_shard(void)
{
    atomic_store(&spread[0]->shard, 0);
}

static void other_shard(void)
{
    atomic_store(&span_of(small_live)->shard, ap__shard_name(1, small_class));
}

static void shard_of_other_class(void)
{
    atomic_store(&span_of(small_live)->shard, ap__shard_name(0, middling_class));
}

static void shard_of_none(void)
{
    atomic_store(&free_short->shard, ap__shard_name(0, 1));
}

static void not_entered(void)
{
    uint32_t record;
    (void)ap__large_table_delete((uintptr_t)larges[1], &record);
}

static void entered_for_nothing(void)
{
    (void)ap__large_table_insert(free_short->start, free_short->index);
}

static void entered_inside(void)
{
    (void)ap__large_table_insert((uintptr_t)larges[1] + AP_GRANULE, span_of(larges[1])->index);
}

static void entered_for_small(void)
{
    (void)ap__large_table_insert(spread[0]->start, spread[0]->index);
}

static void entered_without_record(void)
{
    (void)ap__large_table_insert(AP_GRANULE, ap__span_record_count());
}

static void entered_with_other_record(void)
{
    uint32_t record;
    (void)ap__large_table_delete((uintptr_t)larges[1], &record);
    (void)ap__large_table_insert((uintptr_t)larges[1], span_of(larges[3])->index);
}

static void granule_not_entered(void)
{
    uint32_t record;
    (void)ap__large_table_delete(span_of(outside_small)->start, &record);
}

static void large_alignment(void)
{
    span_of(larges[1])->large.alignment = (size_t)1 << 46;
}

static struct ap__free_list *list(void)
{
    return &my_cache()->lists[small_class];
}

static void more_than_capacity(void)
{
    ap__free_list_set_top(list(), list()->full + 1);
}

static void beyond_the_array(void)
{
    my_cache()->infos[small_class].room = 1;
}

static void full_elsewhere(void)
{
    const struct ap__free_list_info *info = &my_cache()->infos[small_class];
    list()->full = atomic_load(&info->bottom) + info->capacity + 1;
}

static void fold_above_top(void)
{
    my_cache()->infos[small_class].hidden = UINT16_MAX;
}

static void no_end(void)
{
    const struct ap__free_list_info *info = &my_cache()->infos[small_class];
    ap__slot_store(atomic_load(&info->bottom) + info->hidden, small_live);
}

static void unused_list_is_open(void)
{
    static ap__slot slots[2];
    my_cache()->lists[0].full = &slots[1];
}

static void unused_list_has_capacity(void)
{
    my_cache()->infos[AP_CLASS_COUNT - 1].capacity = 1;
}

static void cached_twice(void)
{
    ap__slot *top = ap__free_list_top(list());
    ap__slot_store(top - 1, ap__slot_load(top));
}

static void cached_and_free(void)
{
    void *p = ap__slot_load(ap__free_list_top(list()));
    struct ap__span *span = span_of(p);
    unsigned slot = (unsigned)(((uintptr_t)p - span->start) / SMALL);
    span->slots.bitmap[slot / 64] |= UINT64_C(1) << (slot % 64);
    span->slots.free_slots++;
    span->slots.first_word = 0;
    damage_central_count(small_class, DAMAGE_UNCLAIMED);
}

static void cached_interior(void)
{
    ap__slot_store(ap__free_list_top(list()), (char *)small_cached + 16);
}

static void cached_of_other_class(void)
{
    ap__slot_store(ap__free_list_top(list()), middling_live);
}

static void cached_foreign(void)
{
    ap__slot_store(ap__free_list_top(list()), &sent_class);
}

static void capacity_sum(void)
{
    my_cache()->capacity_bytes += SMALL;
}

static void more_than_granted(void)
{
    /* A list of the largest blocks with a capacity that nobody granted. */
    static ap__slot array[9];
    unsigned c = AP_CLASS_COUNT - 1;
    struct ap__free_list_info *info = &my_cache()->infos[c];
    atomic_store(&info->bottom, array);
    info->capacity = 8;
    info->room = 8;
    my_cache()->lists[c].full = array + 8;
    ap__free_list_set_top(&my_cache()->lists[c], array);
    my_cache()->capacity_bytes += 8 * (size_t)ap__size_class[c].size;
}

static void grants_sum(void)
{
    (void)ap__cache_limits_grant(0, 1);
}

static void unused_cache(void)
{
    atomic_store(&my_cache()->in_use, false);
}

static void common_null(void)
{
    ap__slot_store(&ap__free_list_none, small_live);
}

static void transfer_count(void)
{
    damage_transfer(sent_class, DAMAGE_TRANSFER_COUNT);
}

static void transfer_limit(void)
{
    damage_transfer(sent_class, DAMAGE_TRANSFER_LIMIT);
}

static void transfer_unused(void)
{
    damage_transfer(sent_class, DAMAGE_TRANSFER_UNUSED);
}

static void transfer_twice(void)
{
    damage_transfer(sent_class, DAMAGE_TRANSFER_BLOCK);
}

static void lock_is_mine(void)
{
    ap__lock_take(ap__central_lock(0, 1));
}

static void *keep_lock(void *unused)
{
    ap__lock_take(ap__meta_lock());
    return unused;
}

static void lock_is_kept(void)
{
    pthread_t thread;
    consistency_lock_seconds = 1;
    (void)pthread_create(&thread, NULL, keep_lock, NULL);
    (void)pthread_join(thread, NULL);
}

static void lock_is_recursive(void)
{
    ap__meta_lock()->recursion = 1;
}

static void lock_has_owner(void)
{
    atomic_store(&ap__meta_lock()->owner, 1);
}

static const struct damage {
    void (*spoil)(void);
    const char *text;
} damages[] = {
    {tile_start, "begins at another granule"},
    {tile_too_long, "last granule leads elsewhere"},
    {last_granule, "last granule leads elsewhere"},
    {class_map, "class map has another class"},
    {class_map_of_large, "class map has another class"},
    {small_granule, "a granule of a small span leads elsewhere"},
    {unlink_side_by_side, "two free spans are side by side"},
    {dirty_count, "dirty count is not that of the clean map"},
    {clean_map, "dirty count is not that of the clean map"},
    {not_zero, "clean memory is not zero"},
    {lost_tile, "a record's span is not in the region"},
    {lost_record, "an unused record is lost"},
    {record_index, "another's index"},
    {record_state, "record is not valid"},
    {says_outside, "a span outside is in the region"},
    {says_inside, "a record's span is not in the region"},
    {priority, "a priority is"},
    {tree_order, "the tree is out of order"},
    {damage_forget_free, "a free span is not in the tree"},
    {damage_forget_long_dirty, "a dirty span is on no list"},
    {dirty_link, "a dirty list's links differ"},
    {free_sum, "sum of free granules"},
    {large_sum, "sum of large granules"},
    {large_count, "count of large spans"},
    {outside_sum, "sum of granules outside"},
    {tree_count, "the tree's count"},
    {short_sum, "a dirty list's sum"},
    {long_sum, "a dirty list's sum"},
    {bit_and_count, "number of free slots is not the bitmap's"},
    {bit_behind, "behind the last slot"},
    {first_word, "before the first word"},
    {bucket, "bucket is not that of its free slots"},
    {wrong_length, "a small span's length"},
    {no_bitmap, "has no bitmap"},
    {list_link, "a bucket's links differ"},
    {purged_order, "behind a purged one"},
    {not_listed, "not on the list it says"},
    {class_spans, "class' count of spans"},
    {drained, "a span without live blocks is kept"},
    {class_claimed, "class' count of claimed blocks"},
    {class_occupied, "the bit of a bucket"},
    {class_spare, "spare span is not what it says"},
    {no_shard, "names no shard of its class"},
    {other_shard, "names no shard of its class"},
    {shard_of_other_class, "names no shard of its class"},
    {shard_of_none, "a span of no class names a shard"},
    {not_entered, "a large span is not in the table"},
    {entered_for_nothing, "leads to no large span"},
    {entered_inside, "leads to no large span"},
    {entered_for_small, "leads to another small span"},
    {entered_without_record, "has no record"},
    {entered_with_other_record, "leads to no large span"},
    {granule_not_entered, "a granule outside is not in the table"},
    {large_alignment, "not aligned as it says"},
    {more_than_capacity, "holds more than its capacity"},
    {beyond_the_array, "beyond its array"},
    {full_elsewhere, "is full elsewhere"},
    {fold_above_top, "above the top"},
    {no_end, "no NULL where its blocks end"},
    {unused_list_is_open, "not empty and full"},
    {unused_list_has_capacity, "without an array has a capacity"},
    {cached_twice, "kept twice"},
    {cached_and_free, "free in its span"},
    {cached_interior, "is no slot"},
    {cached_of_other_class, "in no span of its class"},
    {cached_foreign, "in no span of its class"},
    {capacity_sum, "sum of capacities"},
    {more_than_granted, "more room than it was granted"},
    {grants_sum, "the sum of all grants"},
    {unused_cache, "a cache that nobody has is not empty"},
    {common_null, "the NULL of unused lists"},
    {transfer_count, "transfer cache holds more than its capacity"},
    {transfer_limit, "transfer cache's limit"},
    {transfer_unused, "fewer blocks than unused"},
    {transfer_twice, "kept twice"},
    {lock_is_mine, "this thread holds a lock"},
    {lock_is_kept, "a lock is never released"},
    {lock_is_recursive, "taken twice"},
    {lock_has_owner, "has an owner"},
};

static void spoil_and_find(void *argument)
{
    const struct damage *damage = argument;
    build();
    const char *fault = consistency_find_fault();
    if (fault != NULL) {
        fprintf(stderr, "before: %s", fault);
        _exit(1);
    }
    damage->spoil();
    fault = consistency_find_fault();
    if (fault == NULL || strstr(fault, damage->text) == NULL) {
        fprintf(stderr, "found: %s", fault != NULL ? fault : "nothing");
        _exit(1);
    }
}

Test(consistency, each_damage_is_found_and_named)
{
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        struct child_result result;
        struct damage damage = damages[i];
        child_run(&result, spoil_and_find, &damage);
        cr_expect(result.signal == 0 && result.status == 0, "\"%s\": signal %d, status %d: %s",
                  damage.text, result.signal, result.status, result.text);
    }
}

Test(consistency, the_sums_are_those_of_what_the_program_has)
{
    enum { COUNT = 500 };
    static void *blocks[COUNT];
    cr_assert_null(consistency_find_fault());
    struct consistency_sums before = consistency_sums();
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = ap_malloc(1 + i);
    }
    cr_assert_null(consistency_find_fault());
    cr_assert_eq(consistency_sums().live_blocks, before.live_blocks + COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        ap_free(blocks[i]);
    }
    cr_assert_null(consistency_find_fault());
    cr_assert_eq(consistency_sums().live_blocks, before.live_blocks);
    cr_assert_gt(consistency_sums().cached_blocks, 0);
    ap_thread_idle();
    cr_assert_null(consistency_find_fault());
    cr_assert_eq(consistency_sums().cached_blocks, 0);
    cr_assert_eq(consistency_sums().live_blocks, before.live_blocks);
}

/* ------------------------------------------------------------ a forked child */

static pthread_barrier_t has_cache;

static void *keep_cache(void *unused)
{
    for (size_t size = 16; size < 3000; size += 100) {
        ap_free(ap_malloc(size));
    }
    (void)pthread_barrier_wait(&has_cache);
    (void)pthread_barrier_wait(&has_cache);
    return unused;
}

static void walk_in_child(void *unused)
{
    (void)unused;
    build();
    const char *fault = consistency_find_fault_in_child();
    if (fault != NULL) {
        fprintf(stderr, "%s", fault);
        _exit(1);
    }
    if (consistency_find_fault() == NULL) { /* the other thread's blocks are nobody's */
        _exit(2);
    }
    damage_central_count(small_class, DAMAGE_CLAIMED);
    if (consistency_find_fault_in_child() == NULL) {
        _exit(3);
    }
}

Test(consistency, a_forked_child_may_have_lost_what_other_threads_had_and_no_more)
{
    pthread_t thread;
    struct child_result result;
    (void)pthread_barrier_init(&has_cache, NULL, 2);
    cr_assert_eq(pthread_create(&thread, NULL, keep_cache, NULL), 0);
    (void)pthread_barrier_wait(&has_cache);
    child_run(&result, walk_in_child, NULL);
    cr_assert(result.signal == 0 && result.status == 0, "signal %d, status %d: %s", result.signal,
              result.status, result.text);
    (void)pthread_barrier_wait(&has_cache);
    (void)pthread_join(thread, NULL);
    cr_assert_null(consistency_find_fault());
}
