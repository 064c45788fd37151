/* SPDX-License-Identifier: MIT */
/*
 * double_free_test.c: blocks that are freed, or used, after they were freed.
 * Goal: a second free is reported, whichever thread does it and whatever happened in between, and
 * is never mistaken for what it is not: at once if nothing of that size was freed in between or with
 * option `hardened`, else when batches are returned. Method: one sequence per child; the tests run
 * with and without the option.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "misuse.h"

TestSuite(double_free, .timeout = 240);

/* What a late finding may say: by then the span around the block may be gone, too. */
#define LATE (DOUBLE_FREE | NOT_LIVE | INTERIOR)

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {8, 16, 100, 2000, 4 * KIB, 32 * KIB, 256 * KIB, 300 * KIB, 64 * MIB};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static unsigned cause_at_once(size_t size)
{
    return size <= 256 * KIB ? DOUBLE_FREE : NOT_LIVE;
}

/* When a finding must come. */
enum moment { AT_ONCE, AT_ONCE_IF_HARDENED, WITH_ITS_BATCH };

static bool is_hardened(void)
{
    const char *options = getenv("APMALLOC_CONF");
    return options != NULL && strstr(options, "hardened:true") != NULL;
}

static void expect_finding(struct misuse m, const char *function, enum moment moment, unsigned more)
{
    /* Large objects are known to their table, at once in any case. */
    bool at_once = moment == AT_ONCE ||
                   (moment == AT_ONCE_IF_HARDENED && (is_hardened() || m.size > 256 * KIB));
    expect_misuse(m, at_once ? function : NULL, at_once ? cause_at_once(m.size) | more : LATE);
}

/* Whether a body may touch a block of this size after its free. */
static bool stays_mapped(size_t size)
{
    return size <= 256 * KIB || !is_outside();
}

/* The body over all sizes and both sets of names. */
static void expect_for_all_sizes(void (*body)(const struct misuse *), const char *function,
                                 enum moment moment)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_finding((struct misuse){.e = e, .body = body, .size = sizes[i]}, function,
                           moment, 0);
        }
    }
}

/* --- in one thread --- */

static void back_to_back(const struct misuse *m)
{
    void *p = m->e->malloc(m->size);
    m->e->free(p);
    m->e->free(wrong(p));
}

Test(double_free, back_to_back_is_found_at_once)
{
    expect_for_all_sizes(back_to_back, "free", AT_ONCE);
}

static void with_another_between(const struct misuse *m)
{
    void *p = m->e->malloc(m->size), *q = m->e->malloc(m->size);
    m->e->free(p);
    m->e->free(q);
    m->e->free(wrong(p));
    return_batches();
}

Test(double_free, with_another_free_between_is_found)
{
    expect_for_all_sizes(with_another_between, "free", AT_ONCE_IF_HARDENED);
}

static void after_many_pairs(const struct misuse *m)
{
    void *p = m->e->malloc(m->size), *others[8];
    m->e->free(p);
    for (int i = 0; i < 1024; i++) { /* of other sizes: they do not issue p again */
        size_t other = m->size < 64 ? 5000 : 24;
        for (int b = 0; b < 8; b++) {
            others[b] = m->e->malloc(other);
        }
        for (int b = 0; b < 8; b++) {
            m->e->free(others[b]);
        }
    }
    m->e->free(wrong(p));
    return_batches();
}

Test(double_free, after_1024_unrelated_pairs_is_found)
{
    expect_for_all_sizes(after_many_pairs, NULL, WITH_ITS_BATCH);
}

static void first_of_twenty(const struct misuse *m)
{
    void *blocks[20];
    for (int i = 0; i < 20; i++) {
        blocks[i] = m->e->malloc(m->size);
    }
    for (int i = 0; i < 20; i++) {
        m->e->free(blocks[i]);
    }
    m->e->free(wrong(blocks[0]));
    return_batches();
}

/* Twenty bigger blocks are whole spans, which have gone back: what it was is no longer known then. */
Test(double_free, of_the_first_of_twenty_is_found)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_finding((struct misuse){.e = e, .body = first_of_twenty, .size = sizes[i]},
                           "free", AT_ONCE_IF_HARDENED, sizes[i] >= 32 * KIB ? NOT_LIVE : 0);
        }
    }
}

static void after_its_batch_was_returned(const struct misuse *m)
{
    void *p = m->e->malloc(m->size), *kept = m->e->malloc(m->size);
    m->e->free(p);
    return_batches();
    m->e->free(wrong(p));
    return_batches();
    m->e->free(kept);
}

Test(double_free, after_the_block_went_back_to_its_span_is_found)
{
    expect_for_all_sizes(after_its_batch_was_returned, NULL, WITH_ITS_BATCH);
}

