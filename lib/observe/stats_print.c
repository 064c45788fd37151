/* SPDX-License-Identifier: MIT */
/*
 * stats_print.c: a snapshot as text and as XML, a line at a time from a buffer on the stack.
 */
#include "observe/stats_print.h"

#include "base/format.h"

struct printer {
    ap__stats_sink *sink;
    void *context;
};

static void put_text_line(const struct printer *printer, const char *name, uint64_t value,
                          const char *unit)
{
    char buffer[128];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, "  ");
    ap__format_text(&f, name);
    while (f.length < 34) {
        ap__format_text(&f, " ");
    }
    ap__format_decimal_padded(&f, value, 16);
    ap__format_text(&f, unit);
    ap__format_text(&f, "\n");
    printer->sink(printer->context, f.buffer, f.length);
}

static void put(const struct printer *printer, const char *text)
{
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    printer->sink(printer->context, text, length);
}

static void put_class_row(const struct printer *printer, unsigned size_class,
                          const struct ap__class_stats *figures)
{
    char buffer[128];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_decimal_padded(&f, ap__size_class[size_class].size, 10);
    ap__format_decimal_padded(&f, figures->live, 12);
    ap__format_decimal_padded(&f, figures->cached, 12);
    ap__format_decimal_padded(&f, figures->transfer, 12);
    ap__format_decimal_padded(&f, figures->slots, 12);
    ap__format_decimal_padded(&f, figures->spans, 10);
    ap__format_text(&f, "\n");
    printer->sink(printer->context, f.buffer, f.length);
}

/* What only some options bring about. */
static void put_protection(const struct printer *printer, const struct ap__stats *stats)
{
    const struct ap__quarantine_stats *waiting = &stats->quarantine;
    if (waiting->blocks + waiting->large != 0) {
        put_text_line(printer, "in quarantine, small blocks", waiting->block_bytes, " bytes");
        put_text_line(printer, "in quarantine, large objects", waiting->large, "");
    }
    if (ap__sampled_is_on()) {
        put_text_line(printer, "blocks on guarded pages", stats->sampled.live, "");
        put_text_line(printer, "the same, since start", stats->sampled.taken, "");
        put_text_line(printer, "for which there was no page", stats->sampled.failed, "");
    }
}

void ap__stats_print_text(const struct ap__stats *stats, ap__stats_sink *sink, void *context)
{
    const struct printer printer = {sink, context};
    put(&printer, "apmalloc statistics\n");
    put_text_line(&printer, "in live blocks", stats->live_bytes, " bytes");
    put_text_line(&printer, "of these in large objects", stats->heap.large_bytes, " bytes");
    put_text_line(&printer, "large objects", stats->heap.large_spans, "");
    put_text_line(&printer, "packed blocks", stats->packed.blocks, "");
    put_text_line(&printer, "their bytes", stats->packed.block_bytes, " bytes");
    put_text_line(&printer, "their spans", stats->packed.span_bytes, " bytes");
    put_text_line(&printer, "in thread and transfer caches", stats->cached_bytes, " bytes");
    put_text_line(&printer, "made usable from the kernel", stats->heap.usable_bytes, " bytes");
    put_text_line(&printer, "the same, highest so far", stats->heap.usable_bytes_peak, " bytes");
    put_text_line(&printer, "in free spans", stats->heap.free_bytes, " bytes");
    put_text_line(&printer, "of these not given back", stats->heap.dirty_bytes, " bytes");
    put_text_line(&printer, "free spans", stats->heap.free_spans, "");
    put_text_line(&printer, "reserved addresses, unused", stats->heap.reserved_bytes, " bytes");
    put_text_line(&printer, "metadata", stats->metadata_bytes, " bytes");
    put_text_line(&printer, "of these in empty pages", stats->metadata_empty_bytes, " bytes");
    put_text_line(&printer, "threads with a cache", stats->threads, "");
    put_text_line(&printer, "refills of thread caches", stats->refills, "");
    put_text_line(&printer, "flushes of thread caches", stats->flushes, "");
    put_text_line(&printer, "blocks into thread caches", stats->blocks_in, "");
    put_text_line(&printer, "blocks out of thread caches", stats->blocks_out, "");
    put_text_line(&printer, "lock operations", stats->locks.taken, "");
    put_text_line(&printer, "of these contended", stats->locks.contended, "");
    put_text_line(&printer, "large-object table, slots", stats->table.capacity_slots, "");
    put_text_line(&printer, "large-object table, entries", stats->table.live, "");
    put_text_line(&printer, "large-object table, lost races", stats->table.cas_failures, "");
    put_protection(&printer, stats);
    put(&printer, "      size        live      cached    transfer       slots     spans\n");
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        if (stats->classes[c].slots != 0) {
            put_class_row(&printer, c, &stats->classes[c]);
        }
    }
}

/* <name ATTRIBUTES type="TYPE" count="COUNT" size="SIZE"/>, without the parts that are NULL. */
static void put_element(const struct printer *printer, const char *name, const char *type,
                        const uint64_t *count, uint64_t size)
{
    char buffer[160];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, "<");
    ap__format_text(&f, name);
    ap__format_text(&f, " type=\"");
    ap__format_text(&f, type);
    if (count != NULL) {
        ap__format_text(&f, "\" count=\"");
        ap__format_decimal(&f, *count);
    }
    ap__format_text(&f, "\" size=\"");
    ap__format_decimal(&f, size);
    ap__format_text(&f, "\"/>\n");
    printer->sink(printer->context, f.buffer, f.length);
}

static void put_class_element(const struct printer *printer, unsigned size_class,
                              const struct ap__class_stats *figures)
{
    char buffer[192];
    struct ap__format f;
    ap__format_init(&f, buffer, sizeof buffer);
    ap__format_text(&f, "<class size=\"");
    ap__format_decimal(&f, ap__size_class[size_class].size);
    ap__format_text(&f, "\" live=\"");
    ap__format_decimal(&f, figures->live);
    ap__format_text(&f, "\" cached=\"");
    ap__format_decimal(&f, figures->cached + figures->transfer);
    ap__format_text(&f, "\" slots=\"");
    ap__format_decimal(&f, figures->slots);
    ap__format_text(&f, "\" spans=\"");
    ap__format_decimal(&f, figures->spans);
    ap__format_text(&f, "\"/>\n");
    printer->sink(printer->context, f.buffer, f.length);
}

void ap__stats_print_xml(const struct ap__stats *stats, ap__stats_sink *sink, void *context)
{
    const struct printer printer = {sink, context};
    put(&printer, "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n");
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        if (stats->classes[c].slots != 0) {
            put_class_element(&printer, c, &stats->classes[c]);
        }
    }
    put(&printer, "</sizes>\n");
    const uint64_t cached = stats->cached_blocks;
    const uint64_t free_spans = stats->heap.free_spans;
    const uint64_t large = stats->heap.large_spans;
    put_element(&printer, "total", "fast", &cached, stats->cached_bytes);
    put_element(&printer, "total", "rest", &free_spans, stats->heap.free_bytes);
    put_element(&printer, "total", "mmap", &large, stats->heap.large_bytes);
    put_element(&printer, "system", "current", NULL, stats->heap.usable_bytes);
    put_element(&printer, "system", "max", NULL, stats->heap.usable_bytes_peak);
    put(&printer, "</heap>\n</malloc>\n");
}
