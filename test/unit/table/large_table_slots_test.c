/* SPDX-License-Identifier: MIT */
/*
 * The large-object table from inside: every transition of a slot, and every operation begun in
 * every window of every other. One thread: what a second thread would do in a window is called from
 * the window. The implementation is included, to see its slots and to stand in its windows.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "support/os_faults.h"

static void window(void);
static bool migration_is_forced;

#define AP_TABLE_YIELD() window()
#define AP_TABLE_FORCE_MIGRATION() migration_is_forced
#include "table/large_table.c"

/* Called in the window `due` (counted from 1), once. */
static void (*intruder)(void);
static unsigned windows_passed;
static unsigned due;

static void window(void)
{
    if (intruder != NULL && ++windows_passed == due) {
        void (*run)(void) = intruder;
        intruder = NULL; /* its own windows are not entered */
        run();
    }
}

#define GRANULE ((uintptr_t)1 << AP__LARGE_TABLE_KEY_SHIFT)
#define KEY ((uintptr_t)0x7f0000000000)
#define RECORD 5

static uintptr_t other_key(size_t i)
{
    return KEY + (i + 1) * GRANULE;
}

static uint64_t load(slot_t *slot)
{
    return atomic_load(slot);
}

/* The home slot of KEY in a table. */
static slot_t *home_slot(struct table *t)
{
    return &t->slots[home_of(t, hash_of(KEY))];
}

static void check_slot(slot_t *slot, enum tag tag)
{
    cr_assert_eq(load(slot), with_tag(make_word(KEY / GRANULE, RECORD), tag));
}

static bool found(void)
{
    uint32_t record = UINT32_MAX;
    bool is_found = ap__large_table_find(KEY, &record);
    cr_assert_eq(record, is_found ? RECORD : UINT32_MAX);
    return is_found;
}

static bool deleted(void)
{
    uint32_t record = UINT32_MAX;
    bool is_deleted = ap__large_table_delete(KEY, &record);
    cr_assert_eq(record, is_deleted ? RECORD : UINT32_MAX);
    return is_deleted;
}

static void insert(void)
{
    cr_assert(ap__large_table_insert(KEY, RECORD));
}

/* KEY in the first table, which has a successor of which it returns the address. */
static struct table *begin_migration(void)
{
    insert();
    struct table *next = double_table(&first_table);
    cr_assert_not_null(next);
    return next;
}

static uint64_t block_of_key(void)
{
    return home_of(&first_table, hash_of(KEY)) / BLOCK_SLOTS;
}

/* Ends the migration of the first table as the operations of others would. */
static void finish_migration(struct table *next)
{
    for (uint64_t i = 0; i < blocks_of(&first_table); i++) {
        help_migrate();
    }
    cr_assert_eq(atomic_load(&root), next);
    cr_assert(ap__large_table_is_valid());
}

/* --- transitions by the owner of the key, at rest --- */

Test(large_table_slots, empty_live_tomb_live)
{
    cr_assert_eq(load(home_slot(&first_table)), EMPTY);
    insert();
    check_slot(home_slot(&first_table), TAG_LIVE);
    cr_assert(deleted());
    cr_assert_eq(load(home_slot(&first_table)), TOMB);
    insert();
    check_slot(home_slot(&first_table), TAG_LIVE);
}

/* --- transitions by the migrator --- */

Test(large_table_slots, free_slots_are_closed)
{
    insert();
    cr_assert(deleted());
    cr_assert_eq(claim_slot(home_slot(&first_table)), CLOSED);
    cr_assert_eq(load(home_slot(&first_table)), CLOSED);
    cr_assert_eq(claim_slot(&first_slots[0]), CLOSED);
    cr_assert_eq(load(&first_slots[0]), CLOSED);
}

Test(large_table_slots, a_frozen_entry_counts_and_its_delete_closes_the_slot)
{
    (void)begin_migration();
    claim_slot(home_slot(&first_table));
    check_slot(home_slot(&first_table), TAG_FROZEN);
    cr_assert(found());
    cr_assert(deleted());
    cr_assert_eq(load(home_slot(&first_table)), CLOSED);
    cr_assert_not(found());
    cr_assert_not(deleted());
}

