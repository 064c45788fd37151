/* SPDX-License-Identifier: MIT */
/*
 * override.c: the names of libc and of the C++ runtime.
 *
 * All in one file on purpose: a static link takes an archive member as a whole, so either every one
 * of these names is ours or none. The C++ operators are defined by their mangled names; see
 * [new.delete] in the C++ standard for each.
 */
#include "apmalloc.h"

#include <malloc.h>
#include <stdlib.h>

#include "api/fast_path.h"
#include "api/glibc.h"
#include "api/in_force.h"
#include "api/malloc.h"
#include "api/new_handler.h"

/* ------------------------------------------------------------ libc */

AP_API void *malloc(size_t size)
{
    return ap__malloc_inline(size);
}

AP_API void free(void *p)
{
    ap__free_inline(p, "free");
}

void cfree(void *p);
AP_API void cfree(void *p)
{
    ap__free_inline(p, "cfree");
}

void free_sized(void *p, size_t size);
AP_API void free_sized(void *p, size_t size)
{
    ap__free_sized(p, size, "free_sized");
}

void free_aligned_sized(void *p, size_t alignment, size_t size);
AP_API void free_aligned_sized(void *p, size_t alignment, size_t size)
{
    ap__free_aligned_sized(p, alignment, size, "free_aligned_sized");
}

AP_API void *calloc(size_t count, size_t size)
{
    return ap__calloc(count, size);
}

AP_API void *realloc(void *p, size_t size)
{
    return ap__realloc(p, size, "realloc");
}

/* Ours by names that nobody else can take. */
extern ap__realloc_fn ap__own_realloc AP_LIKE(realloc)
    __attribute__((alias("realloc"), visibility("hidden")));
extern ap__reallocarray_fn ap__own_reallocarray AP_LIKE(reallocarray)
    __attribute__((alias("reallocarray"), visibility("hidden")));

/*
 * A malloc of the program's own has a realloc, but seldom a reallocarray, which is no standard's. libc's calls whatever
 * realloc is in force, so ours does, too: else blocks of one heap would get into the other. No other of libc's
 * functions goes through one that programs replace: who defines malloc without the aligned functions, say, gets libc's
 * heap for these from libc as well. (The C++ runtime's operators go through malloc and free, but come in pairs.)
 *
 * If it is not our reallocarray that is in force, the caller asked for ours, by dlsym(), and means our heap: the
 * library may have been loaded late, when all names were taken.
 */
static bool realloc_is_anothers(void)
{
    return ap__realloc_in_force != ap__own_realloc &&
           ap__reallocarray_in_force == ap__own_reallocarray;
}

AP_API void *reallocarray(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (AP_UNLIKELY(realloc_is_anothers()) && !__builtin_mul_overflow(count, size, &bytes)) {
        return ap__realloc_in_force(p, bytes);
    }
    return ap__reallocarray(p, count, size, "reallocarray");
}

AP_API void *aligned_alloc(size_t alignment, size_t size)
{
    return ap__aligned_alloc(alignment, size);
}

AP_API int posix_memalign(void **result, size_t alignment, size_t size)
{
    return ap__posix_memalign(result, alignment, size);
}

AP_API void *memalign(size_t alignment, size_t size)
{
    return ap__memalign(alignment, size);
}

AP_API void *valloc(size_t size)
{
    return ap__valloc(size);
}

AP_API void *pvalloc(size_t size)
{
    return ap__pvalloc(size);
}

AP_API size_t malloc_usable_size(void *p)
{
    return ap__usable_size(p, "malloc_usable_size");
}

AP_API int mallopt(int parameter, int value)
{
    return ap__mallopt(parameter, value);
}

AP_API int malloc_trim(size_t pad)
{
    (void)pad;
    return ap__trim() != 0;
}

_Static_assert(sizeof(struct mallinfo2) == sizeof(struct ap_mallinfo2), "ten sizes");
_Static_assert(sizeof(struct mallinfo) == sizeof(struct ap_mallinfo), "ten ints");

AP_API struct mallinfo2 mallinfo2(void)
{
    struct ap_mallinfo2 info = ap__mallinfo2();
    return (struct mallinfo2){
        info.arena,   info.ordblks, info.smblks,   info.hblks,    info.hblkhd,
        info.usmblks, info.fsmblks, info.uordblks, info.fordblks, info.keepcost,
    };
}

AP_API struct mallinfo mallinfo(void)
{
    struct ap_mallinfo info = ap__mallinfo();
    return (struct mallinfo){
        info.arena,   info.ordblks, info.smblks,   info.hblks,    info.hblkhd,
        info.usmblks, info.fsmblks, info.uordblks, info.fordblks, info.keepcost,
    };
}

AP_API int malloc_info(int options, FILE *stream)
{
    return ap__malloc_info(options, stream);
}

AP_API void malloc_stats(void)
{
    ap__malloc_stats();
}

/* ------------------------------------------------------------ libc's second names */

/* glibc exports these, too, and no header has them. Whoever takes a block by one gives it back by free(), or the other
 * way round: so both are of one heap. */
void *__libc_malloc(size_t size);
void __libc_free(void *p);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void *__libc_valloc(size_t size);
void *__libc_pvalloc(size_t size);

AP_API void *__libc_malloc(size_t size)
{
    return ap__malloc_inline(size);
}

