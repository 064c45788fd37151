/* SPDX-License-Identifier: MIT */
/*
 * packed_program.c: contracts of blocks that lie side by side in spans they share (lib/pack), in a program of its own.
 * Goal: they are as long as asked, in units of 128 bytes, keep what is theirs through every change of size, are in every
 * figure, and what is free of them serves others and goes back. Method: one mode per contract; APMALLOC_CONF packs all.
 *
 * packed_program MODE: status 0 if all is well, else 1 and a line.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "entry_points.h"
#include "expect.h"
#include "good_end.h"
#include "modes.h"
#include "support/process_view.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { UNIT = 128, PACKED_MIN = 1025, PACKED_MAX = 65536 };

static uint64_t random_state = 1;

static size_t random_below(size_t bound)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (size_t)(random_state >> 33) % bound;
}

static size_t rounded(size_t size)
{
    return (size + UNIT - 1) / UNIT * UNIT;
}

static void *take_filled(size_t size, unsigned seed)
{
    void *p = entry_points[seed % ENTRY_POINT_SETS].malloc(size);
    expect(p != NULL, "a block is had");
    fill(p, size, seed);
    return p;
}

/* ------------------------------------------------------------ lengths and contents */

/* All are there at once: those that replace each other become as long as their class. */
static void every_allocator(void)
{
    enum { BLOCKS = 2000 };
    static void *blocks[BLOCKS];
    FOR_EACH_SET (e) {
        unsigned count = 0;
        for (size_t size = PACKED_MIN; size <= PACKED_MAX; size += 1 + size / 100) {
            void *p = e->malloc(size), *q = NULL;
            expect(e->usable_size(p) == rounded(size), "malloc: whole units");
            expect(ap_good_size(size) >= rounded(size), "a good size is enough");
            expect(e->posix_memalign(&q, UNIT, size) == 0 && e->usable_size(q) == rounded(size) &&
                       (uintptr_t)q % UNIT == 0,
                   "aligned to a unit: whole units");
            blocks[count++] = p;
            blocks[count++] = q;
        }
        while (count != 0) {
            e->free(blocks[--count]);
        }
    }
    FOR_EACH_SET (
        e) { /* more of them have spans of their own afterwards: page-aligned blocks are not packed */
        for (size_t size = PACKED_MIN; size <= PACKED_MAX; size += 1 + size / 50) {
            for (unsigned which = 0; which < ALLOCATORS; which++) {
                unsigned char *p = allocate(e, which, size);
                size_t usable = e->usable_size(p);
                expect(p != NULL && usable >= size, "as long as asked at least");
                fill(p, usable, which);
                expect(is_filled(p, usable, which), "all of it can be written");
                e->free(p);
            }
            void *p = e->malloc(ap_good_size(size));
            expect(e->usable_size(p) == ap_good_size(size), "a good size is given exactly");
            e->free(p);
        }
    }
}

/* They are not packed; and those that may be still are afterwards. */
static void aligned(void)
{
    FOR_EACH_SET (e) {
        for (size_t size = 1000; size <= PACKED_MAX; size += 1 + size / 10) {
            for (size_t alignment = 2 * UNIT; alignment <= 64 * KIB; alignment *= 4) {
                void *p = e->aligned_alloc(alignment, size);
                expect(p != NULL && (uintptr_t)p % alignment == 0, "higher alignments");
                e->free(p);
            }
        }
    }
    ap_thread_idle();
    size_t whole = 0, count = 0;
    static void *blocks[1000];
    for (size_t size = 2100; size < 8000; size += 333) {
        for (unsigned i = 0; i < 1000; i++) { /* more than spans that are there hold */
            blocks[i] = ap_malloc(size);
            whole += ap_usable_size(blocks[i]) == rounded(size);
            count++;
        }
        for (unsigned i = 0; i < 1000; i++) {
            ap_free(blocks[i]);
        }
    }
    expect(whole >= count / 10 * 9, "others of these sizes are packed still");
}

static void zeroed_after_use(void)
{
    enum { BLOCKS = 200 };
    void *blocks[BLOCKS];
    FOR_EACH_SET (e) {
        for (int round = 0; round < 30; round++) {
            for (unsigned i = 0; i < BLOCKS; i++) {
                size_t size = PACKED_MIN + random_below(30000);
                blocks[i] = e->calloc(1, size);
                expect(is_zero(blocks[i], size), "calloc's memory is zero");
                memset(blocks[i], 0xA5, e->usable_size(blocks[i]));
            }
            for (unsigned i = 0; i < BLOCKS; i++) {
                e->free(blocks[i]);
            }
        }
    }
}