Test(large_table_slots, pending_counts_for_nothing_before_its_source_has_moved)
{
    struct table *next = begin_migration();
    uint64_t word = claim_slot(home_slot(&first_table));
    slot_t *where = place_pending(next, hash_of(KEY), word);
    check_slot(where, TAG_PEND);
    cr_assert(found());
    atomic_store(home_slot(&first_table), CLOSED); /* as its delete would */
    cr_assert_not(found());
    cr_assert_not(deleted());
    check_slot(where, TAG_PEND);
}

Test(large_table_slots, pending_counts_once_its_source_has_moved)
{
    struct table *next = begin_migration();
    uint64_t word = claim_slot(home_slot(&first_table));
    slot_t *where = place_pending(next, hash_of(KEY), word);
    atomic_store(home_slot(&first_table), with_tag(word, TAG_MOVED));
    cr_assert(found());
    cr_assert(deleted());
    cr_assert_eq(load(where), TOMB);
    cr_assert_not(found());
    cr_assert_not(deleted());
}

Test(large_table_slots, an_entry_moves_to_the_next_table)
{
    struct table *next = begin_migration();
    move_entry(home_slot(&first_table), claim_slot(home_slot(&first_table)), next);
    check_slot(home_slot(&first_table), TAG_MOVED);
    check_slot(home_slot(next), TAG_LIVE);
    cr_assert(found());
    finish_migration(next);
    cr_assert(deleted());
}

Test(large_table_slots, an_entry_deleted_while_frozen_does_not_arrive)
{
    struct table *next = begin_migration();
    uint64_t word = claim_slot(home_slot(&first_table));
    cr_assert(deleted());
    move_entry(home_slot(&first_table), word, next);
    cr_assert_eq(load(home_slot(&first_table)), CLOSED);
    cr_assert_eq(load(home_slot(next)), TOMB);
    cr_assert_not(found());
}

/*
 * A look-up that began when the first table was the root has seen MOVED there. In the third it
 * meets PEND of the same key, which was frozen and deleted in the second: it must not count again.
 */
Test(large_table_slots, moved_vouches_for_the_next_table_only)
{
    struct table *second = begin_migration();
    finish_migration(second);
    struct table *third = double_table(second);
    uint64_t word = claim_slot(home_slot(second));
    slot_t *where = place_pending(third, hash_of(KEY), word);
    cr_assert(deleted());
    cr_assert_eq(load(home_slot(second)), CLOSED);
    atomic_store(&root, &first_table); /* what the late look-up has read */
    cr_assert_not(found());
    cr_assert_not(deleted());
    check_slot(where, TAG_PEND);
}

/* --- inserts that meet a table that is being migrated --- */

Test(large_table_slots, an_insert_passes_by_a_closing_table)
{
    uint64_t frozen = with_tag(make_word(other_key(0) / GRANULE, 1), TAG_FROZEN);
    uint64_t seen[] = {CLOSED, frozen, with_tag(frozen, TAG_MOVED)};
    struct table *next = double_table(&first_table);
    for (size_t i = 0; i < AP_ARRAY_LENGTH(seen); i++) {
        slot_t *where;
        atomic_store(home_slot(&first_table), seen[i]);
        uint64_t word = make_word(KEY / GRANULE, RECORD);
        cr_assert_eq(place(&first_table, hash_of(KEY), word, RUN_LIMIT, &where), TABLE_IS_CLOSING);
        cr_assert(insert_word(&first_table, hash_of(KEY), word, 1));
        check_slot(home_slot(next), TAG_LIVE);
        atomic_store(home_slot(next), EMPTY);
    }
}

