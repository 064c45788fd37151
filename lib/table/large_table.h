/* SPDX-License-Identifier: MIT */
/*
 * large_table.h: the lock-free linear-probing hash table: address -> index of a record.
 *
 * Does: tells which record describes the object at an address, grows cooperatively, and lets
 * exactly one of several racing deletes of one address win. Does not: know what a record is, own
 * records, or give memory back. It takes no lock and waits for nobody, with one exception: an
 * insert that must grow the table and is refused a mapping asks meta, under meta's lock.
 * Callers: any thread, holding any lock but meta's.
 * The callers' part: of one address, an insert, the look-ups and one delete follow each other as
 * the program's own use of the pointer orders them. Whoever breaks that (a double free, a foreign
 * pointer) gets "not there" or another thread's answer, never a broken table.
 * Invariant: of one address at most one entry counts, whichever table it is in.
 *
 * Idea: linear probing (Knuth, TAOCP vol. 3, 6.4) with one word a slot; moving slot by slot with
 * marked words is Cliff Click's (A Lock-Free Hash Table, 2007). The protocol is drawn in
 * large_table.c.
 */
#ifndef AP_TABLE_LARGE_TABLE_H
#define AP_TABLE_LARGE_TABLE_H

#include "base/compiler.h"

/* Keys are multiples of a granule (64 KiB), below 2^56, not 0. */
#define AP__LARGE_TABLE_KEY_SHIFT 16 /* log2 of a granule */
#define AP__LARGE_TABLE_KEY_BITS 40
/* Values are below this. */
#define AP__LARGE_TABLE_RECORDS_MAX (UINT32_C(1) << 22)

/*
 * Adds an address that is not in the table.
 * @return false: the table had to grow and the kernel has no memory; nothing has changed.
 * Progress: lock-free, but for that exception; the steps are as many as the run is long, unless
 * others take each free slot first.
 * System calls: mmap when the table grows, munmap if another thread grew it at the same moment.
 */
bool ap__large_table_insert(uintptr_t address, uint32_t record);

/*
 * Looks an address up. Any word may be asked for, also one that is no key.
 * @param record  receives the record if it was found, else it is left alone.
 * @return false: not there.
 * Progress: wait-free, and it writes nothing that is shared.
 */
bool ap__large_table_find(uintptr_t address, uint32_t *record);

/*
 * Takes an address out. Any word may be asked for, also one that is no key.
 * @param record  receives the record if this call took it out, else it is left alone.
 * @return false: not there, or another delete was first.
 * Progress: taking out is wait-free as long as nobody else inserts the same address; the share of a
 * migration that each call then contributes is lock-free. No system call.
 */
bool ap__large_table_delete(uintptr_t address, uint32_t *record);

/* Sets the key of the hash; once, before the first insert, by the thread that initialises. */
void ap__large_table_set_secret(uint64_t secret);

/*
 * In a forked child, by its only thread, before it allocates: completes what other threads had
 * begun. Without it the child's table is still right, but could not finish its migration.
 */
void ap__large_table_after_fork_in_child(void);

struct ap__large_table_stats {
    uint64_t capacity_slots;     /* of the newest table */
    uint64_t live;               /* entries; exact at rest, except that a forked child may also
                                    count those its parent's other threads were at work on */
    uint64_t tables_mapped;      /* with retired ones, the static first one excluded */
    uint64_t mapped_bytes;       /* of these tables */
    uint64_t displacement_bound; /* slots, of the newest table; 0 while it is empty */
    uint64_t cas_failures;       /* since start: how often another thread was faster */
};

/* Wait-free; each number is right for some moment during the call. */
void ap__large_table_stats(struct ap__large_table_stats *stats);

/*
 * Whether every invariant of large_table.c holds that can be seen from outside an operation: each
 * entry that counts is the one a look-up finds, and the count of entries is not too low. For tests
 * and debug builds, while nobody is at work. Takes time in proportion to the capacity.
 */
bool ap__large_table_is_valid(void);

/* Calls `function` for each entry that counts, once. For tests and debuggers, while nobody is at work. */
void ap__large_table_visit(void (*function)(void *argument, uintptr_t address, uint32_t record),
                           void *argument);

#endif