/* From any size to any other, with neighbours that must not notice. */
static void every_direction(void)
{
    enum { BLOCKS = 64 };
    static const size_t around[] = {1,     100,   1024,  1025,  1152,  1153,   2048,   5000,  20000,
                                    32768, 65408, 65409, 65536, 65537, 100000, 200000, 262144};
    enum { N = sizeof around / sizeof around[0] };
    void *blocks[BLOCKS];
    size_t sizes[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        sizes[i] = around[i % N];
        blocks[i] = take_filled(sizes[i], i);
    }
    for (unsigned step = 0; step < 60000; step++) {
        unsigned i = (unsigned)random_below(BLOCKS);
        const struct entry_points *e = &entry_points[step % ENTRY_POINT_SETS];
        size_t to = step % 3 == 0   ? 1 + random_below(200000)
                    : step % 3 == 1 ? around[random_below(N)]
                                    : 1 + sizes[i] / 2 + random_below(sizes[i] + 1);
        to = to > 262144 ? 262144 : to;
        size_t usable = e->usable_size(blocks[i]);
        void *p = step % 2 == 0 ? e->realloc(blocks[i], to) : e->reallocarray(blocks[i], to, 1);
        size_t kept = to < sizes[i] ? to : sizes[i];
        expect(p != NULL && e->usable_size(p) >= to, "resized");
        expect(is_filled(p, kept, i), "the contents stay");
        expect(p == blocks[i] || to > usable || to < usable - usable / 2,
               "what fits and fills half stays");
        fill(p, to, i);
        blocks[i] = p;
        sizes[i] = to;
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        expect(is_filled(blocks[i], sizes[i], i), "the contents stay to the end");
        ap_free(blocks[i]);
    }
}

/* Growth takes what the one behind has left; what shrinking leaves another has. */
static void neighbours(void)
{
    char *a = ap_malloc(8000), *b = ap_malloc(8000), *c = ap_malloc(8000);
    expect(b == a + rounded(8000) && c == b + rounded(8000), "side by side");
    fill(a, 8000, 1);
    fill(c, 8000, 3);
    ap_free(b);
    expect(ap_realloc(a, 2 * rounded(8000)) == a, "grows over its neighbour");
    expect(ap_usable_size(a) == 2 * rounded(8000), "by all of it");
    fill(a + 8000, 2 * rounded(8000) - 8000, 2);
    expect(is_filled(a, 8000, 1) && is_filled(c, 8000, 3), "and leaves the one behind that alone");
    char *moved = ap_realloc(a, 2 * rounded(8000) + 1);
    expect(moved != NULL && moved != a, "not over a live one");
    expect(is_filled(moved, 8000, 1), "the contents move");
    expect(ap_realloc(moved, 2000) == moved && ap_usable_size(moved) == 2048, "shrinks in place");
    char *d = ap_malloc(16000);
    expect(d == a, "the first that fits is had");
    ap_free(d);
    ap_free(moved);
    ap_free(c);
}

/* ------------------------------------------------------------ figures */

static size_t figure_of_text(const char *text, const char *before)
{
    const char *at = strstr(text, before);
    expect(at != NULL, before);
    at += strlen(before);
    at += strcspn(at, "0123456789");
    return strtoull(at, NULL, 10);
}

static size_t live_bytes(void)
{
    return ap_mallinfo2().uordblks;
}

static void figures(void)
{
    enum { BLOCKS = 4000 };
    static void *blocks[BLOCKS];
    size_t before = live_bytes(), held = 0;
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t size = PACKED_MIN + random_below(20000);
        blocks[i] = ap_malloc(size);
        held += rounded(size);
    }
    expect(live_bytes() - before == held, "all that is taken is live");
    for (unsigned i = 0; i < BLOCKS; i += 2) {
        held -= ap_usable_size(blocks[i]);
        blocks[i] = ap_realloc(blocks[i], ap_usable_size(blocks[i]) * 5 / 8);
        held += ap_usable_size(blocks[i]);
    }
    expect(live_bytes() - before == held, "resized");
    struct ap_mallinfo2 info = ap_mallinfo2();
    expect(info.uordblks + info.fordblks == info.arena, "in use and free are all");
    static char text[65536];
    FILE *stream = fmemopen(text, sizeof text - 1, "w");
    expect(stream != NULL && ap_malloc_info(0, stream) == 0 && fclose(stream) == 0, "malloc_info");
    for (unsigned i = 0; i < BLOCKS; i++) {
        ap_free(blocks[i]);
    }
    expect(live_bytes() <= before + 8 * KIB, "nothing is left"); /* the stream is gone, too */
}

