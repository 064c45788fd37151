/* SPDX-License-Identifier: MIT */
/*
 * realloc.c: stay, grow in place, move pages, or copy.
 *
 * A block stays while the new size fits and is at least half of it: below that the memory is worth a
 * copy. A block that grows beyond a granule becomes a large object. A large object shrinks and grows in
 * place where its neighbour allows; else its pages are moved by the kernel where that is cheaper than
 * copying them.
 */
#include <errno.h>
#include <string.h>

#include "api/fast_path.h"
#include "api/malloc.h"
#include "api/small_size.h"
#include "base/bits.h"
#include "config/options.h"
#include "decay/decay.h"
#include "hardened/hardened.h"
#include "hardened/sampled.h"
#include "large/large.h"
#include "pack/pack.h"

enum { LITTLE = 8 }; /* growth by up to this part of a block */

/* Whether `p` is a small block that `size` still fits into and fills by half: the end of most reallocs, so without
 * a call. `false`, too, for whatever else `p` may be. `size` is not 0: what is no small block has half of 0 bytes. */
static AP_ALWAYS_INLINE bool is_fine_as_it_is(const void *p, size_t size)
{
    size_t half = ap__small_size_inline(p) / 2;
    return size - half <= half;
}

/*
 * Memory for a block that has grown: it will probably grow again. If it grew by little, as a string does that
 * is appended to, it gets room for as much again, which halves the number of copies; not if it doubled. From a
 * granule up it becomes an object of its own, whose span can be extended where it lies, instead of leaving a
 * block of every class behind.
 */
static void *take_for_growth(size_t size, size_t old_size)
{
    if (size <= AP_GRANULE) {
        /* A block that may be checked is exactly as long as the program asked. */
        bool is_checked = ap__options.hardened != 0 || ap__sampled_is_on();
        bool by_little = size - old_size <= old_size / LITTLE;
        return ap__malloc_inline(by_little && !is_checked ? size + old_size / LITTLE : size);
    }
    void *p = ap__take_large(AP_MIN_ALIGNMENT, size, false);
    return p != NULL ? p : ap__no_memory();
}

/* A new block with the contents of the old one, which is freed. NULL: no memory; errno is set. */
static void *copy_to_new(void *p, size_t keep_bytes, size_t size, const char *function)
{
    void *moved = size > keep_bytes ? take_for_growth(size, keep_bytes) : ap__malloc_inline(size);
    if (moved != NULL) {
        memcpy(moved, p, keep_bytes);
        ap__free_inline(p, function);
    }
    return moved;
}

/* A smaller block is never an error: where there is no memory for one, the old one stays. */
static void *shrink(void *p, size_t size, const char *function)
{
    int saved_errno = errno;
    void *moved = copy_to_new(p, size, size, function);
    errno = saved_errno;
    if (moved == NULL) {
        ap__note_kept_block();
        return p;
    }
    return moved;
}

static void *resize_large(void *p, size_t usable_bytes, size_t size, const char *function)
{
    /* An aligned object may be smaller than a class: then it grows like any other. */
    if (size <= AP_SMALL_SIZE_MAX && size <= usable_bytes) {
        return size >= usable_bytes / 2 ? p : shrink(p, size, function);
    }
    if (ap__large_resize(p, size)) {
        ap__decay_poll_above_limit();
        return p;
    }
    void *moved = ap__large_move(p, size, function);
    ap__decay_poll_above_limit();
    return moved != NULL ? moved : copy_to_new(p, ap__min(usable_bytes, size), size, function);
}

/* Whether a packed block holds `size` where it lies from now on. Less than an eighth less is not worth the lock. */
static bool resize_packed(const void *p, struct ap__block block, size_t size)
{
    size_t before = block.usable_bytes;
    bool is_fine = size <= before && before - size <= before / LITTLE;
    return is_fine || ap__pack_resize(block.packed, p, before, size);
}

/* A block that is exactly as long as it says: it stays if its slot or its pages do, and is copied otherwise. */
static void *resize_exact(void *p, size_t old_size, size_t size, const char *function)
{
    if (!ap__sampled_contains(p) && ap__hardened_resize(p, old_size, size)) {
        return p;
    }
    return size > old_size ? copy_to_new(p, old_size, size, function) : shrink(p, size, function);
}

/* A function of its own, so that blocks that stay need no stack frame. */
static AP_NOINLINE void *resize(void *p, size_t size, const char *function)
{
    if (p == NULL) {
        return ap__malloc_inline(size);
    }
    if (size == 0) {
        ap__free_inline(p, function);
        return NULL;
    }
    struct ap__block block = ap__block_at(p, function);
    if (AP_UNLIKELY(size > AP__LARGE_SIZE_MAX)) {
        return ap__no_memory();
    }
    if (AP_UNLIKELY(ap__is_exact(p))) {
        return resize_exact(p, block.usable_bytes, size, function);
    }
    if (block.packed != NULL) {
        if (resize_packed(p, block, size)) {
            return p;
        }
    } else if (block.size_class == 0) {
        return resize_large(p, block.usable_bytes, size, function);
    }
    if (size > block.usable_bytes) {
        return copy_to_new(p, block.usable_bytes, size, function);
    }
    return size >= block.usable_bytes / 2 ? p : shrink(p, size, function);
}

void *ap__realloc(void *p, size_t size, const char *function)
{
    return AP_LIKELY(size != 0 && is_fine_as_it_is(p, size)) ? p : resize(p, size, function);
}

void *ap__reallocarray(void *p, size_t count, size_t size, const char *function)
{
    size_t bytes;
    if (AP_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
        return ap__no_memory();
    }
    return ap__realloc(p, bytes, function);
}
