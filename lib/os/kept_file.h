/* SPDX-License-Identifier: MIT */
/*
 * kept_file.h: a small text file that stays open, to be read again where no file may be opened any more.
 *
 * Does: open it under a number that is in nobody's way, remember which file it is, and read it anew from its
 * beginning while the number still leads to it. Programs close numbers that they do not know, and use
 * them for files of their own: each use asks first, a file that is not ours is neither read nor closed, and a number
 * that was lost once stays so. Does not: allocate, take a lock, set errno.
 * The numbers are from 240 on, or from half the limit on them if that is lower: the program's own are what they would
 * be without (its first is 3), select() can do with all of them, and the kernel's table does not grow beyond 256 for
 * ours. Not 200, which scripts like to take for lock files; 255 is the shell's.
 * Between the question and the read a number may change hands all the same. That is harmless: the kernel refuses
 * pread() of what it would take something from (pipes, sockets, eventfd), and files are none the less for it.
 * Callers: any layer, holding any lock. Thread-safe for different structures.
 * Errors: a file that cannot be read is an empty one.
 */
#ifndef AP_OS_KEPT_FILE_H
#define AP_OS_KEPT_FILE_H

#include "base/compiler.h"
#include "os/file.h"

struct ap__kept_file {
    int number; /* 0: there is no such file; negative: it was ours, and is no more */
    uint64_t device, inode;
};

/* `true`: it is kept, or there is no such file. `false`: there is, perhaps, and it cannot be kept; *file is none. */
bool ap__kept_file_open(struct ap__kept_file *file, const char *path);

static inline bool ap__kept_file_is_lost(const struct ap__kept_file *file)
{
    return file->number < 0;
}

/* As ap__os_read_file(). */
size_t ap__kept_file_read(struct ap__kept_file *file, char *text, size_t room_bytes);

/* As ap__lines_open(). */
void ap__kept_file_lines(struct ap__kept_file *file, struct ap__lines *lines);

/* Ends it, and closes the number if that still leads to it. *file is none. */
void ap__kept_file_close(struct ap__kept_file *file);

#endif
