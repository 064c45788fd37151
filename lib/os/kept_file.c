/* SPDX-License-Identifier: MIT */
/*
 * kept_file.c: a small text file that stays open.
 *
 * Readings take fstat() and pread() and nothing else, the calls that a sandbox is least likely to forbid; raw, because
 * libc may ask for the former by a newer call, with a path.
 */
#include "os/kept_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

enum {
    LOST = -1,
    FIRST_NUMBER = 240,
    FIRST_NUMBER_MIN = 8, /* with fewer to have, the program needs them all */
};

/* Where our numbers begin; 0: the program has none to spare. */
static long first_number(void)
{
    size_t half = ap__os_descriptor_limit() / 2;
    return half >= FIRST_NUMBER ? FIRST_NUMBER : half >= FIRST_NUMBER_MIN ? (long)half : 0;
}

/* The same file under one of our numbers. `false`: refused. */
static bool move(long *file)
{
    long first = first_number();
    int saved_errno = errno;
    long moved = first == 0 ? -1 : syscall(SYS_fcntl, *file, F_DUPFD_CLOEXEC, first);
    errno = saved_errno;
    ap__os_close_file(*file);
    *file = moved;
    return moved >= 0;
}

static bool identify(long number, struct ap__kept_file *file)
{
    struct stat status;
    int saved_errno = errno;
    long failed = syscall(SYS_fstat, number, &status);
    errno = saved_errno;
    if (failed == 0) {
        *file = (struct ap__kept_file){(int)number, status.st_dev, status.st_ino};
    }
    return failed == 0;
}

bool ap__kept_file_open(struct ap__kept_file *file, const char *path)
{
    long number = ap__os_open_file(path);
    *file = (struct ap__kept_file){0};
    if (number < 0) {
        return number == -ENOENT;
    }
    if (!move(&number)) {
        return false;
    }
    if (!identify(number, file)) {
        ap__os_close_file(number);
        return false;
    }
    return true;
}

/* Whether the number still leads to the file. */
static bool is_ours(const struct ap__kept_file *file)
{
    struct ap__kept_file now;
    return file->number > 0 && identify(file->number, &now) && now.device == file->device &&
           now.inode == file->inode;
}

/* The descriptor to read from; negative for none. */
static long look_up(struct ap__kept_file *file)
{
    if (file->number > 0 && !is_ours(file)) {
        file->number = LOST;
    }
    return file->number > 0 ? file->number : -1;
}

size_t ap__kept_file_read(struct ap__kept_file *file, char *text, size_t room_bytes)
{
    return ap__os_read_open_file(look_up(file), text, room_bytes);
}

void ap__kept_file_lines(struct ap__kept_file *file, struct ap__lines *lines)
{
    ap__lines_of_open_file(lines, look_up(file));
}

void ap__kept_file_close(struct ap__kept_file *file)
{
    if (is_ours(file)) {
        ap__os_close_file(file->number);
    }
    *file = (struct ap__kept_file){0};
}
