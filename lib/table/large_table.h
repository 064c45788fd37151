/* SPDX-License-Identifier: MIT */
/*
 * large_table.h: the lock-free linear-probing hash table: address -> index of a record.
 *
 * Does: tells which record describes the object at an address, grows cooperatively, and lets exactly
 * one of several racing deletes of one address win. Does not: know what a record is, own
 * records, take a lock, or wait.
 * Keys are addresses that are multiples of a granule (64 KiB), below 2^56, not 0. Values are below
 * AP__LARGE_TABLE_RECORDS_MAX.
 * Callers: any thread, holding any lock.
 */
#ifndef AP_TABLE_LARGE_TABLE_H
#define AP_TABLE_LARGE_TABLE_H

#include "base/compiler.h"

#define AP__LARGE_TABLE_KEY_SHIFT 16                        /* log2 of a granule */
#define AP__LARGE_TABLE_RECORDS_MAX (UINT32_C(1) << 22)

/* Adds an address that is not in the table. `false`: no memory to grow, nothing has changed. */
bool ap__large_table_insert(uintptr_t address, uint32_t record);

/* Looks an address up. `false`: not there. */
bool ap__large_table_find(uintptr_t address, uint32_t *record);

/* Takes an address out. `false`: not there, or another delete was first. */
bool ap__large_table_delete(uintptr_t address, uint32_t *record);

/* Sets the key of the hash; once, before the first insert. */
void ap__large_table_set_secret(uint64_t secret);

/* In a forked child, by its only thread: completes what other threads had begun. */
void ap__large_table_after_fork_in_child(void);

struct ap__large_table_stats {
    uint64_t capacity_slots;     /* of the newest table */
    uint64_t live;               /* entries; exact when nobody is at work */
    uint64_t tables_mapped;      /* with retired ones */
    uint64_t mapped_bytes;       /* of all tables, the static first one excluded */
    uint64_t displacement_bound; /* slots, of the newest table */
    uint64_t cas_failures;       /* since start */
};
void ap__large_table_stats(struct ap__large_table_stats *stats);

#endif
