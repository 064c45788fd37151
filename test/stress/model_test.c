/* SPDX-License-Identifier: MIT */
/*
 * model_test.c: every entry point at random, from threads that come and go, against a model.
 * Goal: at every moment each byte belongs to at most one live block, blocks keep their contents,
 * and every call keeps its contract (zeroes, alignment, errno, usable size). Method: the model is
 * one bit for each 16 bytes of address space: claimed when a block is handed out, given up before
 * it is freed; a bit claimed twice is two owners. Contents are marked on top of that. Blocks are
 * handed between threads through a table of slots; a thread that ends leaves its blocks there.
 *
 * model_test [SECONDS] [SEED]; without SECONDS the environment's AP_TEST_SECONDS, or 20.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stress.h"

enum { THREADS = 4, OWN_BLOCKS = 200, SLOTS = 128, STALE_ERRNO = 1789, LIFE_MOST = 30000 };

#define SIZE_MOST ((size_t)3 << 20)

/* ------------------------------------------------------------ the model */

enum { BIT_SHIFT = 4, LEAF_SHIFT = 16, ROOT_SHIFT = 32, ADDRESS_BITS = 48 };
enum {
    LEAF_WORDS = 1 << (LEAF_SHIFT - BIT_SHIFT - 6),
    BRANCH_LEAVES = 1 << (ROOT_SHIFT - LEAF_SHIFT),
    ROOT_BRANCHES = 1 << (ADDRESS_BITS - ROOT_SHIFT)
};

struct leaf {
    _Atomic(uint64_t) words[LEAF_WORDS]; /* bits of 64 KiB */
};
struct branch {
    _Atomic(struct leaf *) leaves[BRANCH_LEAVES]; /* 4 GiB */
};
static _Atomic(struct branch *) root[ROOT_BRANCHES];

static void *map_zero(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    STRESS_CHECK(p != MAP_FAILED);
    return p;
}

static struct branch *branch_at(uintptr_t address)
{
    STRESS_CHECK(address >> ADDRESS_BITS == 0);
    _Atomic(struct branch *) *place = &root[address >> ROOT_SHIFT];
    struct branch *branch = atomic_load(place);
    if (branch == NULL) {
        struct branch *fresh = map_zero(sizeof *fresh);
        if (atomic_compare_exchange_strong(place, &branch, fresh)) {
            return fresh;
        }
        (void)munmap(fresh, sizeof *fresh);
    }
    return branch;
}

static struct leaf *leaf_at(uintptr_t address)
{
    struct branch *branch = branch_at(address);
    _Atomic(struct leaf *) *place = &branch->leaves[address >> LEAF_SHIFT & (BRANCH_LEAVES - 1)];
    struct leaf *leaf = atomic_load(place);
    if (leaf == NULL) {
        struct leaf *fresh = map_zero(sizeof *fresh);
        if (atomic_compare_exchange_strong(place, &leaf, fresh)) {
            return fresh;
        }
        (void)munmap(fresh, sizeof *fresh);
    }
    return leaf;
}

/* Turns the bits of [p, p + size) on or off; each must have been the other way. */
static void change_bits(const void *p, size_t size, bool on)
{
    uintptr_t address = (uintptr_t)p, end = (address + size + 15) & ~(uintptr_t)15;
    while (address < end) {
        size_t bit = address >> BIT_SHIFT & 63;
        size_t left = (end - address) >> BIT_SHIFT, n = 64 - bit < left ? 64 - bit : left;
        uint64_t mask = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << bit;
        _Atomic(uint64_t) *word =
            &leaf_at(address)->words[address >> (BIT_SHIFT + 6) & (LEAF_WORDS - 1)];
        if (on) {
            STRESS_CHECK((atomic_fetch_or(word, mask) & mask) == 0);
        } else {
            STRESS_CHECK((atomic_fetch_and(word, ~mask) & mask) == mask);
        }
        address += n << BIT_SHIFT;
    }
}

/* ------------------------------------------------------------ blocks */

/* Which sized free the block may be given to. */
enum origin { BY_MALLOC, BY_ALIGNED_ALLOC, BY_OTHERS };

struct owned {
    struct stress_block block;
    size_t usable; /* bytes claimed in the model */
    size_t alignment;
    enum origin origin;
};

static size_t page_size;

static void claim(struct owned *owned)
{
    owned->usable = ap_usable_size(owned->block.p);
    change_bits(owned->block.p, owned->usable, true);
}

static void give_up(struct owned *owned)
{
    STRESS_CHECK(ap_usable_size(owned->block.p) == owned->usable);
    stress_block_check(&owned->block, owned->block.size);
    change_bits(owned->block.p, owned->usable, false);
}

static void accept(struct owned *owned, void *p, size_t size, size_t alignment, enum origin origin,
                   uint64_t mark)
{
    STRESS_CHECK(errno == STALE_ERRNO);
    owned->block.p = p;
    owned->alignment = alignment;
    owned->origin = origin;
    claim(owned); /* before the first write: an overlap shall not destroy its evidence */
    stress_block_fill(&owned->block, p, size, alignment, mark);
}

