/* SPDX-License-Identifier: MIT */
/*
 * decay_program.c: a program that uses much memory, frees nearly all of it, and looks how much of it stays
 * resident. Helper of decay_test.c.
 * Goal: what is not in use goes back in time, in every situation of a program: asleep, at work, alone,
 * with threads or memory calls refused. Method: one or two threads fill scattered small blocks, of
 * which 1 of 50 is kept, medium ones and one of 64 MiB each; one mode per situation. APMALLOC_CONF says
 * what the library does; DECAY_MS here is what the test gives it.
 *
 * decay_program MODE: status 0 if all is well, 77 where there is nothing to test, else 1 and a line.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "entry_points.h"
#include "expect.h"
#include "modes.h"
#include "support/process_view.h"
#include "support/seccomp.h"

#define MIB ((size_t)1 << 20)

enum {
    DECAY_MS = 500,
    PROMISED_MS = 3 * DECAY_MS,
    THREADS_MAX = 2,
    SMALL = 50000, /* blocks per thread; 50 MiB */
    SMALL_BYTES = 1000,
    KEPT_OF = 50,
    MEDIUM = 500, /* 50 MiB */
    MEDIUM_BYTES = 100000,
    PAGE_BYTES = 4096,
};
#define HUGE_BYTES (64 * MIB)
#define PEAK_PER_THREAD (SMALL * (size_t)SMALL_BYTES + MEDIUM * (size_t)MEDIUM_BYTES + HUGE_BYTES)

/* A kept block pins the pages that it touches. The rest is bounded: caches, records, the program. */
#define PINNED_PER_THREAD (SMALL / KEPT_OF * (size_t)2 * PAGE_BYTES)
#define REST_BYTES (16 * MIB)
#define LOCKED_STACKS_BYTES (16 * MIB) /* where memory is locked, stacks are resident as a whole */

struct share {
    void *small[SMALL];
    void *medium[MEDIUM];
    void *huge;
};
static struct share shares[THREADS_MAX];
static unsigned threads = THREADS_MAX;
static size_t resident_at_start;
static size_t rest_bytes = REST_BYTES;

/* ------------------------------------------------------------ the memory */

static void *take_filled(size_t size, unsigned seed)
{
    void *p = entry_points[seed % ENTRY_POINT_SETS].malloc(size);
    expect(p != NULL, "a block is had");
    fill(p, size < PAGE_BYTES ? size : PAGE_BYTES, seed);
    for (size_t at = PAGE_BYTES; at < size; at += PAGE_BYTES) {
        ((volatile char *)p)[at] = 1;
    }
    return p;
}

static void take_all(struct share *share)
{
    share->huge = take_filled(HUGE_BYTES, 0);
    for (unsigned i = 0; i < SMALL; i++) {
        share->small[i] = take_filled(SMALL_BYTES, i);
        if (i % (SMALL / MEDIUM) == 0) {
            share->medium[i / (SMALL / MEDIUM)] = take_filled(MEDIUM_BYTES, i);
        }
    }
}

static void free_most(struct share *share)
{
    for (unsigned i = 0; i < SMALL; i++) {
        if (i % KEPT_OF != 0) {
            ap_free(share->small[i]);
        }
    }
    for (unsigned i = 0; i < MEDIUM; i++) {
        ap_free(share->medium[i]);
    }
    ap_free(share->huge);
}

static void expect_kept(const struct share *share)
{
    for (unsigned i = 0; i < SMALL; i += KEPT_OF) {
        expect(is_filled(share->small[i], SMALL_BYTES, i), "a block in use keeps its contents");
    }
}

/* What a program does now and then: every kind of block, so that slow paths are among it. */
static void work_a_little(void)
{
    enum { BLOCKS = 40 };
    void *blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = ap_malloc(i % 10 == 0 ? 300000 : 2000);
        expect(blocks[i] != NULL, "a block is had");
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        ap_free(blocks[i]);
    }
}

static size_t resident_of_heap(void)
{
    size_t now = view_resident_bytes();
    return now > resident_at_start ? now - resident_at_start : 0;
}

