/* SPDX-License-Identifier: MIT */
/*
 * consistency.c: the walk. See consistency.h; its parts are in consistency/, a layer or two each.
 *
 * Every list is followed no further than there are records, so that a damaged one ends.
 */
#include "support/consistency.h"

#include <string.h>
#include <time.h>

#include "base/format.h"
#include "heap/page_heap.h"
#include "os/lock.h"
#include "support/consistency/walk.h"

enum { PURGE_MS = 20000, TEXT_BYTES = 256 };

struct walk walk;

static char text[TEXT_BYTES];

static const struct timespec pause_1_ms = {0, 1000000};

void walk_fault(const char *what, const void *where, size_t number)
{
    if (walk.found) {
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
    walk.found = true;
}

void walk_check_span(bool condition, const char *what, const struct ap__span *span)
{
    (void)walk_check(condition, what, (const void *)span->start, span->index);
}

static void begin_walk(void)
{
    walk.found = false;
    walk.is_busy = false;
    memset(&walk.sums, 0, sizeof walk.sums);
    walk.records = ap__span_record_count();
    for (uint32_t i = 0; i < walk.records; i++) {
        walk.is_busy |= ap__span_by_index(i)->state == AP__SPAN_PURGING;
    }
}

static void all_layers(void)
{
    static void (*const parts[])(void) = {walk_meta, walk_page_heap, walk_central, walk_pack, walk_table, walk_caches};
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !walk.found; i++) {
        parts[i]();
    }
}

/* Again while a purge, the helper's, has spans in its hands; in a child nobody will ever settle those. */
static const char *find_fault(void (*layers)(void), bool in_child)
{
    walk.found = false;
    walk.is_child = in_child;
    walk.is_part = layers == walk_page_heap;
    if (ap__lock_is_at_work()) {
        walk_fault("this thread holds a lock, or is in the allocator", NULL, 0);
        return text;
    }
    walk_check_locks();
    for (int ms = 0; !walk.found; ms++) {
        ap__page_heap_settle(); /* spans that wait for an owner are in no sum and in no table */
        walk_take_locks();
        begin_walk();
        layers();
        walk_release_locks();
        if (!walk.is_busy || walk.is_child || ms == PURGE_MS) {
            (void)walk_check(!walk.is_busy || walk.is_child, "a purge never ends", NULL, PURGE_MS);
            break;
        }
        (void)nanosleep(&pause_1_ms, NULL);
    }
    return walk.found ? text : NULL;
}

const char *consistency_find_fault(void)
{
    return find_fault(all_layers, false);
}

const char *consistency_find_fault_in_child(void)
{
    return find_fault(all_layers, true);
}

const char *consistency_find_page_heap_fault(void)
{
    return find_fault(walk_page_heap, false);
}

struct consistency_sums consistency_sums(void)
{
    return walk.sums;
}
