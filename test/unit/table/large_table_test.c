/* SPDX-License-Identifier: MIT */
/*
 * The large-object table as its callers see it: answers, growth, want of memory, addresses that
 * were chosen against it. One thread; races are test/stress/table's and the slot test's concern.
 */
#include <criterion/criterion.h>

#include <stdlib.h>

#include "base/hash.h"
#include "meta/meta.h"
#include "os/os.h"
#include "support/os_faults.h"
#include "table/large_table.h"

#define GRANULE ((uintptr_t)1 << AP__LARGE_TABLE_KEY_SHIFT)
#define FIRST_CAPACITY 512
#define MILLION 1000000

static struct ap__large_table_stats stats(void)
{
    struct ap__large_table_stats s;
    ap__large_table_stats(&s);
    return s;
}

/* The i-th of addresses in a row, where a 64-bit Linux process maps its memory. */
static uintptr_t address_in_row(size_t i)
{
    return (uintptr_t)0x7f0000000000 + i * GRANULE;
}

static void insert(uintptr_t address, uint32_t record)
{
    cr_assert(ap__large_table_insert(address, record));
}

static void check_found(uintptr_t address, uint32_t record)
{
    uint32_t found = UINT32_MAX;
    cr_assert(ap__large_table_find(address, &found), "%#lx is missing", (unsigned long)address);
    cr_assert_eq(found, record);
}

static void check_missing(uintptr_t address)
{
    uint32_t found = UINT32_MAX;
    cr_assert_not(ap__large_table_find(address, &found));
    cr_assert_eq(found, UINT32_MAX);
}

static void delete (uintptr_t address, uint32_t record)
{
    uint32_t found = UINT32_MAX;
    cr_assert(ap__large_table_delete(address, &found));
    cr_assert_eq(found, record);
}

/*
 * Writes `count` addresses whose hashes (secret 0) begin with the same `bits` bits as `like`, so
 * that their home slots are the same in every table of up to 2^bits slots.
 */
static void choose_colliding(uintptr_t *addresses, size_t count, unsigned bits, uint64_t like)
{
    size_t found = 0;
    for (uintptr_t address = GRANULE; found < count; address += GRANULE) {
        if ((ap__hash_address(address, 0) ^ like) >> (64 - bits) == 0) {
            addresses[found++] = address;
        }
    }
}

/* --- answers --- */

Test(large_table, empty_table_finds_nothing)
{
    uint32_t record;
    check_missing(address_in_row(0));
    cr_assert_not(ap__large_table_delete(address_in_row(0), &record));
    cr_assert_eq(stats().live, 0);
    cr_assert_eq(stats().displacement_bound, 0);
    cr_assert(ap__large_table_is_valid());
}

Test(large_table, an_entry_is_found_until_it_is_deleted_once)
{
    uint32_t record;
    insert(address_in_row(0), 7);
    check_found(address_in_row(0), 7);
    check_missing(address_in_row(1));
    cr_assert_eq(stats().live, 1);
    delete (address_in_row(0), 7);
    check_missing(address_in_row(0));
    cr_assert_not(ap__large_table_delete(address_in_row(0), &record));
    cr_assert_eq(stats().live, 0);
}

Test(large_table, an_address_may_come_back_with_another_record)
{
    for (uint32_t i = 0; i < 5 * FIRST_CAPACITY; i++) {
        insert(address_in_row(0), i);
        check_found(address_in_row(0), i);
        delete (address_in_row(0), i);
    }
    cr_assert_eq(stats().capacity_slots, FIRST_CAPACITY);
    cr_assert_eq(stats().displacement_bound, 1);
}

Test(large_table, extremes_of_address_and_record_fit)
{
    uintptr_t highest = ((uintptr_t)1 << 56) - GRANULE;
    insert(GRANULE, AP__LARGE_TABLE_RECORDS_MAX - 1);
    insert(highest, 0);
    check_found(GRANULE, AP__LARGE_TABLE_RECORDS_MAX - 1);
    check_found(highest, 0);
}

