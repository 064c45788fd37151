/* SPDX-License-Identifier: MIT */
/*
 * heap_calls.h: what a program of fuzz_heap.c can do: one call with its arguments, and a look at the answer.
 */
#ifndef TEST_FUZZ_HEAP_CALLS_H
#define TEST_FUZZ_HEAP_CALLS_H

#include "fuzz.h"
#include "heap_model.h"

/* Allocates, resizes or releases what is in this place, or looks at the heap, or gives memory back. Of `code` the upper
 * three bits say what, the lower five how. */
void heap_call(struct block *block, struct fuzz_reader *in, uint8_t code);

void heap_release(struct block *block, unsigned how);

#endif