static void check_zero(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i += i + 64 < size && size > 65536 ? 61 : 1) {
        STRESS_CHECK(p[i] == 0);
    }
}

static size_t random_alignment(struct stress_random *random)
{
    size_t most = stress_random_below(random, 50) == 0 ? 22 : 13;
    return (size_t)1 << (3 + stress_random_below(random, most - 2));
}

static void allocate(struct owned *owned, struct stress_random *random)
{
    size_t size = stress_random_size(random, SIZE_MOST), count, alignment;
    uint64_t mark = stress_random_next(random);
    void *p = NULL;
    errno = STALE_ERRNO;
    switch (stress_random_below(random, 12)) {
    case 0:
    case 1:
        count = 1 + stress_random_below(random, 20);
        size /= count;
        p = ap_calloc(count, size);
        STRESS_CHECK(p != NULL);
        check_zero(p, count * size);
        accept(owned, p, count * size, 16, BY_MALLOC, mark);
        break;
    case 2:
        p = ap_realloc(NULL, size);
        STRESS_CHECK(p != NULL);
        accept(owned, p, size, 16, BY_MALLOC, mark);
        break;
    case 3:
        p = ap_reallocarray(NULL, size, 1);
        STRESS_CHECK(p != NULL);
        accept(owned, p, size, 16, BY_MALLOC, mark);
        break;
    case 4:
        alignment = random_alignment(random);
        p = ap_aligned_alloc(alignment, size);
        STRESS_CHECK(p != NULL);
        accept(owned, p, size, alignment, BY_ALIGNED_ALLOC, mark);
        break;
    case 5:
        alignment = random_alignment(random);
        STRESS_CHECK(ap_posix_memalign(&p, alignment, size) == 0);
        accept(owned, p, size, alignment, BY_OTHERS, mark);
        break;
    case 6:
        alignment = random_alignment(random);
        p = ap_memalign(alignment - alignment / 3, size);
        STRESS_CHECK(p != NULL);
        accept(owned, p, size, alignment, BY_OTHERS, mark);
        break;
    case 7:
        p = stress_random_below(random, 2) == 0 ? ap_valloc(size) : ap_pvalloc(size);
        STRESS_CHECK(p != NULL);
        accept(owned, p, size, page_size, BY_OTHERS, mark);
        break;
    default:
        p = ap_malloc(size);
        STRESS_CHECK(p != NULL);
        STRESS_CHECK(ap_good_size(size) >= ap_usable_size(p)); /* packed ones are shorter */
        accept(owned, p, size, 16, BY_MALLOC, mark);
        break;
    }
}

static void release(struct owned *owned, struct stress_random *random)
{
    void *p = owned->block.p;
    size_t size = owned->block.size;
    give_up(owned);
    errno = STALE_ERRNO;
    if (owned->origin == BY_MALLOC && stress_random_below(random, 3) == 0) {
        ap_free_sized(p, size);
    } else if (owned->origin == BY_ALIGNED_ALLOC && stress_random_below(random, 2) == 0) {
        ap_free_aligned_sized(p, owned->alignment, size);
    } else if (stress_random_below(random, 20) == 0) {
        STRESS_CHECK(ap_realloc(p, 0) == NULL);
    } else if (stress_random_below(random, 10) == 0) {
        ap_cfree(p);
    } else {
        ap_free(p);
    }
    STRESS_CHECK(errno == STALE_ERRNO);
    owned->block = (struct stress_block){0};
}

static void resize(struct owned *owned, struct stress_random *random)
{
    struct stress_block *block = &owned->block;
    size_t size = stress_random_below(random, 3) == 0
                      ? block->size / 2 + stress_random_below(random, block->size + 1)
                      : stress_random_size(random, SIZE_MOST);
    size += size == 0;
    uintptr_t place = (uintptr_t)block->p;
    bool must_stay = size <= owned->usable && size >= (owned->usable + 1) / 2;
    give_up(owned);
    errno = STALE_ERRNO;
    void *p = stress_random_below(random, 4) == 0 ? ap_reallocarray(block->p, 1, size)
                                                  : ap_realloc(block->p, size);
    STRESS_CHECK(p != NULL && errno == STALE_ERRNO);
    STRESS_CHECK(!must_stay || (uintptr_t)p == place);
    block->p = p;
    claim(owned);
    stress_block_check(block, size < block->size ? size : block->size);
    owned->origin = BY_MALLOC;
    owned->alignment = 16;
    stress_block_fill(block, p, size, 16, block->mark);
}