/* free() passes on whatever the program gave it. */
Test(large_table, words_that_are_no_keys_are_never_there)
{
    insert(address_in_row(0), 1);
    insert(address_in_row(1), 2);
    delete (address_in_row(1), 2); /* a tombstone has address 0 */
    uintptr_t words[] = {
        0,
        1,
        GRANULE - 1,
        address_in_row(0) + 1,
        address_in_row(0) + GRANULE / 2,
        address_in_row(0) | (uintptr_t)1 << 56,
        address_in_row(0) | (uintptr_t)1 << 63,
        (uintptr_t)1 << 56,
        UINTPTR_MAX,
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        uint32_t record;
        check_missing(words[i]);
        cr_assert_not(ap__large_table_delete(words[i], &record));
    }
    check_found(address_in_row(0), 1);
}

/* --- probing --- */

Test(large_table, a_run_wraps_around_the_end)
{
    uintptr_t addresses[5];
    choose_colliding(addresses, 5, 9, UINT64_MAX); /* home: the last of 512 slots */
    for (uint32_t i = 0; i < 5; i++) {
        insert(addresses[i], i);
        cr_assert_eq(stats().displacement_bound, i + 1);
    }
    for (uint32_t i = 0; i < 5; i++) {
        check_found(addresses[i], i);
    }
    cr_assert(ap__large_table_is_valid());
}

Test(large_table, a_deleted_entry_does_not_hide_the_rest_of_its_run)
{
    uintptr_t addresses[10];
    choose_colliding(addresses, 10, 9, 0);
    for (uint32_t i = 0; i < 10; i++) {
        insert(addresses[i], i);
    }
    for (uint32_t i = 0; i < 9; i++) {
        delete (addresses[i], i);
    }
    check_found(addresses[9], 9);
}

Test(large_table, a_tombstone_is_used_again_and_the_bound_never_falls)
{
    uintptr_t addresses[10];
    choose_colliding(addresses, 10, 9, 0);
    for (uint32_t i = 0; i < 9; i++) {
        insert(addresses[i], i);
    }
    delete (addresses[0], 0);
    insert(addresses[9], 9); /* takes the place of addresses[0] */
    cr_assert_eq(stats().displacement_bound, 9);
    delete (addresses[8], 8);
    cr_assert_eq(stats().displacement_bound, 9);
    check_found(addresses[9], 9);
    check_missing(addresses[0]);
    check_missing(addresses[8]);
}

/*
 * At nearly half load every entry is replaced four times, oldest first, as a server's buffers are.
 * Without reuse of tombstones the table would fill up, or every look-up would run to the bound.
 */
Test(large_table, turnover_keeps_runs_short)
{
    const size_t live = 30000;
    for (size_t i = 0; i < live; i++) {
        insert(address_in_row(i), (uint32_t)i);
    }
    uint64_t capacity = stats().capacity_slots;
    cr_assert_eq(capacity, 65536);
    for (size_t i = 0; i < 4 * live; i++) {
        delete (address_in_row(i), (uint32_t)i);
        insert(address_in_row(i + live), (uint32_t)(i + live));
    }
    cr_assert_eq(stats().capacity_slots, capacity);
    cr_assert_eq(stats().live, live);
    cr_assert_lt(stats().displacement_bound, 64);
    cr_assert(ap__large_table_is_valid());
}

/* --- growth --- */

/* Entries are counted in stripes: one may fill early, and one with room does not look at the
 * others. */
static void check_is_about_half(uint64_t live, uint64_t capacity)
{
    cr_assert_geq(live, capacity * 3 / 8);
    cr_assert_leq(live, capacity * 9 / 16);
}

Test(large_table, grows_when_half_full_and_not_much_earlier)
{
    uint64_t capacity = FIRST_CAPACITY;
    for (uint32_t i = 0; i < 100000; i++) {
        insert(address_in_row(i), i);
        struct ap__large_table_stats s = stats();
        if (s.capacity_slots != capacity) {
            cr_assert_eq(s.capacity_slots, 2 * capacity);
            check_is_about_half(i, capacity);
            capacity = s.capacity_slots;
        }
        cr_assert_leq(i + 1, capacity * 9 / 16);
    }
    cr_assert_eq(stats().live, 100000);
    for (uint32_t i = 0; i < 100000; i++) {
        check_found(address_in_row(i), i);
    }
    cr_assert(ap__large_table_is_valid());
}

Test(large_table, retired_tables_are_smaller_than_the_newest)
{
    for (uint32_t i = 0; i < 10000; i++) {
        insert(address_in_row(i), i);
    }
    struct ap__large_table_stats s = stats();
    size_t newest_bytes = s.capacity_slots * sizeof(uint64_t);
    cr_assert_eq(s.capacity_slots, (uint64_t)FIRST_CAPACITY << s.tables_mapped);
    cr_assert_gt(s.mapped_bytes, newest_bytes);
    cr_assert_lt(s.mapped_bytes, 2 * newest_bytes + s.tables_mapped * 2 * ap__os_page_size());
}

