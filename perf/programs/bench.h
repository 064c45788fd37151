/* SPDX-License-Identifier: MIT */
/*
 * bench.h: what every benchmark program shares: options, random numbers, threads, the result line.
 *
 * A program does fixed work, so that times compare. Its options are NAME=NUMBER or NAME=WORD. When the
 * work is done it prints
 *     result operations=N seconds=S live_bytes=L
 * where S leaves out what it was meant to be idle, and, with hold=1, waits for the end of standard input
 * before it exits, so that whoever measures it can read its memory in peace. Programs are not linked with any
 * allocator: LD_PRELOAD chooses it.
 *
 * Valid as C and as C++.
 */
#ifndef APMALLOC_BENCH_H
#define APMALLOC_BENCH_H

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BENCH_UNUSED __attribute__((unused))

enum { BENCH_OPTIONS_MAX = 16, BENCH_STACK_BYTES = 256 * 1024 };

struct bench {
    int argument_count;
    char **arguments;
    const char *known[BENCH_OPTIONS_MAX];
    int known_count;
    bool hold;
    double start_s;
    double idle_s; /* no part of the work's time */
};
static struct bench bench;

static BENCH_UNUSED void bench_die(const char *what, const char *detail)
{
    fprintf(stderr, "%s: %s%s\n", bench.arguments ? bench.arguments[0] : "bench", what, detail);
    exit(2);
}

/* --- options --- */

static BENCH_UNUSED const char *bench_word(const char *name, const char *otherwise)
{
    size_t length = strlen(name);
    if (bench.known_count == BENCH_OPTIONS_MAX)
        bench_die("too many options at ", name);
    bench.known[bench.known_count++] = name;
    for (int i = 1; i < bench.argument_count; i++) {
        if (strncmp(bench.arguments[i], name, length) == 0 && bench.arguments[i][length] == '=')
            return bench.arguments[i] + length + 1;
    }
    return otherwise;
}

static BENCH_UNUSED long bench_number(const char *name, long otherwise)
{
    const char *text = bench_word(name, "");
    char *end;
    if (*text == '\0')
        return otherwise;
    long value = strtol(text, &end, 10);
    if (*end != '\0' || value < 0)
        bench_die("not a number: ", text);
    return value;
}

static BENCH_UNUSED void bench_begin(int argc, char **argv)
{
    bench.argument_count = argc;
    bench.arguments = argv;
    bench.hold = bench_number("hold", 0) != 0;
}

static BENCH_UNUSED bool bench_is_known(const char *argument)
{
    for (int i = 0; i < bench.known_count; i++) {
        size_t length = strlen(bench.known[i]);
        if (strncmp(argument, bench.known[i], length) == 0 && argument[length] == '=')
            return true;
    }
    return false;
}

static BENCH_UNUSED double bench_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Call after all options have been asked for: refuses others, and starts the clock. */
static BENCH_UNUSED void bench_start(void)
{
    for (int i = 1; i < bench.argument_count; i++) {
        if (!bench_is_known(bench.arguments[i]))
            bench_die("unknown option, or not NAME=VALUE: ", bench.arguments[i]);
    }
    bench.start_s = bench_now_s();
}

static BENCH_UNUSED void bench_end(uint64_t operations, uint64_t live_bytes)
{
    double seconds = bench_now_s() - bench.start_s - bench.idle_s;
    printf("result operations=%llu seconds=%.6f live_bytes=%llu\n", (unsigned long long)operations,
           seconds, (unsigned long long)live_bytes);
    fflush(stdout);
    char ignored;
    while (bench.hold && read(STDIN_FILENO, &ignored, 1) > 0) {
    }
}

/* --- random numbers --- */

/* splitmix64 (Steele, Lea, Flood 2014). */
struct bench_random {
    uint64_t state;
};

static inline uint64_t bench_random_next(struct bench_random *r)
{
    uint64_t x = (r->state += 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline size_t bench_random_below(struct bench_random *r, size_t bound)
{
    return (size_t)(((unsigned __int128)bench_random_next(r) * bound) >> 64);
}

/*
 * A size whose logarithm falls off evenly: each doubling is half as likely as the one below it, as
 * programs' sizes do. From `least` (a power of two) to below least << doublings.
 */
static inline size_t bench_random_size(struct bench_random *r, size_t least, unsigned doublings)
{
    uint64_t word = bench_random_next(r);
    unsigned doubling = (unsigned)__builtin_ctzll(word | (1ull << (doublings - 1)));
    size_t low = least << doubling;
    return low + (size_t)((word >> 32) * low >> 32);
}

/* --- blocks --- */

/* Keeps the compiler from knowing what becomes of p: it would drop a malloc/free pair. */
static inline void bench_keep(void *p)
{
    __asm__ volatile("" : : "g"(p) : "memory");
}

static inline void *bench_allocate(size_t bytes)
{
    void *p = malloc(bytes);
    if (p == NULL)
        bench_die("out of memory", "");
    bench_keep(p);
    return p;
}

/* Allocates and writes the first and the last byte, as whoever fills a block would. */
static inline char *bench_allocate_touched(size_t bytes)
{
    char *p = (char *)bench_allocate(bytes);
    p[0] = 1;
    p[bytes - 1] = 1;
    return p;
}

/* --- threads --- */

static BENCH_UNUSED pthread_t bench_thread_start(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, BENCH_STACK_BYTES);
    if (pthread_create(&thread, &attributes, function, argument) != 0)
        bench_die("cannot start a thread", "");
    pthread_attr_destroy(&attributes);
    return thread;
}

/* Runs function(&arguments[i * size]) in `count` threads and waits for them. */
static BENCH_UNUSED void bench_threads_run(size_t count, void *(*function)(void *), void *arguments,
                                           size_t size)
{
    pthread_t *threads = (pthread_t *)calloc(count, sizeof *threads);
    for (size_t i = 0; i < count; i++)
        threads[i] = bench_thread_start(function, (char *)arguments + i * size);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

/* --- memory --- */

/* Resident bytes of this process. Calls nothing that would call malloc. */
static BENCH_UNUSED uint64_t bench_resident_bytes(void)
{
    char text[128] = "";
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0)
        bench_die("cannot read ", "/proc/self/statm");
    close(file);
    char *resident = strchr(text, ' ');
    return resident ? strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* Prints how much is live and how much is resident now; returns the latter. */
static BENCH_UNUSED uint64_t bench_sample(uint64_t live_bytes)
{
    uint64_t resident = bench_resident_bytes();
    printf("sample seconds=%.3f live_bytes=%llu resident_bytes=%llu\n",
           bench_now_s() - bench.start_s, (unsigned long long)live_bytes,
           (unsigned long long)resident);
    return resident;
}

#endif
