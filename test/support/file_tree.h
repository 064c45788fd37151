/* SPDX-License-Identifier: MIT */
/*
 * file_tree.h: files in a temporary folder that stands for "/". One tree a process.
 */
#ifndef TEST_SUPPORT_FILE_TREE_H
#define TEST_SUPPORT_FILE_TREE_H

/* The folder, without a slash behind it. */
extern char file_tree_root[];

void file_tree_make(void);
void file_tree_remove(void);

/* A file with this text at a path below the root, with the folders it needs. */
__attribute__((format(printf, 2, 3))) void file_tree_put(const char *path, const char *format, ...);

#endif
