/* SPDX-License-Identifier: MIT */
/*
 * cgroup.h: how much memory the control group of this process allows.
 *
 * Does: find the group (version 1 or 2, also in containers) and read its limits; keep the files of one group open
 * for its callers, and read those again without opening any. Does not: have state of its own, allocate, take a
 * lock, set errno. A file that is missing or malformed says "no limit".
 * Callers: any layer, holding any lock, at any time, also before constructors; each call opens and
 * reads some small files (up to four per ancestor), so not on paths taken often. All functions need
 * less than 4 KiB of stack. Thread-safe for different structures; a found group is only read.
 */
#ifndef AP_OS_CGROUP_H
#define AP_OS_CGROUP_H

#include "base/compiler.h"
#include "os/kept_file.h"

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

    /* The same of the other groups; and the bytes of the found group's folder that lead to that one, or without
     * limits to the lowest that has files for them. */
    size_t other_room_bytes;
    size_t folder_length;
};

/* Limit, `high`, what is used, and of what kind that is. */
enum { AP__CGROUP_FILES = 4 };

struct ap__cgroup_kept {
    unsigned version; /* as in struct ap__cgroup; 0: nothing is kept */
    struct ap__kept_file files[AP__CGROUP_FILES];
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

/*
 * Keeps the files of the group that has the least room, or without limits of the lowest that has such files; *memory
 * is what was read of the found group. `false`: some file cannot be kept; *kept is then nothing.
 */
bool ap__cgroup_keep(struct ap__cgroup_kept *kept, const struct ap__cgroup *cgroup,
                     const struct ap__cgroup_memory *memory);

/*
 * Reads the limits of the kept group alone, by fstat() and pread() only. `false`, and *memory is undefined: they cannot
 * be read now, because there is no such group any more, say; or the program has closed one of the files, and then
 * they never will be.
 */
bool ap__cgroup_read_kept(struct ap__cgroup_kept *kept, struct ap__cgroup_memory *memory);

/* Closes what is kept, but for what the program has closed. *kept is nothing. */
void ap__cgroup_forget(struct ap__cgroup_kept *kept);

#endif
