/* SPDX-License-Identifier: MIT */
/*
 * central_free_list_test.c: the spans of a class, a batch out, a batch in.
 * Goal: blocks are distinct, the best of the fullest spans last, drained spans return, wrong addresses are reported,
 * runs end where they do, partial batches when memory runs out, fresh spans are populated. Method: direct calls on a
 * fresh heap; fatal ones in a child; random orders, whose seed is printed.
 */
#include "central/central_free_list.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "heap/page_heap.h"
#include "os/os.h"
#include "support/child.h"
#include "support/heap_check.h"
#include "support/os_faults.h"

enum {
    CLASS_64 = 4,
    SLOTS_64 = 1024,
    CLASS_6656 = 53,
    CLASS_40K = 74,
    CLASS_LARGEST = AP_CLASS_COUNT - 1,
    PAGE = 4096,
    SPAN_GRANULES_MAX = 16,
    POPULATED_FROM = 8 /* spans of the class */
};

static void init(void)
{
    cr_assert(ap__region_init((size_t)1 << 30));
    cr_assert_eq(ap__size_class[CLASS_64].size, 64);
    cr_assert_eq(ap__size_class[CLASS_64].slots, SLOTS_64);
}

static struct ap__central_stats stats(unsigned size_class)
{
    struct ap__central_stats figures;
    ap__central_stats(size_class, &figures);
    return figures;
}

/* Turns the order round. */
static void turn(void **blocks, unsigned count)
{
    for (unsigned low = 0, high = count; low + 1 < high; low++) {
        void *block = blocks[low];
        blocks[low] = blocks[--high];
        blocks[high] = block;
    }
}

/* The best first, so in address order as long as spans are fresh. */
static void take_all(unsigned size_class, void **blocks, unsigned count)
{
    for (unsigned done = 0; done < count;) {
        unsigned n = count - done < AP_BATCH_MAX ? count - done : AP_BATCH_MAX;
        cr_assert_eq(ap__central_take(size_class, blocks + done, n), n);
        turn(blocks + done, n);
        done += n;
    }
}

static void give_all(unsigned size_class, void **blocks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ap__central_give(size_class, &blocks[i], 1, "free");
    }
}

Test(central_free_list, every_class_hands_out_disjoint_blocks_the_lowest_last)
{
    init();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        void *blocks[AP_BATCH_MAX];
        unsigned batch = ap__size_class[c].batch;
        cr_assert_eq(ap__central_take(c, blocks, batch), batch);
        for (unsigned i = 0; i < batch; i++) {
            cr_assert(ap__central_is_slot(c, blocks[i]));
            cr_assert(!ap__central_is_free(c, blocks[i]));
            memset(blocks[i], (int)c, ap__size_class[c].size);
            cr_assert(i == 0 ||
                      (char *)blocks[i] + ap__size_class[c].size <= (char *)blocks[i - 1]);
        }
        cr_assert_eq(stats(c).claimed, batch);
        ap__central_give(c, blocks, batch, "free");
        cr_assert_eq(stats(c).claimed, 0);
        cr_assert(ap__central_is_free(c, blocks[0]) || stats(c).spans == 0);
    }
    heap_check();
}

Test(central_free_list, of_every_step_in_a_span_of_every_class_only_slots_are_slots)
{
    init();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        const struct ap__size_class *info = &ap__size_class[c];
        size_t span_bytes = (size_t)info->span_granules << AP_PAGE_HEAP_GRANULE_SHIFT;
        void *first;
        cr_assert_eq(ap__central_take(c, &first, 1), 1);
        cr_assert_eq((uintptr_t)first, ap__page_heap_span_of((uintptr_t)first)->start);
        for (size_t at = 0; at < span_bytes; at += 16) {
            bool is_slot = at % info->size == 0 && at / info->size < info->slots;
            cr_assert_eq(ap__central_is_slot(c, (char *)first + at), is_slot, "class %u, %zu", c,
                         at);
        }
        ap__central_give(c, &first, 1, "free");
    }
}

