/* SPDX-License-Identifier: MIT */
/*
 * canary.h: what a hardened block's slot holds beside the program's bytes, and what a free slot holds.
 *
 *   live:  [ the program's `size` bytes | slack: canary bytes | trailer ]
 *   freed: [ zeros ................................. | trailer: FREED ]   (in quarantine)
 *   free:  [ zeros .................................................. ]
 *
 * The trailer is the slot's last word. It holds the size that the program asked for, hidden under a
 * value that depends on the address and on a secret: so a write beyond the end is found when the block
 * comes back, wherever it hit, and nobody who does not know the secret can forge one. Its lowest byte,
 * the first that a write beyond a full slot reaches, is never zero, so that the NUL of a string that is one too
 * long shows as well.
 *
 * Pure functions over one slot, which the caller owns, except that two threads may claim the same live block:
 * one of them gets it.
 *
 * Idea: the canaries of hardened_malloc and scudo's checksummed chunk headers, put behind the block instead
 * of before it, where they cost no alignment.
 */
#ifndef AP_HARDENED_CANARY_H
#define AP_HARDENED_CANARY_H

#include "base/compiler.h"

#define AP__TRAILER_BYTES sizeof(uint64_t)

enum ap__canary_state {
    AP__CANARY_LIVE,
    AP__CANARY_FREED,  /* given back, and in quarantine */
    AP__CANARY_FREE,   /* not handed out */
    AP__CANARY_DAMAGED /* the program has written where it must not */
};

/* Before first use, by the thread that initialises. */
void ap__canary_set_secret(uint64_t secret);

/* Makes a slot live with `size_bytes` (at most slot_bytes - AP__TRAILER_BYTES). */
void ap__canary_set(void *slot, size_t slot_bytes, size_t size_bytes);

/* What the trailer says; *size_bytes is set for LIVE. */
enum ap__canary_state ap__canary_look(const void *slot, size_t slot_bytes, size_t *size_bytes);

/* Whether the slack of a live block is as it was written. */
bool ap__canary_slack_is_whole(const void *slot, size_t slot_bytes, size_t size_bytes);

/* Turns LIVE into FREED. `false`: it was not live with this size; another thread has been faster. */
bool ap__canary_claim(void *slot, size_t slot_bytes, size_t size_bytes);

/* Turns FREED into FREE. */
void ap__canary_clear(void *slot, size_t slot_bytes);

/* Whether all bytes of a range are zero. */
bool ap__is_zero(const void *start, size_t size_bytes);

/* For ranges without a trailer (large objects): the byte, and a check of it. */
void ap__canary_fill(void *start, size_t size_bytes);
bool ap__canary_is_filled(const void *start, size_t size_bytes);

#endif