static void after_its_span_went_back(const struct misuse *m)
{
    enum { COUNT = 64 };
    void *blocks[COUNT];
    size_t count = m->size > 1 * MIB ? 2 : COUNT;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = m->e->malloc(m->size);
    }
    for (size_t i = 0; i < count; i++) {
        m->e->free(blocks[i]);
    }
    return_batches();
    m->e->free(wrong(blocks[0]));
    return_batches();
}

Test(double_free, after_all_blocks_around_it_were_freed_and_trimmed_is_found)
{
    expect_for_all_sizes(after_its_span_went_back, NULL, WITH_ITS_BATCH);
}

enum { MANY = 24, FUNCTIONS = 8 };

static void pass_to(const struct misuse *m, unsigned function, void *p)
{
    switch (function) {
    case 0:
        m->e->cfree(wrong(p));
        break;
    case 1:
        m->e->free_sized(wrong(p), m->size);
        break;
    case 2:
        m->e->free_aligned_sized(wrong(p), 16, m->size);
        break;
    case 3:
        (void)m->e->realloc(wrong(p), m->size);
        break;
    case 4:
        (void)m->e->realloc(wrong(p), 5 * m->size + 1);
        break;
    case 5:
        (void)m->e->realloc(wrong(p), 0);
        break;
    case 6:
        (void)m->e->reallocarray(wrong(p), 2, m->size);
        break;
    default:
        (void)m->e->usable_size(wrong(p));
        break;
    }
}

static void by_other_functions(const struct misuse *m)
{
    void *p = m->e->malloc(m->size);
    m->e->free(p);
    pass_to(m, (unsigned)m->offset, p);
}

/* The name of pass_to()'s function in a report. */
static const char *name_of(const struct entry_points *e, unsigned function)
{
    static const char *const names[FUNCTIONS] = {
        "cfree",   "free_sized", "free_aligned_sized", "realloc",
        "realloc", "realloc",    "reallocarray",       "malloc_usable_size"};
    return function == FUNCTIONS - 1 && e != &entry_points[0] ? "usable_size" : names[function];
}

Test(double_free, a_freed_block_is_found_by_every_function_that_takes_one)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            for (unsigned f = 0; f < FUNCTIONS; f++) {
                struct misuse m = {
                    .e = e, .body = by_other_functions, .size = sizes[i], .offset = f};
                expect_misuse(m, name_of(e, f), cause_at_once(sizes[i]));
            }
        }
    }
}

/* As many of MANY blocks as `offset` says are freed, and the last of them goes to a function, which it says too. */
static void last_of_many(const struct misuse *m)
{
    void *blocks[MANY];
    size_t count = m->offset % (MANY + 1);
    for (size_t i = 0; i < MANY; i++) {
        blocks[i] = m->e->malloc(m->size);
    }
    for (size_t i = 0; i < count; i++) {
        m->e->free(blocks[i]);
    }
    unsigned function = (unsigned)(m->offset / (MANY + 1));
    if (function == FUNCTIONS) {
        m->e->free(wrong(blocks[count - 1]));
    } else {
        pass_to(m, function, blocks[count - 1]);
    }
}

/* Lists are with and without a fold then, full and not, with all blocks hidden and with some in sight. */
Test(double_free, of_the_last_of_many_is_found_at_once)
{
    const struct entry_points *e = &entry_points[0];
    for (size_t count = 1; count <= MANY; count += 1 + count / 2) {
        for (size_t i = 0; i < SIZES; i++) {
            for (unsigned f = 0; f <= FUNCTIONS; f++) {
                struct misuse m = {.e = e,
                                   .body = last_of_many,
                                   .size = sizes[i],
                                   .offset = f * (MANY + 1) + count};
                expect_misuse(m, f == FUNCTIONS ? "free" : name_of(e, f), cause_at_once(sizes[i]));
            }
        }
    }
}

static void ask_about_the_first_freed(const struct misuse *m)
{
    void *p = m->e->malloc(m->size), *q = m->e->malloc(m->size);
    m->e->free(p);
    m->e->free(q);
    if (m->e->usable_size(wrong(p)) < m->size) {
        _exit(1);
    }
}

Test(double_free, the_size_of_an_earlier_freed_block_is_told_by_default)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            struct misuse m = {.e = e, .body = ask_about_the_first_freed, .size = sizes[i]};
            if (is_hardened() || sizes[i] > 256 * KIB) {
                expect_misuse(m, e == &entry_points[0] ? "malloc_usable_size" : "usable_size",
                              cause_at_once(sizes[i]));
            } else {
                expect_no_misuse(m);
            }
        }
    }
}