/* What malloc_stats() says to standard error. */
static void printed(void)
{
    enum { BLOCKS = 300 };
    static char text[65536];
    void *blocks[BLOCKS];
    int ends[2], kept = dup(STDERR_FILENO);
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = ap_malloc(3000);
    }
    expect(pipe(ends) == 0 && dup2(ends[1], STDERR_FILENO) == STDERR_FILENO, "pipe");
    ap_malloc_stats();
    expect(dup2(kept, STDERR_FILENO) == STDERR_FILENO && close(ends[1]) == 0, "no pipe");
    for (ssize_t length, all = 0;
         (length = read(ends[0], text + all, sizeof text - 1 - (size_t)all)) > 0; all += length) {
    }
    expect(figure_of_text(text, "packed blocks") == BLOCKS, "the number of packed blocks");
    expect(figure_of_text(text, "their bytes") == BLOCKS * rounded(3000), "their bytes");
    expect(figure_of_text(text, "their spans") == MIB, "their spans");
    for (unsigned i = 0; i < BLOCKS; i++) {
        ap_free(blocks[i]);
    }
}

/* ------------------------------------------------------------ memory */

enum { MANY = 12000, MANY_MAX = 60000, KEPT_OF = 10 };
static char *many[MANY_MAX];
static size_t many_sizes[MANY_MAX], resident_at_start, bound;

static bool is_down(void)
{
    return view_resident_bytes() <= resident_at_start + bound;
}

static void expect_down(int64_t most_ms, const char *what)
{
    if (view_wait(is_down, most_ms) < 0) {
        fail("%s: %zu MiB are resident, %zu may be", what,
             (view_resident_bytes() - resident_at_start) / MIB, bound / MIB);
    }
}

static void take_many(void)
{
    size_t sum = 0;
    resident_at_start = view_resident_bytes();
    for (unsigned i = 0; i < MANY; i++) {
        many_sizes[i] = PACKED_MIN + random_below(i % 2 == 0 ? 4000 : 31000);
        many[i] = take_filled(many_sizes[i], i);
        sum += many_sizes[i];
    }
    expect(view_resident_bytes() >= sum, "all is resident");
}

/* Those that stay pin the pages they touch. */
static void free_most(void)
{
    bound = 8 * MIB;
    for (unsigned i = 0; i < MANY; i++) {
        if (random_below(KEPT_OF) != 0) {
            ap_free(many[i]);
            many[i] = NULL;
        } else {
            bound += many_sizes[i] + 2 * 4096;
        }
    }
}

static void free_rest(void)
{
    for (unsigned i = 0; i < MANY; i++) {
        expect(many[i] == NULL || is_filled(many[i], many_sizes[i], i), "what is kept is kept");
        ap_free(many[i]);
    }
}

static void *sleep_beside(void *unused)
{
    (void)pause();
    return unused;
}

/* So that there is a helper. */
static void be_two(void)
{
    pthread_t thread;
    expect(pthread_create(&thread, NULL, sleep_beside, NULL) == 0, "a thread");
}

static void goes_back(void)
{
    be_two();
    take_many();
    free_most();
    expect_down(5000, "asleep");
    free_rest();
}

static void is_trimmed(void)
{
    take_many();
    free_most();
    (void)entry_points[0].malloc_trim(0);
    expect(is_down(), "trimmed");
    free_rest();
}

/* Blocks that shrink where they lie leave memory, too, and nothing else happens afterwards. */
static void shrinks_and_goes_back(void)
{
    enum { LONGS = 2000, LONG = 60000, SHORT = 1100 };
    be_two();
    resident_at_start = view_resident_bytes();
    bound = 8 * MIB + LONGS * (SHORT + 2 * 4096);
    for (unsigned i = 0; i < LONGS; i++) {
        many[i] = take_filled(LONG, i);
    }
    view_sleep_ms(2000); /* the helper has had nothing to do for long */
    for (unsigned i = 0; i < LONGS; i++) {
        expect(ap_realloc(many[i], SHORT) == many[i], "a block shrinks where it lies");
        many_sizes[i] = SHORT;
    }
    expect_down(5000, "shrunk");
    free_rest();
}

