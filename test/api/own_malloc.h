/* SPDX-License-Identifier: MIT */
/* own_malloc.h: a malloc of the program's own, as far as the C standard goes: no reallocarray. */
#ifndef OWN_MALLOC_H
#define OWN_MALLOC_H

#include <stdbool.h>

/* Whether the block is of this malloc. */
bool own_malloc_has(const void *p);

#endif
