/* SPDX-License-Identifier: MIT */
/*
 * format.h: numbers and text into a fixed buffer.
 *
 * Allocates nothing, calls nothing, can be used in a signal handler and before libc is set up.
 * Text that does not fit is cut; the buffer always ends in a NUL. Not thread-safe per buffer.
 */
#ifndef AP_BASE_FORMAT_H
#define AP_BASE_FORMAT_H

#include "base/compiler.h"

struct ap__format {
    char *buffer;
    size_t capacity; /* bytes of buffer, with the NUL; at least 1 */
    size_t length;   /* bytes of text so far; length < capacity */
};

void ap__format_init(struct ap__format *f, char *buffer, size_t capacity);
void ap__format_text(struct ap__format *f, const char *text);
void ap__format_bytes(struct ap__format *f, const char *bytes, size_t length);
void ap__format_decimal(struct ap__format *f, uint64_t number);
/* As printf's %p: 0x and lower-case digits; "0x0" for NULL. */
void ap__format_pointer(struct ap__format *f, const void *p);
/* Right-aligned in `width` columns. */
void ap__format_decimal_padded(struct ap__format *f, uint64_t number, unsigned width);

#endif
