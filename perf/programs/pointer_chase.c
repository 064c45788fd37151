/* SPDX-License-Identifier: MIT */
/*
 * pointer_chase: builds lists in an aged heap, then walks them.
 * The pattern: linked data structures that were built together are used together; the addresses that
 * malloc returns decide how many cache lines, pages and translations the walk meets (Feng and Berger, "A
 * locality-improving dynamic memory allocator", MSP 2005). Blocks of other sizes are allocated and freed in
 * between, so that neither a bump pointer nor a plain free list does well by luck.
 * Options: lists, nodes (of each list), walks, hold.
 */
#include "bench.h"

enum { NODE_BYTES = 48, OTHERS = 20000, LEAST_BYTES = 16, DOUBLINGS = 7 };

struct node {
    struct node *next;
    uint64_t value[(NODE_BYTES - sizeof(void *)) / sizeof(uint64_t)];
};

static char *others[OTHERS];

/* A heap that has been used: holes of the nodes' size everywhere. */
static void age(size_t nodes, struct bench_random *random)
{
    struct node **old = (struct node **)bench_allocate(nodes * sizeof *old);
    for (size_t i = 0; i < nodes; i++)
        old[i] = (struct node *)bench_allocate_touched(sizeof(struct node));
    for (size_t i = nodes; i > 1; i--) {
        size_t other = bench_random_below(random, i);
        struct node *swapped = old[i - 1];
        old[i - 1] = old[other];
        old[other] = swapped;
    }
    for (size_t i = 0; i < nodes; i++)
        free(old[i]);
    free(old);
}

static struct node *build(size_t nodes, struct bench_random *random)
{
    struct node *list = NULL;
    for (size_t i = 0; i < nodes; i++) {
        struct node *node = (struct node *)bench_allocate(sizeof *node);
        node->next = list;
        node->value[0] = i;
        list = node;
        char **other = &others[bench_random_below(random, OTHERS)];
        free(*other);
        *other = bench_allocate_touched(bench_random_size(random, LEAST_BYTES, DOUBLINGS));
    }
    return list;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    size_t lists = (size_t)bench_number("lists", 20);
    size_t nodes = (size_t)bench_number("nodes", 100000);
    long walks = bench_number("walks", 15);
    struct bench_random random = {1};
    struct node **heads = (struct node **)calloc(lists, sizeof *heads);
    bench_start();
    age(lists * nodes, &random);
    for (size_t i = 0; i < lists; i++)
        heads[i] = build(nodes, &random);
    uint64_t sum = 0;
    for (long walk = 0; walk < walks; walk++) {
        for (size_t i = 0; i < lists; i++) {
            for (const struct node *node = heads[i]; node != NULL; node = node->next)
                sum += node->value[0];
        }
    }
    if (sum != (uint64_t)walks * lists * (nodes * (nodes - 1) / 2))
        bench_die("a list is damaged", "");
    bench_end((uint64_t)lists * nodes * (uint64_t)walks, lists * nodes * sizeof(struct node));
    return 0;
}
