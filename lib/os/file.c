/* SPDX-License-Identifier: MIT */
/*
 * file.c: reading the kernel's small text files, whole or line by line.
 *
 * Raw system calls, because libc's open() and read() are cancellation points, and malloc() must not
 * be one.
 */
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In place of an offset: where the last read() ended. */
enum { READS_ON = -1 };

long ap__os_open_file(const char *path)
{
    int saved_errno = errno;
    long file;
    do {
        file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    } while (file < 0 && errno == EINTR);
    if (file < 0) {
        file = -errno;
    }
    errno = saved_errno;
    return file;
}

void ap__os_close_file(long file)
{
    int saved_errno = errno;
    if (file >= 0) {
        (void)syscall(SYS_close, file); /* Linux closes also where it says EINTR */
    }
    errno = saved_errno;
}

/* What one read() or pread() gives, 0 at the end and after an error. */
static size_t read_some(long file, long at_byte, char *text, size_t room_bytes)
{
    int saved_errno = errno;
    long length;
    do {
        length = file < 0              ? 0
                 : at_byte == READS_ON ? syscall(SYS_read, file, text, room_bytes)
                                       : syscall(SYS_pread64, file, text, room_bytes, at_byte);
    } while (length < 0 && errno == EINTR);
    errno = saved_errno;
    return length > 0 ? (size_t)length : 0;
}

size_t ap__os_read_file(const char *path, char *text, size_t room_bytes)
{
    long file = ap__os_open_file(path);
    size_t length = read_some(file, READS_ON, text, room_bytes - 1);
    ap__os_close_file(file);
    text[length] = '\0';
    return length;
}

size_t ap__os_read_open_file(long file, char *text, size_t room_bytes)
{
    size_t length = read_some(file, 0, text, room_bytes - 1);
    text[length] = '\0';
    return length;
}

static void begin_lines(struct ap__lines *lines, long file, long at_byte)
{
    lines->file = file;
    lines->at_byte = at_byte;
    lines->left_bytes = AP__LINES_MAX;
    lines->begin = 0;
    lines->end = 0;
}

void ap__lines_open(struct ap__lines *lines, const char *path)
{
    begin_lines(lines, ap__os_open_file(path), READS_ON);
}

void ap__lines_of_open_file(struct ap__lines *lines, long file)
{
    begin_lines(lines, file, 0);
}

void ap__lines_close(struct ap__lines *lines)
{
    if (lines->at_byte == READS_ON) {
        ap__os_close_file(lines->file);
    }
    lines->file = -1;
}

/* Moves what is there to the front and reads more behind it. `false`: there is no more. */
static bool read_more(struct ap__lines *lines)
{
    size_t held = lines->end - lines->begin;
    size_t room = AP__LINE_MAX - held;
    memmove(lines->text, lines->text + lines->begin, held);
    size_t got = read_some(lines->file, lines->at_byte, lines->text + held,
                           room < lines->left_bytes ? room : lines->left_bytes);
    lines->at_byte += lines->at_byte == READS_ON ? 0 : (long)got;
    lines->left_bytes -= got;
    lines->begin = 0;
    lines->end = held + got;
    return got > 0;
}

/* Cuts a line off at its newline; NULL if that is not there yet. */
static char *cut_line(struct ap__lines *lines)
{
    char *line = lines->text + lines->begin;
    char *newline = memchr(line, '\n', lines->end - lines->begin);
    if (newline != NULL) {
        *newline = '\0';
        lines->begin = (size_t)(newline + 1 - lines->text);
    }
    return newline == NULL ? NULL : line;
}

const char *ap__lines_next(struct ap__lines *lines)
{
    bool too_long = false; /* the line we are in: its beginning is gone */
    for (;;) {
        char *line = cut_line(lines);
        if (line != NULL && !too_long) {
            return line;
        }
        if (line != NULL) {
            too_long = false;
            continue;
        }
        if (lines->end - lines->begin == AP__LINE_MAX) {
            too_long = true;
            lines->begin = lines->end;
        }
        if (!read_more(lines)) {
            break;
        }
    }
    /* What is left is a line without a newline, unless it was cut by one of our own bounds. */
    bool last = lines->end > lines->begin && !too_long && lines->left_bytes > 0;
    lines->text[lines->end] = '\0';
    lines->begin = lines->end;
    return last ? lines->text : NULL; /* read_more() has moved it to the front */
}
