/* SPDX-License-Identifier: MIT */
/*
 * statistics_test.c: what the library says about itself.
 * Goal: the figures are true, the memory that a trim promises to give back is given back, and
 * the reports are well-formed. Method: compare with what the test itself holds and with the
 * kernel's account of the process.
 */
#include "entry_points.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/child.h"

TestSuite(statistics, .timeout = 120);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define GRANULE (64 * KIB)

enum { BLOCKS = 3000 };

/* Resident bytes of this process by the kernel's own account; no heap memory is used to ask. */
static size_t resident_bytes(void)
{
    char text[2048];
    FILE *rollup = fopen("/proc/self/smaps_rollup", "r");
    cr_assert_not_null(rollup);
    size_t length = fread(text, 1, sizeof text - 1, rollup), kib = 0;
    (void)fclose(rollup);
    text[length] = '\0';
    const char *line = strstr(text, "\nRss:");
    cr_assert(line != NULL && sscanf(line, "\nRss: %zu kB", &kib) == 1);
    return kib * KIB;
}

static size_t live_bytes(const struct entry_points *e)
{
    return e->mallinfo2().uordblks;
}

Test(statistics, live_bytes_follow_small_blocks_exactly)
{
    static const size_t sizes[] = {1, 16, 100, 1000, 5000, 40 * KIB, 256 * KIB};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            static void *blocks[BLOCKS];
            size_t count = sizes[i] > KIB * 8 ? 100 : BLOCKS;
            size_t before = live_bytes(e), held = 0;
            for (size_t b = 0; b < count; b++) {
                blocks[b] = e->malloc(sizes[i]);
                held += e->usable_size(blocks[b]);
                if (b % 97 == 0) {
                    cr_assert_eq(live_bytes(e) - before, held, "%zu blocks of %zu", b + 1,
                                 sizes[i]);
                }
            }
            cr_assert_eq(live_bytes(e) - before, held);
            for (size_t b = 0; b < count; b += 2) {
                held -= e->usable_size(blocks[b]);
                e->free(blocks[b]);
            }
            cr_assert_eq(live_bytes(e) - before, held);
            for (size_t b = 1; b < count; b += 2) {
                e->free(blocks[b]);
            }
            cr_assert_eq(live_bytes(e), before, "all blocks of %zu freed", sizes[i]);
        }
    }
}

Test(statistics, live_bytes_follow_large_objects)
{
    static const size_t sizes[] = {300 * KIB, 1 * MIB, 1 * MIB + 1, 20 * MIB};
    FOR_EACH_SET (e) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct ap_mallinfo2 before = e->mallinfo2();
            void *p = e->malloc(sizes[i]);
            struct ap_mallinfo2 with = e->mallinfo2();
            cr_assert_eq(with.hblks, before.hblks + 1);
            cr_assert_geq(with.hblkhd - before.hblkhd, sizes[i]);
            cr_assert_leq(with.hblkhd - before.hblkhd, sizes[i] + GRANULE);
            cr_assert_geq(with.uordblks - before.uordblks, sizes[i]);
            cr_assert_leq(with.uordblks - before.uordblks, sizes[i] + GRANULE);
            p = e->realloc(p, 3 * sizes[i]);
            with = e->mallinfo2();
            cr_assert_eq(with.hblks, before.hblks + 1);
            cr_assert_geq(with.uordblks - before.uordblks, 3 * sizes[i]);
            cr_assert_leq(with.uordblks - before.uordblks, 3 * sizes[i] + GRANULE);
            e->free(p);
            struct ap_mallinfo2 after = e->mallinfo2();
            cr_assert_eq(after.hblks, before.hblks);
            cr_assert_eq(after.hblkhd, before.hblkhd);
            cr_assert_eq(after.uordblks, before.uordblks);
        }
    }
}

