/* SPDX-License-Identifier: MIT */
/*
 * corruption_test.c: programs that write where they must not, and wrong sizes and alignments.
 * Goal: nothing that is written into free blocks can lead the allocator astray, and sizes and
 * alignments that cannot be the block's are reported. Method: overwrite, then allocate on and look
 * whether live blocks keep their contents.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "misuse.h"
#include "support/child.h"

TestSuite(corruption, .timeout = 240);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* The sized deletes, by name: C++ is not needed to call them. */
extern void sized_delete(void *p, size_t size) __asm__("_ZdlPvm");
extern void sized_delete_array(void *p, size_t size) __asm__("_ZdaPvm");
extern void aligned_delete(void *p, size_t size,
                           size_t alignment) __asm__("_ZdlPvmSt11align_val_t");
extern void plain_delete(void *p) __asm__("_ZdlPv");

/* --- writes into free blocks --- */

enum { FREED = 200, LIVE = 400, ROUNDS = 200 };

/* Of big blocks there are fewer, and fewer rounds. */
static int fewer_of(int count, size_t size)
{
    return size <= 1000 ? count : size <= 4 * KIB ? count / 10 : count / 40;
}

static void go_on_after_overwrite(const struct misuse *m)
{
    char *freed[FREED], *live[LIVE];
    int freed_count = fewer_of(FREED, m->size), live_count = fewer_of(LIVE, m->size);
    for (int i = 0; i < freed_count; i++) {
        freed[i] = m->e->malloc(m->size);
    }
    size_t usable = m->e->usable_size(freed[0]);
    for (int i = 0; i < freed_count; i++) {
        m->e->free(freed[i]);
        switch (m->offset) {
        case 0: /* the first word */
            memset(opaque(freed[i]), 'A', 8);
            break;
        case 1: /* its low bytes only */
            memset(opaque(freed[i]), 'A', 2);
            break;
        case 2: /* the second word */
            memset((char *)opaque(freed[i]) + 8, 'A', usable < 16 ? 0 : 8);
            break;
        default: /* everything */
            memset(opaque(freed[i]), 'A', usable);
            break;
        }
    }
    for (int round = 0; round < fewer_of(ROUNDS, m->size); round++) {
        for (int i = 0; i < live_count; i++) {
            live[i] = m->e->malloc(m->size);
            fill(live[i], m->size, (unsigned)i);
        }
        for (int i = 0; i < live_count; i++) {
            if (!is_filled(live[i], m->size, (unsigned)i)) {
                _exit(1); /* two live blocks at one place */
            }
            m->e->free(live[i]);
        }
        if (round % 4 == 0) {
            return_batches();
        }
    }
}

Test(corruption, whatever_is_written_into_free_blocks_the_allocator_goes_on)
{
    static const size_t sizes[] = {16, 48, 1000, 4 * KIB, 256 * KIB};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            for (size_t how = 0; how < 4; how++) {
                expect_no_misuse((struct misuse){
                    .e = e, .body = go_on_after_overwrite, .size = sizes[i], .offset = how});
            }
        }
    }
}

static void run_into_the_neighbours(const struct misuse *m)
{
    char *blocks[FREED];
    for (int i = 0; i < FREED; i++) {
        blocks[i] = m->e->malloc(m->size);
    }
    size_t usable = m->e->usable_size(blocks[0]);
    for (int i = 0; i < FREED; i += 10) {
        /* 40 bytes beyond the end and before the start: other blocks' bytes, nobody's metadata. */
        memset((char *)opaque(blocks[i]) + usable, 'B', 40);
        if (i > 0) {
            memset((char *)opaque(blocks[i]) - 40, 'B', 40);
        }
    }
    for (int i = 0; i < FREED; i++) {
        m->e->free(blocks[i]);
    }
    return_batches();
    for (int i = 0; i < FREED; i++) {
        blocks[i] = m->e->malloc(m->size);
        fill(blocks[i], m->size, (unsigned)i);
    }
    for (int i = 0; i < FREED; i++) {
        if (!is_filled(blocks[i], m->size, (unsigned)i)) {
            _exit(1);
        }
    }
}

Test(corruption, overflows_reach_no_metadata)
{
    FOR_EACH_SET (e) {
        expect_no_misuse((struct misuse){.e = e, .body = run_into_the_neighbours, .size = 48});
        expect_no_misuse((struct misuse){.e = e, .body = run_into_the_neighbours, .size = 4096});
    }
}

static void run_heap_bytes(const struct misuse *m)
{
    unsigned char *code = allocate(m->e, (unsigned)m->offset, m->size);
    code[0] = 0xC3; /* ret on x86-64; elsewhere any bytes will do */
    void (*function)(void);
    *(void **)&function = opaque(code);
    function();
}

