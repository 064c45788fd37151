/* SPDX-License-Identifier: MIT */
/*
 * outside_spans.c: one mapping a span. A system call each way; the kernel's limit on mappings bounds them.
 */
#include "heap/outside_spans.h"

#include "os/os.h"
#include "table/large_table.h"

/* An aligned mapping of its own. NULL: the kernel refused. */
static void *map_outside(size_t bytes, size_t alignment)
{
    size_t padded;
    if (__builtin_add_overflow(bytes, alignment, &padded)) {
        return NULL;
    }
    void *mapping = ap__os_map(padded);
    return mapping == NULL ? NULL : ap__os_trim_to_alignment(mapping, padded, bytes, alignment);
}

/* Free of a small block outside the region must find its span: every granule is in the table. */
static bool enter_granules(const struct ap__span *span)
{
    for (size_t i = 0; i < span->granules; i++) {
        if (!ap__large_table_insert(span->start + i * AP_GRANULE, span->index)) {
            uint32_t record;
            while (i-- > 0) {
                (void)ap__large_table_delete(span->start + i * AP_GRANULE, &record);
            }
            return false;
        }
    }
    return true;
}

struct ap__span *ap__outside_span_map(size_t granules, size_t alignment, unsigned size_class)
{
    struct ap__span *span = ap__span_record_take();
    if (span == NULL) {
        return NULL;
    }
    size_t bytes = granules << AP_PAGE_HEAP_GRANULE_SHIFT;
    void *mapping = map_outside(bytes, alignment);
    if (mapping != NULL) {
        ap__span_set_start(span, (uintptr_t)mapping);
        span->granules = granules;
        span->outside = true;
        if (size_class == 0 || enter_granules(span)) {
            return span;
        }
        (void)ap__os_unmap(mapping, bytes);
    }
    ap__span_record_give(span);
    return NULL;
}

void ap__outside_span_unmap(struct ap__span *span)
{
    uint32_t record;
    for (size_t i = 0; span->state == AP__SPAN_SMALL && i < span->granules; i++) {
        (void)ap__large_table_delete(span->start + i * AP_GRANULE, &record);
    }
    /* A mapping that the kernel will not take back (out of mappings) gives its memory back at least. */
    if (!ap__os_unmap((void *)span->start, ap__span_bytes(span))) {
        (void)ap__os_discard((void *)span->start, ap__span_bytes(span));
    }
    ap__span_record_give(span);
}