Test(statistics, figures_fit_together)
{
    FOR_EACH_SET (e) {
        static void *blocks[BLOCKS];
        for (int round = 0; round < 3; round++) {
            for (size_t b = 0; b < BLOCKS; b++) {
                blocks[b] = e->malloc(b % 50 == 49 ? 300 * KIB : b * 7 % 20000);
            }
            for (int freed = 0; freed < 2; freed++) {
                struct ap_mallinfo2 i = e->mallinfo2();
                cr_assert_eq(i.fordblks, i.arena - i.uordblks);
                cr_assert_leq(i.uordblks, i.arena);
                cr_assert_leq(i.hblkhd, i.uordblks);
                cr_assert_leq(i.fsmblks, i.fordblks);
                cr_assert_leq(i.keepcost, i.fordblks);
                cr_assert_geq(i.usmblks, i.arena);
                for (size_t b = 0; freed == 0 && b < BLOCKS; b++) {
                    e->free(blocks[b]);
                }
            }
        }
    }
}

Test(statistics, both_sets_of_names_tell_the_same)
{
    void *p = ap_malloc(12345), *q = ap_malloc(1234567);
    struct ap_mallinfo2 a = entry_points[0].mallinfo2(), b = entry_points[1].mallinfo2();
    cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
    ap_free(p);
    ap_free(q);
}

Test(statistics, mallinfo_is_mallinfo2_in_ints)
{
    FOR_EACH_SET (e) {
        void *p = e->malloc(1 * MIB);
        struct ap_mallinfo narrow = e->mallinfo();
        struct ap_mallinfo2 wide = e->mallinfo2();
        cr_assert_eq((size_t)narrow.uordblks, wide.uordblks);
        cr_assert_eq((size_t)narrow.arena, wide.arena);
        cr_assert_eq((size_t)narrow.hblks, wide.hblks);
        cr_assert_eq((size_t)narrow.hblkhd, wide.hblkhd);
        e->free(p);
    }
}

Test(statistics, four_gibibytes_do_not_wrap)
{
    FOR_EACH_SET (e) {
        enum { PIECES = 6 };
        void *pieces[PIECES];
        size_t before = live_bytes(e);
        for (int i = 0; i < PIECES; i++) {
            pieces[i] = e->malloc(GIB); /* never touched: address space only */
            if (pieces[i] == NULL) {
                cr_skip_test("this machine does not lend 6 GiB of untouched memory");
            }
        }
        cr_assert_geq(live_bytes(e) - before, PIECES * GIB);
        cr_assert_leq(live_bytes(e) - before, PIECES * (GIB + GRANULE));
        cr_assert_eq(e->mallinfo().uordblks, INT_MAX);
        cr_assert_eq(e->mallinfo().hblkhd, INT_MAX);
        cr_assert_eq(e->mallinfo().arena, INT_MAX);
        for (int i = 0; i < PIECES; i++) {
            e->free(pieces[i]);
        }
        cr_assert_eq(live_bytes(e), before);
    }
}

struct other_thread {
    const struct entry_points *e;
    void *blocks[100];
    pthread_barrier_t step;
};

static void *hold_blocks(void *argument)
{
    struct other_thread *other = argument;
    for (int i = 0; i < 100; i++) {
        other->blocks[i] = other->e->malloc(500);
    }
    (void)pthread_barrier_wait(&other->step); /* blocks are there */
    (void)pthread_barrier_wait(&other->step); /* they were counted */
    for (int i = 0; i < 50; i++) {
        other->e->free(other->blocks[i]);
    }
    (void)pthread_barrier_wait(&other->step); /* half are gone */
    (void)pthread_barrier_wait(&other->step); /* they were counted */
    return NULL;
}

/* Whatever the system does with huge pages, it cannot give one to each class: they share chunks. */
Test(statistics, one_block_of_each_small_class_fits_few_chunks)
{
    enum { LARGEST = 8192, CLASSES_MAX = 100, CLASSES_MIN = 32, FEW_CHUNKS = 8 << 20 };
    void *blocks[CLASSES_MAX];
    unsigned classes = 0;
    size_t before = ap_mallinfo2().arena;
    for (size_t size = 1; size <= LARGEST; size = ap_good_size(size) + 1) {
        cr_assert_lt(classes, CLASSES_MAX);
        blocks[classes] = ap_malloc(size);
        cr_assert_not_null(blocks[classes]);
        memset(blocks[classes++], 1, size);
    }
    size_t more = ap_mallinfo2().arena - before;
    cr_assert_geq(classes, CLASSES_MIN);
    cr_assert_leq(more, FEW_CHUNKS, "%zu bytes for %u classes", more, classes);
    while (classes > 0) {
        ap_free(blocks[--classes]);
    }
}

