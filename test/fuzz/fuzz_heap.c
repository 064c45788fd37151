/* SPDX-License-Identifier: MIT */
/*
 * fuzz_heap.c: the input is a program of calls of the ap_ interface, checked against a shadow model.
 *
 * Goal: whatever is called in whatever order, every block is aligned, as large as asked for, nobody
 * else's, and keeps its contents; what fails fails as documented; the statistics add up.
 *
 * Method. The first byte says how the rest is run:
 *   bits 0, 1   3: four threads at once, each with a quarter of the program and blocks of its own, which they
 *               hand to each other through shared places; else up to four threads that take turns, so
 *               that an input does the same whenever it is run
 *   bits 4..7   15: in a process of its own, which starts with options made from the next bytes; 14: the same,
 *               behind hardened:true; 13: behind guard_sample:2
 * Each byte after that is a call, with its arguments behind it. The heap lives from input to input, as it
 * does in a program; the model begins afresh. At the end of an input all is freed and the heap must say so.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apmalloc.h"
#include "base/bits.h"
#include "base/size_class.h"
#include "config/options.h"
#include "decay/decay.h"
#include "fuzz.h"
#include "heap/heap_limits.h"
#include "large/large.h"
#include "os/os.h"

enum { THREADS = 4, OWN = 12, SHARED = 16, SLOTS = THREADS * OWN + SHARED, STALE_ERRNO = 1789 };

#define SURE_MAX ((size_t)32 << 20)  /* a block of this size must be had, */
#define LIVE_MAX ((size_t)128 << 20) /* and all together, */
#define ALIGN_MAX ((size_t)1 << 21)  /* at this alignment */

/* Which sized free a block may be given to. */
enum origin { BY_MALLOC, BY_ALIGNED_ALLOC, BY_OTHERS };

struct block {
    unsigned char *p; /* NULL: none */
    size_t size;
    size_t usable;
    size_t alignment; /* that was asked for */
    uint64_t mark;
    enum origin origin;
};

struct slot {
    pthread_mutex_t mutex; /* of those that threads share */
    struct block block;
};

static struct slot slots[SLOTS];

/* Everybody's live blocks, to find out when two overlap. */
static pthread_mutex_t live_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct range {
    uintptr_t start, end;
} live[SLOTS + THREADS];
static size_t live_bytes; /* usable */

static bool is_free_running; /* threads run at once */
static bool is_limited;      /* an option may refuse any request */
static bool
    is_watched; /* blocks have canaries, or are sampled: the figures count more than is usable */
static _Atomic(size_t) pressure_calls;

/* ------------------------------------------------------------ the model */

static void claim(const struct block *block)
{
    uintptr_t start = (uintptr_t)block->p, end = start + block->usable;
    struct range *vacant = NULL;
    (void)pthread_mutex_lock(&live_mutex);
    for (size_t i = 0; i < SLOTS + THREADS; i++) {
        FUZZ_CHECK(end <= live[i].start || live[i].end <= start);
        if (live[i].start == 0) {
            vacant = &live[i];
        }
    }
    FUZZ_CHECK(vacant != NULL);
    *vacant = (struct range){start, end};
    live_bytes += block->usable;
    (void)pthread_mutex_unlock(&live_mutex);
}

static void give_up(const struct block *block)
{
    bool found = false;
    (void)pthread_mutex_lock(&live_mutex);
    for (size_t i = 0; i < SLOTS + THREADS && !found; i++) {
        if (live[i].start == (uintptr_t)block->p) {
            FUZZ_CHECK(live[i].end == live[i].start + block->usable);
            live[i] = (struct range){0, 0};
            found = true;
        }
    }
    FUZZ_CHECK(found);
    live_bytes -= block->usable;
    (void)pthread_mutex_unlock(&live_mutex);
}

static bool is_room_for(size_t size)
{
    (void)pthread_mutex_lock(&live_mutex);
    bool fits = size <= LIVE_MAX && live_bytes <= LIVE_MAX - size;
    (void)pthread_mutex_unlock(&live_mutex);
    return fits;
}