AP_API void __libc_free(void *p)
{
    ap__free_inline(p, "__libc_free");
}

AP_API void *__libc_calloc(size_t count, size_t size)
{
    return ap__calloc(count, size);
}

AP_API void *__libc_realloc(void *p, size_t size)
{
    return ap__realloc(p, size, "__libc_realloc");
}

AP_API void *__libc_memalign(size_t alignment, size_t size)
{
    return ap__memalign(alignment, size);
}

AP_API void *__libc_valloc(size_t size)
{
    return ap__valloc(size);
}

AP_API void *__libc_pvalloc(size_t size)
{
    return ap__pvalloc(size);
}

/* ------------------------------------------------------------ C++: new */

/* Out of memory: the new-handler is asked until it gives up. Returns NULL only for `nothrow`. */
AP_COLD static void *new_slow(size_t alignment, size_t size, bool nothrow)
{
    for (;;) {
        if (nothrow ? !ap__new_handler_call_nothrow() : !ap__new_handler_call()) {
            if (nothrow) {
                return NULL;
            }
            ap__throw_bad_alloc();
        }
        void *p = alignment == 0 ? ap__malloc_inline(size) : ap__aligned(alignment, size);
        if (p != NULL) {
            return p;
        }
    }
}

static AP_ALWAYS_INLINE void *new_plain(size_t size, bool nothrow)
{
    void *p = ap__malloc_inline(size);
    return AP_LIKELY(p != NULL) ? p : new_slow(0, size, nothrow);
}

static AP_ALWAYS_INLINE void *new_aligned(size_t size, size_t alignment, bool nothrow)
{
    void *p = ap__aligned(alignment, size);
    return AP_LIKELY(p != NULL) ? p : new_slow(alignment, size, nothrow);
}

#define DEFINE_NEW(name, parameters, expression)                                                   \
    void *name parameters;                                                                         \
    AP_API void *name parameters                                                                   \
    {                                                                                              \
        return (expression);                                                                       \
    }

/* (size), (size, nothrow), (size, alignment), (size, alignment, nothrow); plain and array */
DEFINE_NEW(_Znwm, (size_t size), new_plain(size, false))
DEFINE_NEW(_Znam, (size_t size), new_plain(size, false))
DEFINE_NEW(_ZnwmRKSt9nothrow_t, (size_t size, const void *tag AP_UNUSED), new_plain(size, true))
DEFINE_NEW(_ZnamRKSt9nothrow_t, (size_t size, const void *tag AP_UNUSED), new_plain(size, true))
DEFINE_NEW(_ZnwmSt11align_val_t, (size_t size, size_t alignment),
           new_aligned(size, alignment, false))
DEFINE_NEW(_ZnamSt11align_val_t, (size_t size, size_t alignment),
           new_aligned(size, alignment, false))
DEFINE_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t,
           (size_t size, size_t alignment, const void *tag AP_UNUSED),
           new_aligned(size, alignment, true))
DEFINE_NEW(_ZnamSt11align_val_tRKSt9nothrow_t,
           (size_t size, size_t alignment, const void *tag AP_UNUSED),
           new_aligned(size, alignment, true))

/* ------------------------------------------------------------ C++: delete */

#define DEFINE_DELETE(name, parameters, text)                                                      \
    void name parameters;                                                                          \
    AP_API void name parameters                                                                    \
    {                                                                                              \
        ap__free_inline(p, text);                                                                  \
    }

#define DEFINE_SIZED_DELETE(name, parameters, text)                                                \
    void name parameters;                                                                          \
    AP_API void name parameters                                                                    \
    {                                                                                              \
        ap__delete_inline(p, size, text);                                                          \
    }

/* (p), (p, size), (p, nothrow), (p, alignment), (p, size, alignment), (p, alignment, nothrow) */
DEFINE_DELETE(_ZdlPv, (void *p), "operator delete")
DEFINE_DELETE(_ZdaPv, (void *p), "operator delete[]")
DEFINE_SIZED_DELETE(_ZdlPvm, (void *p, size_t size), "operator delete")
DEFINE_SIZED_DELETE(_ZdaPvm, (void *p, size_t size), "operator delete[]")
DEFINE_DELETE(_ZdlPvRKSt9nothrow_t, (void *p, const void *tag AP_UNUSED), "operator delete")
DEFINE_DELETE(_ZdaPvRKSt9nothrow_t, (void *p, const void *tag AP_UNUSED), "operator delete[]")
DEFINE_DELETE(_ZdlPvSt11align_val_t, (void *p, size_t alignment AP_UNUSED), "operator delete")
DEFINE_DELETE(_ZdaPvSt11align_val_t, (void *p, size_t alignment AP_UNUSED), "operator delete[]")
DEFINE_SIZED_DELETE(_ZdlPvmSt11align_val_t, (void *p, size_t size, size_t alignment AP_UNUSED),
                    "operator delete")
DEFINE_SIZED_DELETE(_ZdaPvmSt11align_val_t, (void *p, size_t size, size_t alignment AP_UNUSED),
                    "operator delete[]")
DEFINE_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t,
              (void *p, size_t alignment AP_UNUSED, const void *tag AP_UNUSED), "operator delete")
DEFINE_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t,
              (void *p, size_t alignment AP_UNUSED, const void *tag AP_UNUSED), "operator delete[]")