Test(statistics, live_bytes_include_those_of_other_threads)
{
    FOR_EACH_SET (e) {
        static struct other_thread other;
        pthread_t thread;
        other.e = e;
        cr_assert_eq(pthread_barrier_init(&other.step, NULL, 2), 0);
        e->free(e->malloc(500));
        size_t each = ap_good_size(500), start = live_bytes(e);
        cr_assert_eq(pthread_create(&thread, NULL, hold_blocks, &other), 0);
        (void)pthread_barrier_wait(&other.step);
        size_t with = live_bytes(e);
        /* The thread itself needs a few hundred bytes of libc's. */
        cr_assert_geq(with - start, 100 * each);
        cr_assert_leq(with - start, 100 * each + 4 * KIB);
        (void)pthread_barrier_wait(&other.step);
        (void)pthread_barrier_wait(&other.step);
        cr_assert_eq(with - live_bytes(e), 50 * each);
        (void)pthread_barrier_wait(&other.step);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        size_t before = live_bytes(e);
        for (int i = 50; i < 100; i++) {
            e->free(other.blocks[i]);
        }
        cr_assert_eq(before - live_bytes(e), 50 * each);
    }
}

Test(statistics, idle_thread_has_no_cached_blocks)
{
    static void *blocks[BLOCKS];
    (void)ap_trim();
    struct ap_mallinfo2 others = ap_mallinfo2(); /* Criterion has threads, too */
    for (size_t b = 0; b < BLOCKS; b++) {
        blocks[b] = ap_malloc(b % 700);
    }
    for (size_t b = 0; b < BLOCKS; b++) {
        ap_free(blocks[b]);
    }
    /* All figures before the first assertion, which may use the heap itself. */
    struct ap_mallinfo2 start = ap_mallinfo2();
    ap_thread_idle();
    struct ap_mallinfo2 idle = ap_mallinfo2();
    (void)ap_trim();
    struct ap_mallinfo2 trimmed = ap_mallinfo2();
    cr_assert_leq(idle.fsmblks, start.fsmblks);
    cr_assert_eq(idle.uordblks, start.uordblks);
    cr_assert_gt(start.smblks, others.smblks + 100);
    cr_assert_leq(trimmed.smblks, others.smblks);
    cr_assert_leq(trimmed.fsmblks, others.fsmblks);
    cr_assert_eq(trimmed.uordblks, start.uordblks);
    void *p = ap_malloc(100); /* and the cache fills again */
    cr_assert_not_null(p);
    ap_free(p);
}

/* --- memory given back --- */

Test(statistics, trim_gives_a_large_block_back_to_the_kernel)
{
    FOR_EACH_SET (e) {
        char *p = e->malloc(256 * MIB);
        cr_assert_not_null(p);
        memset(p, 1, 256 * MIB);
        size_t with = resident_bytes();
        e->free(p);
        cr_assert_eq(e->malloc_trim(0), 1);
        size_t without = resident_bytes();
        cr_assert_geq(with - without, 250 * MIB, "%zu -> %zu", with, without);
        int again = e->malloc_trim(0);
        cr_assert(again == 0 || again == 1);
        p = e->malloc(256 * MIB);
        cr_assert_not_null(p);
        memset(p, 2, 256 * MIB);
        e->free(p);
        int trimmed = e->malloc_trim(SIZE_MAX);
        cr_assert(trimmed == 0 || trimmed == 1);
    }
}

