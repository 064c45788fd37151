/* SPDX-License-Identifier: MIT */
/*
 * meta_test.c: memory for the allocator's own records.
 * Goal: pieces are zero, aligned, disjoint, reused by size, and lie between inaccessible pages; a
 * kernel without memory yields NULL and no harm. Method: fill, compare, read the process's map,
 * inject faults.
 */
#include "meta/meta.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "os/os.h"
#include "support/os_faults.h"

enum { LINE = AP_CACHE_LINE, PIECES = 512, THREADS = 4 };

static bool is_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

Test(meta, sizes_are_powers_of_two_from_a_cache_line_up)
{
    cr_assert_eq(ap__meta_size(1), LINE);
    cr_assert_eq(ap__meta_size(LINE), LINE);
    cr_assert_eq(ap__meta_size(LINE + 1), 2 * LINE);
    cr_assert_eq(ap__meta_size(AP_META_SIZE_MAX), AP_META_SIZE_MAX);
    for (size_t n = 1; n <= 1 << 14; n++) {
        cr_assert(ap__is_power_of_two(ap__meta_size(n)));
        cr_assert_geq(ap__meta_size(n), n);
    }
}

Test(meta, pieces_are_zero_aligned_and_disjoint)
{
    unsigned char *pieces[PIECES];
    size_t sizes[PIECES];
    for (size_t i = 0; i < PIECES; i++) {
        sizes[i] = 1 + i * 97 % 9000;
        pieces[i] = ap__meta_take(sizes[i]);
        cr_assert_not_null(pieces[i]);
        cr_assert_eq((uintptr_t)pieces[i] % LINE, 0);
        cr_assert(is_zero(pieces[i], ap__meta_size(sizes[i])));
        memset(pieces[i], (int)(i % 255) + 1, ap__meta_size(sizes[i]));
    }
    for (size_t i = 0; i < PIECES; i++) {
        for (size_t b = 0; b < ap__meta_size(sizes[i]); b++) {
            cr_assert_eq(pieces[i][b], i % 255 + 1);
        }
    }
}

/* So that a page is free when all its pieces are. */
Test(meta, no_piece_begins_in_one_page_and_ends_in_another)
{
    size_t page = ap__os_page_size();
    for (size_t i = 0; i < 20000; i++) {
        size_t size = (size_t)LINE << i * 7 % 11;
        uintptr_t piece = (uintptr_t)ap__meta_take(size);
        cr_assert_neq(piece, 0);
        cr_assert_eq(piece % (size < page ? size : page), 0);
    }
}

/* A small process has a little of many sizes. */
Test(meta, at_first_all_sizes_share_pages)
{
    for (int round = 0; round < 2; round++) {
        for (size_t size = LINE; size < ap__os_page_size() / 2; size *= 2) {
            cr_assert_not_null(ap__meta_take(size));
        }
    }
    struct ap__meta_stats stats;
    ap__meta_stats(&stats);
    cr_assert_eq(stats.mapped_bytes - stats.untouched_bytes, ap__os_page_size());
}

Test(meta, later_each_size_has_its_own)
{
    size_t page = ap__os_page_size();
    cr_assert_not_null(ap__meta_take(AP_META_SIZE_MAX));
    for (size_t size = LINE; size < page; size *= 2) {
        uintptr_t first = (uintptr_t)ap__meta_take(size);
        cr_assert_eq(first % page, 0);
        for (size_t at = size; at < page; at += size) {
            cr_assert_eq((uintptr_t)ap__meta_take(size) / page, first / page);
        }
        cr_assert_neq((uintptr_t)ap__meta_take(size) / page, first / page);
    }
}

/* What is left of a mapping that is too small for a piece serves others. */
Test(meta, the_rest_of_a_mapping_is_not_lost)
{
    cr_assert_not_null(ap__meta_take(64));
    cr_assert_not_null(ap__meta_take(AP_META_SIZE_MAX));
    struct ap__meta_stats before, after;
    ap__meta_stats(&before);
    cr_assert_gt(before.empty_bytes, 0);
    for (size_t bytes = 0; bytes < before.empty_bytes; bytes += ap__os_page_size()) {
        cr_assert_not_null(ap__meta_take(ap__os_page_size()));
    }
    ap__meta_stats(&after);
    cr_assert_eq(after.empty_bytes, 0);
    cr_assert_eq(after.mapped_bytes, before.mapped_bytes);
}