/* A late insert had chosen the table before it got a successor. */
Test(large_table_slots, a_late_insert_into_the_root_is_migrated)
{
    struct table *next = double_table(&first_table);
    cr_assert(insert_word(&first_table, hash_of(KEY), make_word(KEY / GRANULE, RECORD), 1));
    atomic_fetch_add(&stripe_of(hash_of(KEY))->live, 1);
    check_slot(home_slot(&first_table), TAG_LIVE);
    finish_migration(next);
    cr_assert(found());
    check_slot(home_slot(next), TAG_LIVE);
}

Test(large_table_slots, an_insert_passes_by_pending_entries)
{
    struct table *next = double_table(&first_table);
    uint64_t pending = with_tag(make_word(other_key(0) / GRANULE, 1), TAG_PEND);
    atomic_store(home_slot(next), pending);
    insert();
    cr_assert_eq(load(home_slot(next)), pending);
    cr_assert(found());
}

/* --- chains of more than two tables --- */

Test(large_table_slots, tables_behind_a_stopped_migration_grow_and_answer)
{
    enum { KEYS = 5000 };
    insert();
    (void)double_table(&first_table);
    atomic_fetch_add(&first_table.tickets, 1); /* a thread that takes block 0 and stops there */
    for (uint32_t i = 0; i < KEYS; i++) {
        cr_assert(ap__large_table_insert(other_key(i), i));
    }
    cr_assert_eq(atomic_load(&root), &first_table);
    cr_assert_gt(capacity_of(newest_table(&first_table)), KEYS);
    cr_assert(found());
    for (uint32_t i = 0; i < KEYS; i++) {
        uint32_t record;
        cr_assert(ap__large_table_find(other_key(i), &record));
        cr_assert_eq(record, i);
    }
    cr_assert(ap__large_table_is_valid());
    migrate_block(&first_table, atomic_load(&first_table.next), 0); /* it goes on */
    atomic_fetch_add(&first_table.blocks_done, 1);
    for (uint32_t i = 0; i < KEYS; i++) {
        uint32_t record;
        cr_assert(ap__large_table_delete(other_key(i), &record));
    }
    cr_assert_eq(atomic_load(&root), newest_table(&first_table));
    cr_assert(found());
    cr_assert(ap__large_table_is_valid());
}

/* --- two threads that grow at once --- */

static void append_another(void)
{
    cr_assert_not_null(double_table(&first_table));
}

/* The window between the mapping of a table and its linking. */
static struct table *lose_the_race_to_append(void)
{
    intruder = append_another;
    due = 1;
    struct table *t = double_table(&first_table);
    cr_assert_eq(t, atomic_load(&first_table.next));
    return t;
}

Test(large_table_slots, the_loser_of_a_race_to_append_gives_its_table_back)
{
    cr_assert_not_null(lose_the_race_to_append());
    cr_assert_eq(os_faults_count(OS_FAULTS_MMAP), 2);
    cr_assert_eq(os_faults_count(OS_FAULTS_MUNMAP), 1);
}

Test(large_table_slots, a_kernel_that_does_not_take_it_back_does_no_harm)
{
    os_faults_fail_always(OS_FAULTS_MUNMAP);
    cr_assert_not_null(lose_the_race_to_append());
    insert();
    cr_assert(found());
}

Test(large_table_slots, who_gets_no_memory_uses_the_winners_table)
{
    os_faults_fail_nth(OS_FAULTS_MMAP, 1);
    cr_assert_not_null(lose_the_race_to_append());
}

/* --- fork: what a migrator that the child does not have may have left behind --- */

/* How far it got with KEY's slot. */
enum progress { TICKET, FROZEN, PLACED_PENDING, MOVED, ALIVE, DELETED_FROZEN, DELETED_PENDING };