Test(statistics, trim_gives_freed_small_blocks_back_to_the_kernel)
{
    enum { COUNT = 256 << 10 };
    FOR_EACH_SET (e) {
        static void *blocks[COUNT];
        for (size_t b = 0; b < COUNT; b++) {
            blocks[b] = e->malloc(500);
            memset(blocks[b], 1, 500);
        }
        size_t with = resident_bytes();
        for (size_t b = 0; b < COUNT; b++) {
            e->free(blocks[b]);
        }
        size_t given_back = ap_trim();
        size_t without = resident_bytes();
        cr_assert_geq(given_back, 115 * MIB);
        cr_assert_geq(with - without, 115 * MIB, "%zu -> %zu", with, without);
    }
}

Test(statistics, keepcost_is_what_a_trim_gives_back)
{
    void *blocks[16];
    for (int b = 0; b < 16; b++) {
        blocks[b] = ap_malloc(2 * MIB);
        memset(blocks[b], 1, 2 * MIB);
    }
    for (int b = 0; b < 16; b += 2) {
        ap_free(blocks[b]);
    }
    size_t promised = ap_mallinfo2().keepcost;
    cr_assert_geq(promised, 16 * MIB);
    cr_assert_geq(ap_trim(), promised);
    cr_assert_lt(ap_mallinfo2().keepcost, promised);
    for (int b = 1; b < 16; b += 2) {
        ap_free(blocks[b]);
    }
}

/* --- reports --- */

/* Checks tags, nesting, attributes and that there is one root. A small subset of XML will do. */
static const char *xml_error(const char *at)
{
    enum { DEPTH_MAX = 32, NAME_MAX_ = 64 };
    char open[DEPTH_MAX][NAME_MAX_];
    int depth = 0, roots = 0;
    while (*at != '\0') {
        if (*at != '<') {
            if (depth == 0 && !isspace((unsigned char)*at)) {
                return "text outside of the root";
            }
            if (*at == '&' || *at == '>') {
                return "a bare special character";
            }
            at++;
            continue;
        }
        if (strncmp(at, "<?", 2) == 0) {
            at = strstr(at, "?>");
            if (at == NULL) {
                return "an unfinished declaration";
            }
            at += 2;
            continue;
        }
        bool closing = at[1] == '/';
        at += closing ? 2 : 1;
        size_t length = strcspn(at, " \t\n/>");
        if (length == 0 || length >= NAME_MAX_) {
            return "a bad name";
        }
        if (closing) {
            if (depth == 0 || strlen(open[depth - 1]) != length ||
                strncmp(open[depth - 1], at, length) != 0 || at[length] != '>') {
                return "a closing tag that does not match";
            }
            depth--;
            at += length + 1;
            continue;
        }
        if (depth == 0 && roots++ > 0) {
            return "two roots";
        }
        if (depth == DEPTH_MAX) {
            return "too deep";
        }
        memcpy(open[depth], at, length);
        open[depth][length] = '\0';
        at += length;
        for (;;) {
            at += strspn(at, " \t\n");
            if (*at == '/' && at[1] == '>') {
                at += 2;
                break;
            }
            if (*at == '>') {
                at++;
                depth++;
                break;
            }
            size_t name = strcspn(at, " =<>\"");
            if (name == 0 || at[name] != '=' || at[name + 1] != '"') {
                return "a bad attribute";
            }
            at += name + 2;
            size_t value = strcspn(at, "\"<");
            if (at[value] != '"') {
                return "a bad attribute value";
            }
            at += value + 1;
        }
    }
    return depth != 0 ? "an open element" : roots != 1 ? "no root" : NULL;
}

Test(statistics, the_xml_checker_knows_good_from_bad)
{
    cr_assert_null(
        xml_error("<?xml version=\"1.0\"?>\n<a v=\"1\"><b/><c x=\"2\" y=\"3\">4</c></a>\n"));
    cr_assert_not_null(xml_error("<a><b></a></b>"));
    cr_assert_not_null(xml_error("<a>"));
    cr_assert_not_null(xml_error("<a/><b/>"));
    cr_assert_not_null(xml_error("<a v=1/>"));
    cr_assert_not_null(xml_error(""));
}