static void run_body(void *misuse)
{
    const struct misuse *m = misuse;
    m->body(m);
}

Test(corruption, heap_memory_is_not_executable)
{
    static const size_t sizes[] = {16, 4 * KIB, 256 * KIB, 64 * MIB};
    FOR_EACH_SET (e) {
        for (size_t which = 0; which < ALLOCATORS; which++) {
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                struct misuse m = {
                    .e = e, .body = run_heap_bytes, .size = sizes[i], .offset = which};
                struct child_result result;
                child_run(&result, run_body, &m);
                cr_assert_eq(result.signal, SIGSEGV, "%s(%zu): signal %d",
                             allocator_name((unsigned)which), sizes[i], result.signal);
                cr_assert_str_eq(result.text, "");
            }
        }
    }
}

/* --- sizes --- */

static void free_with_size(const struct misuse *m)
{
    m->e->free_sized(wrong(m->e->malloc(m->size)), m->offset);
}

static void delete_with_size(const struct misuse *m)
{
    sized_delete(wrong(m->e->malloc(m->size)), m->offset);
    for (int i = 0; i < 100; i++) {
        m->e->free(m->e->malloc(m->size));
    }
    return_batches();
}

static void delete_array_with_size(const struct misuse *m)
{
    sized_delete_array(wrong(m->e->malloc(m->size)), m->offset);
    for (int i = 0; i < 100; i++) {
        m->e->free(m->e->malloc(m->size));
    }
    return_batches();
}

static const size_t sizes[] = {16, 100, 4 * KIB, 256 * KIB, 300 * KIB, 3 * MIB, 64 * MIB};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

Test(corruption, a_size_that_cannot_be_the_blocks_is_reported)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            size_t usable = ap_good_size(sizes[i]);
            const size_t wrong_sizes[] = {usable + 1,  2 * usable,    100 * MIB,
                                          PTRDIFF_MAX, SIZE_MAX - 15, SIZE_MAX};
            for (size_t w = 0; w < sizeof wrong_sizes / sizeof wrong_sizes[0]; w++) {
                struct misuse m = {
                    .e = e, .body = free_with_size, .size = sizes[i], .offset = wrong_sizes[w]};
                expect_misuse(m, "free_sized", WRONG_SIZE);
            }
            struct misuse m = {.e = e, .body = free_with_size, .size = sizes[i], .offset = 0};
            if (sizes[i] > 16) {
                expect_misuse(m, "free_sized", WRONG_SIZE);
                m.offset = sizes[i] / 5;
                expect_misuse(m, "free_sized", WRONG_SIZE);
            }
        }
    }
}

Test(corruption, a_sized_delete_of_the_wrong_type_damages_nothing)
{
    for (size_t i = 0; i < SIZES; i++) {
        struct misuse m = {.e = &entry_points[0],
                           .body = delete_with_size,
                           .size = sizes[i],
                           .offset = 2 * ap_good_size(sizes[i])};
        expect_misuse_or_success(m);
        m.offset = SIZE_MAX;
        expect_misuse_or_success(m);
        m.body = delete_array_with_size;
        expect_misuse_or_success(m);
    }
}

/* Objects of one type are deleted as another's: by default the size is not looked at. */
static void delete_neighbours_with_size(const struct misuse *m)
{
    enum { OBJECTS = 30 };
    char *objects[OBJECTS];
    int count = m->size > MIB ? 6 : OBJECTS;
    for (int i = 0; i < count; i++) {
        objects[i] = m->e->malloc(m->size);
        fill(objects[i], m->size > MIB ? KIB : m->size, (unsigned)i);
    }
    for (int i = 0; i < count; i += 2) {
        (i % 4 == 0 ? sized_delete : sized_delete_array)(objects[i], m->offset);
    }
    return_batches();
    for (int i = 1; i < count; i += 2) {
        if (!is_filled(objects[i], m->size > MIB ? KIB : m->size, (unsigned)i)) {
            _exit(1);
        }
        m->e->free(objects[i]);
    }
    return_batches();
}

Test(corruption, a_sized_delete_does_not_look_at_the_size_by_default)
{
    const char *options = getenv("APMALLOC_CONF");
    if (options != NULL && strstr(options, "hardened:true") != NULL) {
        cr_skip_test("not the default");
    }
    for (size_t i = 0; i < SIZES; i++) {
        const size_t wrong_sizes[] = {0, 1, sizes[i] / 4, 8 * sizes[i], SIZE_MAX};
        for (size_t w = 0; w < sizeof wrong_sizes / sizeof wrong_sizes[0]; w++) {
            expect_no_misuse((struct misuse){.e = &entry_points[0],
                                             .body = delete_neighbours_with_size,
                                             .size = sizes[i],
                                             .offset = wrong_sizes[w]});
        }
    }
}

