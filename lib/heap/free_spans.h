/* SPDX-License-Identifier: MIT */
/*
 * free_spans.h: the free spans by length and address.
 *
 * Does: insert, remove, best fit (shortest that is long enough; of those the lowest address).
 * Does not: coalesce, split, or take a lock; the page heap does.
 * Cost: logarithmic in the number of free spans, expected, for each operation.
 */
#ifndef AP_HEAP_FREE_SPANS_H
#define AP_HEAP_FREE_SPANS_H

#include "heap/span.h"

struct ap__free_spans {
    struct ap__span *root;
    size_t count;
};

void ap__free_spans_insert(struct ap__free_spans *spans, struct ap__span *span);
void ap__free_spans_remove(struct ap__free_spans *spans, struct ap__span *span);

/* NULL: none is that long. */
struct ap__span *ap__free_spans_best_fit(const struct ap__free_spans *spans, size_t granules);

#endif