static void leave_half_done(enum progress progress, struct table *next)
{
    atomic_store(&first_table.tickets, block_of_key() + 1);
    atomic_store(&first_table.blocks_done,
                 block_of_key()); /* of which this is the only one missing */
    for (uint64_t block = 0; block < block_of_key(); block++) {
        migrate_block(&first_table, next, block);
    }
    if (progress == TICKET) {
        return;
    }
    uint64_t word = claim_slot(home_slot(&first_table));
    if (progress == FROZEN) {
        return;
    }
    (void)place_pending(next, hash_of(KEY), word);
    if (progress == DELETED_FROZEN) {
        cr_assert(deleted());
    }
    if (progress >= MOVED && progress != DELETED_FROZEN) {
        atomic_store(home_slot(&first_table), with_tag(word, TAG_MOVED));
    }
    if (progress == DELETED_PENDING) {
        cr_assert(deleted());
    }
    if (progress == ALIVE) {
        atomic_store(home_slot(next), with_tag(word, TAG_LIVE));
    }
}

static void check_fork(enum progress progress)
{
    struct table *next = begin_migration();
    leave_half_done(progress, next);
    bool is_live = progress < DELETED_FROZEN;
    cr_assert_eq(found(), is_live);
    ap__large_table_after_fork_in_child();
    for (uint64_t i = 0; i < capacity_of(next); i++) {
        uint64_t word = load(&next->slots[i]);
        cr_assert(granule_of(word) == 0 || tag_of(word) == TAG_LIVE);
    }
    cr_assert_eq(load(home_slot(next)), is_live ? make_word(KEY / GRANULE, RECORD) : TOMB);
    cr_assert_eq(found(), is_live);
    finish_migration(next);
    cr_assert_eq(deleted(), is_live);
}

Test(large_table_slots, fork_after_a_ticket)
{
    check_fork(TICKET);
}

Test(large_table_slots, fork_after_freezing)
{
    check_fork(FROZEN);
}

Test(large_table_slots, fork_after_placing)
{
    check_fork(PLACED_PENDING);
}

Test(large_table_slots, fork_after_moving)
{
    check_fork(MOVED);
}

Test(large_table_slots, fork_after_reviving)
{
    check_fork(ALIVE);
}

Test(large_table_slots, fork_after_a_delete_of_frozen)
{
    check_fork(DELETED_FROZEN);
}

Test(large_table_slots, fork_after_a_delete_of_pending)
{
    check_fork(DELETED_PENDING);
}

Test(large_table_slots, fork_at_rest_does_nothing)
{
    insert();
    ap__large_table_after_fork_in_child();
    check_slot(home_slot(&first_table), TAG_LIVE);
    struct table *next = double_table(&first_table);
    ap__large_table_after_fork_in_child(); /* no ticket is out */
    check_slot(home_slot(&first_table), TAG_LIVE);
    finish_migration(next);
}

/* A signal handler may fork in the middle of this code, and return in the child. */
Test(large_table_slots, a_migrator_that_the_child_does_have_may_go_on)
{
    struct table *next = begin_migration();
    atomic_store(&first_table.tickets, blocks_of(&first_table));
    uint64_t word = claim_slot(home_slot(&first_table));
    ap__large_table_after_fork_in_child();
    cr_assert_eq(atomic_load(&root), next);
    move_entry(home_slot(&first_table), word, next);
    cr_assert(found());
    cr_assert(ap__large_table_is_valid());
}

/* --- every operation in every window of every other --- */

enum { NEIGHBOURS = 40 };

static bool key_is_live;

static void insert_or_delete(void)
{
    if (key_is_live) {
        cr_assert(deleted());
    } else {
        insert();
    }
    key_is_live = !key_is_live;
}

static void find_in_window(void)
{
    cr_assert_eq(found(), key_is_live);
}

static void migrate_in_window(void)
{
    help_migrate();
    help_migrate();
}

static void replace_in_window(void)
{
    cr_assert_eq(deleted(), key_is_live);
    insert();
    key_is_live = true;
}

static void churn_in_window(void)
{
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        uint32_t record;
        cr_assert(ap__large_table_delete(other_key(i), &record));
        cr_assert(ap__large_table_insert(other_key(i), record));
    }
}

static void force_migration_in_window(void)
{
    struct table *t = newest_table(atomic_load(&root));
    cr_assert_not_null(append_table(t, capacity_log2_of(t)));
    help_migrate();
}

