/* SPDX-License-Identifier: MIT */
/*
 * ap.c: the ap_ functions of include/apmalloc.h. Their contracts are there.
 */
#include "apmalloc.h"

#include "api/fast_path.h"
#include "api/glibc.h"
#include "api/malloc.h"
#include "decay/pressure.h"
#include "life/soft_limit.h"

AP_API void *ap_malloc(size_t size)
{
    return ap__malloc_inline(size);
}

AP_API void ap_free(void *p)
{
    ap__free_inline(p, "ap_free");
}

AP_API void ap_cfree(void *p)
{
    ap__free_inline(p, "ap_cfree");
}

AP_API void ap_free_sized(void *p, size_t size)
{
    ap__free_sized(p, size, "ap_free_sized");
}

AP_API void ap_free_aligned_sized(void *p, size_t alignment, size_t size)
{
    ap__free_aligned_sized(p, alignment, size, "ap_free_aligned_sized");
}

AP_API void *ap_calloc(size_t count, size_t size)
{
    return ap__calloc(count, size);
}

AP_API void *ap_realloc(void *p, size_t size)
{
    return ap__realloc(p, size, "ap_realloc");
}

AP_API void *ap_reallocarray(void *p, size_t count, size_t size)
{
    return ap__reallocarray(p, count, size, "ap_reallocarray");
}

AP_API void *ap_aligned_alloc(size_t alignment, size_t size)
{
    return ap__aligned_alloc(alignment, size);
}

AP_API int ap_posix_memalign(void **result, size_t alignment, size_t size)
{
    return ap__posix_memalign(result, alignment, size);
}

AP_API void *ap_memalign(size_t alignment, size_t size)
{
    return ap__memalign(alignment, size);
}

AP_API void *ap_valloc(size_t size)
{
    return ap__valloc(size);
}

AP_API void *ap_pvalloc(size_t size)
{
    return ap__pvalloc(size);
}

AP_API size_t ap_usable_size(void *p)
{
    return ap__usable_size(p, "ap_usable_size");
}

AP_API size_t ap_malloc_usable_size(void *p)
{
    return ap__usable_size(p, "ap_malloc_usable_size");
}

AP_API size_t ap_good_size(size_t size)
{
    return ap__good_size(size);
}

AP_API void ap_thread_idle(void)
{
    ap__thread_idle();
}

AP_API size_t ap_trim(void)
{
    return ap__trim();
}

AP_API int ap_malloc_trim(size_t pad)
{
    (void)pad;
    return ap__trim() != 0;
}

AP_API void ap_set_pressure_callback(ap_pressure_callback callback, void *context)
{
    ap__pressure_set_callback(callback, context);
}

AP_API void ap_update_limits(void)
{
    ap__soft_limit_update();
}

AP_API int ap_mallopt(int parameter, int value)
{
    return ap__mallopt(parameter, value);
}

AP_API struct ap_mallinfo2 ap_mallinfo2(void)
{
    return ap__mallinfo2();
}

AP_API struct ap_mallinfo ap_mallinfo(void)
{
    return ap__mallinfo();
}

AP_API int ap_malloc_info(int options, FILE *stream)
{
    return ap__malloc_info(options, stream);
}

AP_API void ap_malloc_stats(void)
{
    ap__malloc_stats();
}

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

AP_API const char *ap_version(void)
{
    return VERSION_TEXT(AP_VERSION_MAJOR, AP_VERSION_MINOR, AP_VERSION_PATCH);
}
