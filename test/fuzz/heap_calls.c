/* SPDX-License-Identifier: MIT */
/* heap_calls.c: arguments, about all edges that there are; calls; what must be so afterwards. */
#include "heap_calls.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "apmalloc.h"
#include "base/size_class.h"
#include "decay/decay.h"
#include "heap/heap_limits.h"
#include "heap/region.h"
#include "os/os.h"

static _Atomic(size_t) pressure_calls;

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
    if (size.verdict == MUST && !model_is_room_for(2 * size.bytes + AP_GRANULE)) {
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
    FUZZ_CHECK(p != NULL || verdict != MUST || heap_run.is_limited);
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
    model_claim(block);
    model_fill(block);
}

static void by_malloc(struct block *block, struct fuzz_reader *in)
{
    struct size size = read_size(in);
    size_t good = ap_good_size(size.bytes);
    void *p = ap_malloc(size.bytes);
    expect(size.verdict, p);
    FUZZ_CHECK(p == NULL || ap_usable_size(p) == good ||
               (heap_run.is_watched && ap_usable_size(p) < good));
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
        model_check_zero(p, count * each);
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
    void *const untouched = block;
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

void heap_release(struct block *block, unsigned how)
{
    struct block gone = *block;
    FUZZ_CHECK(ap_usable_size(gone.p) == gone.usable);
    model_check_contents(&gone, gone.usable);
    model_give_up(&gone);
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
    model_check_contents(&old, old.usable);
    model_give_up(&old);
    errno = STALE_ERRNO;
    void *p = how % 2 == 0               ? ap_realloc(old.p, size.bytes)
              : size.verdict == MUST_NOT ? ap_reallocarray(old.p, 3, size.bytes)
                                         : ap_reallocarray(old.p, size.bytes, 1);
    expect(size.verdict, p);
    if (p == NULL) { /* untouched */
        FUZZ_CHECK(ap_usable_size(old.p) == old.usable);
        model_claim(&old);
        model_check_contents(&old, old.usable);
        return;
    }
    FUZZ_CHECK(!stays || p == old.p || heap_run.is_watched);
    FUZZ_CHECK((uintptr_t)p % 16 == 0);
    block->p = p;
    block->size = size.bytes;
    block->usable = ap_usable_size(p);
    block->alignment = 16;
    block->origin = BY_MALLOC;
    FUZZ_CHECK(block->usable >= size.bytes);
    model_claim(block);
    struct block kept = *block;
    kept.usable = old.usable; /* the marks are where they were */
    model_check_contents(&kept, old.size < size.bytes ? old.size : size.bytes);
    model_fill(block);
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
    if (!heap_run.is_free_running) {
        FUZZ_CHECK(i.hblkhd <= i.arena && i.uordblks <= i.arena);
        FUZZ_CHECK(i.uordblks >= model_live_bytes());
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

void heap_call(struct block *block, struct fuzz_reader *in, uint8_t code)
{
    unsigned what = code >> 5, how = code & 31;
    if (what == 7) {
        maintain(in, how);
    } else if (block->p == NULL) {
        allocate(block, in, how);
    } else if (what < 3) {
        heap_release(block, how);
    } else if (what < 6) {
        resize(block, in, how);
    } else { /* somewhat larger or smaller */
        size_t bytes = block->size + fuzz_byte(in) * (block->size / 128 + 1);
        bool fits = model_is_room_for(2 * bytes + AP_GRANULE) && bytes <= SURE_MAX;
        bytes = how % 4 == 0 || !fits ? block->size / 2 : bytes;
        resize_to(block, (struct size){bytes + (bytes == 0), MUST}, how);
    }
}