static void freed_by_realloc(const struct misuse *m)
{
    char *p = m->e->malloc(m->size), *obstacle = m->e->malloc(m->size);
    char *moved = m->e->realloc(p, 9 * m->size + 1000);
    if (moved != p) {
        m->e->free(wrong(p));
    } else {
        m->e->free(moved);
        m->e->free(wrong(moved));
    }
    m->e->free(obstacle);
}

Test(double_free, of_a_block_that_realloc_moved_away_is_found)
{
    expect_for_all_sizes(freed_by_realloc, "free", AT_ONCE);
}

/* --- the mark of a free block --- */

static void free_live_image(const struct misuse *m)
{
    enum { COUNT = 300 };
    char image[16];
    void *blocks[COUNT];
    void *p = m->e->malloc(m->size);
    m->e->free(p);
    memcpy(image, opaque(p), m->size < 16 ? 8 : 16); /* what a free block looks like */
    size_t count = m->size > 1 * MIB ? 3 : COUNT;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = m->e->malloc(m->size);
        memcpy(blocks[i], image, m->size < 16 ? 8 : 16);
    }
    for (size_t i = 0; i < count; i++) {
        if (i % 3 == 1) {
            blocks[i] = m->e->realloc(blocks[i], m->size + 1);
        } else if (i % 3 == 2 && m->e->usable_size(blocks[i]) < m->size) {
            _exit(1);
        }
        m->e->free(blocks[i]);
    }
    return_batches();
}

Test(double_free, a_live_block_that_looks_like_a_free_one_can_be_freed)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            if (stays_mapped(sizes[i])) {
                expect_no_misuse(
                    (struct misuse){.e = e, .body = free_live_image, .size = sizes[i]});
            }
        }
    }
}

static void issue_again(const struct misuse *m)
{
    void *p = m->e->malloc(m->size);
    memset(p, 'A', 8);
    m->e->free(p);
    uint64_t word_when_free, word_when_issued;
    memcpy(&word_when_free, opaque(p), sizeof word_when_free);
    if (is_hardened() == (word_when_free == UINT64_C(0x4141414141414141))) {
        _exit(1); /* only the option makes free() touch the block */
    }
    for (int i = 0; is_hardened() && i < 3; i++) {
        void *q = m->e->malloc(m->size);
        memcpy(&word_when_issued, q, sizeof word_when_issued);
        if (q == p && word_when_issued == word_when_free && word_when_issued != 0) {
            _exit(2);
        }
    }
}

Test(double_free, a_free_block_is_untouched_and_an_issued_one_shows_nothing_of_the_mark)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; sizes[i] <= 256 * KIB; i++) {
            expect_no_misuse((struct misuse){.e = e, .body = issue_again, .size = sizes[i]});
        }
    }
}

static void overflow_into_freed_neighbour(const struct misuse *m)
{
    char *blocks[32];
    for (int i = 0; i < 32; i++) {
        blocks[i] = m->e->malloc(m->size);
    }
    size_t usable = m->e->usable_size(blocks[0]);
    for (int i = 0; i < 32; i++) {
        for (int j = 0; j < 32; j++) {
            if (blocks[j] == blocks[i] + usable) {
                m->e->free(blocks[j]);
                *(volatile char *)(blocks[i] + usable) = '\0'; /* off by one */
                m->e->free(wrong(blocks[j]));
            }
        }
    }
    _exit(3);
}

Test(double_free, of_a_block_whose_first_byte_a_neighbour_cleared_is_found)
{
    FOR_EACH_SET (e) {
        expect_misuse((struct misuse){.e = e, .body = overflow_into_freed_neighbour, .size = 48},
                      "free", DOUBLE_FREE);
        expect_misuse((struct misuse){.e = e, .body = overflow_into_freed_neighbour, .size = 1000},
                      "free", DOUBLE_FREE);
    }
}

static void with_mark_overwritten(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    m->e->free(p);
    memset(opaque(p), 'A', 8);
    m->e->free(wrong(p));
    return_batches();
}

Test(double_free, of_a_block_written_to_after_its_free_is_found_when_its_batch_is_returned)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            if (stays_mapped(sizes[i])) {
                expect_finding(
                    (struct misuse){.e = e, .body = with_mark_overwritten, .size = sizes[i]}, NULL,
                    WITH_ITS_BATCH, 0);
            }
        }
    }
}

/* --- after re-issue: not found by any scheme, but harmless to the allocator --- */

static void free_the_new_owners_block(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    m->e->free(p);
    char *q = m->e->malloc(m->size);
    m->e->free(opaque(p)); /* if q == p, this is a correct free of q */
    memset(opaque(q), 'A', m->size < 100 ? 8 : 100);
    for (int i = 0; i < 1000; i++) {
        m->e->free(m->e->malloc(m->size > 1 * MIB ? 100 : m->size));
    }
    return_batches();
}

