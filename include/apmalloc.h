/* SPDX-License-Identifier: MIT */
/**
 * apmalloc.h: the public C interface of apmalloc, a thread-caching memory allocator.
 *
 * The library also exports the libc names (malloc, free, ...) and the C++ operators new and delete
 * unless it was built with -Doverride=false. Both sets work on one heap: a block from malloc() may be
 * given to ap_free() and the other way round.
 *
 * Common to all functions here:
 *   Sizes are in bytes. A request of 0 bytes returns a block of the smallest size.
 *   Every block is aligned to 16 bytes at least.
 *   Errors: NULL with errno ENOMEM (no memory, or a size above PTRDIFF_MAX) unless said otherwise;
 *   a call that succeeds, and every form of free, leaves errno as it was.
 *   Misuse (double free, a pointer that is not a live block) ends the process: one line on standard
 *   error that names the function, the pointer and the cause, then abort().
 *   Threads: any thread may call any function and free any block. None is async-signal-safe.
 */
#ifndef APMALLOC_H
#define APMALLOC_H

#include <stddef.h>
#include <stdio.h>

#define AP_VERSION_MAJOR 0
#define AP_VERSION_MINOR 1
#define AP_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#define AP_NOTHROW_ noexcept(true)
#else
#define AP_NOTHROW_ __attribute__((nothrow))
#endif

#if defined(__GNUC__)
#define AP_ALLOC_SIZE_(...) __attribute__((malloc, alloc_size(__VA_ARGS__)))
#define AP_RETURNS_SIZE_(...) __attribute__((alloc_size(__VA_ARGS__)))
#else
#define AP_ALLOC_SIZE_(...)
#define AP_RETURNS_SIZE_(...)
#endif

/** A block of at least `size` bytes, contents undefined. Source: C11 7.22.3.4. */
void *ap_malloc(size_t size) AP_NOTHROW_ AP_ALLOC_SIZE_(1);

/** A block of `count * size` zero bytes; ENOMEM too if the product overflows. Source: C11 7.22.3.2. */
void *ap_calloc(size_t count, size_t size) AP_NOTHROW_ AP_ALLOC_SIZE_(1, 2);

/**
 * The block at `p` with at least `size` bytes, moved if need be; contents kept up to the smaller size.
 * p NULL: as ap_malloc. size 0 and p not NULL: frees p, returns NULL (as glibc).
 * On failure `p` is untouched and still owned by the caller. A size up to ap_usable_size(p) that is
 * not below half of it never moves the block. An alignment above 16 is not kept by a move.
 * Source: C11 7.22.3.5, glibc.
 */
void *ap_realloc(void *p, size_t size) AP_NOTHROW_ AP_RETURNS_SIZE_(2);

/** ap_realloc to `count * size` bytes; ENOMEM if the product overflows. Source: POSIX.1-2024. */
void *ap_reallocarray(void *p, size_t count, size_t size) AP_NOTHROW_ AP_RETURNS_SIZE_(2, 3);

/** Frees a block. NULL is allowed. Source: C11 7.22.3.3, errno as POSIX.1-2024. */
void ap_free(void *p) AP_NOTHROW_;

/** As ap_free; kept for old programs. Source: SVID. */
void ap_cfree(void *p) AP_NOTHROW_;

/**
 * As ap_free, for a block of ap_malloc, ap_calloc or ap_realloc that was asked for with `size`.
 * A size that cannot be the block's is misuse. Source: C23 7.24.3.4.
 */
void ap_free_sized(void *p, size_t size) AP_NOTHROW_;

/** The same for a block of ap_aligned_alloc(alignment, size). Source: C23 7.24.3.5. */
void ap_free_aligned_sized(void *p, size_t alignment, size_t size) AP_NOTHROW_;

/**
 * A block at a multiple of `alignment`, a power of two (else NULL and EINVAL). `size` need not be a
 * multiple of it. Source: C17 7.22.3.1, as glibc.
 */
void *ap_aligned_alloc(size_t alignment, size_t size) AP_NOTHROW_ AP_ALLOC_SIZE_(2);

/**
 * Stores an aligned block in *result. Returns 0, EINVAL (alignment not a power of two times
 * sizeof(void *)) or ENOMEM (errno is set too); *result is written on success only.
 * Source: POSIX.1.
 */
int ap_posix_memalign(void **result, size_t alignment, size_t size) AP_NOTHROW_;

/** As ap_aligned_alloc, but an alignment that is no power of two is rounded up to one; above 2^63,
 *  EINVAL. Source: glibc memalign. */
void *ap_memalign(size_t alignment, size_t size) AP_NOTHROW_ AP_ALLOC_SIZE_(2);

/** A block at a multiple of the page size. Source: BSD. */
void *ap_valloc(size_t size) AP_NOTHROW_ AP_ALLOC_SIZE_(1);

