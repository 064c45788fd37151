/* SPDX-License-Identifier: MIT */
/*
 * exhaustion_stress.c: nine threads use up all memory by every function, give it back, and again.
 * Goal: NULL comes with ENOMEM and frees leave errno alone; after each round the whole heap is in order, no block
 * is lost, and the next round gets as much as it should. Method: each round the threads allocate until NULL, each
 * by another function; then each frees what its neighbour has; then all rest while the heap is walked.
 *
 * exhaustion_stress MODE [ROUNDS]: what there is no more of, and how often.
 *   limit       bytes, by the option `limit`, which the environment must set to 96M
 *   address     address space, by RLIMIT_AS set while the threads run
 *   data        private memory, by RLIMIT_DATA
 *   mappings    mappings, which the program has used up itself; in odd rounds. With `limit` as above
 *   commit      memory that the system commits itself to: see overcommit.sh
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "apmalloc.h"
#include "support/consistency.h"

enum { THREADS = 9, FUNCTIONS = 8, STALE_ERRNO = 1789, ROUNDS = 12, MAPS_MAX = 1 << 20 };
#define MIB ((size_t)1 << 20)
#define LIMIT_BYTES (96 * MIB)

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "exhaustion: " __VA_ARGS__);                                     \
            (void)fputc('\n', stderr);                                                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Blocks are chained through their first words. */
struct link {
    struct link *next;
    size_t size;
};

static struct link *chains[THREADS];
static pthread_barrier_t phase;
static unsigned long round_number, rounds;
static _Atomic(size_t) bytes_had;
static _Atomic(unsigned long) blocks_had, refusals;

static const char *const function_names[FUNCTIONS] = {"malloc",        "calloc",         "realloc",
                                                      "aligned_alloc", "posix_memalign", "memalign",
                                                      "valloc",        "pvalloc"};

static void *allocate(unsigned function, size_t size)
{
    void *p = NULL;
    switch (function) {
    case 0:
        return ap_malloc(size);
    case 1:
        return ap_calloc(1, size);
    case 2:
        return ap_realloc(NULL, size);
    case 3:
        return ap_aligned_alloc(64, size);
    case 4:
        return ap_posix_memalign(&p, 256, size) == 0 ? p : NULL;
    case 5:
        return ap_memalign(32, size);
    case 6:
        return ap_valloc(size);
    default:
        return ap_pvalloc(size);
    }
}

static size_t next_size(unsigned *state)
{
    static const size_t sizes[] = {16, 144, 1000, 4096, 16 << 10, 100 << 10, 300 << 10, 2 << 20};
    *state = *state * 1103515245 + 12345;
    return sizes[*state >> 16 & 7];
}

static struct link *try_one(unsigned function, size_t size)
{
    errno = STALE_ERRNO;
    struct link *block = allocate(function, size);
    int wanted = block != NULL ? STALE_ERRNO : ENOMEM;
    CHECK(errno == wanted, "%s(%zu): errno %d", function_names[function], size, errno);
    refusals += block == NULL;
    return block;
}

static void keep(struct link **chain, struct link *block, size_t size)
{
    block->next = *chain;
    block->size = size;
    *chain = block;
    bytes_had += size;
    blocks_had++;
}

/* Large ones fail first; on until not even a small one is left. */
static void exhaust(unsigned number)
{
    unsigned function = (unsigned)((number + round_number) % FUNCTIONS);
    unsigned state = number + 10 * (unsigned)round_number;
    for (;;) {
        size_t size = next_size(&state);
        struct link *block = try_one(function, size);
        if (block == NULL) {
            size = sizeof *block;
            block = try_one(function, size);
        }
        if (block == NULL) {
            return;
        }
        keep(&chains[number], block, size);
    }
}

/* One that grows fails too, and stays what it was. */
static void grow_in_vain(unsigned number)
{
    struct link *first = chains[number];
    if (first != NULL) {
        struct link before = *first;
        errno = STALE_ERRNO;
        struct link *grown = ap_realloc(first, 64 * MIB);
        CHECK(grown != NULL || errno == ENOMEM, "realloc: errno %d", errno);
        grown = grown != NULL ? grown : first;
        CHECK(grown->next == before.next && grown->size == before.size, "realloc: contents");
        chains[number] = grown;
    }
}

static void free_neighbours(unsigned number)
{
    struct link **chain = &chains[(number + round_number) % THREADS];
    while (*chain != NULL) {
        struct link *next = (*chain)->next;
        errno = STALE_ERRNO;
        ap_free(*chain);
        CHECK(errno == STALE_ERRNO, "free: errno %d", errno);
        *chain = next;
    }
    if (round_number % 2 == 0) {
        ap_thread_idle();
    }
}

