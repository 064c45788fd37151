/* SPDX-License-Identifier: MIT */
/*
 * packed_test.c: wrong calls on blocks that lie side by side in spans they share (lib/pack).
 * Goal: each is reported at once, with one line and the cause, whatever the block's neighbours are by then, and whether
 * its span is still there. Method: one wrong call per child, on a block that is as long as only a packed one is; where
 * classes have spans of their own first, as many blocks are taken as it needs to get one.
 */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "misuse.h"

TestSuite(packed, .timeout = 240);

enum { UNIT = 128, BLOCKS_MAX = 2000, NEIGHBOURS = 6 };

/* No class is as long as these are rounded up to. */
static const size_t sizes[] = {2100, 4200, 9000, 33000, 65000};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static size_t rounded(size_t size)
{
    return (size + UNIT - 1) / UNIT * UNIT;
}

/* A block that is packed; all before it stay. */
static char *take_packed(const struct misuse *m)
{
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        char *p = m->e->malloc(m->size);
        if (p != NULL && (uintptr_t)p % UNIT == 0 && m->e->usable_size(p) == rounded(m->size)) {
            return p;
        }
    }
    _exit(3);
}

/* One with others that stay around it. */
static char *take_among_others(const struct misuse *m)
{
    char *p = NULL;
    for (unsigned i = 0; i <= NEIGHBOURS; i++) {
        char *q = take_packed(m);
        p = i == NEIGHBOURS / 2 ? q : p;
    }
    return p;
}

/* In the unit behind a block and in front of it are others. */
static void expect_for_all(void (*body)(const struct misuse *), size_t offset, const char *function,
                           unsigned causes)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_misuse((struct misuse){.e = e, .body = body, .size = sizes[i], .offset = offset},
                          function, causes);
        }
    }
}

/* ------------------------------------------------------------ freed blocks */

extern void delete_plain(void *p) __asm__("_ZdlPv");
extern void delete_sized(void *p, size_t size) __asm__("_ZdlPvm");

enum way {
    FREE,
    CFREE,
    FREE_SIZED,
    FREE_ALIGNED,
    DELETE,
    DELETE_SIZED,
    GROW,
    SHRINK,
    MOVE,
    USABLE
};
static const char *const functions[] = {
    [FREE] = "free",
    [CFREE] = "cfree",
    [FREE_SIZED] = "free_sized",
    [FREE_ALIGNED] = "free_aligned_sized",
    [DELETE] = "operator delete",
    [DELETE_SIZED] = "operator delete",
    [GROW] = "realloc",
    [SHRINK] = "realloc",
    [MOVE] = "realloc",
    [USABLE] = NULL, /* has a name of its own in each set */
};
enum { WAYS = sizeof functions / sizeof functions[0] };

static void use(const struct misuse *m, void *p, enum way way)
{
    switch (way) {
    case FREE:
        m->e->free(p);
        break;
    case CFREE:
        m->e->cfree(p);
        break;
    case FREE_SIZED:
        m->e->free_sized(p, m->size);
        break;
    case FREE_ALIGNED:
        m->e->free_aligned_sized(p, 16, m->size);
        break;
    case DELETE:
        delete_plain(p);
        break;
    case DELETE_SIZED:
        delete_sized(p, m->size);
        break;
    case GROW:
        (void)opaque(m->e->realloc(p, m->size + m->size / 4));
        break;
    case SHRINK:
        (void)opaque(m->e->realloc(p, m->size / 2 + 1));
        break;
    case MOVE:
        (void)opaque(m->e->realloc(p, 200000));
        break;
    case USABLE:
        (void)m->e->usable_size(p);
        break;
    }
}

static void use_freed(const struct misuse *m)
{
    void *p = take_among_others(m);
    m->e->free(p);
    use(m, wrong(p), (enum way)m->offset);
}

Test(packed, a_freed_block_is_none_for_any_function)
{
    for (size_t way = 0; way < WAYS; way++) {
        expect_for_all(use_freed, way, functions[way], NOT_LIVE);
    }
}

static void use_freed_alone(const struct misuse *m)
{
    void *p = take_packed(m);
    m->e->free(p);
    use(m, wrong(p), (enum way)m->offset);
}

Test(packed, nor_one_whose_span_has_gone)
{
    for (size_t way = 0; way < WAYS; way++) {
        expect_for_all(use_freed_alone, way, functions[way], NOT_LIVE);
    }
}

static void free_first_and_last_of_a_run(const struct misuse *m)
{
    char *blocks[NEIGHBOURS];
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        blocks[i] = take_packed(m);
    }
    for (unsigned i = 1; i < NEIGHBOURS; i++) {
        m->e->free(blocks[i]);
    }
    m->e->free(wrong(blocks[m->offset]));
}

Test(packed, free_runs_do_not_hide_what_was_freed)
{
    for (size_t i = 1; i < NEIGHBOURS; i++) {
        expect_for_all(free_first_and_last_of_a_run, i, "free", NOT_LIVE);
    }
}