Test(central_free_list, the_fullest_span_is_used_first)
{
    static void *blocks[3 * SLOTS_64];
    init();
    take_all(CLASS_64, blocks, 3 * SLOTS_64);
    give_all(CLASS_64, blocks, 900);                /* first span: nearly empty */
    give_all(CLASS_64, blocks + SLOTS_64, 20);      /* second: nearly full */
    give_all(CLASS_64, blocks + 2 * SLOTS_64, 500); /* third: half */
    void *next[21];
    take_all(CLASS_64, next, 20);
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(next[i], blocks[SLOTS_64 + i]);
    }
    take_all(CLASS_64, next, 1);
    cr_assert_eq(next[0], blocks[2 * SLOTS_64]);
    give_all(CLASS_64, blocks + SLOTS_64, 20);
    give_all(CLASS_64, blocks + 2 * SLOTS_64, 1);
    cr_assert_eq(ap__central_take(CLASS_64, next, 21), 21);
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(next[20 - i], blocks[SLOTS_64 + i], "of two spans at once: the best last");
    }
    cr_assert_eq(next[0], blocks[2 * SLOTS_64]);
}

Test(central_free_list, drained_spans_return_at_once)
{
    static void *blocks[3 * SLOTS_64];
    init();
    take_all(CLASS_64, blocks, 3 * SLOTS_64);
    cr_assert_eq(heap_check().small_spans, 3);
    give_all(CLASS_64, blocks, 3 * SLOTS_64);
    cr_assert_eq(heap_check().small_spans, 0);
    cr_assert_eq(stats(CLASS_64).spans, 0);
    take_all(CLASS_LARGEST, blocks, 1);
    give_all(CLASS_LARGEST, blocks, 1);
    cr_assert_eq(heap_check().small_spans, 0);
}

/* Of the `granules` from `start` on, how many pages are resident. */
static size_t resident_pages(const void *start, size_t granules)
{
    unsigned char states[SPAN_GRANULES_MAX * AP_GRANULE / PAGE];
    size_t count = 0;
    cr_assert_eq(mincore((void *)start, granules * AP_GRANULE, states), 0);
    for (size_t i = 0; i < granules * AP_GRANULE / PAGE; i++) {
        count += states[i] & 1;
    }
    return count;
}

/* Takes blocks until there is one of a new span. Returns the resident pages of that span. */
static size_t resident_of_next_span(unsigned size_class, void **block)
{
    size_t spans = stats(size_class).spans;
    do {
        cr_assert_eq(ap__central_take(size_class, block, 1), 1);
    } while (stats(size_class).spans == spans);
    return resident_pages(*block, ap__size_class[size_class].span_granules);
}

Test(central_free_list, the_eighth_span_of_a_class_is_populated_a_granule_at_a_time)
{
    enum { PAGES_A_GRANULE = AP_GRANULE / PAGE };
    void *block;
    init();
    ap__central_init(true, 1);
    void *probe = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!ap__os_populate(probe, PAGE)) {
        cr_skip_test("the kernel does not populate");
    }
    const struct ap__size_class *info = &ap__size_class[CLASS_6656];
    cr_assert_eq(info->size, 6656);
    cr_assert_gt(info->span_granules, 2);
    for (unsigned i = 0; i < POPULATED_FROM - 1; i++) {
        cr_assert_eq(resident_of_next_span(CLASS_6656, &block), 0, "span %u", i);
    }
    cr_assert_eq(resident_of_next_span(CLASS_6656, &block), PAGES_A_GRANULE);
    void *next = block;
    for (unsigned i = 1; i <= AP_GRANULE / info->size; i++) {
        cr_assert_eq(resident_pages(block, info->span_granules), PAGES_A_GRANULE);
        cr_assert_eq(ap__central_take(CLASS_6656, &next, 1), 1);
        cr_assert_eq((char *)next - (char *)block, i * info->size);
    }
    cr_assert_eq(resident_pages(block, info->span_granules), 2 * PAGES_A_GRANULE,
                 "the last one reaches into the second granule");
    heap_check();
}

Test(central_free_list, long_blocks_are_not_populated)
{
    void *block;
    init();
    ap__central_init(true, 1);
    cr_assert_eq(ap__size_class[CLASS_40K].size, 40 << 10);
    for (unsigned i = 0; i < 2 * POPULATED_FROM; i++) {
        cr_assert_eq(resident_of_next_span(CLASS_40K, &block), 0, "span %u", i);
    }
}