static bool is_down(void)
{
    return resident_of_heap() <= threads * PINNED_PER_THREAD + rest_bytes;
}

static bool is_up(void)
{
    return resident_of_heap() >= threads * PEAK_PER_THREAD / 10 * 8;
}

static void expect_up(const char *when)
{
    if (!is_up()) {
        fail("%s: %zu MiB are resident, where %zu were in use", when, resident_of_heap() / MIB,
             threads * PEAK_PER_THREAD / MIB);
    }
}

static void expect_down_within(bool (*condition)(void), int64_t most_ms, const char *when)
{
    int64_t took_ms = view_wait(condition, most_ms);
    if (took_ms < 0) {
        fail("%s: %zu MiB are resident after %d ms, %zu are in use", when, resident_of_heap() / MIB,
             (int)most_ms, threads * PINNED_PER_THREAD / MIB);
    }
    (void)printf("%s: down after %d ms\n", when, (int)took_ms);
}

/* ------------------------------------------------------------ the threads */

static pthread_barrier_t barrier;
static atomic_bool may_work;
static atomic_bool may_end;
static void (*begin_thread)(void); /* what each thread does first */

static void meet(void)
{
    if (threads > 1) {
        (void)pthread_barrier_wait(&barrier);
    }
}

static void use_memory(struct share *share)
{
    if (begin_thread != NULL) {
        begin_thread();
    }
    meet();
    take_all(share);
    meet();
    free_most(share);
    meet();
}

static void *run_second(void *unused)
{
    use_memory(&shares[1]);
    while (!atomic_load(&may_end)) {
        view_sleep_ms(10);
        if (atomic_load(&may_work)) {
            work_a_little();
        }
    }
    return unused;
}

static pthread_t second;

/* On return nearly all is free, and the second thread sleeps. */
static void use_memory_in(unsigned count)
{
    memset(shares, 1,
           sizeof shares); /* the program's own memory, resident before it is looked at */
    ap_free(ap_malloc(1));
    threads = count;
    resident_at_start = view_resident_bytes();
    if (count > 1) {
        expect(pthread_barrier_init(&barrier, NULL, count) == 0, "a barrier");
        expect(pthread_create(&second, NULL, run_second, NULL) == 0, "a thread");
    }
    use_memory(&shares[0]);
}

static void end_threads(void)
{
    for (unsigned i = 0; i < threads; i++) {
        expect_kept(&shares[i]);
    }
    atomic_store(&may_end, true);
    if (threads > 1) {
        expect(pthread_join(second, NULL) == 0, "the second thread ends");
    }
}

static bool is_down_while_at_work(void)
{
    work_a_little();
    return is_down();
}

/* ------------------------------------------------------------ the modes */

static void asleep(void)
{
    use_memory_in(2);
    expect_down_within(is_down, PROMISED_MS, "asleep");
    end_threads();
}

/* --- what an idle thread's cache holds --- */

#define CACHED_UP (MIB / 2)

static size_t cached_bytes(void)
{
    return ap_mallinfo2().fsmblks;
}

/* To the last block: this thread, which only looks, sleeps as well. */
static bool is_cache_empty(void)
{
    return cached_bytes() == 0;
}

/* Swings as high as its lists will follow: in the end they hold what the thread has freed. */
static void *fill_cache(void *unused)
{
    enum { ROUNDS = 20, BLOCKS = 1000, SIZES = 8, LEAST_BYTES = 48 };
    void *blocks[BLOCKS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned size = 0; size < SIZES; size++) {
            for (unsigned i = 0; i < BLOCKS; i++) {
                blocks[i] = ap_malloc(LEAST_BYTES << (size / 2));
                expect(blocks[i] != NULL, "a block is had");
            }
            for (unsigned i = BLOCKS; i-- > 0;) {
                ap_free(blocks[i]);
            }
        }
    }
    (void)pthread_barrier_wait(&barrier);
    while (!atomic_load(&may_end)) {
        view_sleep_ms(10);
    }
    return unused;
}

