/* SPDX-License-Identifier: MIT */
/*
 * large_table.c: which record describes the large object at this address?
 *
 * Problem. free(p) of a large object must find the object's record, from any thread, without a
 * lock that all large objects share, and also when p is wrong. The table must grow while it is
 * used, and no single call may pay for moving all of it.
 *
 * What makes it simple. A correct program orders all operations on one address itself: insert
 * before malloc returns, look-ups by those who hold the pointer, one delete before the memory is
 * released, perhaps a new insert later. So two inserts of one key never meet; only different keys
 * race for a slot, and only the migrator races with the owner of a key. Wrong programs may race
 * two deletes of one key; then one wins.
 *
 * A slot is one 64-bit word, so that one compare-and-swap (CAS) changes all of it:
 *
 *     63                              24 23                   2 1   0
 *    +----------------------------------+----------------------+-----+
 *    | address / 64 KiB        40 bits  | record      22 bits  | tag |
 *    +----------------------------------+----------------------+-----+
 *
 *     address 0: EMPTY (the word 0, so fresh zero pages are an empty table), TOMB, CLOSED
 *     with an address: LIVE, FROZEN, MOVED, PEND
 *
 * Life of a slot. Capitals: the owner of the key; [m]: a migrator that moves the table's contents
 * to `next`; PEND is written to a slot of `next`.
 *
 *             INSERT           DELETE                   EMPTY, TOMB --[m]--> CLOSED
 *     EMPTY ----------> LIVE ----------> TOMB
 *                        |  <----------             TOMB is free for any key again.
 *                       [m]    INSERT               EMPTY is never written: a run of slots
 *                        v     DELETE               without a hole keeps having none.
 *                      FROZEN ---------> CLOSED
 *                        |                          CLOSED and MOVED are for ever: who meets
 *                       [m]                         one of them, or FROZEN, while looking for
 *                        v                          a free slot goes to `next`.
 *                      MOVED
 *
 *     in `next`:  EMPTY or TOMB --[m]--> PEND --[m]--> LIVE      after FROZEN -> MOVED
 *                                        PEND --[m]--> TOMB      the owner deleted FROZEN first
 *                                        PEND --DELETE-> TOMB    after MOVED was seen
 *
 * The moment at which authority over a key passes from one table to the next is the CAS
 * FROZEN -> MOVED. Until then the old word counts, and PEND is nothing; from then on PEND counts,
 * even if its migrator never gets to call it LIVE. Both deletes below are one CAS on the word that
 * counts, so one of them wins, and the migrator's own CAS tells it whether it lost to a delete.
 *
 * Tables form a chain, each larger than the one before; all but the first are mapped:
 *
 *     first -> ... -> retired -> root -> next -> ... -> newest
 *                                  ^ look-ups start here; insert goes to the newest; blocks of
 *                                    64 slots of the root, and of no other table, are migrated
 *
 * Guarantees, cited by letter in the code.
 *   A  At most one word counts for a key: LIVE or FROZEN anywhere, or PEND if the key is MOVED in
 *      the table just before.
 *   B  A slot that is not EMPTY never becomes EMPTY. So what was reachable by probing stays so.
 *   C  The displacement bound of a table is raised before an entry that needs it is written.
 *   D  `next` is set before the first slot of a table is closed or frozen, and never changes.
 *   E  A table receives PEND of one key at most once: it has one predecessor, the key is frozen
 *      there once, and whoever inserts it again has seen `next` (D). So a migrator's CAS on its
 *      PEND cannot succeed on a later word that only looks the same. All other words that can
 *      recur mean the same whenever they recur.
 *   F  Only the root is migrated, and its successor becomes the root after its last block. So no
 *      table receives PEND while its own slots are being closed.
 *   G  A table always has room for what is to be moved into it; see overloaded().
 *   H  Tables are never unmapped once linked. So no reader needs a grace period, and none is waited
 *      for. Capacities double, so all retired tables together are smaller than the newest.
 *
 * Progress. Look-ups are wait-free. Deletes are wait-free up to their share of the migration;
 * that and inserts are lock-free: a failed CAS means that another thread's succeeded. A thread
 * that is stopped in the middle of a block delays the retirement of the root, nothing else: tables
 * behind it go on to grow, so that look-ups visit a few tables (at most the logarithm of the number
 * of entries) instead of one.
 *
 * Cost. At half load a hit inspects 1.5 slots on average, a miss without tombstones 2.5 (Knuth).
 * Tombstones are used again by the next insert that passes, and so need no clean-up.
 *
 * Refused. Chained buckets and tree maps: nodes that are freed need a grace period, and free() must
 * not wait for one. Two-word CAS: wider slots, and the lock-free part of the work becomes
 * a compiler's and libatomic's business. Robin Hood and backward-shift deletion: they move entries
 * of other keys, whose look-ups then race. Memory fences of their own: ThreadSanitizer does not
 * model them, so every order here is that of one operation on one object.
 */
