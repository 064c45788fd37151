/* SPDX-License-Identifier: MIT */
/*
 * use_after_free_test.c: programs that read and write blocks they have freed.
 * Goal: it is not detected, as documented, and does no harm to the allocator; what was in a block is
 * not in memory that calloc hands out or that was trimmed, and the allocator's own words are in no
 * block that is handed out. Method: in a child, do it, then go on as if nothing had been.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "misuse.h"

TestSuite(use_after_free, .timeout = 240);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {16, 4 * KIB, 256 * KIB, 300 * KIB, 64 * MIB};
enum { SIZES = sizeof sizes / sizeof sizes[0] };
static const char secret[] = "a secret of 16 b";
enum { SECRET_BYTES = 16 };

/* The secret at the start, in the middle, at the end. */
static void hide(char *p, size_t size)
{
    memcpy(p, secret, SECRET_BYTES);
    memcpy(p + size / 2 / 16 * 16, secret, SECRET_BYTES);
    memcpy(p + size - SECRET_BYTES, secret, SECRET_BYTES);
}

static bool holds_secret(const char *p, size_t size)
{
    return memcmp(p, secret, SECRET_BYTES) == 0 ||
           memcmp(p + size / 2 / 16 * 16, secret, SECRET_BYTES) == 0 ||
           memcmp(p + size - SECRET_BYTES, secret, SECRET_BYTES) == 0;
}

/* --- writes --- */

static void overwrite_and_go_on(const struct misuse *m)
{
    enum { PAIRS = 262144 };
    char *freed = m->e->malloc(m->size), *kept = m->e->malloc(m->size);
    fill(kept, m->size, 1);
    size_t usable = m->e->usable_size(freed);
    m->e->free(freed);
    memset(opaque(freed), 'A', usable);
    for (int i = 0; i < PAIRS; i++) {
        char *p = m->e->malloc(m->size);
        if (p == kept) {
            _exit(1);
        }
        p[0] = p[m->size - 1] = (char)i;
        m->e->free(p);
    }
    if (!is_filled(kept, m->size, 1)) {
        _exit(2);
    }
    m->e->free(kept);
    return_batches();
}

Test(use_after_free, of_all_bytes_and_262144_pairs_later_nothing_is_damaged)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_no_misuse(
                (struct misuse){.e = e, .body = overwrite_and_go_on, .size = sizes[i]});
        }
    }
}

/* --- a freed large object --- */

static void use_freed_object(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    hide(p, m->size);
    m->e->free(p);
    char *freed = opaque(p);
    bool old = memcmp(freed + m->size - SECRET_BYTES, secret, SECRET_BYTES) == 0;
    if (!old && !is_zero(freed + m->size - SECRET_BYTES, SECRET_BYTES)) {
        _exit(1); /* somebody else's */
    }
    memset(freed, 'A', 64 * KIB);
    char *q = m->e->malloc(m->size);
    fill(q, m->size, 2);
    if (!is_filled(q, m->size, 2)) {
        _exit(2);
    }
    m->e->free(q);
    return_batches();
}

Test(use_after_free, of_a_large_object_is_harmless_to_the_allocator)
{
    FOR_EACH_SET (e) {
        for (size_t i = 3; i < SIZES; i++) {
            expect_no_misuse((struct misuse){.e = e, .body = use_freed_object, .size = sizes[i]});
        }
    }
}

static void read_after_trim(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    hide(p, m->size);
    m->e->free(p);
    return_batches();
    if (!is_zero(opaque(p), m->size)) {
        _exit(1);
    }
}

Test(use_after_free, of_a_large_object_reads_zeroes_once_it_was_trimmed)
{
    FOR_EACH_SET (e) {
        for (size_t i = 3; i < SIZES; i++) {
            expect_no_misuse((struct misuse){.e = e, .body = read_after_trim, .size = sizes[i]});
        }
    }
}

/* --- secrets --- */

static void look_for_secret(const struct misuse *m)
{
    enum { BLOCKS = 20 };
    char *blocks[BLOCKS];
    size_t count = m->size > MIB ? 3 : BLOCKS;
    for (int round = 0; round < 2; round++) {
        for (size_t b = 0; b < count; b++) {
            blocks[b] = m->e->calloc(1, m->size);
            if (holds_secret(blocks[b], m->size)) {
                _exit(1);
            }
            hide(blocks[b], m->size);
        }
        for (size_t b = 0; b < count; b++) {
            m->e->free(blocks[b]);
        }
    }
}

Test(use_after_free, shows_no_secret_in_what_calloc_hands_out)
{
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_no_misuse((struct misuse){.e = e, .body = look_for_secret, .size = sizes[i]});
        }
    }
}

/* By default malloc() clears nothing: the block that was freed last is the next one, as it was. */
static void look_for_own_secret(const struct misuse *m)
{
    char *p = m->e->malloc(m->size);
    hide(p, m->size);
    m->e->free(p);
    char *q = m->e->malloc(m->size);
    bool is_as_it_was = holds_secret(q, m->size);
    if (m->size <= 256 * KIB && (q != p || !is_as_it_was)) {
        _exit(1);
    }
    for (size_t at = 0; at < m->size && !is_as_it_was; at += 4 * KIB) {
        if (q[at] != 0) {
            _exit(2); /* neither ours nor zero */
        }
    }
}

Test(use_after_free, shows_the_old_contents_in_what_malloc_hands_out_by_default)
{
    const char *options = getenv("APMALLOC_CONF");
    if (options != NULL && strstr(options, "hardened:true") != NULL) {
        cr_skip_test("not the default");
    }
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < SIZES; i++) {
            expect_no_misuse(
                (struct misuse){.e = e, .body = look_for_own_secret, .size = sizes[i]});
        }
    }
}

/* A block handed out again holds what its last owner left there, or zeroes: no word of ours. */
static void look_for_words_of_the_allocator(const struct misuse *m)
{
    enum { BLOCKS = 64 };
    char *blocks[BLOCKS];
    size_t usable = 0;
    for (int round = 0; round < 4; round++) {
        for (int b = 0; b < BLOCKS; b++) {
            blocks[b] = m->e->malloc(m->size);
            usable = m->e->usable_size(blocks[b]);
            for (size_t at = 0; round > 0 && at + 8 <= usable; at += 8) {
                const char *word = blocks[b] + at;
                if (!is_zero(word, 8) && memcmp(word, "SSSSSSSS", 8) != 0) {
                    _exit(1);
                }
            }
            memset(blocks[b], 'S', usable);
        }
        for (int b = 0; b < BLOCKS; b++) {
            m->e->free(blocks[b]);
        }
        if (round == 1) {
            ap_thread_idle(); /* through all layers and back */
        }
    }
}

Test(use_after_free, shows_no_word_of_the_allocator_in_a_block_handed_out_again)
{
    /* Classes nobody else uses: what is in their blocks is from this test. */
    static const size_t small[] = {2500, 7000, 20000, 50000};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
            expect_no_misuse(
                (struct misuse){.e = e, .body = look_for_words_of_the_allocator, .size = small[i]});
        }
    }
}
