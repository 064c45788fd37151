/* SPDX-License-Identifier: MIT */
/* damage_page_heap.c: the page heap with a way to spoil it. */
#include "damage.h"
#include "heap/page_heap.c"

void damage_page_heap_sum(enum damage_page_heap_sum which)
{
    size_t *const sums[] = {
        [DAMAGE_FREE_GRANULES] = &free_granules,
        [DAMAGE_LARGE_GRANULES] = &large_granules,
        [DAMAGE_LARGE_COUNT] = &large_count,
        [DAMAGE_OUTSIDE_GRANULES] = &outside_granules,
        [DAMAGE_TREE_COUNT] = &free_spans.count,
        [DAMAGE_SHORT_DIRTY] = &dirty[AP__DIRTY_SHORT].granules,
        [DAMAGE_LONG_DIRTY] = &dirty[AP__DIRTY_LONG].granules,
    };
    ++*sums[which];
}

void damage_forget_long_dirty(void)
{
    AP_CHECK(dirty[AP__DIRTY_LONG].newest != NULL, "there is one");
    ap__dirty_list_remove(dirty, dirty[AP__DIRTY_LONG].newest);
}

void damage_forget_free(void)
{
    ap__free_spans_remove(&free_spans, free_spans.root);
}
