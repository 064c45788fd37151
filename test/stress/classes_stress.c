/* SPDX-License-Identifier: MIT */
/*
 * classes_stress.c: fine size classes open while threads allocate and free sizes of theirs.
 *
 * Goal: no block is too small, whichever class served it. Method: rounds of some MiB of the sizes of one fine class,
 * which each thread draws for itself, so that classes open under all of them; usable sizes are those of the fine
 * class or of the next, contents stay. That some have opened is checked, and how many is printed.
 */
#include <stdio.h>

#include "base/size_class.h"
#include "cache/fine_classes.h"
#include "stress.h"

enum { THREADS = 4, BLOCKS_MAX = 1 << 16, ROUND_BYTES = 6 << 20 };

static struct stress_block blocks[THREADS][BLOCKS_MAX];

static bool is_open(unsigned fine)
{
    return ap__class_for(ap__size_class[fine].size) == fine;
}

/* Any of those that the two tables of the hit paths lead to, and some that they do not. */
static unsigned any_fine_class(struct stress_random *random)
{
    unsigned c = AP_LINEAR_CLASSES + 1 + (unsigned)stress_random_below(random, 72);
    return ap__class_is_fine(c) ? c : c - 1;
}

static void allocate(struct stress_block *block, unsigned fine, struct stress_random *random)
{
    size_t least = ap__size_class[fine - 1].size + 1, most = ap__size_class[fine].size;
    stress_block_allocate(block, least + stress_random_below(random, most - least + 1), random);
    STRESS_CHECK(block->p != NULL);
    size_t usable = ap_usable_size(block->p);
    STRESS_CHECK(usable == most || usable == ap__size_class[fine + 1].size);
}

static void body(unsigned number)
{
    struct stress_random random = stress_random_stream(number);
    while (!stress_is_over()) {
        unsigned fine = any_fine_class(&random);
        size_t count = ROUND_BYTES / ap__size_class[fine].size;
        for (size_t i = 0; i < count; i++) {
            allocate(&blocks[number][i], fine, &random);
        }
        for (size_t i = 0; i < count; i++) {
            stress_block_free(&blocks[number][i]);
        }
        stress_count(2 * count);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "classes_stress");
    stress_run_threads(THREADS, body);
    unsigned open = 0;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        open += ap__class_is_fine(c) && is_open(c);
    }
    (void)printf("classes_stress: %u fine classes have opened\n", open);
    STRESS_CHECK(open != 0);
    return stress_finish();
}
