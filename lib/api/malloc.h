/* SPDX-License-Identifier: MIT */
/*
 * malloc.h: what the entry points share: the functions behind the names.
 *
 * Arguments and errno are handled here and in the entry points, nowhere below. `function` is always
 * the name that the program called, for reports of misuse.
 */
#ifndef AP_API_MALLOC_H
#define AP_API_MALLOC_H

#include "base/compiler.h"

/* What a pointer is, once looked at. */
struct ap__block {
    size_t usable_bytes;
    unsigned size_class;     /* 0: a large object, or packed */
    struct ap__span *packed; /* the span that it is packed in, or NULL */
};

/* The live block that starts at `p`; anything else is misuse of `function`. */
struct ap__block ap__block_at(const void *p, const char *function);

/* Whether a block is exactly as long as it was asked to be: with `hardened` all are, and sampled ones. */
bool ap__is_exact(const void *p);

/* A block has been made smaller only in the program's eyes, for want of memory: from now on sizes that are too small
 * for their block are no misuse, in any thread that hears of the block. */
void ap__note_kept_block(void);

/* An object of its own, of a size above those of the classes or an alignment that none has. */
void *ap__take_large(size_t alignment, size_t size, bool zeroed);

/* What a request would get; 0 if it is too large. */
size_t ap__good_size(size_t size);

/* Sets errno to ENOMEM and returns NULL. */
void *ap__no_memory(void);

void *ap__calloc(size_t count, size_t size);
void *ap__realloc(void *p, size_t size, const char *function);
void *ap__reallocarray(void *p, size_t count, size_t size, const char *function);
void ap__free_sized(void *p, size_t size, const char *function);
void ap__free_aligned_sized(void *p, size_t alignment, size_t size, const char *function);

/* `alignment` is a power of two. Does not set errno. */
void *ap__aligned(size_t alignment, size_t size);

void *ap__aligned_alloc(size_t alignment, size_t size);
int ap__posix_memalign(void **result, size_t alignment, size_t size);
void *ap__memalign(size_t alignment, size_t size);
void *ap__valloc(size_t size);
void *ap__pvalloc(size_t size);

size_t ap__usable_size(void *p, const char *function);

#endif