#include "table/large_table.h"

#include <stdatomic.h>

#include "base/bits.h"
#include "base/hash.h"
#include "meta/meta.h"
#include "os/check.h"
#include "os/os.h"
#include "os/yield.h"
#include "table/slot_word.h"

/* --- what a test build may define before it includes this file --- */

/* Stands in every window between two accesses that belong together. */
#ifndef AP_TABLE_YIELD
#define AP_TABLE_YIELD() AP__YIELD_POINT()
#endif
/* True: the insert that asks begins a migration to a table of the same size, full or not. */
#ifndef AP_TABLE_FORCE_MIGRATION
#define AP_TABLE_FORCE_MIGRATION() false
#endif
/* log2 of the first table's slots: 4 KiB, one page, so that small processes pay no more. */
#ifndef AP_TABLE_FIRST_LOG2
#define AP_TABLE_FIRST_LOG2 9
#endif

/* Look-ups are asked about any word a program may pass to free(). Granule 0 must not match TOMB. */
static inline bool is_key(uintptr_t address)
{
    uintptr_t granule = address >> AP__LARGE_TABLE_KEY_SHIFT;
    return granule << AP__LARGE_TABLE_KEY_SHIFT == address && granule != 0 &&
           granule >> AP__LARGE_TABLE_KEY_BITS == 0;
}

static inline uint64_t address_of(uint64_t word)
{
    return granule_of(word) << AP__LARGE_TABLE_KEY_SHIFT;
}

/* --- tables --- */

#define BLOCK_SLOTS 64 /* migrated by one ticket: eight cache lines, some microseconds */

/*
 * A longer run makes the table grow. At half load the expected longest run of a table of n entries
 * is ln(n) / (0.5 - 1 + ln 2) = 5.2 ln(n): 72 slots for a million. So at half load only keys that
 * were chosen against the hash get here.
 */
#define RUN_LIMIT 128
/* ... unless the table has more slots per entry than this: then growing is not the remedy. */
#define RUN_LIMIT_SLOTS_PER_ENTRY 16

/*
 * The first three fields are written before the table is linked, and only read afterwards.
 */
struct table {
    AP_CACHE_ALIGNED slot_t *slots;
    uint64_t mask;  /* capacity in slots - 1 */
    unsigned shift; /* home slot = hash >> shift */
    /* Set once, from NULL, by CAS; read by all. */
    _Atomic(struct table *) next;
    /* An entry's distance from its home slot is below this. Only rises, seldom; read by all. */
    _Atomic uint64_t bound;

    /* Blocks given out for migration, maybe more than there are. Migrators only. */
    AP_CACHE_ALIGNED _Atomic uint64_t tickets;
    /* Blocks migrated. Migrators only; the last one moves the root. */
    _Atomic uint64_t blocks_done;
};

/* Aligned to its size: one page, not parts of two. */
static slot_t first_slots[UINT64_C(1) << AP_TABLE_FIRST_LOG2]
    __attribute__((aligned(sizeof(slot_t) << AP_TABLE_FIRST_LOG2)));

static struct table first_table = {
    .slots = first_slots,
    .mask = (UINT64_C(1) << AP_TABLE_FIRST_LOG2) - 1,
    .shift = 64 - AP_TABLE_FIRST_LOG2,
};

_Static_assert(AP_TABLE_FIRST_LOG2 >= 6, "a table has at least one block");

/* The oldest table that still has entries. Moves along the chain; see guarantee F. */
static _Atomic(struct table *) root = &first_table;

/* The key of the hash. Written once while the process has no entries. */
static _Atomic uint64_t hash_secret;

