/* SPDX-License-Identifier: MIT */
/*
 * span_test.c: the arena of span records.
 * Goal: records are distinct, found by their index, recycled, and their validity is judged. Method:
 * more records than a slab holds; a kernel without memory.
 */
#include "heap/span.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "support/os_faults.h"

enum { RECORDS = 5000 };

Test(span, every_record_is_found_by_its_index)
{
    static struct ap__span *spans[RECORDS];
    for (uint32_t i = 0; i < RECORDS; i++) {
        spans[i] = ap__span_record_take();
        cr_assert_not_null(spans[i]);
        cr_assert_eq(spans[i]->index, i);
    }
    for (uint32_t i = 0; i < RECORDS; i++) {
        cr_assert_eq(ap__span_by_index(i), spans[i]);
    }
}

Test(span, a_record_given_back_is_the_next_one_taken)
{
    struct ap__span *a = ap__span_record_take();
    struct ap__span *b = ap__span_record_take();
    uint32_t index = a->index;
    a->granules = 7;
    a->outside = true;
    a->moved = true;
    ap__span_record_give(a);
    cr_assert_eq(a->state, AP__SPAN_UNUSED);
    struct ap__span *again = ap__span_record_take();
    cr_assert_eq(again, a);
    cr_assert_eq(again->index, index);
    cr_assert(!again->outside && !again->moved);
    cr_assert_neq(ap__span_record_take(), b);
}

Test(span, without_memory_there_is_no_record_and_later_there_is)
{
    os_faults_fail_always(OS_FAULTS_MMAP);
    cr_assert_null(ap__span_record_take());
    os_faults_reset();
    struct ap__span *span = ap__span_record_take();
    cr_assert_not_null(span);
    cr_assert_eq(span->index, 0);
}

Test(span, validity_knows_each_state)
{
    struct ap__span span = {.start = AP_GRANULE, .granules = 1, .state = AP__SPAN_FREE};
    cr_assert(ap__span_is_valid(&span));
    span.tree.dirty_granules = 2;
    cr_assert(!ap__span_is_valid(&span));
    span = (struct ap__span){.start = AP_GRANULE + 16, .granules = 1, .state = AP__SPAN_LARGE};
    cr_assert(!ap__span_is_valid(&span));
    span = (struct ap__span){.start = AP_GRANULE, .granules = 1, .state = AP__SPAN_LARGE};
    span.large.size_bytes = AP_GRANULE;
    cr_assert(ap__span_is_valid(&span));
    span.large.size_bytes++;
    cr_assert(!ap__span_is_valid(&span));
    span = (struct ap__span){.start = AP_GRANULE, .granules = 1, .state = AP__SPAN_SMALL};
    cr_assert(!ap__span_is_valid(&span));
    span.size_class = 1;
    cr_assert(ap__span_is_valid(&span));
    span.slots.free_slots = (uint16_t)(ap__size_class[1].slots + 1);
    cr_assert(!ap__span_is_valid(&span));
    span = (struct ap__span){.start = AP_GRANULE, .granules = 1, .state = AP__SPAN_UNUSED};
    cr_assert(!ap__span_is_valid(&span));
}
