/* SPDX-License-Identifier: MIT */
/*
 * mappings.c: where metadata lies.
 *
 *   reservation:  | guard page | mapping | guard page | guard page | mapping | guard page | inaccessible rest ... |
 *
 * A mapping is a part of the reservation that has been made usable.
 */
#include "meta/mappings.h"

#include "base/bits.h"
#include "os/os.h"

/* Address space for records: more than the records of a full region need. Under a limit on address space, the same
 * part of the limit. */
#define RESERVE_DIVISOR 64
#define RESERVE_BYTES_MAX ((size_t)16 << 30)
#define RESERVE_BYTES_MIN ((size_t)512 << 10)

/* All below: under meta's lock. */
static char *reservation;     /* its begin; NULL: there is none */
static char *reserved;        /* what is left of it */
static size_t reserved_bytes; /* of that */
static bool reservation_tried;
static size_t reservation_most = RESERVE_BYTES_MAX;
static size_t mapped_bytes;

void ap__mappings_set_heap(size_t heap_bytes)
{
    size_t most = ap__min(heap_bytes / RESERVE_DIVISOR, RESERVE_BYTES_MAX);
    reservation_most = ap__max(most, RESERVE_BYTES_MIN);
}

static void reserve(void)
{
    reservation_tried = true;
    size_t most = ap__min(ap__os_address_space_limit() / RESERVE_DIVISOR, reservation_most);
    for (size_t bytes = ap__align_down(most, ap__os_page_size());
         bytes >= RESERVE_BYTES_MIN && reserved == NULL; bytes /= 2) {
        reserved = ap__os_reserve(bytes);
        reserved_bytes = reserved != NULL ? bytes : 0;
    }
    reservation = reserved;
}

/* Inaccessible address space: of the reservation, or else a mapping of its own. */
static char *take_addresses(size_t bytes)
{
    if (!reservation_tried) {
        reserve();
    }
    if (bytes > reserved_bytes) {
        return ap__os_reserve(bytes);
    }
    char *taken = reserved;
    reserved += bytes;
    reserved_bytes -= bytes;
    return taken;
}

/* Takes back what was taken last. */
static void return_addresses(char *taken, size_t bytes)
{
    if (taken + bytes == reserved) {
        reserved = taken;
        reserved_bytes += bytes;
    } else {
        (void)ap__os_unmap(taken, bytes);
    }
}

char *ap__mappings_add(size_t bytes)
{
    size_t guard = ap__os_page_size();
    char *mapping = take_addresses(bytes + 2 * guard);
    if (mapping == NULL) {
        return NULL;
    }
    if (!ap__os_commit(mapping + guard, bytes)) {
        return_addresses(mapping, bytes + 2 * guard);
        return NULL;
    }
    mapped_bytes += bytes;
    return mapping + guard;
}

size_t ap__mappings_page_of(const void *address)
{
    /* What lies below the reservation wraps to a large number. */
    return ((uintptr_t)address - (uintptr_t)reservation) / ap__os_page_size();
}

char *ap__mappings_page_at(size_t page)
{
    return reservation + page * ap__os_page_size();
}

size_t ap__mappings_pages(void)
{
    return ((uintptr_t)reserved - (uintptr_t)reservation) / ap__os_page_size();
}

size_t ap__mappings_bytes(void)
{
    return mapped_bytes;
}

size_t ap__mappings_reserved_bytes(void)
{
    return reserved_bytes;
}
