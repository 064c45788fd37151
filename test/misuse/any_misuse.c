/* SPDX-License-Identifier: MIT */
/*
 * any_misuse.c: one wrong call at a random moment of a random program.
 * Goal: whatever wrong pointer, size or alignment is passed to whichever function, the process ends with
 * one line about it: at once where the pointer alone tells, else at the latest when all memory has come
 * back. Nothing else may happen: no fault, no hang, no damage to live blocks before the wrong call, no
 * silence. Method: children of one process. Each allocates, resizes and frees at random, in two threads'
 * caches, makes one wrong call, goes on, frees what it has and returns all batches. How it must end is
 * known from the kind of the wrong call. Where spans are mappings of their own (`reserve`), a block that was freed
 * twice may be handed out by one thread's cache after another's copy of it has drained, and unmapped, its span: there
 * such blocks are touched by nobody, neither the program nor calloc or realloc in its place.
 *
 * any_misuse [CHILDREN [SEED]]: status 0 if all is well, else a line that says how to repeat it.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"
#include "release.h"
#include "support/child.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { LIVE_MAX = 120, FREED_MAX = 60, STEPS_MAX = 400, CHILDREN = 400 };

/* --- the random program --- */

static struct {
    char *p;
    size_t size;
    unsigned seed;
} live[LIVE_MAX];
static unsigned live_count;
/* Blocks that were freed; some have been handed out again. */
static char *freed[FREED_MAX];
static unsigned freed_count;
static uint64_t state;
/* After the wrong call blocks may have two owners until it is found: they are not written to. */
static bool is_wrong;

