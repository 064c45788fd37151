/* SPDX-License-Identifier: MIT */
/*
 * file.h: reading the kernel's small text files, whole or line by line.
 *
 * Does: open, read and close through raw system calls, into buffers of the caller. Does not:
 * allocate, take a lock, set errno, or keep state between calls outside of the caller's structures.
 * Files that stay open between readings: os/kept_file.h.
 * Callers: any layer, at any time, also before constructors. Thread-safe for different buffers.
 * Errors: a file that cannot be read is an empty one.
 */
#ifndef AP_OS_FILE_H
#define AP_OS_FILE_H

#include "base/compiler.h"

/*
 * The first bytes of a file as text, ended by a NUL: at most room_bytes - 1 (room_bytes >= 1), and no
 * more than one read() gives. That is all of a file of /proc or /sys, up to a page. Returns the
 * number of bytes, 0 if there are none or the file cannot be read.
 */
size_t ap__os_read_file(const char *path, char *text, size_t room_bytes);

/* A descriptor to read from, which programs that this one executes do not get; or the negative error. */
long ap__os_open_file(const char *path);
void ap__os_close_file(long file);

/* The same of an open file, from its beginning, by pread(): forked processes share the place where read() goes on. */
size_t ap__os_read_open_file(long file, char *text, size_t room_bytes);

/* A line with its newline has at most so many bytes, and so many bytes of a file are looked at. */
enum { AP__LINE_MAX = 1024, AP__LINES_MAX = 64 * 1024 };

struct ap__lines {
    long file;         /* descriptor, negative for none */
    long at_byte;      /* of the next read; -1 for the file's own place */
    size_t left_bytes; /* of AP__LINES_MAX */
    size_t begin, end; /* text[begin, end) is read, but not given out yet */
    char text[AP__LINE_MAX + 1];
};

/* Starts with the first line of a file. Holds a descriptor until ap__lines_close(). */
void ap__lines_open(struct ap__lines *lines, const char *path);

/* The same for a file that is open, and stays so. */
void ap__lines_of_open_file(struct ap__lines *lines, long file);

/*
 * The next line, without its newline and ended by a NUL; valid until the next call. NULL: there is
 * none. Lines that are too long are left out; the last line needs no newline.
 */
const char *ap__lines_next(struct ap__lines *lines);

/* To be called once after either, whether that found a file or not. */
void ap__lines_close(struct ap__lines *lines);

#endif