/* The memory of several is one block's by now. */
static void free_what_is_inside_by_now(const struct misuse *m)
{
    char *blocks[NEIGHBOURS], *all;
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        blocks[i] = take_packed(m);
    }
    for (unsigned i = 1; i < NEIGHBOURS; i++) {
        m->e->free(blocks[i]);
    }
    all = m->e->realloc(blocks[0], 4 * m->size);
    m->e->free(wrong(blocks[1]));
    (void)opaque(all);
}

Test(packed, a_freed_block_that_is_a_part_of_another_is_interior)
{
    FOR_EACH_SET (e) {
        expect_misuse((struct misuse){.e = e, .body = free_what_is_inside_by_now, .size = 2100},
                      "free", INTERIOR | NOT_LIVE);
        expect_misuse((struct misuse){.e = e, .body = free_what_is_inside_by_now, .size = 4200},
                      "free", INTERIOR | NOT_LIVE);
    }
}

static void free_cut_off_tail(const struct misuse *m)
{
    char *p = take_among_others(m);
    char *q = m->e->realloc(p, m->size / 2 + UNIT);
    if (q != p) {
        _exit(4);
    }
    m->e->free(wrong(p + m->e->usable_size(p)));
}

Test(packed, what_was_cut_off_is_no_block)
{
    expect_for_all(free_cut_off_tail, 0, "free", NOT_LIVE);
}

static void free_old_place(const struct misuse *m)
{
    char *p = take_among_others(m);
    (void)opaque(m->e->realloc(p, 300000));
    m->e->free(wrong(p));
}

Test(packed, the_place_that_realloc_left_is_not_live)
{
    expect_for_all(free_old_place, 0, "free", NOT_LIVE);
}

/* ------------------------------------------------------------ wrong places */

static void use_at_offset(const struct misuse *m)
{
    char *p = take_among_others(m);
    enum way way = (enum way)(m->offset % WAYS);
    size_t at = m->offset / WAYS;
    use(m, wrong(p + (at == 0 ? rounded(m->size) - UNIT : at)), way);
}

Test(packed, no_function_takes_an_address_inside)
{
    static const size_t offsets[] = {0 /* the last unit */, 16, UNIT, 2 * UNIT, UNIT + 16, 1024};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        for (size_t way = 0; way < WAYS; way++) {
            expect_for_all(use_at_offset, offsets[i] * WAYS + way, functions[way], INTERIOR);
        }
    }
}

Test(packed, no_function_takes_an_odd_address)
{
    static const size_t offsets[] = {1, 8, UNIT - 1, UNIT + 8};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        for (size_t way = 0; way < WAYS; way++) {
            expect_for_all(use_at_offset, offsets[i] * WAYS + way, functions[way],
                           way == FREE_ALIGNED ? WRONG_ALIGNMENT : MISALIGNED);
        }
    }
}

static void free_in_front(const struct misuse *m)
{
    m->e->free(wrong(take_among_others(m) - UNIT));
}

Test(packed, the_unit_in_front_of_a_block_is_none)
{
    expect_for_all(free_in_front, 0, "free", INTERIOR | NOT_LIVE);
}

/* ------------------------------------------------------------ wrong sizes */

static void free_with_size(const struct misuse *m)
{
    char *p = take_among_others(m);
    static const size_t to_add[] = {1, UNIT, 100000, SIZE_MAX / 2};
    size_t size = m->offset < 4 ? rounded(m->size) + to_add[m->offset] : rounded(m->size) / 2 - 1;
    m->e->free_sized(wrong(p), m->offset == 5 ? 0 : size);
}

Test(packed, a_size_that_it_cannot_have_been_asked_for_with_is_wrong)
{
    for (size_t offset = 0; offset < 6; offset++) {
        expect_for_all(free_with_size, offset, "free_sized", WRONG_SIZE);
    }
}

static void free_aligned_with_size(const struct misuse *m)
{
    char *p = take_among_others(m);
    if (m->offset == 0) {
        m->e->free_aligned_sized(wrong(p), 16, rounded(m->size) + 1);
    } else {
        m->e->free_aligned_sized(wrong(p), m->offset, m->size);
    }
}

Test(packed, nor_with_such_an_alignment)
{
    expect_for_all(free_aligned_with_size, 0, "free_aligned_sized", WRONG_SIZE);
    expect_for_all(free_aligned_with_size, 48, "free_aligned_sized", WRONG_ALIGNMENT);
    expect_for_all(free_aligned_with_size, 1 << 26, "free_aligned_sized", WRONG_ALIGNMENT);
}

