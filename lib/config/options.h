/* SPDX-License-Identifier: MIT */
/*
 * options.h: the option table: names, types, ranges, defaults, help.
 *
 * The list below is the only place where an option is described; the structure, the parser, the
 * text of help:true and doc/options.md come from it.
 * Values are read from APMALLOC_CONF="key:value,key:value" once, at start; set-uid programs ignore it.
 * Values are written before the program can have a second thread, and constant afterwards.
 */
#ifndef AP_CONFIG_OPTIONS_H
#define AP_CONFIG_OPTIONS_H

#include "base/compiler.h"

/*
 * name, type, default, least, most, help. Types: BOOL, BYTES, NUMBER, WHEN (auto, never or always),
 * DELAY (milliseconds, or -1 for UINT64_MAX), TEXT (anything without a comma; least and most are
 * bytes, at most AP__TEXT_MAX).
 */
#define AP_OPTIONS(X)                                                                              \
    X(help, BOOL, 0, 0, 1, "write this list to standard error at start")                           \
    X(stats_at_exit, BOOL, 0, 0, 1,                                                                \
      "write malloc_stats() to standard error when the program ends")                              \
    X(ignore_foreign, BOOL, 0, 0, 1,                                                               \
      "free() of a pointer that is not from this allocator does nothing (the memory is lost) "     \
      "instead of ending the process")                                                             \
    X(hardened, BOOL, 0, 0, 1,                                                                     \
      "every block is checked when it is freed and again when it is reused: see doc/security.md; " \
      "no call takes the short path")                                                              \
    X(quarantine, BYTES, AP_MIB(1), 0, AP_MIB(1024),                                               \
      "with hardened: most bytes of freed memory that wait before they are reused")                \
    X(guard_sample, NUMBER, 0, 0, 1000000000,                                                      \
      "one of so many allocations gets a page of its own between inaccessible ones; 0: none, "     \
      "with "                                                                                      \
      "hardened: 1000")                                                                            \
    X(reserve, BYTES, AP_TIB(1), AP_MIB(4), AP_TIB(64),                                            \
      "address space to reserve for the heap; halved until the kernel agrees")                     \
    X(cache_thread, BYTES, AP_MIB(2), 0, AP_TIB(1), "most that one thread's cache may hold")       \
    X(cache_total, BYTES, AP_MIB(128), 0, AP_TIB(1), "most that all thread caches may hold")       \
    X(transfer_class, BYTES, AP_KIB(256), 0, AP_MIB(64),                                           \
      "most that one size class' transfer cache may hold; 0 turns transfer caches off")            \
    X(cpu_shards, NUMBER, 0, 0, 8,                                                                 \
      "shares in transfer caches, of processors, and in size classes of many spans, of threads; "  \
      "0: by the number of processors, and 8")                                                     \
    X(thp, WHEN, AP__WHEN_AUTO, AP__WHEN_AUTO, AP__WHEN_ALWAYS,                                    \
      "huge pages; auto: for small blocks of heaps from 64M on, where the system lets programs "   \
      "ask for them")                                                                              \
    X(fine_classes, WHEN, AP__WHEN_AUTO, AP__WHEN_AUTO, AP__WHEN_ALWAYS,                           \
      "eight size classes a doubling, not four; auto: each where it saves a hundredth of the "     \
      "memory in small blocks, 128K at least")                                                     \
    X(pack, WHEN, AP__WHEN_AUTO, AP__WHEN_AUTO, AP__WHEN_ALWAYS,                                   \
      "blocks of 1K to 64K lie side by side, as long as they were asked for; auto: those beyond "  \
      "the first 1M of each size class, unless such blocks come and go")                           \
    X(limit, BYTES, 0, 0, AP_TIB(1024), "bytes of heap beyond which allocation fails; 0: none")    \
    X(soft_limit, BYTES, 0, 0, AP_TIB(1024),                                                       \
      "bytes of heap beyond which unused memory is given back at once and caches stay small; 0: "  \
      "none")                                                                                      \
    X(decay_ms, DELAY, 5000, 0, 1000000000,                                                        \
      "milliseconds after which unused memory is given back to the kernel; 0: at once, -1: never") \
    X(helper, BOOL, 1, 0, 1,                                                                       \
      "a thread does that in programs of several threads; else they do it themselves, while they " \
      "allocate")                                                                                  \
    X(membarrier, BOOL, 1, 0, 1,                                                                   \
      "what threads have cached is had back from those that sleep to the last block, by this "     \
      "system call; false: for filters that kill for it")                                          \
    X(populate, BOOL, 1, 0, 1,                                                                     \
      "where huge pages are not to be had, spans of a class in much use get their memory at once") \
    X(cgroup, BOOL, 1, 0, 1,                                                                       \
      "the limits of the control group lower soft_limit to nine tenths of the room they leave")    \
    X(cgroup_check_ms, DELAY, AP__CGROUP_CHECK_AUTO, 0, 1000000000,                                \
      "milliseconds after which the helper reads those limits again when it is at work, from "     \
      "files that stay open; -1: 5000 where there is a limit at start; 0: never, no file stays "   \
      "open")                                                                                      \
    X(cgroup_root, TEXT, "", 0, AP__TEXT_MAX,                                                      \
      "a folder to look for proc/self/cgroup and sys/fs/cgroup in, instead of /")

enum ap__when { AP__WHEN_AUTO, AP__WHEN_NEVER, AP__WHEN_ALWAYS };

/* Value of cgroup_check_ms: by whether there is a limit. */
#define AP__CGROUP_CHECK_AUTO UINT64_MAX

#define AP_KIB(n) ((uint64_t)(n) << 10)
#define AP_MIB(n) ((uint64_t)(n) << 20)
#define AP_TIB(n) ((uint64_t)(n) << 40)

/* Longest text of an option, in bytes without the NUL. */
#define AP__TEXT_MAX 255

/* How a type is kept. A text is kept as a copy: the program may change its environment. */
#define AP_OPTION_FIELD_BOOL(name) uint64_t name
#define AP_OPTION_FIELD_BYTES(name) uint64_t name
#define AP_OPTION_FIELD_NUMBER(name) uint64_t name
#define AP_OPTION_FIELD_WHEN(name) uint64_t name
#define AP_OPTION_FIELD_DELAY(name) uint64_t name
#define AP_OPTION_FIELD_TEXT(name) char name[AP__TEXT_MAX + 1]

/* They fill a page of their own, where pages have this size: neither a neighbour nor a stray write shall
 * change what the process runs on. */
#define AP__OPTIONS_PAGE 4096

struct ap__options {
#define AP_OPTION_FIELD(name, type, def, least, most, help) AP_OPTION_FIELD_##type(name);
    AP_OPTIONS(AP_OPTION_FIELD)
#undef AP_OPTION_FIELD
} __attribute__((aligned(AP__OPTIONS_PAGE)));

extern struct ap__options ap__options;

/* Makes them read-only, where they fill pages of their own; for the rest of the process' life. */
void ap__options_seal(void);

/* The opposite, for tests. */
void ap__options_unseal(void);

/*
 * Reads "key:value,key:value" into ap__options. The first ':' ends a key, a ',' ends a value. An
 * unknown key or a bad value is one warning on standard error, the rest still counts. NULL is the
 * empty text.
 */
void ap__options_parse(const char *text);

/*
 * Reads APMALLOC_CONF, where the environment is there already and to be trusted. `false`: libc has
 * no environment yet (the call came from the dynamic loader); try again later.
 */
bool ap__options_read_environment(void);

#endif