/* What cannot succeed must fail, and change nothing. */
static void fail_on_purpose(struct owned *owned, struct stress_random *random)
{
    size_t impossible = SIZE_MAX - stress_random_below(random, (size_t)PTRDIFF_MAX);
    errno = STALE_ERRNO;
    switch (stress_random_below(random, 5)) {
    case 0:
        STRESS_CHECK(ap_malloc(impossible) == NULL);
        break;
    case 1:
        STRESS_CHECK(ap_calloc(impossible, 2 + stress_random_below(random, 100)) == NULL);
        break;
    case 2:
        STRESS_CHECK(ap_realloc(owned->block.p, impossible) == NULL);
        break;
    case 3:
        STRESS_CHECK(ap_reallocarray(owned->block.p, impossible, 3) == NULL);
        break;
    default:
        STRESS_CHECK(ap_aligned_alloc(random_alignment(random), impossible) == NULL);
        break;
    }
    STRESS_CHECK(errno == ENOMEM);
    if (owned->block.p != NULL) {
        stress_block_check(&owned->block, owned->block.size);
    }
}

static void maintain(struct stress_random *random)
{
    struct ap_mallinfo2 figures;
    errno = STALE_ERRNO;
    switch (stress_random_below(random, 8)) {
    case 0:
        (void)ap_trim();
        break;
    case 1:
        (void)ap_malloc_trim(0);
        break;
    case 2:
    case 3:
        figures = ap_mallinfo2();
        STRESS_CHECK(figures.uordblks < (size_t)1 << 40 && figures.arena < (size_t)1 << 40);
        (void)ap_mallinfo();
        break;
    case 4:
        STRESS_CHECK(ap_mallopt(-3, 100000) == 1); /* M_MMAP_THRESHOLD */
        break;
    default:
        ap_thread_idle();
        break;
    }
    STRESS_CHECK(errno == STALE_ERRNO);
}

/* ------------------------------------------------------------ threads */

static _Atomic(struct owned *) slots[SLOTS];
static _Atomic(unsigned) threads_started;

/* A record travels with its block; it is a block of the heap itself. */
static void hand_over(struct owned *owned, struct stress_random *random)
{
    struct owned *record = NULL;
    if (owned->block.p != NULL) {
        record = ap_malloc(sizeof *record);
        STRESS_CHECK(record != NULL);
        *record = *owned;
    }
    struct owned *found = atomic_exchange(&slots[stress_random_below(random, SLOTS)], record);
    *owned = (struct owned){0};
    if (found != NULL) {
        *owned = *found;
        ap_free(found);
    }
}

static void do_something(struct owned *owned, struct stress_random *random)
{
    size_t what = stress_random_below(random, 1000);
    if (what == 0) {
        maintain(random);
    } else if (what < 20) {
        fail_on_purpose(owned, random);
    } else if (what < 200) {
        hand_over(owned, random);
    } else if (owned->block.p == NULL) {
        allocate(owned, random);
    } else if (what < 400) {
        resize(owned, random);
    } else {
        release(owned, random);
    }
}

static void *live(void *unused)
{
    struct stress_random random = stress_random_stream(atomic_fetch_add(&threads_started, 1));
    struct owned *own = map_zero(OWN_BLOCKS * sizeof *own);
    size_t life = stress_random_below(&random, LIFE_MOST), done = 0;
    while (done < life && (done % 64 != 0 || !stress_is_over())) {
        do_something(&own[stress_random_below(&random, OWN_BLOCKS)], &random);
        done++;
    }
    for (size_t i = 0; i < OWN_BLOCKS; i++) {
        if (own[i].block.p != NULL && stress_random_below(&random, 4) == 0) {
            hand_over(&own[i], &random); /* outlives the thread */
        }
        if (own[i].block.p != NULL) {
            release(&own[i], &random);
        }
    }
    (void)munmap(own, OWN_BLOCKS * sizeof *own);
    stress_count(done);
    return unused;
}

static void keep_one_alive(unsigned number)
{
    (void)number;
    while (!stress_is_over()) {
        pthread_t thread;
        STRESS_CHECK(pthread_create(&thread, NULL, live, NULL) == 0);
        STRESS_CHECK(pthread_join(thread, NULL) == 0);
    }
}

int main(int argc, char **argv)
{
    const char *seconds = getenv("AP_TEST_SECONDS");
    char default_seconds[] = "20";
    char *arguments[] = {argv[0],
                         argc > 1          ? argv[1]
                         : seconds != NULL ? (char *)seconds
                                           : default_seconds,
                         argc > 2 ? argv[2] : NULL, NULL};
    struct stress_random random;
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    stress_begin(argc > 2 ? 3 : 2, arguments, "model_test");
    size_t before = ap_mallinfo2().uordblks;
    stress_run_threads(THREADS, keep_one_alive);
    random = stress_random_stream(1u << 31);
    for (size_t i = 0; i < SLOTS; i++) {
        struct owned *left = atomic_load(&slots[i]);
        if (left != NULL) {
            release(left, &random);
            ap_free(left);
        }
    }
    size_t after = ap_mallinfo2().uordblks;
    /* libc keeps a few records of threads where its malloc is ours, too. */
    STRESS_CHECK(after <= before + 65536);
    return stress_finish();
}