/* All memory of a run, so that the next begins where it did. */
static struct {
    slot_t slots[AP_ARRAY_LENGTH(first_slots)];
    struct table table;
    struct stripe stripes[STRIPES];
} start;

static void save_start(void)
{
    memcpy(start.slots, first_slots, sizeof first_slots);
    start.table = first_table;
    memcpy(start.stripes, stripes, sizeof stripes);
}

static void back_to_start(void)
{
    for (struct table *t = first_table.next; t != NULL;) {
        struct table *next = t->next;
        ap__os_unmap(t, table_bytes(capacity_log2_of(t)));
        t = next;
    }
    memcpy(first_slots, start.slots, sizeof first_slots);
    memcpy(&first_table, &start.table, sizeof first_table);
    memcpy(stripes, start.stripes, sizeof stripes);
    root = &first_table;
    key_is_live = true;
}

/* Operations on other keys that carry the migration to its end, with `run` in one window of them.
 */
static void carry_through(void)
{
    migration_is_forced = true;
    cr_assert(ap__large_table_insert(other_key(NEIGHBOURS), 0));
    migration_is_forced = false;
    for (uint32_t i = 0; i < 2 * blocks_of(&first_table); i++) {
        uint32_t record;
        cr_assert(ap__large_table_delete(other_key(NEIGHBOURS), &record));
        cr_assert(ap__large_table_insert(other_key(NEIGHBOURS), i));
    }
}

static void check_neighbours(void)
{
    for (uint32_t i = 0; i < NEIGHBOURS; i++) {
        uint32_t record;
        cr_assert(ap__large_table_find(other_key(i), &record));
        cr_assert_eq(record, i);
    }
}

/* `run` in window 1, then in window 2, and so on until there is no such window. */
static void check_all_windows(void (*run)(void))
{
    insert();
    for (uint32_t i = 0; i < NEIGHBOURS; i++) {
        cr_assert(ap__large_table_insert(other_key(i), i));
    }
    save_start();
    bool entered = true;
    unsigned window_number = 0;
    while (entered) {
        back_to_start();
        windows_passed = 0;
        due = ++window_number;
        intruder = run;
        carry_through();
        entered = intruder == NULL;
        intruder = NULL;
        cr_assert_eq(found(), key_is_live);
        check_neighbours();
        cr_assert(ap__large_table_is_valid());
        cr_assert_eq(count_live(), NEIGHBOURS + 1 + key_is_live);
        cr_assert_eq(deleted(), key_is_live);
    }
    cr_assert_gt(window_number, capacity_of(&first_table)); /* each slot has one, at least */
}

Test(large_table_slots, a_delete_in_every_window)
{
    check_all_windows(insert_or_delete);
}

Test(large_table_slots, a_find_in_every_window)
{
    check_all_windows(find_in_window);
}

Test(large_table_slots, a_migrator_in_every_window)
{
    check_all_windows(migrate_in_window);
}

Test(large_table_slots, a_replacement_in_every_window)
{
    check_all_windows(replace_in_window);
}

Test(large_table_slots, a_churn_of_other_keys_in_every_window)
{
    check_all_windows(churn_in_window);
}

Test(large_table_slots, a_migration_in_every_window)
{
    check_all_windows(force_migration_in_window);
}

/* A second delete of the key that is being deleted: one of the two wins, whatever the window. */
static unsigned wins;

static void delete_in_window(void)
{
    wins += deleted();
}

Test(large_table_slots, a_second_delete_in_every_window_of_the_first)
{
    insert();
    save_start();
    bool entered = true;
    for (unsigned window_number = 1; entered; window_number++) {
        back_to_start();
        (void)double_table(&first_table);
        windows_passed = 0;
        due = window_number;
        wins = 0;
        intruder = delete_in_window;
        wins += deleted();
        entered = intruder == NULL;
        intruder = NULL;
        cr_assert_eq(wins, 1);
        cr_assert_not(found());
        cr_assert(ap__large_table_is_valid());
    }
}