/* ------------------------------------------------------------ no memory */

/* As many as there are; all of which must be good. */
static unsigned take_all(size_t size)
{
    unsigned count = 0;
    while (count < MANY_MAX && (many[count] = ap_malloc(size)) != NULL) {
        many_sizes[count] = size;
        fill(many[count], size, count);
        count++;
    }
    expect(count < MANY_MAX && errno == ENOMEM, "memory ends");
    return count;
}

static void free_all(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        expect(many[i] == NULL || is_filled(many[i], many_sizes[i], i), "contents");
        ap_free(many[i]);
        many[i] = NULL;
    }
}

/* With limit:32M. What is free between blocks is found, however it lies; and whichever class opens meanwhile. */
static void limited(void)
{
    static const size_t sizes[] = {1100, 3000, 10000, 30000, 60000};
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = sizes[i * 3 % 5];
        unsigned count = take_all(size);
        expect(count * size >= 22 * MIB, "nearly all of it can be used");
        expect(ap_realloc(many[0], 100 * MIB) == NULL && errno == ENOMEM, "no realloc");
        for (unsigned b = 0; b < count; b += 3) {
            ap_free(many[b]);
            many[b] = NULL;
        }
        for (unsigned b = 0; b < count; b += 3) {
            many[b] = ap_malloc(size);
            if (many[b] == NULL) {
                fail("%u blocks of %zu, %u came back: the memory of number %u is not found again",
                     count, size, (count + 2) / 3, b / 3);
            }
            fill(many[b], size, b);
        }
        free_all(count);
    }
}

/* With limit:16M: one hole is long enough, among many that are nearly so. */
static void one_hole(void)
{
    enum { LONG = 58000, LONGER = 60000, SHORT = 2000, HOLES = 100 };
    char *longs[HOLES] = {NULL}, *longer = NULL;
    unsigned holes = 0;
    void *chain = NULL;
    for (;;) { /* each is followed by one that stays */
        char *p = ap_malloc(holes == 0 ? LONGER : LONG), **q = ap_malloc(SHORT);
        if (p == NULL || q == NULL) {
            break;
        }
        expect(holes < HOLES * 5, "memory ends");
        if (holes % 5 == 0) {
            *(holes == 0 ? &longer : &longs[holes / 5]) = p;
        }
        *q = chain;
        chain = q;
        holes++;
    }
    for (void **p; (p = ap_malloc(PACKED_MIN)) != NULL;) { /* until nothing is left */
        *p = chain;
        chain = p;
    }
    expect(longer != NULL, "there is a longer one");
    for (unsigned i = 0; i < HOLES; i++) {
        ap_free(longs[i]);
    }
    ap_free(longer);
    char *again = ap_malloc(LONGER);
    expect(again != NULL, "the one hole is found");
    ap_free(again);
}

/* So little address space that there is hardly a region. */
static void address_space(void)
{
    const struct rlimit tiny = {64 * MIB, 64 * MIB};
    if (getenv("PACKED_PROGRAM_IS_TINY") == NULL) {
        expect(setrlimit(RLIMIT_AS, &tiny) == 0, "ulimit -v");
        expect(setenv("PACKED_PROGRAM_IS_TINY", "1", 1) == 0, "environment");
        (void)execl("/proc/self/exe", "packed_program", "address_space", (char *)NULL);
        fail("not executed");
    }
    for (size_t size = 2000; size < 60000; size = size * 2 + 100) {
        unsigned count = take_all(size);
        expect(count * size >= 16 * MIB, "much of it can be used");
        free_all(count);
    }
}

/* ------------------------------------------------------------ forks and ends of threads */

enum { WORKERS = 4, IN_TRANSIT = 256 };
static atomic_bool is_over;
static _Atomic(void *) in_transit[IN_TRANSIT];

