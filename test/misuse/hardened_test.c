/* SPDX-License-Identifier: MIT */
/*
 * hardened_test.c: what option `hardened` finds beyond what is found anyway.
 * Goal: a write beyond the end, a write after the free, a second free, a wrong size, a pointer into a
 * block: each is reported at the next call that can see it, for blocks of every kind of size; and correct
 * programs go on. Method: in a child, do it; compare signal and line. Runs with APMALLOC_CONF
 * "hardened:true,guard_sample:1000000000": sampled blocks have tests of their own.
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "misuse.h"
#include "support/child.h"

TestSuite(hardened, .timeout = 240);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Those on the list are small blocks; beyond, large objects. */
static const size_t sizes[] = {1,         8,         16,  24,      100,         4 * KIB,
                               100 * KIB, 256 * KIB, MIB, MIB + 5, 64 * MIB - 1};
enum { SIZES = sizeof sizes / sizeof sizes[0], LARGE_FROM = 7 };

static bool is_large(size_t size)
{
    return size >= sizes[LARGE_FROM];
}

static void expect_for_all_sizes(void (*body)(const struct misuse *m), const char *function,
                                 unsigned causes)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_misuse((struct misuse){.e = e, .body = body, .size = sizes[i]}, function,
                          causes);
        }
    }
}

/* ------------------------------------------------------------ overflow */

static void overflow_by_one(const struct misuse *m)
{
    unsigned char *p = wrong(m->e->malloc(m->size));
    p[m->size + m->offset] = 0; /* the NUL of a string that is one too long */
    m->e->free(p);
}

Test(hardened, a_nul_behind_a_block_is_found_when_it_is_freed)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            if (sizes[i] % (4 * KIB) != 0 || !is_large(sizes[i])) { /* else a page ends there */
                expect_misuse((struct misuse){.e = e, .body = overflow_by_one, .size = sizes[i]},
                              "free", OVERFLOW);
            }
        }
    }
}

/* A NUL would change nothing where the hidden size happens to have one. */
static void change_behind(const struct misuse *m)
{
    unsigned char *p = wrong(m->e->malloc(m->size));
    ((volatile unsigned char *)p)[m->size + m->offset] ^= 0x55;
    m->e->free(p);
}

Test(hardened, every_byte_between_two_blocks_is_watched)
{
    for (size_t offset = 0; offset < 12; offset++) {
        expect_misuse(
            (struct misuse){
                .e = &entry_points[0], .body = change_behind, .size = 100, .offset = offset},
            "free", OVERFLOW);
    }
}

static void overflow_then_realloc(const struct misuse *m)
{
    unsigned char *p = wrong(m->e->malloc(m->size));
    p[m->size] = 'x';
    (void)m->e->realloc(p, m->size * 2);
}

static void overflow_then_ask(const struct misuse *m)
{
    unsigned char *p = wrong(m->e->malloc(m->size));
    p[m->size] = 'x';
    (void)m->e->usable_size(p);
}

static void overflow_by_zeros(const struct misuse *m)
{
    char *p = wrong(m->e->malloc(m->size));
    memset(opaque(p + m->size), 0, 100);
    m->e->free(p);
}

Test(hardened, an_overflow_is_found_by_every_call_that_sees_the_block)
{
    FOR_EACH_SET (e) {
        expect_misuse((struct misuse){.e = e, .body = overflow_then_realloc, .size = 100},
                      "realloc", OVERFLOW);
        expect_misuse((struct misuse){.e = e, .body = overflow_then_ask, .size = 100}, NULL,
                      OVERFLOW);
        expect_misuse((struct misuse){.e = e, .body = overflow_by_zeros, .size = 100}, "free",
                      OVERFLOW);
    }
}

static void touch_guard(void *size)
{
    volatile char *p = malloc(*(size_t *)size);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    p[(*(size_t *)size + page - 1) / page * page] = 1;
}

Test(hardened, the_page_behind_a_large_object_is_inaccessible)
{
    for (size_t i = LARGE_FROM; i < SIZES; i++) {
        struct child_result result;
        size_t size = sizes[i];
        child_run(&result, touch_guard, &size);
        cr_assert_eq(result.signal, SIGSEGV, "%zu", size);
        cr_assert_eq(strncmp(result.text, "apmalloc: write(0x", 18), 0, "%s", result.text);
        cr_assert_not_null(strstr(result.text, "): access beyond the end of a block\n"));
    }
}

/* ------------------------------------------------------------ double free */

static void free_twice(const struct misuse *m)
{
    void *p = wrong(m->e->malloc(m->size));
    m->e->free(p);
    m->e->free(opaque(p));
}

