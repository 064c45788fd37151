/* SPDX-License-Identifier: MIT */
/*
 * os.h: every kernel service the allocator uses, and nothing else.
 *
 * Does: map, protect, discard and move address ranges; read limits, seeds and page size; write a
 * message to standard error. Does not: keep allocator state, take a lock, set errno (each
 * function leaves errno as it was). Ranges are page-aligned; sizes are in bytes and not 0.
 * Callers: any layer, holding any lock, at any time, also before constructors.
 * Errors: a pointer or NULL, or `true` for done. The callers decide what a failure means.
 *
 * Idea: the one-header operating system of mimalloc's prim.h.
 */
#ifndef AP_OS_OS_H
#define AP_OS_OS_H

#include "base/compiler.h"

/* Address space without memory: inaccessible, not charged to commit limits. NULL on failure. */
void *ap__os_reserve(size_t size_bytes);

/* Readable and writable zero pages. NULL on failure. */
void *ap__os_map(size_t size_bytes);

/* Gives address space back; `false` if the kernel refused (the range is then still mapped). */
bool ap__os_unmap(void *address, size_t size_bytes);

/*
 * Cuts a fresh mapping of at least size + alignment bytes down to `size_bytes` at a multiple of
 * `alignment` (a power of two, at least a page), whose address it returns. What the kernel will not
 * take back stays mapped and unused.
 */
void *ap__os_trim_to_alignment(void *mapping, size_t mapped_bytes, size_t size_bytes,
                               size_t alignment);

/* Makes a part of a reservation readable and writable; its pages read as zero. */
bool ap__os_commit(void *address, size_t size_bytes);

/* Takes every access right from a range; its contents are lost in the sense of being out of reach. */
bool ap__os_protect_none(void *address, size_t size_bytes);

/* Makes a page read-only. */
bool ap__os_protect_read_only(void *address, size_t size_bytes);

/* Gives the memory of a committed range back; it stays usable and reads as zero, and locked where it was locked. `false`:
 * refused, by kernels before 5.18 for locked memory; a part may be zero. */
bool ap__os_discard(void *address, size_t size_bytes);

/* Child processes find the pages zero, however they were made. `false`: the kernel does not do that. */
bool ap__os_wipe_on_fork(void *address, size_t size_bytes);

/* Backs a committed range with memory now, in one call. `false`: not possible; nothing is lost. */
bool ap__os_populate(void *address, size_t size_bytes);

/* Asks for huge pages in a range, or for none. `false`: the kernel does not have them. */
bool ap__os_advise_huge_pages(void *address, size_t size_bytes, bool wanted);

/* What the system, or whoever started the process, says about transparent huge pages. Reads a file. */
enum ap__huge_pages { AP__HUGE_PAGES_NEVER, AP__HUGE_PAGES_ADVISED, AP__HUGE_PAGES_ALWAYS };
enum ap__huge_pages ap__os_huge_pages(void);

/* Replaces a committed range by a fresh mapping: zero, and mergeable with its neighbours. */
bool ap__os_remap_fresh(void *address, size_t size_bytes);

/*
 * Guards: a range whose every access faults, and whose contents are gone. Where the kernel can (Linux
 * 6.13), marks in the page table, which split no mapping; else a change of protection. AP__GUARD_NONE:
 * refused, the range is usable, its contents may be lost.
 */
enum ap__guard { AP__GUARD_NONE, AP__GUARD_MARKS, AP__GUARD_PROTECTION };
enum ap__guard ap__os_guard(void *address, size_t size_bytes);

/* Makes a range usable again; it reads as zero. `false`: refused, the range is still guarded. */
bool ap__os_unguard(void *address, size_t size_bytes, enum ap__guard guard);

/*
 * Moves the pages of [from, from + size) to [to, to + size) without copying them. Both ranges are
 * committed before and after; `from` then reads as zero. `false`: nothing has changed.
 */
bool ap__os_move_pages(void *from, void *to, size_t size_bytes);

/* Bytes of a page; constant for the life of the process. */
size_t ap__os_page_size(void);

/* Processors this process may run on, at least 1. */
unsigned ap__os_cpu_count(void);

/* The processor this thread runs on at the moment; a hint, 0 where unknown. */
unsigned ap__os_current_cpu(void);

/* Every thread of the process has passed a full memory barrier between call and return, those that do not run included.
 * `false`: the kernel (before 4.14), or who filters calls to it, refuses. */
bool ap__os_barrier(void);

/* Microseconds and milliseconds of a clock that only goes forward. No system call, as a rule. The latter is that of
 * the last timer tick: some milliseconds late, and an eighth of the cost. */
uint64_t ap__os_now_us(void);
uint64_t ap__os_now_ms(void);

/* 64 bits nobody outside can know. Never blocks, never fails (falls back on AT_RANDOM and clocks). */
uint64_t ap__os_seed(void);

/* The environment, also before libc has it; NULL: not to be had yet. */
char **ap__os_environment(void);

/* The kernel's number of this thread. */
unsigned ap__os_thread_id(void);

/* A program that runs with more rights than its caller: its environment is not to be trusted. */
bool ap__os_is_secure_execution(void);

/* Whether `more_bytes` may be committed under RLIMIT_AS and RLIMIT_DATA as they are now.
 * `reserved_unused_bytes` is our own address space that is reserved only, and does not count;
 * `own_bytes` is what we have made usable, for where the kernel does not say what is in use. */
bool ap__os_limits_allow(size_t more_bytes, size_t reserved_unused_bytes, size_t own_bytes);

/* RLIMIT_AS in bytes, SIZE_MAX for none. */
size_t ap__os_address_space_limit(void);

/* RLIMIT_NOFILE: the numbers of descriptors are below it. SIZE_MAX for none. */
size_t ap__os_descriptor_limit(void);

/* All of `length` bytes to standard error, as far as it takes them. No SIGPIPE if nobody reads them. */
void ap__os_write_stderr(const char *text, size_t length);

#endif
