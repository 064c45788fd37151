/* SPDX-License-Identifier: MIT */
/*
 * span_ring.h: circular lists of spans through their `link`; the head's `previous` is the tail.
 *
 * Does not: lock. The caller holds what guards the list and its spans.
 */
#ifndef AP_HEAP_SPAN_RING_H
#define AP_HEAP_SPAN_RING_H

#include "heap/span.h"

/* Puts a span that is on no list at the head, or at the tail. */
static inline void ap__span_ring_insert(struct ap__span **head, struct ap__span *span, bool at_head)
{
    struct ap__span *first = *head;
    if (first == NULL) {
        span->link = (struct ap__span_link){span, span};
    } else {
        span->link = (struct ap__span_link){.next = first, .previous = first->link.previous};
        first->link.previous->link.next = span;
        first->link.previous = span;
    }
    if (first == NULL || at_head) {
        *head = span;
    }
}

/* Takes a span off the list, which may be empty then. */
static inline void ap__span_ring_remove(struct ap__span **head, struct ap__span *span)
{
    struct ap__span *next = span->link.next;
    if (next == span) {
        *head = NULL;
        return;
    }
    next->link.previous = span->link.previous;
    span->link.previous->link.next = next;
    if (*head == span) {
        *head = next;
    }
}

#endif