static void free_rightly(const struct misuse *m)
{
    char *blocks[NEIGHBOURS];
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        blocks[i] = take_packed(m);
    }
    m->e->free_sized(blocks[0], m->size);
    m->e->free_sized(blocks[1], rounded(m->size));
    m->e->free_aligned_sized(blocks[2], UNIT, m->size);
    delete_sized(blocks[3], m->size);
    delete_plain(blocks[4]);
    char *p = m->e->realloc(blocks[5], m->size / 2 + UNIT);
    m->e->free_sized(p, m->size / 2 + UNIT);
}

Test(packed, sizes_that_are_right_are_right)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_no_misuse((struct misuse){.e = e, .body = free_rightly, .size = sizes[i]});
        }
    }
}

/* ------------------------------------------------------------ at once */

static pthread_barrier_t gate;

static void *free_at_the_gate(void *argument)
{
    const struct misuse *m = argument;
    (void)pthread_barrier_wait(&gate);
    m->e->free(m->p);
    return NULL;
}

static void *resize_at_the_gate(void *argument)
{
    const struct misuse *m = argument;
    (void)pthread_barrier_wait(&gate);
    (void)opaque(m->e->realloc(m->p, m->offset));
    return NULL;
}

static void race(const struct misuse *m, void *p, void *(*first)(void *), void *(*second)(void *))
{
    struct misuse copy = *m;
    pthread_t threads[2];
    copy.p = p;
    (void)pthread_barrier_init(&gate, NULL, 2);
    if (pthread_create(&threads[0], NULL, first, &copy) != 0 ||
        pthread_create(&threads[1], NULL, second, &copy) != 0) {
        _exit(5);
    }
    (void)pthread_join(threads[0], NULL);
    (void)pthread_join(threads[1], NULL);
}

static void free_twice_at_once(const struct misuse *m)
{
    race(m, wrong(take_among_others(m)), free_at_the_gate, free_at_the_gate);
}

static void free_alone_twice_at_once(const struct misuse *m)
{
    race(m, wrong(take_packed(m)), free_at_the_gate, free_at_the_gate);
}

Test(packed, of_two_frees_at_once_one_is_reported)
{
    for (int round = 0; round < 10; round++) {
        expect_for_all(free_twice_at_once, 0, "free", NOT_LIVE);
        expect_for_all(free_alone_twice_at_once, 0, "free", NOT_LIVE);
    }
}

/* Whoever wins: all others have what is theirs. */
static void free_and_resize_at_once(const struct misuse *m)
{
    char *blocks[NEIGHBOURS];
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        blocks[i] = take_packed(m);
        memset(blocks[i], (int)i, m->size);
    }
    race(m, wrong(blocks[2]), free_at_the_gate, resize_at_the_gate);
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        if (i != 2 && (m->e->usable_size(blocks[i]) != rounded(m->size) ||
                       blocks[i][m->size - 1] != (char)i)) {
            _exit(6);
        }
    }
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        if (i != 2) {
            m->e->free(blocks[i]);
        }
    }
    return_batches();
}

Test(packed, a_free_that_races_with_realloc_neither_hangs_nor_crashes)
{
    FOR_EACH_SET (e) {
        for (int round = 0; round < 60; round++) {
            for (size_t i = 0; i < SIZES; i++) {
                struct misuse m = {.e = e, .body = free_and_resize_at_once, .size = sizes[i]};
                m.offset = round % 3 == 0 ? 100000 : round % 3 == 1 ? sizes[i] / 2 + UNIT : 1500;
                expect_misuse_or_success(m);
            }
        }
    }
}

/* The block was its span's only one: the record is that of larger objects now, and of packed blocks again. */
static void *free_and_go_on_at_the_gate(void *argument)
{
    enum { TURNS = 200 };
    const struct misuse *m = argument;
    (void)pthread_barrier_wait(&gate);
    m->e->free(m->p);
    for (unsigned i = 0; i < TURNS; i++) {
        m->e->free(opaque(m->e->malloc(((size_t)1 << 20) - 5000)));
        m->e->free(opaque(m->e->malloc(m->size)));
    }
    return NULL;
}

static void *use_at_the_gate(void *argument)
{
    const struct misuse *m = argument;
    (void)pthread_barrier_wait(&gate);
    for (volatile size_t wait = m->offset / WAYS; wait > 0; wait--) {
    }
    use(m, m->p, (enum way)(m->offset % WAYS));
    return NULL;
}

static void use_while_its_span_goes(const struct misuse *m)
{
    race(m, wrong(take_packed(m)), free_and_go_on_at_the_gate, use_at_the_gate);
}

Test(packed, a_use_that_races_with_the_end_of_its_span_neither_hangs_nor_crashes)
{
    FOR_EACH_SET (e) {
        for (size_t round = 0; round < 40; round++) {
            for (size_t way = 0; way < WAYS; way++) {
                struct misuse m = {.e = e, .body = use_while_its_span_goes, .size = 9000};
                m.offset = round * round * WAYS + way;
                expect_misuse_or_success(m);
            }
        }
    }
}
