/* SPDX-License-Identifier: MIT */
/*
 * os_map.c: address space and memory from the kernel.
 *
 * libc's wrappers are called rather than the raw system calls, because ThreadSanitizer learns from
 * them which addresses start a new life. Each function restores errno: the program's errno belongs
 * to the entry points alone.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/bits.h"
#include "os/os.h"

/* Fresh private memory at `address` (NULL: anywhere). */
static void *map(void *address, size_t size_bytes, int protection, int flags)
{
    int saved_errno = errno;
    void *p = mmap(address, size_bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    errno = saved_errno;
    return p == MAP_FAILED ? NULL : p;
}

void *ap__os_reserve(size_t size_bytes)
{
    /* Inaccessible private memory is not charged. Without MAP_NORESERVE the charge comes when a part
     * is committed, so the kernel's overcommit policy decides there, as it does for mmap(). */
    return map(NULL, size_bytes, PROT_NONE, 0);
}

void *ap__os_map(size_t size_bytes)
{
    return map(NULL, size_bytes, PROT_READ | PROT_WRITE, 0);
}

bool ap__os_unmap(void *address, size_t size_bytes)
{
    int saved_errno = errno;
    bool done = munmap(address, size_bytes) == 0;
    errno = saved_errno;
    return done;
}

void *ap__os_trim_to_alignment(void *mapping, size_t mapped_bytes, size_t size_bytes,
                               size_t alignment)
{
    char *start = mapping;
    char *aligned = (char *)ap__align_up((uintptr_t)start, alignment);
    size_t head = (size_t)(aligned - start);
    size_t tail = mapped_bytes - head - size_bytes;
    if (head != 0) {
        (void)ap__os_unmap(start, head);
    }
    if (tail != 0) {
        (void)ap__os_unmap(aligned + size_bytes, tail);
    }
    return aligned;
}

static bool protect(void *address, size_t size_bytes, int protection)
{
    int saved_errno = errno;
    bool done = mprotect(address, size_bytes, protection) == 0;
    errno = saved_errno;
    return done;
}

bool ap__os_commit(void *address, size_t size_bytes)
{
    return protect(address, size_bytes, PROT_READ | PROT_WRITE);
}

bool ap__os_protect_none(void *address, size_t size_bytes)
{
    return protect(address, size_bytes, PROT_NONE);
}

bool ap__os_protect_read_only(void *address, size_t size_bytes)
{
    return protect(address, size_bytes, PROT_READ);
}

static bool advise(void *address, size_t size_bytes, int advice)
{
    int saved_errno = errno;
    bool done = madvise(address, size_bytes, advice) == 0;
    errno = saved_errno;
    return done;
}

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif

bool ap__os_discard(void *address, size_t size_bytes)
{
    int saved_errno = errno;
    bool done = madvise(address, size_bytes, MADV_DONTNEED) == 0;
    if (!done && errno == EINVAL) { /* a page of the range is locked */
        done = madvise(address, size_bytes, MADV_DONTNEED_LOCKED) == 0;
    }
    errno = saved_errno;
    return done;
}

bool ap__os_wipe_on_fork(void *address, size_t size_bytes)
{
    return advise(address, size_bytes, MADV_WIPEONFORK);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

bool ap__os_populate(void *address, size_t size_bytes)
{
    return advise(address, size_bytes, MADV_POPULATE_WRITE);
}

bool ap__os_advise_huge_pages(void *address, size_t size_bytes, bool wanted)
{
    return advise(address, size_bytes, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#define MADV_GUARD_REMOVE 103
#endif

enum ap__guard ap__os_guard(void *address, size_t size_bytes)
{
    if (advise(address, size_bytes, MADV_GUARD_INSTALL)) {
        return AP__GUARD_MARKS;
    }
    /* A locked page takes no mark, but those before it have theirs by now, and could not be cleared. */
    (void)advise(address, size_bytes, MADV_GUARD_REMOVE);
    if (!ap__os_discard(address, size_bytes)) {
        memset(address, 0, size_bytes); /* locked pages stay */
    }
    return ap__os_protect_none(address, size_bytes) ? AP__GUARD_PROTECTION : AP__GUARD_NONE;
}

bool ap__os_unguard(void *address, size_t size_bytes, enum ap__guard guard)
{
    switch (guard) {
    case AP__GUARD_MARKS:
        return advise(address, size_bytes, MADV_GUARD_REMOVE);
    case AP__GUARD_PROTECTION:
        return ap__os_commit(address, size_bytes);
    default:
        return true;
    }
}

bool ap__os_remap_fresh(void *address, size_t size_bytes)
{
    return map(address, size_bytes, PROT_READ | PROT_WRITE, MAP_FIXED) != NULL;
}

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static bool is_unlimited(int resource)
{
    struct rlimit limit;
    int saved_errno = errno;
    bool unlimited = getrlimit(resource, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
    errno = saved_errno;
    return unlimited;
}

bool ap__os_move_pages(void *from, void *to, size_t size_bytes)
{
    /*
     * The kernel unmaps `to` before it looks at the limits; when they then forbid the move, `to` is a
     * hole. Under a limit the caller copies instead. What other refusals leave behind is mended
     * below; MAP_FIXED_NOREPLACE fills a hole and leaves an untouched range as it is.
     */
    if (!is_unlimited(RLIMIT_AS) || !is_unlimited(RLIMIT_DATA)) {
        return false;
    }
    int saved_errno = errno;
    void *moved =
        mremap(from, size_bytes, size_bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
    errno = saved_errno;
    if (moved != MAP_FAILED) {
        return true;
    }
    (void)map(to, size_bytes, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
    return false;
}
