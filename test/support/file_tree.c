/* SPDX-License-Identifier: MIT */
/*
 * file_tree.c: makes and removes the folder; fails the running test where it cannot.
 */
#include "support/file_tree.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char file_tree_root[] = "/tmp/apmalloc_test_XXXXXX";

void file_tree_make(void)
{
    cr_assert_not_null(mkdtemp(file_tree_root));
}

static int remove_entry(const char *path, const struct stat *unused, int type, struct FTW *walk)
{
    (void)unused;
    (void)type;
    (void)walk;
    return remove(path);
}

void file_tree_remove(void)
{
    (void)nftw(file_tree_root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Makes the folders that a path goes through. */
static void make_folders(char *path)
{
    for (char *at = path + sizeof file_tree_root; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        cr_assert(mkdir(path, 0755) == 0 || errno == EEXIST, "%s", path);
        *at = '/';
    }
}

void file_tree_put(const char *name, const char *format, ...)
{
    char path[8192];
    (void)snprintf(path, sizeof path, "%s%s", file_tree_root, name);
    make_folders(path);
    FILE *file = fopen(path, "we");
    cr_assert_not_null(file, "%s", path);
    va_list arguments;
    va_start(arguments, format);
    cr_assert_geq(vfprintf(file, format, arguments), 0);
    va_end(arguments);
    cr_assert_eq(fclose(file), 0);
}