/* One insert that grows, or a delete after it, must not pay for the whole table. */
Test(large_table, a_migration_is_finished_by_the_operations_that_follow)
{
    uint32_t i = 0;
    while (stats().tables_mapped == 0) {
        insert(address_in_row(i), i);
        i++;
    }
    for (uint32_t k = 0; k < i; k++) {
        check_found(address_in_row(k), k); /* half moved or not */
        delete (address_in_row(k), k);
        check_missing(address_in_row(k));
        insert(address_in_row(k), k);
    }
    for (uint32_t k = 0; k < i; k++) {
        check_found(address_in_row(k), k);
    }
    cr_assert_eq(stats().live, i);
    cr_assert(ap__large_table_is_valid());
}

Test(large_table, a_run_over_the_limit_grows_the_table_but_not_without_end)
{
    enum { KEYS = 2000 };
    uintptr_t *addresses = malloc(KEYS * sizeof *addresses);
    choose_colliding(addresses, KEYS, 16, 0);
    for (uint32_t i = 0; i < KEYS; i++) {
        insert(addresses[i], i);
    }
    cr_assert_gt(stats().capacity_slots, 2 * KEYS * 2);
    cr_assert_leq(stats().capacity_slots, 2 * 16 * KEYS);
    for (uint32_t i = 0; i < KEYS; i++) {
        check_found(addresses[i], i);
    }
    cr_assert(ap__large_table_is_valid());
    free(addresses);
}

/* The same addresses, with a secret their chooser did not know. */
Test(large_table, the_secret_takes_chosen_addresses_apart)
{
    enum { KEYS = 2000 };
    uintptr_t *addresses = malloc(KEYS * sizeof *addresses);
    choose_colliding(addresses, KEYS, 16, 0);
    ap__large_table_set_secret(UINT64_C(0x0123456789abcdef));
    for (uint32_t i = 0; i < KEYS; i++) {
        insert(addresses[i], i);
    }
    cr_assert_leq(stats().capacity_slots, 8192);
    cr_assert_lt(stats().displacement_bound, 64);
    free(addresses);
}

/* --- want of memory --- */

/* Inserts until the table refuses; returns how many it took. */
static uint32_t fill(void)
{
    uint32_t i = 0;
    while (ap__large_table_insert(address_in_row(i), i)) {
        i++;
    }
    return i;
}

Test(large_table, an_insert_that_cannot_grow_changes_nothing)
{
    os_faults_fail_always(OS_FAULTS_MMAP);
    uint32_t taken = fill();
    struct ap__large_table_stats before = stats();
    check_is_about_half(taken, FIRST_CAPACITY);
    cr_assert_eq(before.live, taken);
    for (int i = 0; i < 10; i++) {
        cr_assert_not(ap__large_table_insert(address_in_row(taken), taken));
    }
    struct ap__large_table_stats after = stats();
    cr_assert_arr_eq(&before, &after, sizeof before);
    check_missing(address_in_row(taken));
    for (uint32_t i = 0; i < taken; i++) {
        check_found(address_in_row(i), i);
    }
    cr_assert(ap__large_table_is_valid());
}

Test(large_table, works_on_and_grows_again_when_memory_is_back)
{
    os_faults_fail_always(OS_FAULTS_MMAP);
    uint32_t taken = fill();
    delete (address_in_row(taken - 1), taken - 1);
    insert(address_in_row(taken - 1), taken - 1);
    os_faults_reset();
    insert(address_in_row(taken), taken);
    cr_assert_eq(stats().capacity_slots, 2 * FIRST_CAPACITY);
    for (uint32_t i = 0; i <= taken; i++) {
        check_found(address_in_row(i), i);
    }
}

