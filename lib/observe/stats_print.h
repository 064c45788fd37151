/* SPDX-License-Identifier: MIT */
/*
 * stats_print.h: a snapshot as text and as XML.
 */
#ifndef AP_OBSERVE_STATS_PRINT_H
#define AP_OBSERVE_STATS_PRINT_H

#include "observe/stats.h"

/* Takes `length` bytes of output; `context` is the caller's. */
typedef void ap__stats_sink(void *context, const char *text, size_t length);

/* For people: a line for each figure, then a table of the classes in use. */
void ap__stats_print_text(const struct ap__stats *stats, ap__stats_sink *sink, void *context);

/* For programs: glibc's malloc_info() format as far as its ideas exist here. */
void ap__stats_print_xml(const struct ap__stats *stats, ap__stats_sink *sink, void *context);

#endif