/*
 * Entries are counted in stripes by their key's hash, because one counter would be the one
 * cache line that every large malloc and free writes. A stripe is a fair sample of all keys, so
 * mostly a look at one's own is enough to know that the table is not half full.
 * Invariant: live >= entries of the stripe's keys; equal at rest. Counted up before an entry is
 * written and down after it is taken out.
 */
#define STRIPES 8

static struct stripe {
    AP_CACHE_ALIGNED _Atomic uint64_t live;
    _Atomic uint64_t cas_failures;
} stripes[STRIPES];

static inline uint64_t capacity_of(const struct table *t)
{
    return t->mask + 1;
}

static inline uint64_t blocks_of(const struct table *t)
{
    return capacity_of(t) / BLOCK_SLOTS;
}

static inline uint64_t home_of(const struct table *t, uint64_t hash)
{
    return hash >> t->shift;
}

static inline uint64_t hash_of(uintptr_t address)
{
    /* relaxed: set before the first insert; the caller's initialisation orders the two. */
    return ap__hash_address(address, atomic_load_explicit(&hash_secret, memory_order_relaxed));
}

/* From bits of the hash that no home slot depends on (a table has fewer than 2^40 slots). */
static inline struct stripe *stripe_of(uint64_t hash)
{
    return &stripes[hash >> 16 & (STRIPES - 1)];
}

static AP_COLD void note_cas_failure(uint64_t hash)
{
    /* relaxed: a statistic. */
    atomic_fetch_add_explicit(&stripe_of(hash)->cas_failures, 1, memory_order_relaxed);
}

/* Sums what others are changing: right to within the operations under way. Wait-free. */
static uint64_t count_live(void)
{
    uint64_t live = 0;
    for (size_t i = 0; i < STRIPES; i++) {
        /* relaxed: no entry is reached through the count. */
        live += atomic_load_explicit(&stripes[i].live, memory_order_relaxed);
    }
    return live;
}

/* Wait-free: the chain only gets longer when a table's worth of inserts has happened. */
static struct table *newest_table(struct table *t)
{
    for (;;) {
        /* acquire: pairs with the release in append_table(); the new table's fields are set. */
        struct table *next = atomic_load_explicit(&t->next, memory_order_acquire);
        if (next == NULL) {
            return t;
        }
        t = next;
    }
}

/* --- growing --- */

static size_t table_bytes(unsigned capacity_log2)
{
    size_t bytes = sizeof(struct table) + (sizeof(slot_t) << capacity_log2);
    return ap__align_up(bytes, ap__os_page_size());
}

static unsigned capacity_log2_of(const struct table *t)
{
    return 64 - t->shift;
}

/* NULL if the kernel has no memory. Nobody else knows the table yet. */
static struct table *map_table(unsigned capacity_log2)
{
    size_t bytes = table_bytes(capacity_log2);
    struct table *t = (struct table *)ap__os_map(bytes);
    if (t == NULL) {
        /* Under a limit on address space set at run time, only what is reserved already can be had.
         * The one lock this file takes; it is a leaf. */
        t = (struct table *)ap__meta_map(bytes);
    }
    if (t == NULL) {
        return NULL;
    }
    /* All else is zero, which is right: no next, nothing migrated, every slot EMPTY. */
    t->slots = (slot_t *)(t + 1);
    t->mask = (UINT64_C(1) << capacity_log2) - 1;
    t->shift = 64 - capacity_log2;
    return t;
}

/*
 * Makes sure that `t` has a successor: this thread's or another's.
 * @return the successor, or NULL if there is none and no memory for one; then nothing has changed.
 * Progress: wait-free, unless map_table() has to ask meta. The loser of a race to append gives its
 * table back to the kernel.
 */
static AP_NOINLINE struct table *append_table(struct table *t, unsigned capacity_log2)
{
    /* acquire: as in newest_table(). */
    struct table *next = atomic_load_explicit(&t->next, memory_order_acquire);
    if (next != NULL) {
        return next;
    }
    struct table *fresh = map_table(capacity_log2);
    AP_TABLE_YIELD();
    if (fresh == NULL) {
        return atomic_load_explicit(&t->next, memory_order_acquire);
    }
    /*
     * release: the fields of `fresh` before its address; pairs with every acquire load of `next`.
     * acquire on failure: the winner's fields.
     */
    if (atomic_compare_exchange_strong_explicit(&t->next, &next, fresh, memory_order_release,
                                                memory_order_acquire)) {
        return fresh;
    }
    /* A kernel that refuses costs this address space, and nothing depends on it. In meta's
     * reservation this leaves a hole that is not used again. */
    (void)ap__os_unmap(fresh, table_bytes(capacity_log2));
    return next;
}