/* Each growth fails once, whichever it is; the caller tries again. */
Test(large_table, survives_the_failure_of_any_growth)
{
    uint32_t next = 0;
    for (unsigned growth = 1; growth <= 8; growth++) {
        os_faults_fail_nth(OS_FAULTS_MMAP, 1);
        os_faults_fail_always(OS_FAULTS_MPROTECT); /* the second source: what is reserved already */
        while (ap__large_table_insert(address_in_row(next), next)) {
            next++;
        }
        os_faults_reset();
        cr_assert_eq(stats().tables_mapped, growth - 1);
        check_missing(address_in_row(next));
        insert(address_in_row(next), next);
        next++;
        cr_assert_eq(stats().tables_mapped, growth);
    }
    for (uint32_t i = 0; i < next; i++) {
        check_found(address_in_row(i), i);
    }
    cr_assert(ap__large_table_is_valid());
}

/* Under a limit on address space that was set at run time, no new mapping is to be had. */
Test(large_table, grows_into_reserved_addresses_where_new_ones_are_refused)
{
    cr_assert_not_null(ap__meta_take(64)); /* the reservation is made */
    os_faults_fail_always(OS_FAULTS_MMAP);
    for (uint32_t i = 0; i < 4 * FIRST_CAPACITY; i++) {
        insert(address_in_row(i), i);
    }
    for (uint32_t i = 0; i < 4 * FIRST_CAPACITY; i++) {
        check_found(address_in_row(i), i);
    }
    cr_assert(ap__large_table_is_valid());
}

/* The limit of a run is about speed. An insert that has room is not refused for its sake. */
Test(large_table, a_long_run_is_no_reason_to_fail)
{
    enum { KEYS = 200 };
    uintptr_t addresses[KEYS];
    choose_colliding(addresses, KEYS, 9, 0);
    os_faults_fail_always(OS_FAULTS_MMAP);
    for (uint32_t i = 0; i < KEYS; i++) {
        insert(addresses[i], i);
    }
    cr_assert_gt(os_faults_count(OS_FAULTS_MMAP), 0);
    cr_assert_eq(stats().capacity_slots, FIRST_CAPACITY);
    cr_assert_eq(stats().displacement_bound, KEYS);
    for (uint32_t i = 0; i < KEYS; i++) {
        check_found(addresses[i], i);
    }
}

/* --- a million --- */

/* Inserts, finds, misses and deletes a million addresses; returns the final statistics before the
 * deletes. */
static struct ap__large_table_stats live_through(uintptr_t (*address_of)(size_t))
{
    for (size_t i = 0; i < MILLION; i++) {
        insert(address_of(i), (uint32_t)i);
    }
    struct ap__large_table_stats full = stats();
    cr_assert_eq(full.live, MILLION);
    for (size_t i = 0; i < MILLION; i++) {
        check_found(address_of(i), (uint32_t)i);
    }
    for (size_t i = 0; i < MILLION; i += 1000) {
        check_missing(address_of(i) ^ (uintptr_t)1 << 55);
    }
    for (size_t i = 0; i < MILLION; i++) {
        delete (address_of(i), (uint32_t)i);
    }
    cr_assert_eq(stats().live, 0);
    cr_assert(ap__large_table_is_valid());
    return full;
}

static void check_spread(struct ap__large_table_stats full)
{
    cr_assert_leq(full.capacity_slots, 4 * 1048576);
    cr_assert_lt(full.displacement_bound, 128);
}

Test(large_table, a_million_addresses_in_a_row)
{
    check_spread(live_through(address_in_row));
}

static unsigned stride_log2;

static uintptr_t address_by_stride(size_t i)
{
    return ((uintptr_t)i + 1) << stride_log2;
}

Test(large_table, a_million_addresses_64_mib_apart)
{
    stride_log2 = 26;
    check_spread(live_through(address_by_stride));
}

Test(large_table, a_million_addresses_1_gib_apart)
{
    stride_log2 = 30;
    check_spread(live_through(address_by_stride));
}

Test(large_table, a_million_addresses_32_gib_apart)
{
    stride_log2 = 35;
    check_spread(live_through(address_by_stride));
}

static uintptr_t *chosen;

static uintptr_t chosen_address(size_t i)
{
    return chosen[i];
}

/*
 * All of them at home in one sixteenth of every table. The table then grows for the sake of runs,
 * within what RUN_LIMIT_SLOTS_PER_ENTRY allows.
 */
Test(large_table, a_million_addresses_chosen_against_the_hash)
{
    chosen = malloc(MILLION * sizeof *chosen);
    choose_colliding(chosen, MILLION, 4, 0);
    struct ap__large_table_stats full = live_through(chosen_address);
    cr_assert_leq(full.capacity_slots, 2 * 16 * 1048576);
    free(chosen);
}