Test(corruption, a_size_of_the_same_class_is_accepted)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            struct misuse m = {
                .e = e, .body = free_with_size, .size = sizes[i], .offset = sizes[i] - 1};
            expect_no_misuse(m);
            m.offset = ap_good_size(sizes[i]);
            expect_no_misuse(m);
        }
    }
}

static void free_shrunk_in_place(const struct misuse *m)
{
    void *p = m->e->malloc(m->size);
    size_t smaller = m->size / 2 + m->size / 8 + 1;
    p = m->e->realloc(p, smaller);
    m->e->free_sized(p, smaller);
    p = m->e->realloc(m->e->malloc(m->size), m->size * 2);
    m->e->free_sized(p, m->size * 2);
}

Test(corruption, the_size_of_the_last_realloc_is_accepted)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_no_misuse(
                (struct misuse){.e = e, .body = free_shrunk_in_place, .size = sizes[i]});
        }
    }
}

/* --- alignments --- */

static void free_with_alignment(const struct misuse *m)
{
    m->e->free_aligned_sized(wrong(m->e->aligned_alloc(64, m->size)), m->offset, m->size);
}

static void free_plain_with_alignment(const struct misuse *m)
{
    m->e->free_aligned_sized(wrong(m->e->malloc(m->size)), m->offset, m->size);
}

static void free_aligned_with_size(const struct misuse *m)
{
    m->e->free_aligned_sized(wrong(m->e->aligned_alloc(64, m->size)), 64, m->offset);
}

static void delete_with_alignment(const struct misuse *m)
{
    aligned_delete(wrong(m->e->aligned_alloc(64, m->size)), m->size, m->offset);
    for (int i = 0; i < 100; i++) {
        m->e->free(m->e->malloc(m->size));
    }
    return_batches();
}

Test(corruption, an_alignment_that_cannot_be_the_blocks_is_reported)
{
    static const size_t alignments[] = {0, 3, 48, 65, SIZE_MAX, (size_t)1 << 47, (size_t)1 << 63};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            for (size_t a = 0; a < sizeof alignments / sizeof alignments[0]; a++) {
                struct misuse m = {
                    .e = e, .body = free_with_alignment, .size = sizes[i], .offset = alignments[a]};
                expect_misuse(m, "free_aligned_sized", WRONG_ALIGNMENT);
                m.body = free_plain_with_alignment;
                expect_misuse(m, "free_aligned_sized", WRONG_ALIGNMENT);
            }
        }
    }
}

Test(corruption, an_aligned_delete_of_the_wrong_type_damages_nothing)
{
    struct misuse m = {.e = &entry_points[0],
                       .body = delete_with_alignment,
                       .size = 100,
                       .offset = (size_t)1 << 47};
    expect_misuse_or_success(m);
}

Test(corruption, a_size_too_large_for_the_aligned_block_is_reported)
{
    FOR_EACH_SET (e) {
        static const size_t too_large[] = {1 * MIB, PTRDIFF_MAX, SIZE_MAX};
        for (size_t i = 0; i < sizeof too_large / sizeof too_large[0]; i++) {
            struct misuse m = {
                .e = e, .body = free_aligned_with_size, .size = 100, .offset = too_large[i]};
            expect_misuse(m, "free_aligned_sized", WRONG_SIZE);
        }
    }
}

static void free_aligned_right(const struct misuse *m)
{
    for (size_t alignment = 1; alignment <= 1 * MIB; alignment *= 2) {
        void *p = m->e->aligned_alloc(alignment, m->size);
        if (p == NULL) {
            _exit(1);
        }
        m->e->free_aligned_sized(p, alignment, m->size);
    }
    m->e->free_aligned_sized(m->e->malloc(m->size), 16, m->size);
}

Test(corruption, right_alignments_and_sizes_are_accepted)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_no_misuse((struct misuse){.e = e, .body = free_aligned_right, .size = sizes[i]});
        }
    }
}

/* --- names of the C++ operators in reports --- */

static void delete_twice(const struct misuse *m)
{
    void *p = m->e->malloc(m->size);
    plain_delete(p);
    plain_delete(wrong(p));
}

Test(corruption, a_double_delete_names_the_operator)
{
    expect_misuse((struct misuse){.e = &entry_points[0], .body = delete_twice, .size = 100},
                  "operator delete", DOUBLE_FREE);
    expect_misuse((struct misuse){.e = &entry_points[0], .body = delete_twice, .size = 1 * MIB},
                  "operator delete", NOT_LIVE);
}