/* ------------------------------------------------------------ contents */

/* Both ends are marked densely, the middle once a page, or once a granule if there is much of it. */
static size_t next_index(size_t index, size_t size)
{
    if (index < 2048 || index + 2048 >= size) {
        return index + 1;
    }
    size_t next = (index | (size >> 20 == 0 ? 4095 : AP_GRANULE - 1)) + 1;
    return next < size - 2048 ? next : size - 2048;
}

static unsigned char byte_at(const struct block *block, size_t index)
{
    return (unsigned char)((block->mark * (index + 1)) >> 40 ^ index);
}

/* All that is usable may be written. */
static void fill(struct block *block)
{
    for (size_t i = 0; i < block->usable; i = next_index(i, block->usable)) {
        block->p[i] = byte_at(block, i);
    }
}

static void check_contents(const struct block *block, size_t bytes)
{
    for (size_t i = 0; i < bytes; i = next_index(i, block->usable)) {
        if (block->p[i] != byte_at(block, i)) {
            (void)fprintf(
                stderr,
                "byte %zu of the first %zu of block %p (asked for %zu, was %zu) is %#x, not %#x\n",
                i, bytes, (void *)block->p, block->size, block->usable, block->p[i],
                byte_at(block, i));
            abort();
        }
    }
}

static void check_zero(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size; i = next_index(i, size)) {
        FUZZ_CHECK(p[i] == 0);
    }
}

/* ------------------------------------------------------------ arguments */

enum verdict { MUST, MAY, MUST_NOT }; /* succeed */

struct size {
    size_t bytes;
    enum verdict verdict;
};

static struct size size_of_kind(struct fuzz_reader *in, unsigned kind, size_t low)
{
    switch (kind) {
    case 0:
        return (struct size){low << 8 | fuzz_byte(in), MUST};
    case 1:
        return (struct size){low, MUST};
    case 2:
        return (struct size){fuzz_number(in, 2), MUST};
    case 3:
        return (struct size){fuzz_number(in, 3) & 0x1fffff, MUST};
    case 4: /* about a power of two */
        return (struct size){((size_t)1 << low % 26) + fuzz_byte(in) - 128, MUST};
    case 5: /* about a class' edge */
        return (struct size){ap__size_class[fuzz_byte(in) % AP_CLASS_COUNT].size +
                                 (low < 16 ? low : (size_t)0 - 1),
                             MUST};
    case 6: /* about the largest there are */
        return (struct size){(low & 1 ? SIZE_MAX : (size_t)PTRDIFF_MAX + 257 + (low << 40)) -
                                 fuzz_byte(in),
                             MUST_NOT};
    default:
        return (struct size){((size_t)1 << (27 + low % 4)) + fuzz_byte(in), MAY};
    }
}

static struct size read_size(struct fuzz_reader *in)
{
    uint8_t byte = fuzz_byte(in);
    struct size size = size_of_kind(in, byte >> 5, byte & 31);
    if (size.verdict == MUST && size.bytes > SURE_MAX) {
        size.bytes &= 0xffff; /* below zero */
    }
    if (size.verdict == MUST && !is_room_for(2 * size.bytes + AP_GRANULE)) {
        size.bytes &= 0xfff;
    }
    return size;
}

/* For what writes or clears all of a block. */
static struct size read_size_in_reason(struct fuzz_reader *in)
{
    struct size size = read_size(in);
    return size.verdict == MAY ? (struct size){size.bytes & 0xfffff, MUST} : size;
}

static size_t read_alignment(struct fuzz_reader *in)
{
    uint8_t byte = fuzz_byte(in);
    unsigned shift = byte % 64;
    if (byte < 192) {
        return (size_t)1 << byte % 18;
    }
    /* Between 2^31 and 2^46 a request may succeed, and takes as long as that is much. */
    return byte < 240 ? (size_t)1 << (shift > 30 && shift < 47 ? shift - 16 : shift) : byte % 16;
}

