/* SPDX-License-Identifier: MIT */
/*
 * large.c: large objects: a span from the page heap and an entry in the table.
 *
 * Cost: one lock (the page heap's) and one table operation for allocation and for free; no system call
 * while the page heap has a dirty span that fits.
 */
#include "large/large.h"

#include <string.h>

#include "base/bits.h"
#include "guard/misuse.h"
#include "heap/page_heap.h"
#include "os/check.h"
#include "os/os.h"
#include "os/yield.h"
#include "table/large_table.h"

/*
 * Moving pages costs two system calls, a shoot-down of other processors' address caches, and mappings
 * that do not merge until the object is freed; copying costs the copy and a fault for each new page.
 */
#define MOVE_BYTES_MIN ((size_t)1 << 20)

static size_t granules_for(size_t size_bytes)
{
    return ap__align_up(size_bytes, AP_GRANULE) >> AP_PAGE_HEAP_GRANULE_SHIFT;
}

/* Clears the first `size_bytes` of a span except granules that are known to be zero. */
static void clear(const struct ap__span *span, size_t size_bytes)
{
    if (span->outside) {
        return; /* a mapping of its own is new each time */
    }
    size_t first = ap__region_granule_of(span->start);
    for (size_t offset = 0; offset < size_bytes; offset += AP_GRANULE) {
        if (!ap__region_is_clean(first + (offset >> AP_PAGE_HEAP_GRANULE_SHIFT))) {
            memset((char *)span->start + offset, 0, ap__min(AP_GRANULE, size_bytes - offset));
        }
    }
}

struct ap__span *ap__large_span(const void *p)
{
    uint32_t record;
    if (!ap__large_table_find((uintptr_t)p, &record)) {
        return NULL;
    }
    struct ap__span *span = ap__span_by_index(record);
    /* Outside the region, granules of small blocks are in the table too. */
    return span->state == AP__SPAN_LARGE && span->start == (uintptr_t)p ? span : NULL;
}

static struct ap__span *take_span(size_t size_bytes, size_t alignment, size_t room_bytes)
{
    if (size_bytes > AP__LARGE_SIZE_MAX || alignment > AP__LARGE_SIZE_MAX) {
        return NULL;
    }
    size_t granules = granules_for(size_bytes + room_bytes);
    struct ap__span *span = alignment <= AP_GRANULE ? ap__page_heap_take_recent(granules) : NULL;
    if (span == NULL) {
        span = ap__page_heap_take(granules, ap__max(alignment, AP_GRANULE), 0);
    }
    if (span != NULL) {
        span->large.size_bytes = size_bytes;
        span->large.alignment = alignment;
        span->large.guard = AP__GUARD_NONE;
    }
    return span;
}

static void *take(size_t size_bytes, size_t alignment, size_t room_bytes, bool zeroed)
{
    struct ap__span *span = take_span(size_bytes, alignment, room_bytes);
    if (span == NULL) {
        return NULL;
    }
    void *p = (void *)span->start;
    if (zeroed) {
        clear(span, size_bytes);
    }
    AP__YIELD_POINT();
    if (!ap__large_table_insert(span->start, span->index)) {
        ap__page_heap_give(span);
        return NULL;
    }
    return p;
}

void *ap__large_take(size_t size_bytes, size_t alignment, bool zeroed)
{
    return take(size_bytes, alignment, 0, zeroed);
}

void *ap__large_take_with_room(size_t size_bytes, size_t alignment, size_t room_bytes)
{
    return take(size_bytes, alignment, room_bytes, false);
}

struct ap__span *ap__large_detach(const void *p)
{
    uint32_t record;
    return ap__large_table_delete((uintptr_t)p, &record) ? ap__span_by_index(record) : NULL;
}

bool ap__large_give(void *p)
{
    struct ap__span *span = ap__large_detach(p);
    if (span == NULL) {
        return false;
    }
    AP__YIELD_POINT();
    ap__page_heap_give_recent(span);
    return true;
}

size_t ap__large_good_size(size_t size_bytes)
{
    return ap__align_up(size_bytes, ap__os_page_size());
}

size_t ap__large_usable_size(const void *p)
{
    const struct ap__span *span = ap__large_span(p);
    return span == NULL ? 0 : ap__large_good_size(span->large.size_bytes);
}

bool ap__large_resize(void *p, size_t size_bytes)
{
    struct ap__span *span = ap__large_span(p);
    AP_CHECK(span != NULL, "resize of what is not a large object");
    if (size_bytes > AP__LARGE_SIZE_MAX) {
        return false;
    }
    size_t granules = granules_for(size_bytes);
    if (granules > span->granules && !ap__page_heap_extend(span, granules)) {
        return false;
    }
    if (granules < span->granules) {
        span->large.size_bytes =
            size_bytes; /* first: a forked child finds no size beyond its span */
        /* Where the end cannot be cut off, the object keeps it; that is not an error. */
        (void)ap__page_heap_shorten(span, granules);
    }
    span->large.size_bytes = size_bytes;
    return true;
}

void *ap__large_move(void *p, size_t size_bytes, const char *function)
{
    struct ap__span *from = ap__large_span(p);
    AP_CHECK(from != NULL, "move of what is not a large object");
    if (from->outside || from->large.size_bytes < MOVE_BYTES_MIN ||
        size_bytes < from->large.size_bytes) {
        return NULL;
    }
    struct ap__span *to = take_span(size_bytes, AP_MIN_ALIGNMENT, 0);
    if (to == NULL) {
        return NULL;
    }
    size_t moved_bytes = ap__large_good_size(from->large.size_bytes);
    if (to->outside || !ap__large_table_insert(to->start, to->index)) {
        ap__page_heap_give(to);
        return NULL;
    }
    uint32_t record;
    if (!ap__os_move_pages((void *)from->start, (void *)to->start, moved_bytes)) {
        (void)ap__large_table_delete(to->start, &record);
        ap__page_heap_give(to);
        return NULL;
    }
    AP__YIELD_POINT();
    to->moved = true;
    from->moved = true;
    if (AP_UNLIKELY(!ap__large_table_delete((uintptr_t)p, &record))) {
        ap__misuse(function, p, AP__MISUSE_NOT_LIVE);
    }
    AP__YIELD_POINT();
    ap__page_heap_give(from);
    return (void *)to->start;
}