static void *work(void *number)
{
    uint64_t state = (uintptr_t)number;
    while (!atomic_load(&is_over)) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        size_t size = 1 + (state >> 40) % ((state >> 33) % 4 == 0 ? 70000 : 6000);
        void *p = ap_malloc(size);
        p = (state >> 35) % 4 == 0 ? ap_realloc(p, size + size / 3) : p;
        ap_free(atomic_exchange(&in_transit[state >> 56], p));
        if ((state >> 20) % 512 == 0) {
            (void)ap_trim();
        }
    }
    return number;
}

static void be_child(void)
{
    (void)alarm(30);
    for (unsigned i = 0; i < MANY / 10; i++) {
        expect(is_filled(many[i], many_sizes[i], i), "the parent's blocks");
        ap_free(many[i]);
    }
    for (unsigned i = 0; i < IN_TRANSIT; i++) {
        ap_free(atomic_exchange(&in_transit[i], NULL));
    }
    for (unsigned i = 0; i < MANY / 10; i++) {
        many[i] = take_filled(many_sizes[i], i);
    }
    (void)ap_trim();
    (void)ap_mallinfo2();
    for (unsigned i = 0; i < MANY / 10; i++) {
        expect(is_filled(many[i], many_sizes[i], i), "blocks of its own");
        ap_free(many[i]);
    }
    exit(0);
}

static void forks(void)
{
    pthread_t threads[WORKERS];
    for (uintptr_t i = 0; i < WORKERS; i++) {
        expect(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0, "a thread");
    }
    for (unsigned i = 0; i < MANY / 10; i++) {
        many_sizes[i] = PACKED_MIN + random_below(20000);
        many[i] = take_filled(many_sizes[i], i);
    }
    for (unsigned round = 0; round < 60; round++) {
        pid_t child = fork();
        if (child == 0) {
            be_child();
        }
        expect_good_end(child);
    }
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < WORKERS; i++) {
        expect(pthread_join(threads[i], NULL) == 0, "an end");
    }
    for (unsigned i = 0; i < MANY / 10; i++) {
        expect(is_filled(many[i], many_sizes[i], i), "the parent's blocks stay");
        ap_free(many[i]);
    }
    for (unsigned i = 0; i < IN_TRANSIT; i++) {
        ap_free(atomic_exchange(&in_transit[i], NULL));
    }
}

static pthread_key_t key;

/* Runs before and after the heap's own, round by round. */
static void at_end_of_thread(void *block)
{
    uintptr_t rounds = *(uintptr_t *)block;
    void *p = take_filled(2000 + rounds * 5000, (unsigned)rounds);
    expect(is_filled(block, sizeof rounds, 0) || rounds <= 3, "its block");
    ap_free(block);
    p = ap_realloc(p, 40000);
    if (rounds != 0) {
        *(uintptr_t *)p = rounds - 1;
        expect(pthread_setspecific(key, p) == 0, "once more");
    } else {
        ap_free(p);
    }
}

static void *end_with_block(void *handed)
{
    uintptr_t *block = ap_malloc(3000);
    expect(block != NULL, "a block");
    *block = 3;
    expect(pthread_setspecific(key, block) == 0, "a value");
    ap_free(handed);
    return ap_malloc(5000);
}

static void ends(void)
{
    size_t before = live_bytes();
    void *handed = NULL;
    expect(pthread_key_create(&key, at_end_of_thread) == 0, "a key");
    for (unsigned i = 0; i < 300; i++) {
        pthread_t thread;
        expect(pthread_create(&thread, NULL, end_with_block, handed) == 0, "a thread");
        expect(pthread_join(thread, &handed) == 0, "an end");
    }
    ap_free(handed);
    expect(live_bytes() <= before + 64 * KIB, "nothing is lost");
}

/* ------------------------------------------------------------ */

static const struct mode modes[] = {
    {"every_allocator", every_allocator},
    {"aligned", aligned},
    {"zeroed_after_use", zeroed_after_use},
    {"every_direction", every_direction},
    {"neighbours", neighbours},
    {"figures", figures},
    {"printed", printed},
    {"goes_back", goes_back},
    {"is_trimmed", is_trimmed},
    {"shrinks_and_goes_back", shrinks_and_goes_back},
    {"limited", limited},
    {"one_hole", one_hole},
    {"address_space", address_space},
    {"forks", forks},
    {"ends", ends},
};

int main(int argc, char **argv)
{
    (void)argc;
    run_mode(modes, sizeof modes / sizeof *modes, argv[1]);
    return 0;
}