Test(meta, a_piece_given_back_is_handed_out_again_as_zero)
{
    unsigned char *piece = ap__meta_take(1000);
    cr_assert_not_null(piece);
    memset(piece, 0xFF, ap__meta_size(1000));
    ap__meta_give(piece, 1000);
    size_t mapped = ap__meta_mapped_bytes();
    unsigned char *again = ap__meta_take(700); /* the same power of two */
    cr_assert_eq(again, piece);
    cr_assert(is_zero(again, ap__meta_size(1000)));
    cr_assert_eq(ap__meta_mapped_bytes(), mapped);
}

Test(meta, giving_and_taking_maps_nothing_more)
{
    void *pieces[64];
    for (int i = 0; i < 64; i++) {
        pieces[i] = ap__meta_take(4096);
        cr_assert_not_null(pieces[i]);
    }
    size_t mapped = ap__meta_mapped_bytes();
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 64; i++) {
            ap__meta_give(pieces[i], 4096);
        }
        for (int i = 0; i < 64; i++) {
            pieces[i] = ap__meta_take(4096);
            cr_assert_not_null(pieces[i]);
        }
    }
    cr_assert_eq(ap__meta_mapped_bytes(), mapped);
}

Test(meta, the_largest_piece_can_be_had)
{
    unsigned char *piece = ap__meta_take(AP_META_SIZE_MAX);
    cr_assert_not_null(piece);
    cr_assert(is_zero(piece, AP_META_SIZE_MAX));
    cr_assert_geq(ap__meta_mapped_bytes(), AP_META_SIZE_MAX);
}

/* The access rights ("rw-p") at an address, "" where nothing is mapped. */
static void rights_at(uintptr_t address, char rights[5])
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    cr_assert_not_null(maps);
    rights[0] = '\0';
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t from, to;
        char found[5];
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, found) == 3 &&
            from <= address && address < to) {
            memcpy(rights, found, sizeof found);
        }
    }
    (void)fclose(maps);
}

Test(meta, mappings_lie_between_inaccessible_pages)
{
    char rights[5];
    /* The largest piece fills a mapping of its own: the pages beside it are the guards. */
    char *piece = ap__meta_take(AP_META_SIZE_MAX);
    cr_assert_not_null(piece);
    rights_at((uintptr_t)piece, rights);
    cr_assert_str_eq(rights, "rw-p");
    rights_at((uintptr_t)piece - 1, rights);
    cr_assert_str_eq(rights, "---p");
    rights_at((uintptr_t)piece + AP_META_SIZE_MAX, rights);
    cr_assert_str_eq(rights, "---p");
}

static void *take_fill_check(void *argument)
{
    unsigned char mark = *(unsigned char *)argument;
    unsigned char *pieces[PIECES];
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < PIECES; i++) {
            pieces[i] = ap__meta_take(64 + i % 7 * 100);
            if (pieces[i] == NULL || !is_zero(pieces[i], 64 + i % 7 * 100)) {
                return argument;
            }
            memset(pieces[i], mark, 64 + i % 7 * 100);
        }
        for (size_t i = 0; i < PIECES; i++) {
            if (pieces[i][0] != mark || pieces[i][63 + i % 7 * 100] != mark) {
                return argument;
            }
            ap__meta_give(pieces[i], 64 + i % 7 * 100);
        }
    }
    return NULL;
}

