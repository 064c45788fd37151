/* SPDX-License-Identifier: MIT */
/*
 * page_heap.c: spans tile the region, and the page heap's maps, tree, lists and sums agree with them and their records.
 */
#include "support/consistency/walk.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/hash.h"
#include "heap/page_heap.h"
#include "os/os.h"

enum {
    TREE_DEPTH_MAX = 400,
    RESIDENT_MAX = 4096, /* pages asked about at a time */
};

static struct ap__page_heap_view heap;

static void check_maps(const struct ap__span *span, size_t first)
{
    unsigned size_class = span->state == AP__SPAN_SMALL ? span->size_class : 0;
    bool is_found_anywhere = span->state == AP__SPAN_SMALL || span->state == AP__SPAN_PACKED;
    for (size_t i = first; i < first + span->granules && !walk.found; i++) {
        walk_check_span(ap__region_class_of(i) == size_class, "the class map has another class",
                        span);
        walk_check_span(!is_found_anywhere || ap__region_span_of(i) == span,
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
    for (size_t at = first, end = first + span->granules; at < end && !walk.found;) {
        size_t run = 0;
        while (run < most && at + run < end && ap__region_is_clean(at + run)) {
            run++;
        }
        walk_check_span(run == 0 || is_zero(at, run), "clean memory is not zero", span);
        at += ap__max(run, 1);
    }
}

static void add_to_sums(const struct ap__span *span)
{
    switch (span->state) {
    case AP__SPAN_FREE:
        walk.sums.free_spans++;
        walk.sums.free_granules += span->granules;
        walk.sums.dirty_granules += span->tree.dirty_granules;
        break;
    case AP__SPAN_LARGE:
        walk.sums.large_spans++;
        walk.sums.large_granules += span->granules;
        break;
    case AP__SPAN_SMALL:
        walk.sums.small_spans++;
        break;
    case AP__SPAN_PACKED:
        walk.sums.packed_spans++;
        break;
    default:
        break;
    }
}

static bool is_tile(const struct ap__span *span, size_t at, size_t limit)
{
    const void *where = (const void *)ap__region_address_of(at);
    return walk_check(span != NULL, "no span begins at a granule", where, at) &&
           walk_check(ap__span_is_valid(span), "a span's record is not valid", where,
                      span->state) &&
           walk_check(!span->outside, "a span in the region says it is outside", where,
                      span->index) &&
           walk_check(ap__region_granule_of(span->start) == at,
                      "a span begins at another granule than its record says", where,
                      span->index) &&
           walk_check(span->granules <= limit - at, "a span ends beyond the region", where,
                      span->index) &&
           walk_check(ap__region_span_of(at + span->granules - 1) == span,
                      "a span's last granule leads elsewhere", where, span->index);
}

/* Returns how many spans tile the region. */
static size_t check_tiles(void)
{
    size_t limit = ap__region_limit_granules();
    bool free_before = false;
    size_t count = 0;
    for (size_t at = ap__region_first_granule(); at < limit && !walk.found; count++) {
        const struct ap__span *span = ap__region_span_of(at);
        if (!is_tile(span, at, limit)) {
            break;
        }
        bool is_free = span->state == AP__SPAN_FREE;
        walk_check_span(!(is_free && free_before), "two free spans are side by side", span);
        walk_check_span(!is_free ||
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
    if (node == NULL || walk.found) {
        return 0;
    }
    walk_check_span(depth < TREE_DEPTH_MAX, "the tree of free spans is too deep", node);
    walk_check_span(node->state == AP__SPAN_FREE, "a span in the tree is not free", node);
    walk_check_span(low == NULL || precedes(low, node), "the tree is out of order to the left",
                    node);
    walk_check_span(high == NULL || precedes(node, high), "the tree is out of order to the right",
                    node);
    walk_check_span(node->tree.priority <= priority_max, "a priority is above its parent's", node);
    walk_check_span(node->tree.priority == ap__hash_address(node->start, 0),
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
    for (; span != NULL && !walk.found; previous = span, span = span->link.next, count++) {
        bool is_long = span->granules >= AP_LONG_SPAN_GRANULES;
        walk_check_span(count <= walk.records, "a dirty list has no end", span);
        walk_check_span(span->state == AP__SPAN_FREE, "a span on a dirty list is not free", span);
        walk_check_span(span->link.previous == previous, "a dirty list's links differ", span);
        walk_check_span(span->tree.dirty_granules != 0, "a clean span is on a dirty list", span);
        walk_check_span(is_long == (kind == AP__DIRTY_LONG), "a span is on the other dirty list",
                        span);
        granules += span->tree.dirty_granules;
    }
    (void)walk_check(heap.dirty[kind].oldest == previous, "a dirty list's end is another span",
                     previous, count);
    (void)walk_check(heap.dirty[kind].granules == granules, "a dirty list's sum is wrong", NULL,
                     granules);
    return count;
}

static size_t count_recycled(void)
{
    size_t count = 0;
    for (const struct ap__span *span = ap__span_recycled(); span != NULL && !walk.found;
         span = span->link.next, count++) {
        walk_check_span(count <= walk.records, "the list of recycled records has no end", span);
        walk_check_span(span->state == AP__SPAN_UNUSED, "a recycled record is in use", span);
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
    walk_check_span(ap__span_is_valid(span), "a record is not valid", span);
    tally->free += span->state == AP__SPAN_FREE;
    tally->dirty += span->state == AP__SPAN_FREE && span->tree.dirty_granules != 0;
    if (span->state == AP__SPAN_LARGE) {
        tally->large++;
        tally->large_granules += span->granules;
    }
    if (span->outside) {
        tally->outside++;
        tally->outside_granules += span->granules;
        walk_check_span(!ap__region_contains(span->start), "a span outside is in the region", span);
    } else {
        tally->in_region++;
    }
}

void walk_page_heap(void)
{
    ap__page_heap_view_locked(&heap);
    struct tally tally = {0};
    for (uint32_t i = 0; i < walk.records && !walk.found; i++) {
        const struct ap__span *span = ap__span_by_index(i);
        walk_check_span(span->index == i, "a record has another's index", span);
        tally_record(&tally, span);
    }
    size_t tiles = check_tiles();
    (void)walk_check(tiles == tally.in_region, "a record's span is not in the region", NULL,
                     tally.in_region);
    size_t recycled = count_recycled();
    (void)walk_check(recycled == tally.unused || (walk.is_part && recycled < tally.unused),
                     "an unused record is lost", NULL, tally.unused);
    size_t nodes = check_tree(heap.tree_root, NULL, NULL, UINT64_MAX, 0);
    (void)walk_check(nodes == tally.free, "a free span is not in the tree", NULL, tally.free);
    (void)walk_check(nodes == heap.tree_count, "the tree's count is wrong", NULL, heap.tree_count);
    size_t listed = check_dirty_list(AP__DIRTY_SHORT) + check_dirty_list(AP__DIRTY_LONG);
    (void)walk_check(listed == tally.dirty, "a dirty span is on no list", NULL, tally.dirty);
    (void)walk_check(heap.free_granules == walk.sums.free_granules,
                     "the sum of free granules is wrong", NULL, heap.free_granules);
    (void)walk_check(heap.large_count == tally.large, "the count of large spans is wrong", NULL,
                     heap.large_count);
    (void)walk_check(heap.large_granules == tally.large_granules,
                     "the sum of large granules is wrong", NULL, heap.large_granules);
    (void)walk_check(heap.outside_granules == tally.outside_granules,
                     "the sum of granules outside is wrong", NULL, heap.outside_granules);
    walk.sums.outside_spans = tally.outside;
    walk.sums.large_spans = tally.large;
    walk.sums.large_granules = tally.large_granules;
}