static bool is_power_of_two(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* What becomes of a request at this alignment. */
static enum verdict with_alignment(struct size size, size_t alignment)
{
    return size.verdict == MUST && alignment > ALIGN_MAX ? MAY : size.verdict;
}

/* ------------------------------------------------------------ calls */

static void expect(enum verdict verdict, const void *p)
{
    FUZZ_CHECK(p != NULL || verdict != MUST || is_limited);
    FUZZ_CHECK(p == NULL || verdict != MUST_NOT);
    FUZZ_CHECK(errno == (p == NULL ? ENOMEM : STALE_ERRNO));
}

/* What is too large to be kept is looked at and given back. */
static void try_and_free(void *p, size_t size)
{
    unsigned char *bytes = p;
    FUZZ_CHECK(ap_usable_size(p) >= size);
    bytes[0] = 1;
    bytes[size - 1] = 2;
    ap_free(p);
}

/* The block that a call has returned, NULL if it failed as it should. */
static void keep(struct block *block, void *p, size_t size, size_t alignment, enum origin origin)
{
    if (p == NULL) {
        return;
    }
    FUZZ_CHECK((uintptr_t)p % (alignment > 16 ? alignment : 16) == 0);
    if (size > SURE_MAX) {
        try_and_free(p, size);
        return;
    }
    *block = (struct block){
        p, size, ap_usable_size(p), alignment, fuzz_mix((uintptr_t)p ^ size), origin};
    FUZZ_CHECK(block->usable >= size && block->usable == ap_malloc_usable_size(p));
    claim(block);
    fill(block);
}

static void by_malloc(struct block *block, struct fuzz_reader *in)
{
    struct size size = read_size(in);
    size_t good = ap_good_size(size.bytes);
    void *p = ap_malloc(size.bytes);
    expect(size.verdict, p);
    FUZZ_CHECK(p == NULL || ap_usable_size(p) == good || (is_watched && ap_usable_size(p) < good));
    FUZZ_CHECK(size.verdict != MUST_NOT || good == 0);
    keep(block, p, size.bytes, 16, BY_MALLOC);
}

static void by_calloc(struct block *block, struct fuzz_reader *in)
{
    struct size size = read_size_in_reason(in);
    size_t count = 1 + fuzz_byte(in) % 9;
    bool overflows = size.verdict == MUST_NOT;
    size_t each = overflows ? size.bytes : size.bytes / count;
    void *p = ap_calloc(count, each);
    expect(size.verdict, p);
    if (p != NULL) {
        check_zero(p, count * each);
        keep(block, p, count * each, 16, BY_MALLOC);
    }
}

static void by_aligned_alloc(struct block *block, struct fuzz_reader *in)
{
    size_t alignment = read_alignment(in);
    struct size size = read_size(in);
    void *p = ap_aligned_alloc(alignment, size.bytes);
    if (!is_power_of_two(alignment)) {
        FUZZ_CHECK(p == NULL && errno == EINVAL);
        return;
    }
    expect(with_alignment(size, alignment), p);
    keep(block, p, size.bytes, alignment, BY_ALIGNED_ALLOC);
}

static void by_posix_memalign(struct block *block, struct fuzz_reader *in)
{
    size_t alignment = read_alignment(in);
    struct size size = read_size(in);
    void *const untouched = &slots;
    void *p = untouched;
    int status = ap_posix_memalign(&p, alignment, size.bytes);
    FUZZ_CHECK((status == 0) == (p != untouched));
    if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0) {
        FUZZ_CHECK(status == EINVAL && errno == STALE_ERRNO);
        return;
    }
    FUZZ_CHECK(status == 0 || status == ENOMEM);
    expect(with_alignment(size, alignment), status == 0 ? p : NULL);
    keep(block, status == 0 ? p : NULL, size.bytes, alignment, BY_OTHERS);
}

