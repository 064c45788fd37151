/* SPDX-License-Identifier: MIT */
/*
 * overflow_test.c: writes beyond the end of a block and before its start.
 * Goal: they hit neighbours' bytes, as documented, and never the allocator's own data; a write that
 * runs on and on ends with SIGSEGV before it reaches any. Method: in a child, write, then use the heap
 * in full and return everything to it: nothing may be reported and no live block may be damaged.
 */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "misuse.h"
#include "support/child.h"

TestSuite(overflow, .timeout = 240);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {16, 4 * KIB, 256 * KIB, 64 * MIB};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* All classes and some large objects, allocated, filled, compared and freed; twice. */
static void use_all_of_the_heap(const struct entry_points *e)
{
    enum { BLOCKS = 130 };
    static char *blocks[BLOCKS];
    static size_t lengths[BLOCKS];
    for (int round = 0; round < 2; round++) {
        size_t size = 1;
        for (unsigned b = 0; b < BLOCKS; b++) {
            lengths[b] = size;
            blocks[b] = e->malloc(size);
            fill(blocks[b], size, b);
            size = size > 500 * KIB ? 1 : size + size / 8 + 1;
        }
        for (unsigned b = 0; b < BLOCKS; b++) {
            if (!is_filled(blocks[b], lengths[b], b)) {
                _exit(1); /* two live blocks at one place */
            }
            e->free(blocks[b]);
        }
        return_batches();
    }
}

/* --- a few bytes --- */

enum { NEIGHBOURS = 40 };

static const struct {
    size_t bytes;
    int value;
} overflows[] = {{1, 'B'}, {1, '\0'}, {8, 'B'}, {32, 'B'}};
enum { OVERFLOWS = sizeof overflows / sizeof overflows[0] };

static void write_a_little_too_far(const struct misuse *m)
{
    char *blocks[NEIGHBOURS];
    size_t count = m->size > MIB ? 3 : NEIGHBOURS;
    size_t bytes = overflows[m->offset].bytes;
    for (size_t b = 0; b < count; b++) {
        blocks[b] = m->e->malloc(m->size);
    }
    for (size_t b = 1; b < count; b += 3) { /* has blocks of its kind around it */
        char *end = (char *)opaque(blocks[b]) + m->e->usable_size(blocks[b]);
        memset(end, overflows[m->offset].value, bytes);
        memset((char *)opaque(blocks[b]) - bytes, overflows[m->offset].value, bytes);
    }
    for (size_t b = 0; b < count; b++) {
        m->e->free(blocks[b]);
    }
    return_batches();
    use_all_of_the_heap(m->e);
}

Test(overflow, of_a_few_bytes_reaches_no_data_of_the_allocator)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            for (size_t how = 0; how < OVERFLOWS; how++) {
                expect_no_misuse((struct misuse){
                    .e = e, .body = write_a_little_too_far, .size = sizes[i], .offset = how});
            }
        }
    }
}

/* --- one byte past a large object --- */

static void write_past_a_large_object(const struct misuse *m)
{
    char *blocks[8];
    for (int b = 0; b < 8; b++) {
        blocks[b] = m->e->malloc(m->size);
        fill(blocks[b], m->size, (unsigned)b);
    }
    size_t usable = m->e->usable_size(blocks[3]);
    char saved = *(char *)opaque(blocks[3] + usable);
    *(char *)opaque(blocks[3] + usable) = 'B';
    for (int b = 0; b < 8; b++) {
        if (blocks[b] == blocks[3] + usable) {
            *blocks[b] = saved; /* the neighbour's first byte, nothing else */
        }
        if (!is_filled(blocks[b], m->size, (unsigned)b)) {
            _exit(1);
        }
        m->e->free(blocks[b]);
    }
    return_batches();
    use_all_of_the_heap(m->e);
}

Test(overflow, of_one_byte_past_a_large_object_hits_its_slack_or_its_neighbour)
{
    /* Some end within a granule, some with one. */
    static const size_t large[] = {257 * KIB, 300 * KIB, 320 * KIB, 1 * MIB, 1 * MIB + 1};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
            expect_no_misuse(
                (struct misuse){.e = e, .body = write_past_a_large_object, .size = large[i]});
        }
    }
}

/* --- on and on --- */

static sigjmp_buf out_of_bounds;

static void leave(int signal_number)
{
    siglongjmp(out_of_bounds, signal_number);
}

static void on_fault(void (*handler)(int signal_number))
{
    const struct sigaction action = {.sa_handler = handler};
    (void)sigaction(SIGSEGV, &action, NULL);
}

__attribute__((noinline)) static void write_on(volatile char *to, ptrdiff_t step, size_t bytes)
{
    for (; bytes > 0; bytes--, to += step) {
        *to = 'A';
    }
}

/* Writes until `bytes` are written or there is nothing to write to: whether the latter came true. */
static bool write_until_fault(char *from, ptrdiff_t step, size_t bytes)
{
    on_fault(leave);
    bool faulted = sigsetjmp(out_of_bounds, 1) != 0;
    if (!faulted) {
        write_on(opaque(from), step, bytes);
    }
    on_fault(SIG_DFL);
    return faulted;
}

static void overflow_by_a_mebibyte(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    (void)write_until_fault(p + m->e->usable_size(p), 1, 1 * MIB);
    use_all_of_the_heap(m->e);
}

static void underflow_by_a_mebibyte(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    (void)write_until_fault(p - 1, -1, 1 * MIB);
    use_all_of_the_heap(m->e);
}

Test(overflow, of_a_mebibyte_in_either_direction_reaches_no_data_of_the_allocator)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            struct misuse m = {.e = e, .body = overflow_by_a_mebibyte, .size = sizes[i]};
            expect_no_misuse(m);
            m.body = underflow_by_a_mebibyte;
            expect_no_misuse(m);
        }
    }
}

static void write_to_both_ends_of_the_heap(const struct misuse *m)
{
    enum { MOST = 1 << 30 };
    char *p = m->e->malloc(m->size);
    if (!write_until_fault(p, 1, MOST)) {
        _exit(3); /* nothing stops it */
    }
    if (!write_until_fault(p, -1, MOST)) {
        _exit(4);
    }
    use_all_of_the_heap(m->e);
}

Test(overflow, without_end_faults_before_it_reaches_data_of_the_allocator)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_no_misuse(
                (struct misuse){.e = e, .body = write_to_both_ends_of_the_heap, .size = sizes[i]});
        }
    }
}

static void write_without_end(void *set)
{
    const struct entry_points *e = set;
    memset(opaque(e->malloc(16)), 'A', (size_t)1 << 30);
}

Test(overflow, without_end_is_a_segmentation_fault_to_the_program)
{
    FOR_EACH_SET (e) {
        struct child_result result;
        child_run(&result, write_without_end, (void *)(uintptr_t)e);
        cr_assert_eq(result.signal, SIGSEGV, "signal %d, status %d: %s", result.signal,
                     result.status, result.text);
        cr_assert_str_eq(result.text, "");
    }
}