static void free_twice_with_frees_between(const struct misuse *m)
{
    void *p = wrong(m->e->malloc(m->size));
    m->e->free(p);
    for (int i = 0; i < 20; i++) {
        m->e->free(m->e->malloc(m->size));
    }
    m->e->free(opaque(p));
}

static void realloc_freed(const struct misuse *m)
{
    void *p = wrong(m->e->malloc(m->size));
    m->e->free(p);
    (void)m->e->realloc(opaque(p), 3 * m->size);
}

static void *free_in_thread(void *p)
{
    free(p);
    return p;
}

static void free_twice_in_threads(const struct misuse *m)
{
    pthread_t thread;
    void *p = wrong(m->e->malloc(m->size));
    pthread_create(&thread, NULL, free_in_thread, p);
    pthread_join(thread, NULL);
    free(opaque(p));
}

Test(hardened, a_double_free_is_found_at_once)
{
    expect_for_all_sizes(free_twice, "free", DOUBLE_FREE | NOT_LIVE);
    expect_for_all_sizes(free_twice_with_frees_between, "free", DOUBLE_FREE | NOT_LIVE);
    expect_for_all_sizes(realloc_freed, "realloc", DOUBLE_FREE | NOT_LIVE);
    expect_for_all_sizes(free_twice_in_threads, NULL, DOUBLE_FREE | NOT_LIVE);
}

static void free_after_quarantine(const struct misuse *m)
{
    void *p = wrong(m->e->malloc(m->size));
    m->e->free(p);
    return_batches();
    m->e->free(opaque(p));
}

Test(hardened, a_free_of_a_block_that_is_back_in_its_span_is_found)
{
    expect_for_all_sizes(free_after_quarantine, "free", DOUBLE_FREE | NOT_LIVE);
}

/* Two threads free one block at the same moment. */
static pthread_barrier_t barrier;

static void *free_at_once(void *p)
{
    pthread_barrier_wait(&barrier);
    free(p);
    return p;
}

static void race_to_free(const struct misuse *m)
{
    pthread_barrier_init(&barrier, NULL, 2);
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        void *p = wrong(malloc(m->size));
        pthread_create(&thread, NULL, free_at_once, p);
        (void)free_at_once(p);
        pthread_join(thread, NULL);
    }
}

Test(hardened, of_two_threads_that_free_a_block_at_once_one_is_found)
{
    static const size_t some[] = {16, 1000, 300 * KIB};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        expect_misuse((struct misuse){.e = &entry_points[0], .body = race_to_free, .size = some[i]},
                      "free", DOUBLE_FREE | NOT_LIVE | OVERFLOW);
    }
}

/* ------------------------------------------------------------ use after free */

static void write_after_free(const struct misuse *m)
{
    unsigned char *p = wrong(m->e->malloc(m->size));
    m->e->free(p);
    ((unsigned char *)opaque(p))[m->size / 2] = 1;
    return_batches();
}

static void write_after_quarantine(const struct misuse *m)
{
    unsigned char *p = wrong(m->e->malloc(m->size));
    m->e->free(p);
    (void)ap_trim();
    for (size_t i = 0; i < MIB / 16 + 5000; i++) { /* more than the quarantine holds: p goes */
        m->e->free(m->e->malloc(m->size));
    }
    ((unsigned char *)opaque(p))[m->size / 2] ^= 1;
    for (size_t i = 0; i < 2 * MIB / 16; i++) {
        m->e->free(m->e->malloc(m->size));
    }
}

Test(hardened, a_write_after_free_is_found_when_the_block_is_reused)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < LARGE_FROM; i++) {
            expect_misuse((struct misuse){.e = e, .body = write_after_free, .size = sizes[i]}, NULL,
                          USE_AFTER_FREE);
        }
        expect_misuse((struct misuse){.e = e, .body = write_after_quarantine, .size = 100}, NULL,
                      USE_AFTER_FREE | OVERFLOW | NOT_LIVE);
    }
}

static void write_after_free_and_leave(const struct misuse *m)
{
    unsigned char *p = wrong(m->e->malloc(m->size));
    m->e->free(p);
    ((unsigned char *)opaque(p))[m->size - 1] = 1;
    exit(0);
}

Test(hardened, a_write_after_free_is_found_at_the_latest_when_the_program_ends)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < LARGE_FROM; i++) {
            expect_misuse(
                (struct misuse){.e = e, .body = write_after_free_and_leave, .size = sizes[i]}, NULL,
                USE_AFTER_FREE);
        }
    }
}

struct use {
    size_t size, offset;
};