static void by_memalign(struct block *block, struct fuzz_reader *in)
{
    size_t alignment = read_alignment(in) - fuzz_byte(in) % 2;
    struct size size = read_size(in);
    void *p = ap_memalign(alignment, size.bytes);
    if (alignment > SIZE_MAX / 2 + 1) {
        FUZZ_CHECK(p == NULL && errno == EINVAL);
        return;
    }
    expect(with_alignment(size, alignment), p);
    keep(block, p, size.bytes, is_power_of_two(alignment) ? alignment : 16, BY_OTHERS);
    FUZZ_CHECK(p == NULL || alignment < 2 || (uintptr_t)p % alignment == 0 ||
               !is_power_of_two(alignment));
}

static void by_valloc(struct block *block, struct fuzz_reader *in)
{
    size_t page = ap__os_page_size();
    bool whole = fuzz_byte(in) % 2 != 0;
    struct size size = read_size(in);
    void *p = whole ? ap_pvalloc(size.bytes) : ap_valloc(size.bytes);
    expect(size.verdict, p);
    FUZZ_CHECK(p == NULL || !whole || ap_usable_size(p) >= page);
    keep(block, p, size.bytes, page, BY_OTHERS);
}

static void by_realloc_of_null(struct block *block, struct fuzz_reader *in)
{
    size_t count = 1 + fuzz_byte(in) % 3;
    struct size size = read_size(in);
    size_t bytes = size.verdict == MUST_NOT ? size.bytes : size.bytes / count * count;
    void *p = count == 1                 ? ap_realloc(NULL, bytes)
              : size.verdict == MUST_NOT ? ap_reallocarray(NULL, count, bytes)
                                         : ap_reallocarray(NULL, count, bytes / count);
    expect(size.verdict, p);
    keep(block, p, bytes, 16, BY_MALLOC);
}

static void allocate(struct block *block, struct fuzz_reader *in, unsigned how)
{
    static void (*const ways[])(struct block *, struct fuzz_reader *) = {
        by_malloc,         by_calloc,   by_aligned_alloc, by_malloc,
        by_posix_memalign, by_memalign, by_valloc,        by_realloc_of_null,
    };
    errno = STALE_ERRNO;
    ways[how % 8](block, in);
}

static void release(struct block *block, unsigned how)
{
    struct block gone = *block;
    FUZZ_CHECK(ap_usable_size(gone.p) == gone.usable);
    check_contents(&gone, gone.usable);
    give_up(&gone);
    *block = (struct block){0};
    errno = STALE_ERRNO;
    if (how % 4 == 1 && gone.origin == BY_MALLOC) {
        ap_free_sized(gone.p, gone.size);
    } else if (how % 4 == 1 && gone.origin == BY_ALIGNED_ALLOC) {
        ap_free_aligned_sized(gone.p, gone.alignment, gone.size);
    } else if (how % 4 == 2) {
        ap_cfree(gone.p);
    } else if (how % 4 == 3) {
        FUZZ_CHECK(ap_realloc(gone.p, 0) == NULL);
    } else {
        ap_free(gone.p);
    }
    FUZZ_CHECK(errno == STALE_ERRNO);
}

static void resize_to(struct block *block, struct size size, unsigned how)
{
    struct block old = *block;
    bool stays = size.bytes <= old.usable && size.bytes >= (old.usable + 1) / 2;
    check_contents(&old, old.usable);
    give_up(&old);
    errno = STALE_ERRNO;
    void *p = how % 2 == 0               ? ap_realloc(old.p, size.bytes)
              : size.verdict == MUST_NOT ? ap_reallocarray(old.p, 3, size.bytes)
                                         : ap_reallocarray(old.p, size.bytes, 1);
    expect(size.verdict, p);
    if (p == NULL) { /* untouched */
        FUZZ_CHECK(ap_usable_size(old.p) == old.usable);
        claim(&old);
        check_contents(&old, old.usable);
        return;
    }
    FUZZ_CHECK(!stays || p == old.p || is_watched);
    FUZZ_CHECK((uintptr_t)p % 16 == 0);
    block->p = p;
    block->size = size.bytes;
    block->usable = ap_usable_size(p);
    block->alignment = 16;
    block->origin = BY_MALLOC;
    FUZZ_CHECK(block->usable >= size.bytes);
    claim(block);
    struct block kept = *block;
    kept.usable = old.usable; /* the marks are where they were */
    check_contents(&kept, old.size < size.bytes ? old.size : size.bytes);
    fill(block);
}