Test(double_free, after_re_issue_does_not_crash_the_allocator)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            if (stays_mapped(sizes[i])) {
                expect_misuse_or_success(
                    (struct misuse){.e = e, .body = free_the_new_owners_block, .size = sizes[i]});
            }
        }
    }
}

/* --- across threads --- */

static void *free_in_thread(void *argument)
{
    const struct misuse *m = argument;
    m->e->free(m->p);
    return NULL;
}

static void in_another_thread(const struct misuse *m, void *p)
{
    struct misuse copy = *m;
    pthread_t thread;
    copy.p = p;
    if (pthread_create(&thread, NULL, free_in_thread, &copy) != 0 ||
        pthread_join(thread, NULL) != 0) {
        _exit(4);
    }
}

static void local_then_remote(const struct misuse *m)
{
    void *p = m->e->malloc(m->size);
    m->e->free(p);
    in_another_thread(m, wrong(p));
    return_batches();
}

static void remote_then_local(const struct misuse *m)
{
    void *p = m->e->malloc(m->size);
    in_another_thread(m, p);
    m->e->free(wrong(p));
    return_batches();
}

static void remote_then_remote(const struct misuse *m)
{
    void *p = m->e->malloc(m->size);
    in_another_thread(m, p);
    in_another_thread(m, wrong(p));
    return_batches();
}

Test(double_free, here_and_then_in_another_thread_is_found)
{
    expect_for_all_sizes(local_then_remote, NULL, WITH_ITS_BATCH);
}

Test(double_free, in_another_thread_and_then_here_is_found)
{
    expect_for_all_sizes(remote_then_local, NULL, WITH_ITS_BATCH);
}

Test(double_free, in_two_other_threads_one_after_the_other_is_found)
{
    expect_for_all_sizes(remote_then_remote, NULL, WITH_ITS_BATCH);
}

static pthread_barrier_t gate;

static void *free_at_the_gate(void *argument)
{
    (void)pthread_barrier_wait(&gate);
    return free_in_thread(argument);
}

static void two_at_once(const struct misuse *m)
{
    struct misuse copy = *m;
    pthread_t threads[2];
    (void)pthread_barrier_init(&gate, NULL, 2);
    copy.p = wrong(m->e->malloc(m->size));
    for (int i = 0; i < 2; i++) {
        if (pthread_create(&threads[i], NULL, free_at_the_gate, &copy) != 0) {
            _exit(4);
        }
    }
    for (int i = 0; i < 2; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    return_batches();
}

Test(double_free, by_two_threads_at_the_same_instant_is_found)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            for (int round = 0; round < 15; round++) {
                expect_misuse((struct misuse){.e = e, .body = two_at_once, .size = sizes[i]}, NULL,
                              LATE);
            }
        }
    }
}

Test(double_free, of_a_large_object_by_two_threads_at_once_has_exactly_one_loser)
{
    /* The loser reports; had both lost, or both won, the report would be missing or the
     * heap damaged. */
    FOR_EACH_SET (e) {
        for (int round = 0; round < 60; round++) {
            expect_misuse((struct misuse){.e = e, .body = two_at_once, .size = 1 * MIB}, "free",
                          NOT_LIVE);
        }
    }
}

static void *realloc_at_the_gate(void *argument)
{
    const struct misuse *m = argument;
    (void)pthread_barrier_wait(&gate);
    void *p = m->e->realloc(m->p, 3 * m->size + 100);
    (void)opaque(p);
    return NULL;
}

static void free_races_with_realloc(const struct misuse *m)
{
    struct misuse copy = *m;
    pthread_t threads[2];
    (void)pthread_barrier_init(&gate, NULL, 2);
    copy.p = m->e->malloc(m->size);
    (void)pthread_create(&threads[0], NULL, free_at_the_gate, &copy);
    (void)pthread_create(&threads[1], NULL, realloc_at_the_gate, &copy);
    for (int i = 0; i < 2; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    return_batches();
    for (int i = 0; i < 1000; i++) {
        m->e->free(m->e->malloc((size_t)i * 10));
    }
}

Test(double_free, a_free_that_races_with_realloc_neither_hangs_nor_crashes)
{
    static const size_t racing[] = {100, 4 * KIB, 300 * KIB, 2 * MIB};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof racing / sizeof racing[0]; i++) {
            for (int round = 0; round < 15 && stays_mapped(racing[i]); round++) {
                expect_misuse_or_success(
                    (struct misuse){.e = e, .body = free_races_with_realloc, .size = racing[i]});
            }
        }
    }
}
