/* SPDX-License-Identifier: MIT */
/* locking_library.h: see locking_library.c. */
#ifndef TEST_API_LOCKING_LIBRARY_H
#define TEST_API_LOCKING_LIBRARY_H

/* Allocates and frees under the library's lock; 0 if there is no memory. Any thread. */
int locking_library_work(void);

#endif