static struct table *double_table(struct table *t)
{
    return append_table(t, capacity_log2_of(t) + 1);
}

/*
 * Whether `t` is too full for an insert whose stripe then counts `stripe_live`.
 *
 * More than half full is too full, and the sum over the stripes tells. A stripe that is within its
 * share of that does not ask, so growth begins a few entries late. A stripe that is half over its
 * share is reason enough, and that makes guarantee G exact though the sum is not: of all keys that
 * are in `t` or in a table before it, or were admitted to one, take the last that its stripe
 * counted. The stripe's count was then at most 3/2 shares of `t` (or of a smaller table), with all
 * the others of the stripe in it. So all stripes together hold at most 3/4 of the capacity. A
 * migrator may occupy one slot more, by a PEND whose key has been deleted, and migrators at work
 * are at most as many as there are blocks: 1/64 of the capacity. Hence a free slot.
 */
static bool overloaded(const struct table *t, uint64_t stripe_live)
{
    uint64_t share = capacity_of(t) / 2 / STRIPES;
    if (AP_LIKELY(stripe_live <= share)) {
        return false;
    }
    return stripe_live > share + share / 2 || count_live() > capacity_of(t) / 2;
}

/* A table that is nearly empty has long runs only because the keys were chosen for that. */
static bool long_run_is_worth_growing(const struct table *t)
{
    return count_live() * RUN_LIMIT_SLOTS_PER_ENTRY > capacity_of(t);
}

/* --- writing an entry --- */

/* Guarantee C. Lock-free; wait-free but for the rare races of two runs that are both the longest.
 */