Test(central_free_list, what_was_in_use_before_is_not_populated)
{
    void *block;
    init();
    ap__central_init(true, 1);
    for (unsigned i = 0; i < POPULATED_FROM; i++) {
        (void)resident_of_next_span(CLASS_6656, &block);
    }
    struct ap__span *dirty =
        ap__page_heap_take(ap__size_class[CLASS_6656].span_granules, AP_GRANULE, 0);
    cr_assert_not_null(dirty);
    void *start = (void *)dirty->start;
    ap__region_set_clean(ap__region_granule_of(dirty->start), dirty->granules, false);
    ap__page_heap_give(dirty);
    cr_assert_eq(resident_of_next_span(CLASS_6656, &block), 0);
    cr_assert_eq(block, start);
    heap_check();
}

Test(central_free_list, nothing_is_populated_where_that_is_not_wanted)
{
    void *block;
    init();
    ap__central_init(false, 1);
    for (unsigned i = 0; i < 2 * POPULATED_FROM; i++) {
        cr_assert_eq(resident_of_next_span(CLASS_6656, &block), 0);
    }
}

Test(central_free_list, a_batch_is_partial_when_memory_runs_out)
{
    init();
    void *blocks[AP_BATCH_MAX] = {NULL};
    cr_assert_eq(ap__central_take(CLASS_64, blocks, 1), 1);
    os_faults_fail_always(OS_FAULTS_MMAP);
    os_faults_fail_always(OS_FAULTS_MPROTECT);
    unsigned total = 1;
    unsigned got;
    while ((got = ap__central_take(CLASS_64, blocks, AP_BATCH_MAX)) == AP_BATCH_MAX) {
        total += got;
        memset(blocks, 0, sizeof blocks);
    }
    total += got;
    cr_assert_eq(total % SLOTS_64, 0, "spans are used to their last slot");
    for (unsigned i = 1; i < got; i++) {
        cr_assert_eq((char *)blocks[i], (char *)blocks[i - 1] - 64, "from the first place on");
    }
    cr_assert_eq(ap__central_take(CLASS_64, blocks, AP_BATCH_MAX), 0);
    cr_assert_eq(stats(CLASS_64).claimed, total);
    ap__central_give(CLASS_64, blocks, got, "free");
    os_faults_reset();
    cr_assert_eq(ap__central_take(CLASS_64, blocks, AP_BATCH_MAX), AP_BATCH_MAX);
}

struct misuse {
    void *pointers[2];
    unsigned count;
};

static void give_wrong(void *misuse)
{
    struct misuse *wrong = misuse;
    ap__central_give(CLASS_64, wrong->pointers, wrong->count, "free");
}

static void expect_report(struct misuse wrong, const void *named, const char *cause)
{
    struct child_result result;
    child_run(&result, give_wrong, &wrong);
    char expected[200];
    snprintf(expected, sizeof expected, "apmalloc: free(%p): %s\n", named, cause);
    cr_assert_eq(result.signal, SIGABRT);
    cr_assert_str_eq(result.text, expected);
}

Test(central_free_list, what_is_no_claimed_block_is_reported)
{
    init();
    void *blocks[4];
    take_all(CLASS_64, blocks, 4);
    char *p = blocks[1];
    expect_report((struct misuse){{p, p}, 2}, p, "double free");
    expect_report((struct misuse){{p + 16, NULL}, 1}, p + 16, "pointer into the middle of a block");
    char *never = (char *)blocks[3] + 64;
    expect_report((struct misuse){{never, NULL}, 1}, never, "double free");
    void *other;
    take_all(CLASS_64 + 1, &other, 1);
    expect_report((struct misuse){{other, NULL}, 1}, other,
                  "double free, or a pointer that was never allocated");
    ap__central_give(CLASS_64, blocks, 4, "free"); /* the lists here are unharmed */
}

/* Turns pieces of 1 to 80 blocks round, or mixes them. */
static void disorder(void **blocks, unsigned count, unsigned *seed)
{
    for (unsigned first = 0; first < count;) {
        unsigned length = 1 + (unsigned)rand_r(seed) % 80;
        unsigned end = first + length < count ? first + length : count;
        bool mixes = (rand_r(seed) & 48) == 0;
        bool turns = (rand_r(seed) & 16) != 0;
        for (unsigned i = 0; mixes && first + i < end; i++) {
            unsigned other = first + (unsigned)rand_r(seed) % (end - first);
            void *block = blocks[first + i];
            blocks[first + i] = blocks[other];
            blocks[other] = block;
        }
        if (turns) {
            turn(blocks + first, end - first);
        }
        first = end;
    }
}

