/* SPDX-License-Identifier: MIT */
/*
 * large.h: objects above the largest class, one span each: allocate, free, resize.
 *
 * Does: keeps page heap and large-object table in step. Order rules: an address leaves the table
 * before its memory goes back or moves, and enters it after the memory is owned and before anybody
 * gets the address; a resize in place changes the record, not the table.
 * Does not: see classes, caches or errno.
 * Callers: any thread, holding no lock of rank page heap or above. Takes no lock of its own.
 * An object belongs to the thread that frees or resizes it; two at once are misuse, of which one
 * wins and the other finds nothing.
 */
#ifndef AP_LARGE_LARGE_H
#define AP_LARGE_LARGE_H

#include "base/compiler.h"

/* Requests above this fail without a look: more than a process can address. */
#define AP__LARGE_SIZE_MAX ((size_t)1 << 47)

/*
 * An object of `size_bytes` (at least 1) at a multiple of `alignment` (a power of two). With `zeroed`
 * its `size_bytes` read as zero. NULL: no memory.
 */
void *ap__large_take(size_t size_bytes, size_t alignment, bool zeroed);

struct ap__span;

/*
 * The same with at least `room_bytes` behind the object that are its span's and not the program's. The
 * contents are what they were when the memory was last given back.
 */
void *ap__large_take_with_room(size_t size_bytes, size_t alignment, size_t room_bytes);

/* The span of the live large object that starts at `p`; NULL: there is none. */
struct ap__span *ap__large_span(const void *p);

/* Takes a live object out of the table: from now on its span is the caller's, who gives it to the page heap.
 * NULL: no live large object starts at `p`. */
struct ap__span *ap__large_detach(const void *p);

/* Frees. `false`: no live large object starts at `p`. */
bool ap__large_give(void *p);

/* Usable bytes: the size rounded up to a page. 0: no live large object starts at `p`. */
size_t ap__large_usable_size(const void *p);

/* What a request for `size_bytes` would get. */
size_t ap__large_good_size(size_t size_bytes);

/* Makes the live object `p` `size_bytes` long without moving it. `false`: not possible. */
bool ap__large_resize(void *p, size_t size_bytes);

/*
 * A larger object with the contents of the live object `p`, whose pages are moved rather than copied;
 * `p` is freed. NULL: not possible, or not cheaper than copying; `p` is as it was. `function` is named
 * if another thread turns out to have freed `p` meanwhile.
 */
void *ap__large_move(void *p, size_t size_bytes, const char *function);

#endif
