/* SPDX-License-Identifier: MIT */
/*
 * meta_stress.c: metadata is taken, given back and purged by threads at once.
 * Goal: nobody's piece goes back to the kernel, or to two owners. Method: each thread keeps a table of pieces of all sizes,
 * filled with a mark, lets go of most of them now and then, and purges in one of the three ways.
 */
#include <string.h>

#include "meta/meta.h"
#include "stress.h"

enum { THREADS = 4, PIECES = 300, SHIFT_MIN = 6, SHIFTS = 9, CHECK_TIME_EVERY = 64 };

struct piece {
    uint64_t *words; /* NULL: none */
    size_t count;
    uint64_t mark;
};

static void take(struct piece *piece, struct stress_random *random)
{
    size_t bytes = (size_t)1 << (SHIFT_MIN + stress_random_below(random, SHIFTS));
    piece->count = bytes / sizeof *piece->words;
    piece->mark = stress_random_next(random) | 1;
    piece->words = ap__meta_take(bytes);
    STRESS_CHECK(piece->words != NULL);
    for (size_t i = 0; i < piece->count; i++) {
        STRESS_CHECK(piece->words[i] == 0);
        piece->words[i] = piece->mark;
    }
}

static void give(struct piece *piece)
{
    for (size_t i = 0; i < piece->count; i++) {
        STRESS_CHECK(piece->words[i] == piece->mark);
    }
    ap__meta_give(piece->words, piece->count * sizeof *piece->words);
    piece->words = NULL;
}

static void give_most(struct piece *pieces, struct stress_random *random)
{
    for (unsigned i = 0; i < PIECES; i++) {
        if (pieces[i].words != NULL && stress_random_below(random, 20) != 0) {
            give(&pieces[i]);
        }
    }
}

static void purge(struct stress_random *random)
{
    bool more = false;
    switch (stress_random_below(random, 3)) {
    case 0:
        (void)ap__meta_purge();
        break;
    case 1:
        (void)ap__meta_purge_at_once();
        break;
    default:
        (void)ap__meta_purge_unused(&more);
        break;
    }
}

static void body(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    struct piece pieces[PIECES];
    uint64_t done = 0;
    memset(pieces, 0, sizeof pieces);
    while (done % CHECK_TIME_EVERY != 0 || !stress_is_over()) {
        struct piece *piece = &pieces[stress_random_below(&random, PIECES)];
        if (piece->words == NULL) {
            take(piece, &random);
        } else {
            give(piece);
        }
        if (stress_random_below(&random, 1000) == 0) {
            give_most(pieces, &random);
        }
        if (stress_random_below(&random, 200) == 0) {
            purge(&random);
        }
        done++;
    }
    for (unsigned i = 0; i < PIECES; i++) {
        if (pieces[i].words != NULL) {
            give(&pieces[i]);
        }
    }
    stress_count(done);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "meta_stress");
    stress_run_threads(THREADS, body);
    return stress_finish();
}