/* Four phases a round: memory is used up; then it is given back; then the main thread walks the heap. */
static void *run_rounds(void *argument)
{
    unsigned number = *(unsigned *)argument;
    for (unsigned long i = 0; i < rounds; i++) {
        (void)pthread_barrier_wait(&phase);
        exhaust(number);
        (void)pthread_barrier_wait(&phase);
        grow_in_vain(number);
        (void)pthread_barrier_wait(&phase);
        free_neighbours(number);
        (void)pthread_barrier_wait(&phase);
    }
    (void)pthread_barrier_wait(&phase); /* not while the last walk is under way */
    return NULL;
}

static void check_heap(const struct consistency_sums *before)
{
    const char *fault = consistency_find_fault();
    CHECK(fault == NULL, "round %lu: %s", round_number, fault);
    struct consistency_sums now = consistency_sums();
    CHECK(now.live_blocks == before->live_blocks, "round %lu: %zu live blocks, not %zu",
          round_number, now.live_blocks, before->live_blocks);
    CHECK(now.large_spans == before->large_spans, "round %lu: %zu large spans, not %zu",
          round_number, now.large_spans, before->large_spans);
}

/* ------------------------------------------------------------ what there is no more of */

/* Bytes of data that the process has; of address space only what it gets is counted. */
static size_t data_bytes(void)
{
    size_t data = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL && fscanf(statm, "%*u %*u %*u %*u %*u %zu", &data) == 1, "no statm");
    (void)fclose(statm);
    return data * (size_t)sysconf(_SC_PAGESIZE);
}

/* Address space: less than is reserved already, so that what counts is what is used of it. */
static void set_limit(int resource)
{
    size_t stacks = resource == RLIMIT_AS ? (THREADS * 8 + 16) * MIB : data_bytes();
    const struct rlimit limit = {.rlim_cur = LIMIT_BYTES + stacks, .rlim_max = RLIM_INFINITY};
    CHECK(setrlimit(resource, &limit) == 0, "no limit");
}

static char *splinters;
static size_t splinter_bytes;

/* Every other page of a reservation becomes accessible until the kernel has no more mappings. */
static void use_up_mappings(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    splinter_bytes = 2 * MAPS_MAX * page;
    splinters =
        mmap(NULL, splinter_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(splinters != MAP_FAILED, "no address space");
    size_t count = 0;
    while (count < MAPS_MAX && mprotect(splinters + 2 * count * page, page, PROT_READ) == 0) {
        count++;
    }
    CHECK(count < MAPS_MAX, "mappings have no end");
}

static void give_mappings_back(void)
{
    CHECK(munmap(splinters, splinter_bytes) == 0, "munmap");
}

/* ------------------------------------------------------------ rounds */

static void run_round(const struct consistency_sums *before, bool without_mappings)
{
    bytes_had = 0;
    if (without_mappings) {
        use_up_mappings();
    }
    for (int i = 0; i < 4; i++) {
        (void)pthread_barrier_wait(&phase);
    }
    check_heap(before);
    size_t had = bytes_had;
    /* Without mappings there still is what the heap has made usable before. */
    CHECK(had >= LIMIT_BYTES / 4, "round %lu: only %zu bytes were to be had", round_number, had);
    if (without_mappings) {
        give_mappings_back();
    }
}

int main(int argc, char **argv)
{
    CHECK(argc >= 2, "exhaustion_stress limit|address|data|mappings|commit [ROUNDS]");
    static unsigned numbers[THREADS];
    static pthread_t threads[THREADS];
    rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : ROUNDS;
    CHECK(rounds != 0, "no rounds");
    (void)pthread_barrier_init(&phase, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, run_rounds, &numbers[i]) == 0, "no thread");
    }
    if (strcmp(argv[1], "address") == 0) {
        set_limit(RLIMIT_AS);
    } else if (strcmp(argv[1], "data") == 0) {
        set_limit(RLIMIT_DATA);
    }
    CHECK(consistency_find_fault() == NULL, "before");
    const struct consistency_sums before = consistency_sums();
    for (round_number = 0; round_number < rounds;) {
        run_round(&before, strcmp(argv[1], "mappings") == 0 && round_number % 2 == 1);
        round_number++;
    }
    (void)pthread_barrier_wait(&phase);
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    check_heap(&before);
    (void)printf("exhaustion of %s: %lu rounds, %lu blocks, %lu refusals\n", argv[1], rounds,
                 (unsigned long)blocks_had, (unsigned long)refusals);
    return 0;
}