static void idle_cache(void)
{
    ap_free(ap_malloc(1));
    expect(pthread_barrier_init(&barrier, NULL, 2) == 0, "a barrier");
    expect(pthread_create(&second, NULL, fill_cache, NULL) == 0, "a thread");
    (void)pthread_barrier_wait(&barrier);
    size_t before = cached_bytes();
    if (before < CACHED_UP) {
        fail("a busy thread's cache holds %zu bytes only: no test", before);
    }
    if (view_wait(is_cache_empty, PROMISED_MS) < 0) {
        fail("an idle thread's cache holds %zu bytes of %zu", cached_bytes(), before);
    }
    atomic_store(&may_end, true);
    expect(pthread_join(second, NULL) == 0, "the thread ends");
}

/* cache_total:4M, transfer_class:0 */
static void many_caches(void)
{
    enum { CACHES = 300, FREE_BYTES = 32 << 10 };
    static pthread_t all[CACHES];
    expect(pthread_barrier_init(&barrier, NULL, CACHES + 1) == 0, "a barrier");
    for (unsigned i = 0; i < CACHES; i++) {
        expect(pthread_create(&all[i], NULL, fill_cache, NULL) == 0, "a thread");
    }
    (void)pthread_barrier_wait(&barrier);
    size_t most = 4 * MIB + (CACHES + 1) * (size_t)FREE_BYTES;
    size_t have = cached_bytes();
    if (have > most || have < 4 * MIB) {
        fail("%d caches hold %zu bytes, where %zu is the bound", CACHES, have, most);
    }
    atomic_store(&may_end, true);
    for (unsigned i = 0; i < CACHES; i++) {
        expect(pthread_join(all[i], NULL) == 0, "the thread ends");
    }
}

static void at_work(void)
{
    use_memory_in(2);
    atomic_store(&may_work, true);
    expect_down_within(is_down_while_at_work, PROMISED_MS, "at work");
    end_threads();
}

static void never(void)
{
    use_memory_in(2);
    expect_up("at first");
    view_sleep_ms(PROMISED_MS);
    atomic_store(&may_work, true);
    (void)view_wait(is_down_while_at_work, DECAY_MS);
    expect_up("much later");
    expect(view_helper() == 0, "nobody is there to do nothing");
    end_threads();
}

/* helper:false */
static void unhelped(void)
{
    use_memory_in(2);
    expect(view_helper() == 0, "there is no helper");
    /* Threads that are slow to free have given some of it back while they did. */
    size_t before = resident_of_heap();
    expect(!is_down(), "something is left to give back");
    view_sleep_ms(PROMISED_MS);
    expect(resident_of_heap() >= before / 10 * 9, "asleep, nobody gives anything back");
    atomic_store(&may_work, true);
    expect_down_within(is_down_while_at_work, PROMISED_MS, "at work again");
    expect(view_helper() == 0, "there is no helper");
    end_threads();
}

/* decay_ms:0 */
static void at_once_alone(void)
{
    use_memory_in(1);
    expect_down_within(is_down, 0, "at once");
    end_threads();
}

static void at_once(void)
{
    use_memory_in(2);
    expect(view_helper() == 0, "there is no helper");
    expect_down_within(is_down, 0, "at once");
    end_threads();
}

static void alone(void)
{
    use_memory_in(1);
    expect(view_threads() == 1, "a program of one thread stays one");
    expect_down_within(is_down_while_at_work, PROMISED_MS, "alone, at work");
    expect(view_threads() == 1, "a program of one thread stays one");
    end_threads();
}

/* It sleeps for long and makes one call: what had been unused meanwhile goes then. */
static void alone_wakes(void)
{
    use_memory_in(1);
    view_sleep_ms(PROMISED_MS);
    expect_up("asleep, with nobody to give it back");
    ap_free(ap_malloc(300000));
    expect_down_within(is_down, 0, "at the first call");
    end_threads();
}

