/* SPDX-License-Identifier: MIT */
/*
 * recycled_test.c: wrong calls on packed blocks that thread caches keep.
 * Goal: as of small blocks, a second free is reported at once if the block is the newest of its list, however full or
 * folded that is, and with its batch otherwise; an address inside, at once. Method: one wrong call per child, in which
 * blocks of a size have replaced each other until they are kept. All blocks are packed.
 */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "misuse.h"

TestSuite(recycled, .timeout = 240);

enum { UNIT = 128, EXCHANGES = 200, MANY = 150 };

/* Those of classes. */
static const size_t sizes[] = {1280, 2048, 4096, 10240, 65536};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void *blocks[MANY];

/* MANY blocks that will be kept. */
static void take_blocks(const struct misuse *m)
{
    void *neighbour = m->e->malloc(m->size - UNIT);
    for (unsigned i = 0; i < EXCHANGES; i++) {
        void *p = m->e->malloc(m->size - UNIT);
        m->e->free(p);
    }
    for (unsigned i = 0; i < MANY; i++) {
        blocks[i] = m->e->malloc(m->size - 1);
        if (m->e->usable_size(blocks[i]) != m->size) {
            _exit(3);
        }
    }
    void *p = m->e->malloc(m->size - UNIT);
    if (m->e->usable_size(p) != m->size) {
        _exit(4); /* not as long as the class: these blocks are not kept */
    }
    m->e->free(neighbour);
}

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

/* ------------------------------------------------------------ at once */

extern void delete_plain(void *p) __asm__("_ZdlPv");
extern void delete_sized(void *p, size_t size) __asm__("_ZdlPvm");

enum way { FREE, CFREE, FREE_SIZED, FREE_ALIGNED, DELETE, DELETE_SIZED, GROW, SHRINK, MOVE };
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
    }
}

static void use_newest(const struct misuse *m)
{
    take_blocks(m);
    m->e->free(blocks[0]);
    m->e->free(blocks[1]);
    use(m, wrong(blocks[1]), (enum way)m->offset);
}

Test(recycled, the_newest_is_no_block_for_any_function)
{
    for (size_t way = 0; way < WAYS; way++) {
        expect_for_all(use_newest, way, functions[way], DOUBLE_FREE | NOT_LIVE);
    }
}

static void free_many_and_the_last_again(const struct misuse *m)
{
    take_blocks(m);
    for (unsigned i = 0; i < m->offset; i++) {
        m->e->free(blocks[i]);
    }
    m->e->free(wrong(blocks[m->offset - 1]));
}

Test(recycled, nor_is_it_when_the_list_is_full_or_folded)
{
    for (size_t count = 1; count <= MANY; count += 1 + count / 8) {
        expect_for_all(free_many_and_the_last_again, count, "free", DOUBLE_FREE | NOT_LIVE);
    }
}

static void free_inside(const struct misuse *m)
{
    take_blocks(m);
    m->e->free(blocks[0]);
    m->e->free(wrong((char *)blocks[1] + m->offset));
}

static void free_inside_of_freed(const struct misuse *m)
{
    take_blocks(m);
    m->e->free(blocks[1]);
    m->e->free(wrong((char *)blocks[1] + m->offset));
}

Test(recycled, an_address_inside_is_no_block)
{
    static const size_t offsets[] = {16, UNIT, 2 * UNIT, 1024, 1280 - UNIT};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        expect_for_all(free_inside, offsets[i], "free", INTERIOR);
        expect_for_all(free_inside_of_freed, offsets[i], "free", INTERIOR | NOT_LIVE);
    }
}

/* ------------------------------------------------------------ with the batch */

static void free_with_another_between(const struct misuse *m)
{
    take_blocks(m);
    for (unsigned i = 0; i <= m->offset; i++) {
        m->e->free(blocks[i]);
    }
    m->e->free(wrong(blocks[0]));
    return_batches();
}

Test(recycled, with_others_between_it_is_found_with_the_batch)
{
    for (size_t between = 1; between < MANY; between += 1 + between / 3) {
        expect_for_all(free_with_another_between, between, NULL, DOUBLE_FREE | NOT_LIVE);
    }
}

static const struct misuse *of_thread;

static void *free_first(void *p)
{
    of_thread->e->free(p);
    return p;
}

static void free_in_two_threads(const struct misuse *m)
{
    pthread_t thread;
    take_blocks(m);
    of_thread = m;
    m->e->free(wrong(blocks[0]));
    if (pthread_create(&thread, NULL, free_first, blocks[0]) != 0 ||
        pthread_join(thread, NULL) != 0) {
        _exit(5);
    }
    return_batches();
}

Test(recycled, in_two_threads_it_is_found_with_the_batch)
{
    expect_for_all(free_in_two_threads, 0, NULL, DOUBLE_FREE | NOT_LIVE);
}

static void resize_freed(const struct misuse *m)
{
    take_blocks(m);
    m->e->free(wrong(blocks[0]));
    m->e->free(blocks[1]);
    if (m->e->realloc(blocks[0], m->size - m->size / 4) != blocks[0]) {
        _exit(6);
    }
    return_batches();
}

Test(recycled, one_that_is_cut_after_its_free_is_found_with_the_batch)
{
    FOR_EACH_SET (e) {
        for (size_t i = 1; i < SIZES; i++) {
            expect_misuse((struct misuse){.e = e, .body = resize_freed, .size = sizes[i]}, NULL,
                          DOUBLE_FREE | NOT_LIVE);
        }
    }
}

/* An address inside of a freed small block comes out of a list that may have packed ones. */
static void *allocate_aligned(const struct misuse *m)
{
    return m->e->aligned_alloc(m->size, m->size);
}

static void free_inside_of_aligned(const struct misuse *m)
{
    take_blocks(m);
    char *p = allocate_aligned(m);
    m->e->free(wrong(p + UNIT));
    for (unsigned i = 0; i < 3; i++) {
        (void)opaque(allocate_aligned(m));
    }
    return_batches();
}

Test(recycled, an_address_inside_of_an_aligned_block_is_found)
{
    FOR_EACH_SET (e) {
        expect_misuse((struct misuse){.e = e, .body = free_inside_of_aligned, .size = 2048}, NULL,
                      INTERIOR);
        expect_misuse((struct misuse){.e = e, .body = free_inside_of_aligned, .size = 4096}, NULL,
                      INTERIOR);
    }
}

/* ------------------------------------------------------------ right calls */

static void free_rightly(const struct misuse *m)
{
    take_blocks(m);
    m->e->free_sized(blocks[0], m->size - 1);
    m->e->free_sized(blocks[1], m->size);
    m->e->free_aligned_sized(blocks[2], UNIT, m->size - 1);
    delete_sized(blocks[3], m->size - 1);
    delete_plain(blocks[4]);
    char *p = m->e->realloc(blocks[5], m->size - m->size / 4);
    m->e->free_sized(p, m->size - m->size / 4);
    for (unsigned i = 6; i < MANY; i++) {
        m->e->free(blocks[i]);
    }
    return_batches();
}

Test(recycled, right_calls_are_right)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_no_misuse((struct misuse){.e = e, .body = free_rightly, .size = sizes[i]});
        }
    }
}