/** As ap_valloc, with the size rounded up to whole pages, at least one. Source: SVID. */
void *ap_pvalloc(size_t size) AP_NOTHROW_;

/**
 * Usable bytes at `p`, at least what was asked for, constant while the block lives; all of them may be
 * written. 0 for NULL. Source: glibc malloc_usable_size(3).
 */
size_t ap_usable_size(void *p) AP_NOTHROW_;
size_t ap_malloc_usable_size(void *p) AP_NOTHROW_;

/**
 * What ap_malloc(size) would round `size` up to now: ap_usable_size() of its result, which may be less where the block is
 * packed (option pack). It may become less as the program goes on, too (see option fine_classes), but who asks for what
 * this returns gets just that. 0 if such a request always fails. Under option `hardened` nothing is rounded, and the
 * blocks that `guard_sample` picks are not:
 * whoever wants more bytes than `size` asks for them. Takes no lock. Source: jemalloc's nallocx, macOS' malloc_good_size.
 */
size_t ap_good_size(size_t size) AP_NOTHROW_;

/**
 * Empties this thread's cache: its free blocks become usable by all threads. For threads about to
 * wait long. The cache fills again when the thread allocates. Source: tcmalloc's
 * MallocExtension::MarkThreadIdle.
 */
void ap_thread_idle(void) AP_NOTHROW_;

/**
 * Gives the memory of all free spans and free pages back to the kernel, after emptying the caller's thread
 * cache and all transfer caches, and other threads' caches as far as that is possible while they run. Returns
 * the bytes given back; what the program had and never wrote to counts, since only the kernel knows. May take
 * milliseconds per gigabyte.
 */
size_t ap_trim(void) AP_NOTHROW_;

/** ap_trim; 1 if memory was given back, else 0. `pad` is ignored. Source: glibc malloc_trim(3). */
int ap_malloc_trim(size_t pad) AP_NOTHROW_;

/**
 * Called once when the heap has come to use more than its soft limit (option soft_limit, or what the
 * control group of the process allows), and again only after it has been below: `used_bytes` in spans in
 * use, `limit_bytes` the limit. It runs on the library's helper thread where there is one (256 KiB of
 * stack, all signals blocked), else inside a call that allocates or frees; it may allocate and free. It must
 * return: after a jump out of it nothing goes back to the kernel any more.
 */
typedef void (*ap_pressure_callback)(void *context, size_t used_bytes, size_t limit_bytes);

/** Sets the function to be told; NULL for none. `context` is passed on. Thread-safe. Source: the memory
 *  pressure notifications of desktop and mobile systems. */
void ap_set_pressure_callback(ap_pressure_callback callback, void *context) AP_NOTHROW_;

/**
 * Reads again what memory the control group of the process allows, which sets the soft limit (see the
 * options soft_limit and cgroup). The library does so at start; where there is a limit then, the files of the group
 * that is nearest to its own stay open, and the helper thread reads these again now and then (cgroup_check_ms). This
 * function is for what that cannot see: a limit set where there was none, another group. It opens some small files,
 * which a program may have forbidden itself by then. Thread-safe.
 */
void ap_update_limits(void) AP_NOTHROW_;

/**
 * Tuning parameters of glibc. Known ones are accepted (1) and have no effect: their concepts do not exist
 * here. Unknown ones: 0, errno untouched. Source: mallopt(3).
 */
int ap_mallopt(int parameter, int value) AP_NOTHROW_;

/**
 * The figures of glibc's mallinfo2(3), with the same meaning as far as it exists here:
 * arena: bytes of the heap made usable, large objects included; ordblks: free spans;
 * hblks, hblkhd: large objects and their bytes; uordblks: bytes in live blocks; fordblks: arena minus
 * uordblks; keepcost: bytes a trim could give back at most; fsmblks: bytes in thread and transfer caches;
 * smblks: blocks in them; usmblks: highest arena so far.
 */
struct ap_mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct ap_mallinfo2 ap_mallinfo2(void) AP_NOTHROW_;

/** The same in ints; figures above INT_MAX are given as INT_MAX. Source: mallinfo(3). */
struct ap_mallinfo {
    int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct ap_mallinfo ap_mallinfo(void) AP_NOTHROW_;

/**
 * Writes the state of the heap as XML to `stream`. Returns 0, or -1 with errno EINVAL (options not 0)
 * or that of the stream. Source: malloc_info(3).
 */
int ap_malloc_info(int options, FILE *stream) AP_NOTHROW_;

/** Writes the state of the heap as text to standard error. Source: malloc_stats(3). */
void ap_malloc_stats(void) AP_NOTHROW_;

/** "MAJOR.MINOR.PATCH" of the library in use; a constant string. */
const char *ap_version(void) AP_NOTHROW_;

#ifdef __cplusplus
}
#endif

#undef AP_NOTHROW_
#undef AP_ALLOC_SIZE_
#undef AP_RETURNS_SIZE_

#endif