/* A process that does nothing but ask. */
static bool system_gives_namespaces(void)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        _exit(unshare(CLONE_NEWUSER) == 0 ? 0 : 1);
    }
    expect(child > 0 && waitpid(child, &status, 0) == child, "a child");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The kernel gives user namespaces to programs of one thread only. */
static void alone_in_namespace(void)
{
    if (!system_gives_namespaces()) {
        skip("this system gives no user namespaces");
    }
    use_memory_in(1);
    (void)view_wait(is_down_while_at_work, PROMISED_MS);
    expect(unshare(CLONE_NEWUSER) == 0, "a program of one thread gets a user namespace");
    end_threads();
}

static void refuse(const int *calls, size_t count, int error)
{
    if (!seccomp_is_available()) {
        skip("this kernel does not let a process filter its calls");
    }
    expect(seccomp_refuse(calls, count, error), "a filter");
}

static void refuse_threads(void)
{
    static const int calls[] = {SYS_clone, SYS_clone3};
    refuse(calls, 2, EAGAIN);
}

static void without_new_threads(void)
{
    begin_thread = refuse_threads;
    use_memory_in(2);
    expect(view_threads() == 2, "no thread is added");
    atomic_store(&may_work, true);
    expect_down_within(is_down_while_at_work, PROMISED_MS, "at work");
    expect(view_threads() == 2, "no thread is added");
    end_threads();
}

/* The library asks, is refused, and leaves it at that: no crash, no busy loop. */
static void expect_rest(void)
{
    enum { IDLE_MS = 2000, CPU_MS_MAX = 200 };
    int64_t before_ms = view_cpu_ms();
    view_sleep_ms(IDLE_MS);
    int64_t used_ms = view_cpu_ms() - before_ms;
    if (used_ms > CPU_MS_MAX) {
        fail("%d ms of processor time while asleep", (int)used_ms);
    }
}

static void expect_rest_with_memory_refused(void)
{
    use_memory_in(2);
    expect(view_helper() != 0, "there is a helper");
    expect_rest();
    atomic_store(&may_work, true);
    expect_rest(); /* one thread works a little, one hundred times a second */
    expect_up("nothing could go back");
    end_threads();
}

static void without_madvise(int error)
{
    static const int calls[] = {SYS_madvise};
    refuse(calls, 1, error);
    expect_rest_with_memory_refused();
}

static void without_madvise_enosys(void)
{
    without_madvise(ENOSYS);
}

static void without_madvise_einval(void)
{
    without_madvise(EINVAL);
}

/* Whether locked pages go back when the kernel is asked for just that, as it can be since 5.18. */
static bool lock_all(void)
{
    enum { DONTNEED_LOCKED = 24 };
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        skip("memory cannot be locked");
    }
    void *p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(p != MAP_FAILED, "a page");
    return madvise(p, PAGE_BYTES, DONTNEED_LOCKED) == 0;
}

static void locked(void)
{
    if (lock_all()) {
        rest_bytes += LOCKED_STACKS_BYTES;
        asleep();
    } else {
        expect_rest_with_memory_refused();
    }
}

/* What the usual real-time program wants: nothing goes back, so nothing is faulted in again. */
static void locked_never(void)
{
    (void)lock_all();
    never();
}

static const struct mode modes[] = {
    {"asleep", asleep},
    {"at_work", at_work},
    {"idle_cache", idle_cache},
    {"many_caches", many_caches},
    {"never", never},
    {"unhelped", unhelped},
    {"at_once", at_once},
    {"at_once_alone", at_once_alone},
    {"alone", alone},
    {"alone_wakes", alone_wakes},
    {"namespace", alone_in_namespace},
    {"without_new_threads", without_new_threads},
    {"without_madvise_enosys", without_madvise_enosys},
    {"without_madvise_einval", without_madvise_einval},
    {"locked", locked},
    {"locked_never", locked_never},
};

int main(int argc, char **argv)
{
    (void)argc;
    run_mode(modes, sizeof modes / sizeof *modes, argv[1]);
    return 0;
}