static void resize(struct block *block, struct fuzz_reader *in, unsigned how)
{
    struct size size = read_size_in_reason(in);
    size.bytes += size.bytes == 0;
    resize_to(block, size, how);
}

/* --- what looks at the heap or gives memory back --- */

static void check_figures(void)
{
    struct ap_mallinfo2 i = ap_mallinfo2();
    struct ap_mallinfo narrow = ap_mallinfo();
    FUZZ_CHECK(i.arena <= i.usmblks && i.uordblks <= (size_t)1 << 47);
    FUZZ_CHECK(i.fordblks == (i.arena > i.uordblks ? i.arena - i.uordblks : 0));
    FUZZ_CHECK(narrow.arena >= 0 && narrow.uordblks >= 0 && narrow.fsmblks >= 0);
    if (!is_free_running) {
        FUZZ_CHECK(i.hblkhd <= i.arena && i.uordblks <= i.arena);
        FUZZ_CHECK(i.uordblks >= live_bytes);
    }
}

static void write_xml(void)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static char text[1 << 16];
    (void)pthread_mutex_lock(&mutex);
    FILE *stream = fmemopen(text, sizeof text, "w");
    FUZZ_CHECK(stream != NULL);
    FUZZ_CHECK(ap_malloc_info(0, stream) == 0);
    FUZZ_CHECK(fclose(stream) == 0);
    FUZZ_CHECK(strncmp(text, "<malloc", 7) == 0 && strstr(text, "</malloc>\n") != NULL);
    (void)pthread_mutex_unlock(&mutex);
    errno = 0;
    FUZZ_CHECK(ap_malloc_info(1, NULL) == -1 && errno == EINVAL);
}

/* It may allocate and free. */
static void on_pressure(void *context, size_t used_bytes, size_t limit_bytes)
{
    FUZZ_CHECK(context == &pressure_calls && used_bytes > limit_bytes);
    void *p = ap_malloc(used_bytes % 5000);
    ap_free(p);
    atomic_fetch_add(&pressure_calls, 1);
}

static void set_soft_limit(unsigned how)
{
    ap__heap_limits_set_soft(how == 0 ? SIZE_MAX : (size_t)how << 16);
    errno = STALE_ERRNO;
    ap_set_pressure_callback(how % 3 == 1 ? NULL : on_pressure, &pressure_calls);
    FUZZ_CHECK(errno == STALE_ERRNO);
}

/* Time goes faster here. */
static void let_time_pass(unsigned steps)
{
    static _Atomic(uint64_t) gained_ms;
    uint64_t gained = atomic_fetch_add(&gained_ms, steps * 16) + steps * 16;
    ap__decay_expect_work();
    (void)ap__decay_step(ap__os_now_ms() + gained);
}

static void maintain(struct fuzz_reader *in, unsigned how)
{
    errno = STALE_ERRNO;
    switch (how % 16) {
    case 0:
        (void)ap_trim();
        break;
    case 1:
        FUZZ_CHECK((ap_malloc_trim(fuzz_byte(in)) & ~1) == 0);
        break;
    case 2:
    case 3:
        ap_thread_idle();
        break;
    case 4:
    case 5:
        check_figures();
        break;
    case 6:
        write_xml();
        errno = STALE_ERRNO;
        break;
    case 7:
        ap_update_limits();
        break;
    case 8:
    case 9:
        set_soft_limit(fuzz_byte(in));
        break;
    case 10:
        FUZZ_CHECK(ap_mallopt(-(int)(fuzz_byte(in) % 4) - 1, fuzz_byte(in)) == 1);
        FUZZ_CHECK(ap_mallopt(77, 1) == 0);
        break;
    case 11:
        ap_free(NULL);
        ap_free_sized(NULL, fuzz_byte(in));
        ap_free_aligned_sized(NULL, 64, fuzz_byte(in));
        FUZZ_CHECK(ap_usable_size(NULL) == 0);
        break;
    default:
        let_time_pass(fuzz_byte(in));
        break;
    }
    FUZZ_CHECK(errno == STALE_ERRNO);
}