static void read_freed_object(void *argument)
{
    const struct use *use = argument;
    volatile char *p = malloc(use->size);
    free((void *)p);
    (void)p[use->offset];
}

Test(hardened, a_freed_large_object_is_inaccessible)
{
    for (size_t i = LARGE_FROM; i < SIZES; i++) {
        size_t offsets[] = {0, 1000, sizes[i] - 1};
        for (size_t k = 0; k < 3; k++) {
            struct child_result result;
            struct use use = {sizes[i], offsets[k]};
            child_run(&result, read_freed_object, &use);
            cr_assert_eq(result.signal, SIGSEGV, "%zu, %zu", use.size, use.offset);
            cr_assert_eq(strncmp(result.text, "apmalloc: read(0x", 17), 0, "%s", result.text);
            cr_assert_not_null(strstr(result.text, "): access to a freed block\n"));
        }
    }
}

static void look_for_old_contents(const struct misuse *m)
{
    enum { BLOCKS = 3000 };
    static unsigned char *blocks[BLOCKS];
    size_t count = m->size > MIB ? 10 : BLOCKS;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < count; i++) {
            blocks[i] = m->e->malloc(m->size);
            if (!is_zero(blocks[i], m->size)) {
                _exit(1);
            }
            memset(blocks[i], 'S', m->size);
        }
        for (size_t i = 0; i < count; i++) {
            m->e->free(blocks[i]);
            if (!is_large(m->size) && !is_zero(opaque(blocks[i]), m->size)) {
                _exit(2);
            }
        }
        return_batches();
    }
}

Test(hardened, what_was_in_a_block_is_gone_once_it_is_free)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_no_misuse(
                (struct misuse){.e = e, .body = look_for_old_contents, .size = sizes[i]});
        }
    }
}

static void wait_in_quarantine(const struct misuse *m)
{
    void *p = m->e->malloc(m->size);
    m->e->free(p);
    for (int i = 0; i < 100; i++) {
        void *q = m->e->malloc(m->size);
        if (q == p) {
            _exit(1);
        }
        m->e->free(q);
    }
}

Test(hardened, a_freed_block_is_not_the_next_one_handed_out)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            if (sizes[i] < 8 * KIB) {
                expect_no_misuse(
                    (struct misuse){.e = e, .body = wait_in_quarantine, .size = sizes[i]});
            }
        }
    }
}

/* ------------------------------------------------------------ sizes and places */

static void free_with_size(const struct misuse *m)
{
    void *p = wrong(m->e->malloc(m->size));
    m->e->free_sized(p, m->size + m->offset);
}

Test(hardened, a_size_that_is_not_the_one_asked_for_is_found)
{
    static const size_t offsets[] = {1, (size_t)-1, 16, 4 * KIB, SIZE_MAX / 2};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            for (size_t k = 0; k < sizeof offsets / sizeof offsets[0]; k++) {
                expect_misuse(
                    (struct misuse){
                        .e = e, .body = free_with_size, .size = sizes[i], .offset = offsets[k]},
                    "free_sized", WRONG_SIZE);
            }
            expect_no_misuse((struct misuse){.e = e, .body = free_with_size, .size = sizes[i]});
        }
    }
}

static void free_aligned_with_size(const struct misuse *m)
{
    void *p = wrong(m->e->aligned_alloc(256, m->size));
    m->e->free_aligned_sized(p, 256, m->size + m->offset);
}

Test(hardened, the_size_of_an_aligned_block_is_checked_too)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_misuse(
                (struct misuse){
                    .e = e, .body = free_aligned_with_size, .size = sizes[i], .offset = 1},
                "free_aligned_sized", WRONG_SIZE);
            expect_no_misuse(
                (struct misuse){.e = e, .body = free_aligned_with_size, .size = sizes[i]});
        }
    }
}

static void free_empty_objects(const struct misuse *m)
{
    for (size_t alignment = 16; alignment <= 2 * MIB; alignment *= 2) {
        m->e->free_aligned_sized(m->e->aligned_alloc(alignment, 0), alignment, 0);
        m->e->free_aligned_sized(m->e->aligned_alloc(alignment, 1), alignment, 1);
    }
}

Test(hardened, an_empty_block_of_any_alignment_has_the_size_0)
{
    FOR_EACH_SET (e) {
        expect_no_misuse((struct misuse){.e = e, .body = free_empty_objects});
    }
}

/* The sized operators delete by their mangled names: (p, size), and (p, size, alignment). */
void *_Znwm(size_t size);
void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
void _ZdlPvm(void *p, size_t size);
void _ZdaPvm(void *p, size_t size);
void _ZdlPvmSt11align_val_t(void *p, size_t size, size_t alignment);
void _ZdaPvmSt11align_val_t(void *p, size_t size, size_t alignment);

