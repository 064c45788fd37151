/* SPDX-License-Identifier: MIT */
/*
 * kept_file_test.c: a text file that stays open.
 * Goal: it is read anew each time; its number is in nobody's way; a number that the program has closed, or uses
 * for another file, is neither read nor closed; no refused call leaves anything open. Method: files in a
 * temporary folder.
 */
#include "os/kept_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "support/file_tree.h"
#include "support/os_faults.h"

enum { STALE_ERRNO = 1789, FIRST_NUMBER = 240 };

TestSuite(kept_file, .init = file_tree_make, .fini = file_tree_remove);

static const char *path_of(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof path, "%s%s", file_tree_root, name);
    return path;
}

static struct ap__kept_file keep(const char *text)
{
    struct ap__kept_file file;
    file_tree_put("/file", "%s", text);
    cr_assert(ap__kept_file_open(&file, path_of("/file")));
    return file;
}

static void expect_text(struct ap__kept_file *file, const char *expected)
{
    char text[64] = "#";
    cr_assert_eq(ap__kept_file_read(file, text, sizeof text), strlen(expected));
    cr_assert_str_eq(text, expected);
}

static bool is_open(int number)
{
    return fcntl(number, F_GETFD) != -1;
}

/* Of the low numbers, the next one free. */
static int next_number(void)
{
    int number = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)close(number);
    return number;
}

Test(kept_file, is_read_anew_each_time)
{
    struct ap__kept_file file = keep("first\n");
    expect_text(&file, "first\n");
    expect_text(&file, "first\n");
    file_tree_put("/file", "second, and longer\n");
    expect_text(&file, "second, and longer\n");
    cr_assert_eq(unlink(path_of("/file")), 0);
    expect_text(&file, "second, and longer\n");
    ap__kept_file_close(&file);
}

Test(kept_file, lines_are_those_of_the_file_however_long_it_is)
{
    char text[5000];
    struct ap__lines lines;
    memset(text, 'x', sizeof text);
    for (size_t i = 49; i < sizeof text; i += 50) {
        text[i] = '\n';
    }
    text[sizeof text - 1] = '\0';
    struct ap__kept_file file = keep(text);
    for (int times = 0; times < 2; times++) {
        int count = 0;
        ap__kept_file_lines(&file, &lines);
        for (const char *line; (line = ap__lines_next(&lines)) != NULL; count++) {
            cr_assert_eq(strlen(line), 49);
        }
        ap__lines_close(&lines);
        cr_assert_eq(count, 100);
        cr_assert(is_open(file.number), "reading lines does not end it");
    }
    ap__kept_file_close(&file);
}

Test(kept_file, its_number_is_in_nobodys_way)
{
    int next = next_number();
    struct ap__kept_file file = keep("text");
    cr_assert_geq(file.number, FIRST_NUMBER);
    cr_assert_lt(file.number, 255);
    cr_assert_eq(next_number(), next);
    cr_assert_eq(fcntl(file.number, F_GETFD), FD_CLOEXEC);
    int number = file.number;
    ap__kept_file_close(&file);
    cr_assert_not(is_open(number));
    cr_assert_eq(file.number, 0);
}

Test(kept_file, few_numbers_are_shared_and_very_few_are_the_programs)
{
    struct rlimit limit;
    struct ap__kept_file file;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 64;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    file = keep("text");
    cr_assert_eq(file.number, 32);
    ap__kept_file_close(&file);
    limit.rlim_cur = 15;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int next = next_number();
    cr_assert_not(ap__kept_file_open(&file, path_of("/file")));
    cr_assert_eq(next_number(), next);
}

Test(kept_file, one_that_does_not_exist_is_empty)
{
    struct ap__kept_file file;
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(dup2(nothing, STDIN_FILENO), STDIN_FILENO);
    cr_assert(ap__kept_file_open(&file, path_of("/none")));
    cr_assert_eq(file.number, 0);
    expect_text(&file, "");
    cr_assert_not(ap__kept_file_is_lost(&file));
    ap__kept_file_close(&file);
    cr_assert(is_open(STDIN_FILENO), "0 is no number of ours");
}

Test(kept_file, one_that_the_program_has_closed_is_lost_for_good)
{
    struct ap__kept_file file = keep("text");
    int number = file.number;
    cr_assert_eq(close(number), 0);
    expect_text(&file, "");
    cr_assert(ap__kept_file_is_lost(&file));
    struct ap__kept_file again = keep("text");
    cr_assert_eq(again.number, number, "the same file under the same number");
    expect_text(&file, "");
    ap__kept_file_close(&file);
    cr_assert(is_open(number), "it is another's");
    ap__kept_file_close(&again);
}

Test(kept_file, a_number_that_is_another_files_is_neither_read_nor_closed)
{
    struct ap__kept_file file = keep("text");
    struct ap__kept_file unread = keep("text");
    file_tree_put("/other", "other\n");
    int other = open(path_of("/other"), O_RDONLY | O_CLOEXEC);
    cr_assert_eq(dup2(other, file.number), file.number);
    cr_assert_eq(dup2(other, unread.number), unread.number);
    int numbers[] = {file.number, unread.number};
    expect_text(&file, "");
    ap__kept_file_close(&file);
    ap__kept_file_close(&unread);
    cr_assert(is_open(numbers[0]) && is_open(numbers[1]));
}

Test(kept_file, nothing_is_taken_from_what_has_its_number)
{
    struct ap__kept_file file = keep("text");
    uint64_t value = 0;
    int event = eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK);
    cr_assert_eq(dup2(event, file.number), file.number);
    expect_text(&file, "");
    cr_assert_eq(read(event, &value, sizeof value), (ssize_t)sizeof value);
    cr_assert_eq(value, 7);
    /* Nor where it changes hands after the question. */
    cr_assert_eq(eventfd_write(event, 7), 0);
    char text[16];
    cr_assert_eq(ap__os_read_open_file(event, text, sizeof text), 0);
    cr_assert_eq(read(event, &value, sizeof value), (ssize_t)sizeof value);
    cr_assert_eq(value, 7);
}

Test(kept_file, a_refused_call_leaves_nothing_open)
{
    static const enum os_faults_call calls[] = {OS_FAULTS_OPENAT, OS_FAULTS_FCNTL, OS_FAULTS_FSTAT};
    struct ap__kept_file file;
    file_tree_put("/file", "text");
    int next = next_number();
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        os_faults_fail_always(calls[i]);
        errno = STALE_ERRNO;
        cr_assert_not(ap__kept_file_open(&file, path_of("/file")), "%s", os_faults_name(calls[i]));
        cr_assert_eq(errno, STALE_ERRNO);
        cr_assert_eq(file.number, 0);
        os_faults_reset();
        cr_assert_eq(next_number(), next);
        cr_assert_not(is_open(FIRST_NUMBER));
    }
}

Test(kept_file, what_cannot_be_read_is_empty)
{
    struct ap__kept_file file = keep("text");
    os_faults_fail_nth(OS_FAULTS_PREAD, 1);
    errno = STALE_ERRNO;
    expect_text(&file, "");
    cr_assert_eq(errno, STALE_ERRNO);
    expect_text(&file, "text");
    os_faults_fail_nth(OS_FAULTS_FSTAT, 1);
    expect_text(&file, "");
    cr_assert(ap__kept_file_is_lost(&file), "who knows whose it is");
    cr_assert_eq(errno, STALE_ERRNO);
}