Test(statistics, malloc_info_writes_well_formed_xml)
{
    FOR_EACH_SET (e) {
        char *small = e->malloc(100), *large = e->malloc(2 * MIB);
        static char text[1 << 20];
        FILE *stream = tmpfile();
        cr_assert_not_null(stream);
        cr_assert_eq(e->malloc_info(0, stream), 0);
        rewind(stream);
        size_t length = fread(text, 1, sizeof text - 1, stream);
        text[length] = '\0';
        (void)fclose(stream);
        cr_assert_gt(length, 0);
        const char *error = xml_error(text);
        cr_assert_null(error, "%s in:\n%s", error, text);
        cr_assert_not_null(strstr(text, "<malloc version="));
        e->free(small);
        e->free(large);
    }
}

Test(statistics, malloc_info_knows_no_options)
{
    FOR_EACH_SET (e) {
        errno = 0;
        cr_assert_eq(e->malloc_info(1, stderr), -1);
        cr_assert_eq(errno, EINVAL);
        errno = 0;
        cr_assert_eq(e->malloc_info(-1, stderr), -1);
        cr_assert_eq(errno, EINVAL);
    }
}

Test(statistics, malloc_info_reports_a_stream_that_fails)
{
    FOR_EACH_SET (e) {
        FILE *stream = fopen("/dev/full", "w");
        cr_assert_not_null(stream);
        (void)setvbuf(stream, NULL, _IONBF, 0);
        errno = 0;
        cr_assert_eq(e->malloc_info(0, stream), -1);
        cr_assert_eq(errno, ENOSPC);
        (void)fclose(stream);
    }
}

static void print_stats(void *set)
{
    const struct entry_points *e = set;
    void *small = e->malloc(100), *large = e->malloc(2 * MIB);
    e->malloc_stats();
    e->free(small);
    e->free(large);
}

Test(statistics, malloc_stats_writes_lines_of_text_to_standard_error)
{
    FOR_EACH_SET (e) {
        struct child_result result;
        child_run(&result, print_stats, (void *)e);
        cr_assert_eq(result.signal, 0);
        cr_assert_eq(result.status, 0);
        cr_assert_gt(result.length, 0);
        cr_assert_eq(result.text[result.length - 1], '\n');
        cr_assert_neq(strpbrk(result.text, "0123456789"), NULL);
        for (size_t i = 0; i < result.length; i++) {
            cr_assert(isprint((unsigned char)result.text[i]) || result.text[i] == '\n' ||
                      result.text[i] == '\t');
        }
    }
}

static atomic_bool reached_the_end;

static void *call_with_cancellation_pending(void *set)
{
    const struct entry_points *e = set;
    (void)pthread_cancel(pthread_self()); /* deferred: acts at the next cancellation point */
    for (size_t size = 1; size < 3 * MIB; size = size * 2 + 1) {
        void *p = e->realloc(e->calloc(1, size), 2 * size);
        (void)e->usable_size(p);
        e->free(p);
        e->free(e->aligned_alloc(4096, size));
    }
    (void)e->mallinfo2();
    (void)e->malloc_trim(0);
    ap_thread_idle();
    e->malloc_stats();
    atomic_store(&reached_the_end, true);
    pthread_testcancel();
    return NULL;
}

static void run_cancelled_thread(void *set)
{
    pthread_t thread;
    void *result;
    if (pthread_create(&thread, NULL, call_with_cancellation_pending, set) != 0 ||
        pthread_join(thread, &result) != 0) {
        _exit(1);
    }
    _exit(!atomic_load(&reached_the_end) ? 2 : result != PTHREAD_CANCELED ? 3 : 0);
}

Test(statistics, no_function_is_a_cancellation_point)
{
    FOR_EACH_SET (e) {
        struct child_result result;
        child_run(&result, run_cancelled_thread, (void *)e);
        cr_assert_eq(result.status, 0, "%s: status %d", e->set, result.status);
    }
}