static void delete_with_size(const struct misuse *m)
{
    _ZdlPvm(wrong(_Znwm(m->size)), m->size + m->offset);
}

static void delete_array_with_size(const struct misuse *m)
{
    _ZdaPvm(wrong(_Znwm(m->size)), m->size + m->offset);
}

static void delete_aligned_with_size(const struct misuse *m)
{
    _ZdlPvmSt11align_val_t(wrong(_ZnwmSt11align_val_t(m->size, 64)), m->size + m->offset, 64);
}

static void delete_aligned_array_with_size(const struct misuse *m)
{
    _ZdaPvmSt11align_val_t(wrong(_ZnwmSt11align_val_t(m->size, 64)), m->size + m->offset, 64);
}

Test(hardened, the_size_of_a_sized_delete_is_checked)
{
    static void (*const bodies[])(const struct misuse *m) = {
        delete_with_size, delete_array_with_size, delete_aligned_with_size,
        delete_aligned_array_with_size};
    for (size_t b = 0; b < 4; b++) {
        for (size_t i = 0; i < SIZES; i++) {
            struct misuse m = {.e = &entry_points[0], .body = bodies[b], .size = sizes[i]};
            expect_no_misuse(m);
            m.offset = 8;
            expect_misuse(m, b % 2 == 0 ? "operator delete" : "operator delete[]", WRONG_SIZE);
        }
    }
}

static void free_interior(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    m->e->free(wrong(p + m->offset));
}

Test(hardened, a_pointer_into_a_block_is_found_at_once)
{
    static const size_t offsets[] = {16, 32, 4 * KIB, 64 * KIB};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            for (size_t k = 0; k < sizeof offsets / sizeof offsets[0]; k++) {
                if (offsets[k] < sizes[i]) {
                    expect_misuse(
                        (struct misuse){
                            .e = e, .body = free_interior, .size = sizes[i], .offset = offsets[k]},
                        "free", INTERIOR | NOT_LIVE);
                }
            }
        }
    }
}

static void see_order(const struct misuse *m)
{
    unsigned ascending = 0, same_step = 0;
    char *last = m->e->malloc(m->size);
    ptrdiff_t last_step = 0;
    for (int i = 0; i < 1000; i++) {
        char *p = m->e->malloc(m->size);
        ascending += p > last;
        same_step += p - last == last_step;
        last_step = p - last;
        last = p;
    }
    if (ascending > 800 || ascending < 200 || same_step > 300) {
        _exit(1);
    }
}

Test(hardened, neighbours_are_not_handed_out_in_order)
{
    FOR_EACH_SET (e) {
        expect_no_misuse((struct misuse){.e = e, .body = see_order, .size = 24});
        expect_no_misuse((struct misuse){.e = e, .body = see_order, .size = 200});
    }
}

/* ------------------------------------------------------------ correct programs */

static void resize(const struct misuse *m)
{
    size_t size = 1;
    unsigned char *p = m->e->malloc(size);
    p[0] = 7;
    for (int i = 0; i < 400; i++) {
        size_t wanted = i < 200 ? size + size / 8 + 1 : size - size / 8;
        p = m->e->realloc(p, wanted);
        if (p == NULL || p[0] != 7 || m->e->usable_size(p) != wanted) {
            _exit(1);
        }
        size = wanted;
        p[size - 1] = 7;
        if (size > 100 * MIB) {
            i = 200;
        }
    }
    m->e->free(p);
    return_batches();
}

Test(hardened, blocks_grow_and_shrink_and_are_exactly_as_long_as_they_were_asked_to_be)
{
    FOR_EACH_SET (e) {
        expect_no_misuse((struct misuse){.e = e, .body = resize});
    }
}

static void leave_nothing_behind(const struct misuse *m)
{
    return_batches();
    size_t before = m->e->mallinfo2().uordblks;
    enum { BLOCKS = 2000 };
    static void *blocks[BLOCKS];
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            blocks[i] = m->e->malloc(sizes[i % (SIZES - 3)]);
        }
        for (size_t i = 0; i < BLOCKS; i++) {
            m->e->free(blocks[i]);
        }
    }
    if (m->e->mallinfo2().uordblks > before + 64 * KIB) { /* what waits is not live */
        _exit(1);
    }
    return_batches();
    if (m->e->mallinfo2().uordblks > before) {
        _exit(2);
    }
}

Test(hardened, nothing_is_lost)
{
    FOR_EACH_SET (e) {
        expect_no_misuse((struct misuse){.e = e, .body = leave_nothing_behind});
    }
}
