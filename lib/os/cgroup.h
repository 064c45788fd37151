/* SPDX-License-Identifier: MIT */
/*
 * cgroup.h: how much memory the control group of this process allows.
 *
 * Does: find the group (version 1 or 2, also in containers) and read its limits. Does not: keep
 * state, allocate, take a lock, set errno. A file that is missing or malformed says "no limit".
 * Callers: any layer, holding any lock, at any time, also before constructors; each call opens and
 * reads some small files (up to four per ancestor), so not on paths taken often. Both functions need
 * less than 4 KiB of stack. Thread-safe for different structures; a found group is only read.
 */
#ifndef AP_OS_CGROUP_H
#define AP_OS_CGROUP_H

#include "base/compiler.h"

/* Longest folder of a group, in bytes with the NUL. */
enum { AP__CGROUP_FOLDER_MAX = 1024 };

struct ap__cgroup {
    unsigned version;    /* 1 or 2 */
    size_t mount_length; /* bytes of `folder` that lead to the root of the mount */
    char folder[AP__CGROUP_FOLDER_MAX];
};

/*
 * Bytes; SIZE_MAX for none. The limits are the lowest of the group and its ancestors. An ancestor
 * with a higher limit may still be nearer to it, because of what else runs in it: `room_bytes` and
 * `used_bytes` are of the group that has the least room left. Page cache, and other
 * caches that the kernel drops before it refuses memory, count as room, not as used (as in MemAvailable).
 */
struct ap__cgroup_memory {
    size_t limit_bytes; /* beyond it the kernel ends processes */
    size_t high_bytes;  /* beyond it the kernel slows processes down; version 2 only */
    size_t used_bytes;  /* of that group; 0 if unknown, or without limits */
    size_t room_bytes;  /* until that group meets the lower of its two limits */
};

/*
 * Finds the control group with the memory limits of this process: that of the file
 * `root`/proc/self/cgroup, below `root`/sys/fs/cgroup. `root` is "" for the real system. Version 1's
 * memory controller comes first where the system has both. A group whose folder does not exist, as
 * is usual in containers, is the root of the mount. `false`: there is no group with files for limits
 * of memory; *cgroup is then undefined. `true` does not say that there is a limit now.
 */
bool ap__cgroup_find(struct ap__cgroup *cgroup, const char *root);

/*
 * Reads the limits of a found group as they are now. `false`: no group has a file for limits any
 * more; *memory is then as without limits.
 */
bool ap__cgroup_read(const struct ap__cgroup *cgroup, struct ap__cgroup_memory *memory);

/* Both, for the price of one; *memory is undefined if there is no group. */
bool ap__cgroup_find_and_read(struct ap__cgroup *cgroup, const char *root,
                              struct ap__cgroup_memory *memory);

#endif