/* ------------------------------------------------------------ programs */

/* The upper three bits say what, the lower five how. */
static void run_call(struct block *block, struct fuzz_reader *in, uint8_t code)
{
    unsigned what = code >> 5, how = code & 31;
    if (what == 7) {
        maintain(in, how);
    } else if (block->p == NULL) {
        allocate(block, in, how);
    } else if (what < 3) {
        release(block, how);
    } else if (what < 6) {
        resize(block, in, how);
    } else { /* somewhat larger or smaller */
        size_t bytes = block->size + fuzz_byte(in) * (block->size / 128 + 1);
        bool fits = is_room_for(2 * bytes + AP_GRANULE) && bytes <= SURE_MAX;
        bytes = how % 4 == 0 || !fits ? block->size / 2 : bytes;
        resize_to(block, (struct size){bytes + (bytes == 0), MUST}, how);
    }
}

/* Takes what is in a shared place and leaves there what this thread has. */
static void hand_over(struct block *block, struct slot *shared)
{
    (void)pthread_mutex_lock(&shared->mutex);
    struct block other = shared->block;
    shared->block = *block;
    (void)pthread_mutex_unlock(&shared->mutex);
    *block = other;
}

/* One of four programs at once. */
static void *run_freely(void *argument)
{
    struct fuzz_reader *in = argument;
    static _Atomic(unsigned) next_thread;
    struct slot *own = slots + atomic_fetch_add(&next_thread, 1) % THREADS * OWN;
    while (!fuzz_is_over(in)) {
        uint8_t code = fuzz_byte(in), place = fuzz_byte(in);
        struct block *block = &own[place % OWN].block;
        if (place >= 176) {
            hand_over(block, &slots[THREADS * OWN + code % SHARED]);
        } else {
            run_call(block, in, code);
        }
    }
    return NULL;
}

