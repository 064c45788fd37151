/* SPDX-License-Identifier: MIT */
/*
 * free_spans.c: a treap over (length, address).
 *
 * A binary search tree by key that is a heap by a pseudo-random priority, here a hash of the address, is
 * balanced in expectation whatever the order of insertions (Aragon and Seidel, "Randomized Search
 * Trees", 1989). All walks are loops: the stack of a thread that calls malloc may be tiny.
 * Refused: an array of lists by length with a scan (linear when long spans are fragmented), and
 * red-black trees (three times the code for the same bound).
 */
#include "heap/free_spans.h"

#include "base/hash.h"
#include "os/check.h"

/* Whether a comes before b. */
static bool precedes(const struct ap__span *a, const struct ap__span *b)
{
    return a->granules != b->granules ? a->granules < b->granules : a->start < b->start;
}

void ap__free_spans_insert(struct ap__free_spans *spans, struct ap__span *span)
{
    span->tree.priority = ap__hash_address(span->start, 0);
    struct ap__span **at = &spans->root;
    while (*at != NULL && (*at)->tree.priority >= span->tree.priority) {
        at = precedes(span, *at) ? &(*at)->tree.left : &(*at)->tree.right;
    }
    /* Split the subtree by the key: what precedes the span hangs to its left, the rest to its right. */
    struct ap__span *rest = *at;
    struct ap__span **left = &span->tree.left;
    struct ap__span **right = &span->tree.right;
    while (rest != NULL) {
        if (precedes(rest, span)) {
            *left = rest;
            left = &rest->tree.right;
            rest = rest->tree.right;
        } else {
            *right = rest;
            right = &rest->tree.left;
            rest = rest->tree.left;
        }
    }
    *left = NULL;
    *right = NULL;
    *at = span;
    spans->count++;
}

void ap__free_spans_remove(struct ap__free_spans *spans, struct ap__span *span)
{
    struct ap__span **at = &spans->root;
    while (*at != span) {
        AP_CHECK(*at != NULL, "a free span is not in its tree");
        at = precedes(span, *at) ? &(*at)->tree.left : &(*at)->tree.right;
    }
    /* Merge the two subtrees; the higher priority is on top at each step. */
    struct ap__span *left = span->tree.left;
    struct ap__span *right = span->tree.right;
    while (left != NULL && right != NULL) {
        if (left->tree.priority >= right->tree.priority) {
            *at = left;
            at = &left->tree.right;
            left = left->tree.right;
        } else {
            *at = right;
            at = &right->tree.left;
            right = right->tree.left;
        }
    }
    *at = left != NULL ? left : right;
    spans->count--;
}

struct ap__span *ap__free_spans_best_fit(const struct ap__free_spans *spans, size_t granules)
{
    struct ap__span *best = NULL;
    struct ap__span *at = spans->root;
    while (at != NULL) {
        if (at->granules >= granules) {
            best = at;
            at = at->tree.left;
        } else {
            at = at->tree.right;
        }
    }
    return best;
}