static unsigned draw(unsigned below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)((state * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % below;
}

/* libc allocates a table of this size for every thread, the library's helper among them: what it is given
 * is not free, although it was ours and we have freed it. */
enum { LIBCS_SIZE = 17 * 16 };

static size_t draw_size(void)
{
    static const size_t bounds[] = {16, 200, 2 * KIB, 40 * KIB, 256 * KIB, 700 * KIB, 3 * MIB};
    unsigned kind = draw(20);
    size_t bound = bounds[kind < 7 ? kind : kind % 4];
    size_t size = bound - draw((unsigned)bound < 100000 ? (unsigned)bound : 100000);
    return ap_good_size(size) == ap_good_size(LIBCS_SIZE) ? LIBCS_SIZE / 2 : size;
}

static const struct entry_points *draw_set(void)
{
    return &entry_points[draw(ENTRY_POINT_SETS)];
}

static bool is_live(const char *p)
{
    for (unsigned i = 0; i < live_count; i++) {
        if (live[i].p == p) {
            return true;
        }
    }
    return false;
}

static void keep(char *p, size_t size)
{
    if (p == NULL || live_count == LIVE_MAX) {
        ap_free(p);
        return;
    }
    live[live_count].p = p;
    live[live_count].size = size;
    live[live_count].seed = draw(1000);
    if (!is_wrong) {
        mark(p, size, live[live_count].seed);
    }
    live_count++;
}

static void check_and_forget(unsigned i)
{
    if (!is_wrong && !is_marked(live[i].p, live[i].size, live[i].size, live[i].seed)) {
        fail("a live block of %zu bytes was changed", live[i].size);
    }
    live[i] = live[--live_count];
}

static void free_one(void)
{
    unsigned i = draw(live_count);
    char *p = live[i].p;
    check_and_forget(i);
    freed[freed_count < FREED_MAX ? freed_count++ : draw(FREED_MAX)] = p;
    draw_set()->free(p);
}

static void resize_one(void)
{
    unsigned i = draw(live_count);
    size_t size = draw_size(), old_size = live[i].size;
    char *p = live[i].p;
    check_and_forget(i);
    char *resized = draw_set()->realloc(p, size);
    keep(resized != NULL ? resized : p, resized != NULL ? size : old_size);
}

static bool may_be_touched(void)
{
    const char *options = getenv("APMALLOC_CONF");
    return !is_wrong || options == NULL || strstr(options, "reserve:4M") == NULL;
}

static void do_something(void)
{
    unsigned what = draw(10);
    if (live_count < 10 || (what < 5 && live_count < LIVE_MAX)) {
        size_t size = draw_size();
        unsigned which = draw(ALLOCATORS);
        bool touches = strcmp(allocator_name(which), "calloc") == 0;
        keep(allocate(draw_set(), touches && !may_be_touched() ? 0 : which, size), size);
    } else if (what < 9 || !may_be_touched()) {
        free_one();
    } else {
        resize_one();
    }
}

/* --- a second thread, which does what it is told, in a cache of its own --- */

static sem_t to_do, done;
static void (*order)(void);

static void *obey(void *unused)
{
    for (;;) {
        while (sem_wait(&to_do) != 0) {
        }
        if (order == NULL) {
            return unused;
        }
        order();
        (void)sem_post(&done);
    }
}

static void let_other_do(void (*what)(void))
{
    order = what;
    (void)sem_post(&to_do);
    while (what != NULL && sem_wait(&done) != 0) {
    }
}

static void do_here_or_there(void (*what)(void))
{
    if (draw(4) == 0) {
        let_other_do(what);
    } else {
        what();
    }
}

/* --- wrong pointers --- */

/* When it is found. */
enum found { AT_ONCE, AT_THE_END };

static _Alignas(64) char global[256];

struct wrong {
    const char *kind;
    char *p;
    enum found found;
};

static char *draw_live(bool large)
{
    for (unsigned tries = 0; tries < 1000; tries++) {
        unsigned i = draw(live_count);
        if ((live[i].size > 256 * KIB) == large) {
            return live[i].p;
        }
    }
    return live[0].p;
}

static struct wrong wrong_inside(bool large)
{
    char *p = draw_live(large);
    size_t usable = ap_usable_size(p);
    size_t steps = usable / 16;
    if (steps < 2) {
        return (struct wrong){"misaligned", p + 1 + draw(15), AT_ONCE};
    }
    p += (size_t)(1 + draw((unsigned)steps - 1)) * 16;
    return (struct wrong){"interior", p, usable > 256 * KIB ? AT_ONCE : AT_THE_END};
}

static struct wrong wrong_freed(void)
{
    for (unsigned tries = 0; tries < 100 && freed_count != 0; tries++) {
        char *p = freed[draw(freed_count)];
        if (!is_live(p)) {
            return (struct wrong){"freed", p, AT_THE_END};
        }
    }
    return wrong_inside(false);
}

/* Any place of a span of small blocks: free blocks, places in them, waste behind the last. Not where the
 * blocks may be libc's own, of which we know nothing: those are small. */
static struct wrong wrong_place_in_span(void)
{
    uintptr_t p = (uintptr_t)draw_live(false);
    if (ap_usable_size((void *)p) < KIB) {
        return wrong_inside(false);
    }
    p = (p & ~(uintptr_t)(64 * KIB - 1)) + draw(4096) * 16;
    return is_live((char *)p) ? wrong_inside(false)
                              : (struct wrong){"in a span", (char *)p, AT_THE_END};
}

static struct wrong wrong_high_bits(void)
{
    uintptr_t p = (uintptr_t)draw_live(draw(2) != 0);
    return (struct wrong){"high bits", (char *)(p ^ (uintptr_t)1 << (47 + draw(17))), AT_ONCE};
}

static struct wrong wrong_elsewhere(void)
{
    static const uintptr_t places[] = {
        16, 4096, (uintptr_t)1 << 46, -16, 0xdeadbeef0000, (uintptr_t)1 << 47, (size_t)-1 << 47};
    switch (draw(4)) {
    case 0:
        return (struct wrong){"global", global + 16 * draw(16), AT_ONCE};
    case 1:
        return (struct wrong){"mapped",
                              (char *)mmap(NULL, MIB, draw(2) ? PROT_NONE : PROT_READ,
                                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) +
                                  draw(16) * 64 * KIB,
                              AT_ONCE};
    case 2:
        return (struct wrong){"far", draw_live(false) + (((size_t)1 + draw(64)) << 34), AT_ONCE};
    default:
        return (struct wrong){"nowhere", (char *)places[draw(7)], AT_ONCE};
    }
}

static struct wrong draw_wrong(void)
{
    switch (draw(8)) {
    case 0:
        return (struct wrong){"misaligned", draw_live(draw(2) != 0) + 1 + draw(15), AT_ONCE};
    case 1:
        return wrong_inside(false);
    case 2:
        return wrong_inside(true);
    case 3:
        return wrong_place_in_span();
    case 4:
        return wrong_high_bits();
    case 5:
        return wrong_elsewhere();
    default:
        return wrong_freed();
    }
}

/* --- the wrong call --- */

extern void plain_delete(void *p) __asm__("_ZdlPv");
extern void sized_delete_array(void *p, size_t size) __asm__("_ZdaPvm");
extern void aligned_delete(void *p, size_t size, size_t align) __asm__("_ZdlPvmSt11align_val_t");

static const char *const calls[] = {
    "free",         "cfree",           "free_sized",      "free_aligned_sized", "realloc",
    "reallocarray", "operator delete", "operator delete", "operator delete[]",  "usable size"};
enum { CALLS = sizeof calls / sizeof calls[0] };

/* Shared with the parent: what the child does, and how far it is. */
static struct report {
    const char *kind;
    const char *call;
    void *p;
    enum found found;
    bool was_called;
    bool returned;
} * shared;

/* Where there is no memory, it may leave a free block as it is. */
static void keep_or_end(char *p, size_t size)
{
    if (p == NULL) {
        shared->call = "usable size";
        _exit(0);
    }
    keep(p, size);
}

static void call_wrongly(void)
{
    struct wrong wrong = draw_wrong();
    unsigned call = draw(CALLS);
    const struct entry_points *e = draw_set();
    char *p = opaque(wrong.p);
    size_t size = draw_size();
    *shared = (struct report){wrong.kind, calls[call], p, wrong.found, true, false};
    is_wrong = true;
    switch (call) {
    case 0:
        e->free(p);
        break;
    case 1:
        e->cfree(p);
        break;
    case 2:
        e->free_sized(p, size);
        break;
    case 3:
        e->free_aligned_sized(p, 16, size);
        break;
    case 4:
        keep_or_end(e->realloc(p, size), size);
        break;
    case 5:
        keep_or_end(e->reallocarray(p, size / 16 + 1, 16), size);
        break;
    case 6:
        plain_delete(p);
        break;
    case 7:
        aligned_delete(p, size, 16);
        break;
    case 8:
        sized_delete_array(p, size);
        break;
    default:
        (void)e->usable_size(p);
        _exit(0); /* a question about a free block may be answered */
    }
    shared->returned = true;
}

static void return_batches(void)
{
    ap_thread_idle();
}

static void child(void *seed)
{
    pthread_t thread;
    state = *(uint64_t *)seed;
    (void)sem_init(&to_do, 0, 0);
    (void)sem_init(&done, 0, 0);
    expect(pthread_create(&thread, NULL, obey, NULL) == 0, "a thread starts");
    for (unsigned i = 50 + draw(STEPS_MAX); i > 0; i--) {
        do_here_or_there(do_something);
    }
    do_here_or_there(call_wrongly);
    for (unsigned i = draw(STEPS_MAX); i > 0; i--) {
        do_here_or_there(do_something);
    }
    while (live_count > 0) {
        do_here_or_there(free_one);
    }
    let_other_do(return_batches);
    return_batches();
    (void)ap_trim();
    let_other_do(NULL);
    (void)pthread_join(thread, NULL);
    (void)ap_trim();
}

/* --- how it ends --- */

static bool is_one_line(const char *text)
{
    const char *end = strchr(text, '\n');
    return strncmp(text, "apmalloc: ", 10) == 0 && end != NULL && end[1] == '\0';
}

/* The line is about this call with this pointer. */
static bool is_about(const char *text, const struct report *report)
{
    char pointer[32];
    (void)snprintf(pointer, sizeof pointer, "(0x%lx): ", (unsigned long)(uintptr_t)report->p);
    return strstr(text, pointer) != NULL &&
           (strstr(text, report->call) != NULL || strcmp(report->call, "usable size") == 0);
}

static bool ended_well(const struct child_result *result)
{
    if (result->signal == 0 && result->status == 0 && result->length == 0) {
        return strcmp(shared->call, "usable size") == 0 && shared->found == AT_THE_END;
    }
    if (result->signal != SIGABRT || !is_one_line(result->text)) {
        return false;
    }
    return shared->found == AT_THE_END ? shared->was_called
                                       : !shared->returned && is_about(result->text, shared);
}

int main(int argc, char **argv)
{
    unsigned long children = argc > 1 ? strtoul(argv[1], NULL, 0) : CHILDREN;
    uint64_t seed = argc > 2 ? strtoul(argv[2], NULL, 0) : (uint64_t)time(NULL) << 20;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    expect((void *)shared != MAP_FAILED, "a shared page");
    (void)printf("seed %#lx\n", (unsigned long)seed);
    (void)fflush(stdout);
    for (unsigned long i = 0; i < children; i++, seed++) {
        static struct child_result result;
        uint64_t mixed = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15);
        *shared = (struct report){"none", "none", NULL, AT_ONCE, false, false};
        child_run(&result, child, &mixed);
        if (!ended_well(&result)) {
            fail("any_misuse 1 %#lx: %s of %s (%p), %s: signal %d, status %d, text: %s",
                 (unsigned long)seed, shared->call, shared->kind, shared->p,
                 shared->found == AT_ONCE ? "at once" : "late", result.signal, result.status,
                 result.text);
        }
    }
    return 0;
}