static void run_all_freely(struct fuzz_reader *in)
{
    struct fuzz_reader parts[THREADS];
    pthread_t threads[THREADS];
    size_t each = (size_t)(in->end - in->at) / THREADS;
    for (size_t i = 0; i < THREADS; i++) {
        const uint8_t *start = in->at + i * each;
        parts[i] = (struct fuzz_reader){start, i + 1 == THREADS ? in->end : start + each};
        FUZZ_CHECK(pthread_create(&threads[i], NULL, run_freely, &parts[i]) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        FUZZ_CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

/* --- taking turns --- */

static struct runner {
    pthread_t thread;
    sem_t turn;
    bool is_there; /* also while it ends */
    bool shall_end;
} runners[THREADS]; /* 0 is the main thread */

static sem_t turn_is_over;
static struct fuzz_reader *program;
static unsigned next_runner;

enum { SWITCH_FROM = 236 }; /* places from here on: somebody else's turn */

/* libFuzzer's timer interrupts. */
static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0) {
        FUZZ_CHECK(errno == EINTR);
    }
}

/* Until it is another's turn. */
static void run_turn(unsigned number)
{
    while (!fuzz_is_over(program)) {
        uint8_t code = fuzz_byte(program), place = fuzz_byte(program);
        if (place >= SWITCH_FROM) {
            next_runner = code % THREADS;
            if (code >= 192 && next_runner != 0) {
                runners[next_runner].shall_end = true; /* and comes back as a new one */
            }
            if (next_runner != number) {
                return;
            }
        } else {
            run_call(&slots[place % SLOTS].block, program, code);
        }
    }
}

static void *be_runner(void *argument)
{
    struct runner *self = argument;
    for (;;) {
        wait_for(&self->turn);
        if (self->shall_end) {
            return NULL;
        }
        run_turn((unsigned)(self - runners));
        (void)sem_post(&turn_is_over);
    }
}

static void end_runner(struct runner *runner)
{
    if (runner->is_there) {
        runner->shall_end = true;
        (void)sem_post(&runner->turn);
        FUZZ_CHECK(pthread_join(runner->thread, NULL) == 0);
    }
    runner->is_there = false;
    runner->shall_end = false;
}

static void give_turn(struct runner *runner)
{
    if (runner->shall_end) {
        end_runner(runner);
    }
    if (!runner->is_there) {
        FUZZ_CHECK(pthread_create(&runner->thread, NULL, be_runner, runner) == 0);
        runner->is_there = true;
    }
    (void)sem_post(&runner->turn);
    wait_for(&turn_is_over);
}

static void run_in_turn(struct fuzz_reader *in)
{
    program = in;
    next_runner = 0;
    while (!fuzz_is_over(in)) {
        if (next_runner == 0) {
            run_turn(0);
        } else {
            give_turn(&runners[next_runner]);
        }
    }
    for (unsigned i = 1; i < THREADS; i++) {
        end_runner(&runners[i]);
    }
}

/* --- a whole input --- */

/* The helper thread may be moving blocks from one place to another while they are counted. */
static void expect_live_bytes(size_t bytes)
{
    size_t now = 0;
    for (unsigned tries = 0; tries < 200; tries++) {
        now = ap_mallinfo2().uordblks;
        if (now == bytes || (is_watched && now > bytes)) {
            return;
        }
        (void)usleep(1000);
    }
    (void)fprintf(stderr, "live bytes: %zu, but the heap says %zu\n", bytes, now);
    abort();
}

/* What the statistics should say: large objects count with all of their granules. */
static size_t kept_bytes(void)
{
    size_t bytes = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        const struct block *block = &slots[i].block;
        bool is_large = block->p != NULL && ap__large_usable_size(block->p) != 0;
        bytes += is_large ? ap__align_up(block->usable, AP_GRANULE) : block->usable;
    }
    return bytes;
}

static void run_program(struct fuzz_reader *in, unsigned mode)
{
    size_t before = ap_mallinfo2().uordblks;
    is_free_running = mode % 4 == 3;
    if (is_free_running) {
        run_all_freely(in);
    } else {
        run_in_turn(in);
    }
    ap_set_pressure_callback(NULL, NULL);
    ap__heap_limits_set_soft(SIZE_MAX);
    expect_live_bytes(before + kept_bytes());
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].block.p != NULL) {
            release(&slots[i].block, (unsigned)i);
        }
    }
    FUZZ_CHECK(live_bytes == 0);
    is_watched = false; /* whatever was counted, nothing is left */
    expect_live_bytes(before);
}

/* ------------------------------------------------------------ a process with options */

#define CHILD_VARIABLE "AP_FUZZ_PROGRAM"

static const char *const option_names[] = {
    "ignore_foreign", "hardened",       "reserve",      "cache_thread",
    "cache_total",    "transfer_class", "cpu_shards",   "thp",
    "limit",          "soft_limit",     "decay_ms",     "helper",
    "populate",       "cgroup",         "cgroup_root",  "help",
    "stats_at_exit",  "no_such_option", "guard_sample", "quarantine",
    "fine_classes",
};
static const char *const option_values[] = {
    "true",   "false",
    "0",      "1",
    "-1",     "8",
    "4K",     "64K",
    "1M",     "4M",
    "32M",    "5",
    "50",     "auto",
    "always", "never",
    "/no",    "",
    "1T",     "banana",
    "-2",     "99999999999999999999999T",
    "2",      "512M",
    "10",     "3K",
};
enum { CONF_MAX = 500, OPTIONS_MOST = 6 };

