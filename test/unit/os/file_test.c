/* SPDX-License-Identifier: MIT */
/*
 * file_test.c: reading small text files.
 * Goal: texts and lines as they are in the file, whatever their length; what cannot be read is empty;
 * no descriptor stays open and errno is left alone. Method: files made in a temporary folder.
 */
#include "os/file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STALE_ERRNO = 1789 };

static char path[] = "/tmp/apmalloc_file_XXXXXX";

static void make_file(void)
{
    int file = mkstemp(path);
    cr_assert_geq(file, 0);
    (void)close(file);
}

static void remove_file(void)
{
    (void)unlink(path);
}

TestSuite(file, .init = make_file, .fini = remove_file);

static void put(const char *text, size_t times)
{
    FILE *file = fopen(path, "ae");
    cr_assert_not_null(file);
    for (; times > 0; times--) {
        cr_assert_geq(fputs(text, file), 0);
    }
    cr_assert_eq(fclose(file), 0);
}

/* Number of the next free descriptor: rises if one is lost. */
static int next_descriptor(void)
{
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)close(file);
    return file;
}

Test(file, a_file_is_read_as_far_as_there_is_room)
{
    char text[6] = "#####";
    put("abcdefgh", 1);
    cr_assert_eq(ap__os_read_file(path, text, sizeof text), 5);
    cr_assert_str_eq(text, "abcde");
    char large[64];
    cr_assert_eq(ap__os_read_file(path, large, sizeof large), 8);
    cr_assert_str_eq(large, "abcdefgh");
    cr_assert_eq(ap__os_read_file(path, text, 1), 0);
    cr_assert_str_eq(text, "");
}

Test(file, what_cannot_be_read_is_empty)
{
    const char *const paths[] = {"/nonexistent/file", "/tmp", "", path};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char text[16] = "#";
        struct ap__lines lines;
        cr_assert_eq(ap__os_read_file(paths[i], text, sizeof text), 0);
        cr_assert_str_eq(text, "");
        ap__lines_open(&lines, paths[i]);
        cr_assert_null(ap__lines_next(&lines));
        cr_assert_null(ap__lines_next(&lines));
        ap__lines_close(&lines);
    }
}

Test(file, lines_come_one_by_one)
{
    const char *const expected[] = {"first", "", "third", "no newline"};
    struct ap__lines lines;
    put("first\n\nthird\nno newline", 1);
    ap__lines_open(&lines, path);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_str_eq(ap__lines_next(&lines), expected[i]);
    }
    cr_assert_null(ap__lines_next(&lines));
    cr_assert_null(ap__lines_next(&lines));
    ap__lines_close(&lines);
}

Test(file, lines_cross_the_ends_of_reads)
{
    struct ap__lines lines;
    put("0123456789abcdef\n", 1000);
    ap__lines_open(&lines, path);
    for (int i = 0; i < 1000; i++) {
        cr_assert_str_eq(ap__lines_next(&lines), "0123456789abcdef");
    }
    cr_assert_null(ap__lines_next(&lines));
    ap__lines_close(&lines);
}

/* A line of `length` bytes and its newline, between two others. */
static void check_line_of_length(size_t length, bool kept)
{
    struct ap__lines lines;
    cr_assert_eq(truncate(path, 0), 0);
    put("before\n", 1);
    put("x", length);
    put("\nafter\n", 1);
    ap__lines_open(&lines, path);
    cr_assert_str_eq(ap__lines_next(&lines), "before");
    if (kept) {
        cr_assert_eq(strlen(ap__lines_next(&lines)), length);
    }
    cr_assert_str_eq(ap__lines_next(&lines), "after", "%zu", length);
    cr_assert_null(ap__lines_next(&lines));
    ap__lines_close(&lines);
}

Test(file, lines_too_long_are_left_out)
{
    check_line_of_length(AP__LINE_MAX - 2, true);
    check_line_of_length(AP__LINE_MAX - 1, true);
    check_line_of_length(AP__LINE_MAX, false);
    check_line_of_length(AP__LINE_MAX + 1, false);
    check_line_of_length((size_t)5 * AP__LINE_MAX, false);
}

Test(file, a_last_line_too_long_is_left_out_too)
{
    struct ap__lines lines;
    put("x", (size_t)3 * AP__LINE_MAX);
    ap__lines_open(&lines, path);
    cr_assert_null(ap__lines_next(&lines));
    ap__lines_close(&lines);
}

Test(file, files_without_an_end_have_one)
{
    struct ap__lines lines;
    int count = 0;
    ap__lines_open(&lines, "/dev/zero");
    cr_assert_null(ap__lines_next(&lines));
    ap__lines_close(&lines);
    put("0123456789abcd\n", AP__LINES_MAX / 15 + 1000);
    ap__lines_open(&lines, path);
    for (const char *line; (line = ap__lines_next(&lines)) != NULL; count++) {
        cr_assert_str_eq(line, "0123456789abcd", "line %d is whole", count);
    }
    ap__lines_close(&lines);
    cr_assert_eq(count, AP__LINES_MAX / 15);
}

Test(file, nothing_stays_open_and_errno_stays)
{
    char text[16];
    const char *const paths[] = {"/nonexistent/file", "/tmp", path};
    int next = next_descriptor();
    put("line\n", 3);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct ap__lines lines;
        errno = STALE_ERRNO;
        (void)ap__os_read_file(paths[i], text, sizeof text);
        ap__lines_open(&lines, paths[i]);
        (void)ap__lines_next(&lines);
        ap__lines_close(&lines);
        cr_assert_eq(errno, STALE_ERRNO);
    }
    cr_assert_eq(next_descriptor(), next);
}