Test(central_free_list, blocks_side_by_side_go_back_in_any_order)
{
    enum { BLOCKS = 3000 };
    static void *blocks[BLOCKS];
    unsigned seed = (unsigned)time(NULL);
    fprintf(stderr, "# central_free_list: seed %u\n", seed);
    init();
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        size_t fit = ((size_t)4 << 20) / ap__size_class[c].size;
        unsigned count = fit < BLOCKS ? (unsigned)fit : BLOCKS;
        take_all(c, blocks, count);
        disorder(blocks, count, &seed);
        for (unsigned done = 0; done < count;) {
            unsigned n = 1 + (unsigned)rand_r(&seed) % AP_BATCH_MAX;
            n = n < count - done ? n : count - done;
            ap__central_check_slots(c, blocks + done, n, "free");
            ap__central_give(c, blocks + done, n, "free");
            done += n;
            cr_assert_eq(stats(c).claimed, count - done);
        }
        cr_assert_eq(stats(c).spans, 0);
    }
    heap_check();
}

struct wrong_run {
    void *blocks[AP_BATCH_MAX];
};

static void give_wrong_run(void *run)
{
    ap__central_give(CLASS_64, ((struct wrong_run *)run)->blocks, AP_BATCH_MAX, "free");
}

Test(central_free_list, the_one_wrong_block_of_a_run_is_the_one_that_is_reported)
{
    init();
    void *blocks[2 * AP_BATCH_MAX];
    take_all(CLASS_64, blocks, 2 * AP_BATCH_MAX);
    for (unsigned at = 0; at < AP_BATCH_MAX; at += 7) {
        void *wrong = blocks[40 + at];
        ap__central_give(CLASS_64, &wrong, 1, "free");
        for (int down = 0; down <= 1; down++) {
            struct wrong_run run;
            for (unsigned i = 0; i < AP_BATCH_MAX; i++) {
                run.blocks[i] = blocks[40 + (down ? AP_BATCH_MAX - 1 - i : i)];
            }
            struct child_result result;
            child_run(&result, give_wrong_run, &run);
            char expected[200];
            snprintf(expected, sizeof expected, "apmalloc: free(%p): double free\n", wrong);
            cr_assert_eq(result.signal, SIGABRT);
            cr_assert_str_eq(result.text, expected);
        }
        void *again;
        take_all(CLASS_64, &again, 1);
        cr_assert_eq(again, wrong, "the lowest that is free");
    }
}

enum { RUN_FIRST = 40, RUN_END = RUN_FIRST + AP_BATCH_MAX };

/* Of two spans in use gives back blocks side by side, but for the one at `at`, and takes them again. */
static void expect_freed(void **blocks, unsigned at, bool down, unsigned stranger)
{
    void *run[AP_BATCH_MAX];
    bool is_given[2 * SLOTS_64] = {false};
    for (unsigned i = 0; i < AP_BATCH_MAX; i++) {
        unsigned in_step = down ? RUN_END - 1 - i : RUN_FIRST + i;
        unsigned slot = i == at ? stranger : in_step;
        run[i] = blocks[slot];
        is_given[slot] = true;
    }
    ap__central_check_slots(CLASS_64, run, AP_BATCH_MAX, "free");
    ap__central_give(CLASS_64, run, AP_BATCH_MAX, "free");
    for (unsigned slot = 0; slot < 2 * SLOTS_64; slot++) {
        cr_assert_eq(ap__central_is_free(CLASS_64, blocks[slot]), is_given[slot],
                     "slot %u; %u at %u, %d", slot, stranger, at, down);
    }
    take_all(CLASS_64, run, AP_BATCH_MAX);
    cr_assert_eq(stats(CLASS_64).claimed, 2 * SLOTS_64);
}

Test(central_free_list, of_a_run_with_one_block_out_of_step_exactly_the_given_blocks_are_freed)
{
    static void *blocks[2 * SLOTS_64];
    init();
    take_all(CLASS_64, blocks, 2 * SLOTS_64);
    for (unsigned at = 0; at < AP_BATCH_MAX; at++) {
        for (int down = 0; down <= 1; down++) {
            expect_freed(blocks, at, down, RUN_FIRST - 2);
            expect_freed(blocks, at, down, RUN_END + 1);
            expect_freed(blocks, at, down, SLOTS_64 + RUN_FIRST + at); /* of the other span */
        }
    }
    heap_check();
}