static void raise_bound(struct table *t, uint64_t bound)
{
    /*
     * relaxed, here and at the CAS: what publishes the bound is the release CAS that writes the
     * entry after it. Whoever looks for that entry has synchronised with it: through the program
     * that passed the pointer on, or by the acquire load of MOVED, or of the root.
     */
    uint64_t old = atomic_load_explicit(&t->bound, memory_order_relaxed);
    while (AP_UNLIKELY(old < bound)) {
        if (atomic_compare_exchange_weak_explicit(&t->bound, &old, bound, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return;
        }
    }
}

enum placed { PLACED, TABLE_IS_CLOSING, RUN_IS_TOO_LONG };

/*
 * Writes `word` to the first free slot of the run that begins at its home.
 * @param limit  slots to inspect at most; the capacity is a limit, too.
 * @param where  receives the slot, if PLACED.
 * Progress: wait-free. A slot lost to another key is passed by, not fought for: it was not
 * EMPTY when its CAS failed and never will be (B), so the run has no hole.
 */
static enum placed place(struct table *t, uint64_t hash, uint64_t word, uint64_t limit,
                         slot_t **where)
{
    if (limit > capacity_of(t)) {
        limit = capacity_of(t);
    }
    uint64_t home = home_of(t, hash);
    for (uint64_t distance = 0; distance < limit; distance++) {
        slot_t *slot = &t->slots[(home + distance) & t->mask];
        /* acquire: whoever sees a closing slot sees `next` (D). Pairs with the releases in
         * claim_slot() and move_entry(); without it, `next` could still read as NULL. */
        uint64_t seen = atomic_load_explicit(slot, memory_order_acquire);
        if (is_free(seen)) {
            raise_bound(t, distance + 1);
            AP_TABLE_YIELD();
            /* release: the bound (C), and the record that the caller filled in, before the entry.
             * Pairs with the acquire in locate(). acquire on failure: as for the load above. */
            if (AP_LIKELY(atomic_compare_exchange_strong_explicit(
                    slot, &seen, word, memory_order_release, memory_order_acquire))) {
                *where = slot;
                return PLACED;
            }
            note_cas_failure(hash);
        }
        if (AP_UNLIKELY(is_closing(seen))) {
            return TABLE_IS_CLOSING;
        }
    }
    return RUN_IS_TOO_LONG;
}

/*
 * Enters `word` into the newest table, which it makes sure is large enough.
 * @param stripe_live  the count of the key's stripe, with this key.
 * @return false: there is no memory for a larger table; nothing has changed.
 * Progress: lock-free. A full turn without a free slot means that others filled them meanwhile (G).
 */
static bool insert_word(struct table *t, uint64_t hash, uint64_t word, uint64_t stripe_live)
{
    uint64_t limit = RUN_LIMIT;
    slot_t *where;
    for (;;) {
        if (AP_UNLIKELY(overloaded(t, stripe_live))) {
            t = double_table(t);
            if (t == NULL) {
                return false;
            }
            continue;
        }
        struct table *larger = NULL;
        switch (place(t, hash, word, limit, &where)) {
        case PLACED:
            return true;
        case TABLE_IS_CLOSING:
            /* Not NULL, by D. acquire: as in newest_table(). */
            t = atomic_load_explicit(&t->next, memory_order_acquire);
            break;
        case RUN_IS_TOO_LONG:
            if (long_run_is_worth_growing(t)) {
                larger = double_table(t);
            }
            /* The limit is there for speed, so it is no reason to fail. */
            limit = larger != NULL ? RUN_LIMIT : capacity_of(t);
            t = larger != NULL ? larger : t;
            break;
        }
    }
}

/* --- migrating --- */

/*
 * Takes a slot away from the table's users: closes it if it is free, else freezes its entry.
 * @return the FROZEN word to be moved, or CLOSED if there is none (any more).
 * Progress: lock-free; an owner of the slot was faster whenever the CAS fails.
 */
static uint64_t claim_slot(slot_t *slot)
{
    /* relaxed: the CAS acquires what counts. */
    uint64_t word = atomic_load_explicit(slot, memory_order_relaxed);
    for (;;) {
        if (is_closing(word)) {
            /* FROZEN only where another migrator of this block ended in mid-work: after a fork. */
            return granule_of(word) != 0 && tag_of(word) == TAG_FROZEN ? word : CLOSED;
        }
        uint64_t claimed = is_free(word) ? CLOSED : with_tag(word, TAG_FROZEN);
        AP_TABLE_YIELD();
        /*
         * release: this thread has seen `next`, and who reads the new word will (D); pairs with
         * the acquires in place() and locate(). acquire: the insert's release, so that the record
         * is passed on by the release with which PEND is placed.
         */
        if (atomic_compare_exchange_strong_explicit(slot, &word, claimed, memory_order_acq_rel,
                                                    memory_order_relaxed)) {
            return claimed;
        }
    }
}

/* Places PEND in the table that `word` moves to. Lock-free: finds room in the end, by G. */
static slot_t *place_pending(struct table *to, uint64_t hash, uint64_t word)
{
    slot_t *where = NULL;
    enum placed placed;
    do {
        placed = place(to, hash, with_tag(word, TAG_PEND), capacity_of(to), &where);
        /* F. Otherwise an entry of the program's would be lost. */
        AP_CHECK(placed != TABLE_IS_CLOSING, "large-object table: destination is closing");
    } while (placed != PLACED);
    return where;
}

/*
 * Moves the FROZEN entry `word` of `slot` to the table `to`. Wait-free but for place_pending().
 */
static void move_entry(slot_t *slot, uint64_t word, struct table *to)
{
    uint64_t hash = hash_of(address_of(word));
    slot_t *where = place_pending(to, hash, word);
    uint64_t pending = with_tag(word, TAG_PEND);
    uint64_t frozen = word;
    AP_TABLE_YIELD();
    /*
     * Authority passes here (A). release: PEND, and the bound of `to`, before MOVED; pairs with the
     * acquire in locate(), which could otherwise see MOVED and then miss the entry.
     * relaxed on failure: CLOSED carries nothing that is used.
     */
    if (atomic_compare_exchange_strong_explicit(slot, &frozen, with_tag(word, TAG_MOVED),
                                                memory_order_release, memory_order_relaxed)) {
        AP_TABLE_YIELD();
        /*
         * A failure means that the owner has deleted it since, and by E it cannot succeed wrongly.
         * release: as PEND was, so that whoever finds LIVE sees the same record.
         */
        (void)atomic_compare_exchange_strong_explicit(where, &pending, with_tag(word, TAG_LIVE),
                                                      memory_order_release, memory_order_relaxed);
        return;
    }
    AP_TABLE_YIELD();
    /* The owner deleted it while it was frozen, so nobody but this thread may touch PEND.
     * relaxed: a tombstone publishes nothing. */
    bool withdrawn = atomic_compare_exchange_strong_explicit(
        where, &pending, TOMB, memory_order_relaxed, memory_order_relaxed);
    AP_ASSERT(withdrawn);
    (void)withdrawn;
}

static void migrate_block(struct table *from, struct table *to, uint64_t block)
{
    slot_t *slots = &from->slots[block * BLOCK_SLOTS];
    for (size_t i = 0; i < BLOCK_SLOTS; i++) {
        uint64_t word = claim_slot(&slots[i]);
        if (word != CLOSED) {
            move_entry(&slots[i], word, to);
        }
    }
}

/* Moves the root on when the last block is done. Whoever notices does it. Wait-free. */
static void retire_if_done(struct table *from, struct table *to)
{
    /* acquire: pairs with the releases of all migrators in help_migrate(). */
    if (atomic_load_explicit(&from->blocks_done, memory_order_acquire) < blocks_of(from)) {
        return;
    }
    struct table *expected = from;
    AP_TABLE_YIELD();
    /* release: all entries are LIVE in `to` before a look-up may begin there; pairs with the
     * acquire loads of the root. A failure means that another thread has done it. */
    (void)atomic_compare_exchange_strong_explicit(&root, &expected, to, memory_order_release,
                                                  memory_order_relaxed);
}

static AP_NOINLINE void help_migrate_block(struct table *from, struct table *to)
{
    /* relaxed: a ticket is a number nobody else has, and needs no order. The load first, so that a
     * table that waits for its last block is not written by all who pass. */
    if (atomic_load_explicit(&from->tickets, memory_order_relaxed) < blocks_of(from)) {
        uint64_t block = atomic_fetch_add_explicit(&from->tickets, 1, memory_order_relaxed);
        if (block < blocks_of(from)) {
            AP_TABLE_YIELD();
            migrate_block(from, to, block);
            /* release: the block's moves before its count; pairs with retire_if_done(). */
            atomic_fetch_add_explicit(&from->blocks_done, 1, memory_order_release);
        }
    }
    retire_if_done(from, to);
}

/*
 * Every insert and delete pays its share of a migration that is under way: one block.
 * Lock-free: 64 slots, each of which is retried only when its owner was faster.
 */
static inline void help_migrate(void)
{
    /* acquire: pairs with the release in retire_if_done(). */
    struct table *from = atomic_load_explicit(&root, memory_order_acquire);
    /* acquire: as in newest_table(), and the first half of guarantee D. */
    struct table *to = atomic_load_explicit(&from->next, memory_order_acquire);
    if (AP_UNLIKELY(to != NULL)) {
        help_migrate_block(from, to);
    }
}

/* --- looking up --- */

struct entry {
    slot_t *slot;
    uint64_t word; /* what the slot held when it was found */
};

/*
 * The word of `granule` in table `t` that ends the search there: LIVE, FROZEN or MOVED, or PEND if
 * `moved`. EMPTY if there is none. Wait-free: inspects as many slots as the bound says, at most.
 */
static inline struct entry probe(const struct table *t, uint64_t granule, uint64_t hash, bool moved)
{
    /* relaxed: see raise_bound(). */
    uint64_t bound = atomic_load_explicit(&t->bound, memory_order_relaxed);
    /* Copies, because the compiler must not keep what lies behind `t` across an acquire. */
    slot_t *slots = t->slots;
    uint64_t mask = t->mask;
    uint64_t home = home_of(t, hash);
    for (uint64_t distance = 0; distance < bound; distance++) {
        slot_t *slot = &slots[(home + distance) & mask];
        /* acquire: pairs with the releases in place(), for the record, and in claim_slot() and
         * move_entry(), for `next` and for what is found there. */
        uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
        if (word == EMPTY) {
            break; /* B: the entry would have been written here or before */
        }
        if (granule_of(word) == granule && (tag_of(word) != TAG_PEND || moved)) {
            return (struct entry){slot, word};
        }
    }
    return (struct entry){NULL, EMPTY};
}

/*
 * The one word that counts for `granule` (A). false: there is none.
 * From the oldest table to the newest, as entries move: one that is not met in a table because
 * it has left is met in a later one.
 * Progress: wait-free; the chain of tables has at most a logarithm of elements.
 */
static inline bool locate(uint64_t granule, uint64_t hash, struct entry *entry)
{
    bool moved = false;
    /* acquire: pairs with retire_if_done(). */
    struct table *t = atomic_load_explicit(&root, memory_order_acquire);
    while (t != NULL) {
        *entry = probe(t, granule, hash, moved);
        /* Of this table only: PEND comes from the table just before it. With MOVED of an older one,
         * whose migration is long over, PEND of a key that was frozen and deleted would be found.
         */
        moved = entry->word != EMPTY && tag_of(entry->word) == TAG_MOVED;
        if (entry->word != EMPTY && !moved) {
            return true;
        }
        AP_TABLE_YIELD();
        /* acquire: as in newest_table(). Not NULL after MOVED, by D. */
        t = atomic_load_explicit(&t->next, memory_order_acquire);
    }
    return false;
}

/* --- the operations --- */

bool ap__large_table_insert(uintptr_t address, uint32_t record)
{
    AP_ASSERT(is_key(address));
    AP_ASSERT(record < AP__LARGE_TABLE_RECORDS_MAX);
    uint64_t hash = hash_of(address);
    struct stripe *stripe = stripe_of(hash);
    /* relaxed: only the counter's own order of changes is relied on, by overloaded(). Before the
     * table is chosen, as G wants it. */
    uint64_t live = atomic_fetch_add_explicit(&stripe->live, 1, memory_order_relaxed) + 1;
    AP_TABLE_YIELD();
    /* acquire: pairs with retire_if_done(). */
    struct table *t = newest_table(atomic_load_explicit(&root, memory_order_acquire));
    if (AP_TABLE_FORCE_MIGRATION()) {
        (void)append_table(t, capacity_log2_of(t));
    }
    uint64_t word = make_word(address >> AP__LARGE_TABLE_KEY_SHIFT, record);
    if (AP_UNLIKELY(!insert_word(t, hash, word, live))) {
        atomic_fetch_sub_explicit(&stripe->live, 1, memory_order_relaxed);
        return false;
    }
    help_migrate();
    return true;
}

bool ap__large_table_find(uintptr_t address, uint32_t *record)
{
    struct entry entry;
    if (!is_key(address) ||
        !locate(address >> AP__LARGE_TABLE_KEY_SHIFT, hash_of(address), &entry)) {
        return false;
    }
    *record = record_of(entry.word);
    return true;
}

bool ap__large_table_delete(uintptr_t address, uint32_t *record)
{
    if (!is_key(address)) {
        return false;
    }
    uint64_t hash = hash_of(address);
    struct entry entry;
    /* Each turn after the first means that the migrator took this key one step on, or that another
     * delete won; a key takes three steps per table. */
    while (locate(address >> AP__LARGE_TABLE_KEY_SHIFT, hash, &entry)) {
        uint64_t gone = tag_of(entry.word) == TAG_FROZEN ? CLOSED : TOMB;
        AP_TABLE_YIELD();
        /*
         * The one CAS that decides who deletes (A). release: all that was done to the object before
         * its slot, and its address, are used again. acquire: the record as its insert left it.
         * relaxed on failure: the next turn reads again.
         */
        if (AP_LIKELY(atomic_compare_exchange_strong_explicit(
                entry.slot, &entry.word, gone, memory_order_acq_rel, memory_order_relaxed))) {
            *record = record_of(entry.word);
            atomic_fetch_sub_explicit(&stripe_of(hash)->live, 1, memory_order_relaxed);
            help_migrate();
            return true;
        }
        note_cas_failure(hash);
    }
    return false;
}

void ap__large_table_set_secret(uint64_t secret)
{
    AP_ASSERT(count_live() == 0);
    /* relaxed: see hash_of(). */
    atomic_store_explicit(&hash_secret, secret, memory_order_relaxed);
}

/* --- fork --- */

/*
 * Decides about every PEND in `to` whose migrator the child does not have, as that migrator would
 * have gone on. A PEND without FROZEN or MOVED belongs to a key that was deleted.
 * relaxed throughout: the child has one thread.
 */
static void settle_pending(struct table *from, struct table *to)
{
    for (uint64_t i = 0; i < capacity_of(to); i++) {
        uint64_t word = atomic_load_explicit(&to->slots[i], memory_order_relaxed);
        if (granule_of(word) == 0 || tag_of(word) != TAG_PEND) {
            continue;
        }
        struct entry old = probe(from, granule_of(word), hash_of(address_of(word)), false);
        bool counts = old.word != EMPTY && tag_of(old.word) != TAG_LIVE;
        if (counts) {
            atomic_store_explicit(old.slot, with_tag(old.word, TAG_MOVED), memory_order_relaxed);
        }
        atomic_store_explicit(&to->slots[i], counts ? with_tag(word, TAG_LIVE) : TOMB,
                              memory_order_relaxed);
    }
}

/*
 * A migrator that was at work in the parent when it forked does not exist here, and its block would
 * never be done. Blocks without a ticket are left to the operations to come. Only the root has
 * tickets out (F). Takes time only if a block was under way.
 */
void ap__large_table_after_fork_in_child(void)
{
    /* relaxed throughout: the child has one thread. */
    struct table *from = atomic_load_explicit(&root, memory_order_relaxed);
    struct table *to = atomic_load_explicit(&from->next, memory_order_relaxed);
    if (to == NULL) {
        return;
    }
    uint64_t begun = atomic_load_explicit(&from->tickets, memory_order_relaxed);
    begun = begun < blocks_of(from) ? begun : blocks_of(from);
    if (atomic_load_explicit(&from->blocks_done, memory_order_relaxed) != begun) {
        settle_pending(from, to);
        /* Slots that are done already are passed by. */
        for (uint64_t block = 0; block < begun; block++) {
            migrate_block(from, to, block);
        }
        atomic_store_explicit(&from->blocks_done, begun, memory_order_relaxed);
    }
    retire_if_done(from, to);
}

/* --- being watched --- */

void ap__large_table_stats(struct ap__large_table_stats *stats)
{
    *stats = (struct ap__large_table_stats){.live = count_live()};
    for (size_t i = 0; i < STRIPES; i++) {
        /* relaxed: a statistic. */
        stats->cas_failures += atomic_load_explicit(&stripes[i].cas_failures, memory_order_relaxed);
    }
    struct table *t = &first_table;
    for (;;) {
        /* acquire: as in newest_table(). */
        struct table *next = atomic_load_explicit(&t->next, memory_order_acquire);
        if (next == NULL) {
            break;
        }
        t = next;
        stats->tables_mapped++;
        stats->mapped_bytes += table_bytes(capacity_log2_of(t));
    }
    stats->capacity_slots = capacity_of(t);
    stats->displacement_bound = atomic_load_explicit(&t->bound, memory_order_relaxed);
}

/* Whether `slot` is what a look-up of its key finds, or need not be. Counts entries. */
static bool slot_is_valid(slot_t *slot, uint64_t *entries)
{
    /* relaxed: nobody is at work. */
    uint64_t word = atomic_load_explicit(slot, memory_order_relaxed);
    if (granule_of(word) == 0 || tag_of(word) == TAG_MOVED) {
        return true;
    }
    struct entry found;
    bool is_found =
        locate(granule_of(word), hash_of(address_of(word)), &found) && found.slot == slot;
    *entries += is_found;
    return is_found || tag_of(word) == TAG_PEND;
}

bool ap__large_table_is_valid(void)
{
    uint64_t entries = 0;
    struct table *t = atomic_load_explicit(&root, memory_order_relaxed);
    for (; t != NULL; t = atomic_load_explicit(&t->next, memory_order_relaxed)) {
        for (uint64_t i = 0; i < capacity_of(t); i++) {
            if (!slot_is_valid(&t->slots[i], &entries)) {
                return false;
            }
        }
    }
    return entries <= count_live();
}

void ap__large_table_visit(void (*function)(void *argument, uintptr_t address, uint32_t record),
                           void *argument)
{
    struct table *t = atomic_load_explicit(&root, memory_order_relaxed);
    for (; t != NULL; t = atomic_load_explicit(&t->next, memory_order_relaxed)) {
        for (uint64_t i = 0; i < capacity_of(t); i++) {
            uint64_t word = atomic_load_explicit(&t->slots[i], memory_order_relaxed);
            uint64_t entries = 0;
            if (slot_is_valid(&t->slots[i], &entries) && entries != 0) {
                function(argument, address_of(word), record_of(word));
            }
        }
    }
}