static void compose_conf(char *conf, const char *first, struct fuzz_reader *in)
{
    size_t options = fuzz_byte(in) % (OPTIONS_MOST + 1);
    size_t length = (size_t)snprintf(conf, CONF_MAX, "%s", first);
    for (size_t i = 0; i < options; i++) {
        const char *name =
            option_names[fuzz_byte(in) % (sizeof option_names / sizeof *option_names)];
        const char *value =
            option_values[fuzz_byte(in) % (sizeof option_values / sizeof *option_values)];
        length += (size_t)snprintf(conf + length, CONF_MAX - length, "%s:%s,", name, value);
    }
}

static int memory_file(const void *bytes, size_t size)
{
    int file = memfd_create("fuzz", 0);
    FUZZ_CHECK(file >= 0 && write(file, bytes, size) == (ssize_t)size);
    FUZZ_CHECK(lseek(file, 0, SEEK_SET) == 0);
    return file;
}

static void show(int file)
{
    char text[4096];
    ssize_t length;
    (void)lseek(file, 0, SEEK_SET);
    while ((length = read(file, text, sizeof text)) > 0) {
        (void)!write(2, text, (size_t)length);
    }
}

/* By posix_spawn(): a heap that has once been larger than the machine's memory cannot be copied. */
static pid_t start_child(const char *conf, int input, int output)
{
    char variable[64], conf_variable[CONF_MAX + 32];
    char *arguments[] = {(char *)"fuzz_heap", NULL};
    char *environment[] = {variable, conf_variable, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child = 0;
    (void)snprintf(variable, sizeof variable, CHILD_VARIABLE "=%d", input);
    (void)snprintf(conf_variable, sizeof conf_variable, "APMALLOC_CONF=%s", conf);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, output, 1);
    (void)posix_spawn_file_actions_adddup2(&actions, output, 2);
    FUZZ_CHECK(posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environment) == 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    return child;
}

static void run_in_child(struct fuzz_reader *in, const char *first_option)
{
    char conf[CONF_MAX];
    int status = 0;
    compose_conf(conf, first_option, in);
    int input = memory_file(in->at, (size_t)(in->end - in->at)), output = memory_file("", 0);
    pid_t child = start_child(conf, input, output);
    /* The fuzzer's own timer interrupts. */
    FUZZ_CHECK(TEMP_FAILURE_RETRY(waitpid(child, &status, 0)) == child);
    if (status != 0) {
        (void)fprintf(stderr, "with APMALLOC_CONF='%s' status %#x:\n", conf, (unsigned)status);
        show(output);
        abort();
    }
    (void)close(input);
    (void)close(output);
}

/* The child's part, before libFuzzer or main() read any arguments. */
static void be_child(int file)
{
    static uint8_t bytes[1 << 16];
    ssize_t size = read(file, bytes, sizeof bytes);
    FUZZ_CHECK(size >= 0);
    struct fuzz_reader in = {bytes, bytes + size};
    is_limited = ap__options.limit != 0;
    is_watched = ap__options.hardened || ap__options.guard_sample != 0;
    run_program(&in, fuzz_byte(&in));
    ap_malloc_stats();
    exit(0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    (void)sem_init(&turn_is_over, 0, 0);
    for (size_t i = 0; i < THREADS; i++) {
        (void)sem_init(&runners[i].turn, 0, 0);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        (void)pthread_mutex_init(&slots[i].mutex, NULL);
    }
    const char *file = getenv(CHILD_VARIABLE);
    if (file != NULL) {
        be_child(atoi(file));
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    unsigned mode = fuzz_byte(&in);
    if (mode >> 4 >= 13) {
        static const char *const first[] = {"guard_sample:2,", "hardened:true,", ""};
        run_in_child(&in, first[(mode >> 4) - 13]);
    } else {
        run_program(&in, mode);
    }
    return 0;
}