Test(meta, threads_never_share_a_piece, .timeout = 60)
{
    pthread_t threads[THREADS];
    unsigned char marks[THREADS];
    for (int i = 0; i < THREADS; i++) {
        marks[i] = (unsigned char)(i + 1);
        cr_assert_eq(pthread_create(&threads[i], NULL, take_fill_check, &marks[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        cr_assert_eq(pthread_join(threads[i], &failed), 0);
        cr_assert_null(failed);
    }
}

/* Takes the largest pieces until `refused` says that the kernel was asked and said no. */
static bool survives(enum os_faults_call call)
{
    os_faults_fail_nth(call, 1);
    void *piece = ap__meta_take(AP_META_SIZE_MAX);
    bool refused = piece == NULL;
    os_faults_reset();
    unsigned char *after = ap__meta_take(AP_META_SIZE_MAX);
    cr_assert_not_null(after, "no lock held, no state broken");
    cr_assert(is_zero(after, AP_META_SIZE_MAX));
    return refused;
}

Test(meta, without_address_space_there_is_nothing_and_later_there_is)
{
    os_faults_fail_always(OS_FAULTS_MMAP);
    cr_assert_null(ap__meta_take(64));
    cr_assert_null(ap__meta_map(1));
    os_faults_reset();
    cr_assert_not_null(ap__meta_take(64));
    cr_assert_not_null(ap__meta_map(1));
}

Test(meta, a_refused_reservation_is_halved)
{
    os_faults_fail_nth(OS_FAULTS_MMAP, 1);
    cr_assert_not_null(ap__meta_take(64));
    cr_assert_gt(ap__meta_reserved_bytes(), (size_t)1 << 32);
}

Test(meta, what_is_reserved_fits_the_heap)
{
    ap__meta_set_heap((size_t)64 << 20);
    cr_assert_not_null(ap__meta_take(64));
    cr_assert_lt(ap__meta_reserved_bytes(), (size_t)1 << 20);
    for (int i = 0; i < 20; i++) {
        cr_assert_not_null(ap__meta_take(AP_META_SIZE_MAX),
                           "beyond it, each is a mapping of its own");
    }
}

Test(meta, a_heap_larger_than_any_has_records_as_for_a_tebibyte)
{
    ap__meta_set_heap(SIZE_MAX);
    cr_assert_not_null(ap__meta_take(64));
    cr_assert_leq(ap__meta_reserved_bytes(), (size_t)16 << 30);
}

Test(meta, what_is_reserved_serves_when_new_mappings_are_refused)
{
    cr_assert_not_null(ap__meta_take(64));
    os_faults_fail_always(OS_FAULTS_MMAP);
    for (int i = 0; i < 100; i++) {
        unsigned char *piece = ap__meta_take(AP_META_SIZE_MAX);
        cr_assert_not_null(piece);
        cr_assert(is_zero(piece, AP_META_SIZE_MAX));
    }
    size_t large = 5 * AP_META_SIZE_MAX + 3;
    unsigned char *pages = ap__meta_map(large);
    cr_assert_not_null(pages);
    cr_assert(is_zero(pages, large));
    memset(pages, 1, large);
}

Test(meta, a_refused_protection_is_null_and_the_next_request_succeeds)
{
    size_t mapped = ap__meta_mapped_bytes();
    cr_assert(survives(OS_FAULTS_MPROTECT));
    cr_assert_eq(ap__meta_mapped_bytes(), mapped + AP_META_SIZE_MAX,
                 "the failed one is not counted");
}

/* A process that has used up its mappings asks often. */
Test(meta, refused_protections_use_up_no_addresses)
{
    cr_assert_not_null(ap__meta_take(64));
    size_t reserved = ap__meta_reserved_bytes();
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    for (int i = 0; i < 100; i++) {
        cr_assert_null(ap__meta_take(AP_META_SIZE_MAX));
        cr_assert_null(ap__meta_map(3 * AP_META_SIZE_MAX));
    }
    cr_assert_eq(ap__meta_reserved_bytes(), reserved);
    os_faults_reset();
    unsigned char *piece = ap__meta_take(AP_META_SIZE_MAX);
    cr_assert_not_null(piece);
    cr_assert(is_zero(piece, AP_META_SIZE_MAX));
}

Test(meta, where_there_is_no_more_memory_a_larger_piece_is_cut)
{
    void *large = ap__meta_take(AP_META_SIZE_MAX);
    cr_assert_not_null(large);
    memset(large, 0xFF, AP_META_SIZE_MAX);
    ap__meta_give(large, AP_META_SIZE_MAX);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    os_faults_fail_always(OS_FAULTS_MMAP);
    size_t bytes = 0;
    for (unsigned char *piece; (piece = ap__meta_take(1000)) != NULL; bytes += 1024) {
        cr_assert(is_zero(piece, 1024));
    }
    cr_assert_geq(bytes, AP_META_SIZE_MAX);
}

Test(meta, small_pieces_are_still_there_when_the_kernel_has_no_more)
{
    void *small = ap__meta_take(64);
    cr_assert_not_null(small);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    cr_assert_null(ap__meta_take(AP_META_SIZE_MAX));
    cr_assert_not_null(ap__meta_take(64), "from the rest of the mapping");
    ap__meta_give(small, 64);
    cr_assert_eq(ap__meta_take(64), small);
    os_faults_reset();
}
