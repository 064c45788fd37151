/* SPDX-License-Identifier: MIT */
/*
 * glibc.c: trimming and statistics, in glibc's terms.
 */
#include "api/glibc.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>

#include "base/bits.h"
#include "central/central_free_list.h"
#include "config/options.h"
#include "decay/decay.h"
#include "hardened/hardened.h"
#include "heap/page_heap.h"
#include "life/init.h"
#include "meta/meta.h"
#include "observe/stats_print.h"
#include "os/os.h"
#include "pack/pack.h"

void ap__thread_idle(void)
{
    struct ap__thread_cache *cache = ap__thread_cache_or_null();
    if (cache != NULL) {
        ap__thread_cache_empty(cache);
    }
}

size_t ap__trim(void)
{
    (void)ap__hardened_flush(ap__thread_cache_or_null());
    ap__thread_idle();
    /* Twice: who sleeps is found out by two looks. */
    ap__decay_empty_caches("malloc_trim");
    ap__decay_empty_caches("malloc_trim");
    size_t purged = 0;
    bool pending = false;
    for (unsigned c = 1; c < AP_CLASS_COUNT; c++) {
        purged += ap__central_purge(c, 0, 0, &pending);
    }
    purged += ap__pack_purge(0, 0, &pending);
    purged += ap__page_heap_purge_all();
    return purged + ap__meta_purge(); /* after those that free some */
}

int ap__mallopt(int parameter, int value)
{
    (void)value;
    switch (parameter) {
    case M_MXFAST:
    case M_TRIM_THRESHOLD:
    case M_TOP_PAD:
    case M_MMAP_THRESHOLD:
    case M_MMAP_MAX:
    case M_CHECK_ACTION:
    case M_PERTURB:
    case M_ARENA_TEST:
    case M_ARENA_MAX:
        return 1;
    default:
        return 0;
    }
}

struct ap_mallinfo2 ap__mallinfo2(void)
{
    struct ap__stats stats;
    ap__stats_collect(&stats);
    /* Sampled blocks are live, on pages beside the heap. While threads run, a block may be counted twice. */
    size_t arena = stats.heap.usable_bytes + stats.sampled.live_bytes;
    return (struct ap_mallinfo2){
        .arena = arena,
        .ordblks = stats.heap.free_spans,
        .smblks = stats.cached_blocks,
        .hblks = stats.heap.large_spans,
        .hblkhd = stats.heap.large_bytes,
        .usmblks = ap__max(stats.heap.usable_bytes_peak, arena),
        .fsmblks = stats.cached_bytes,
        .uordblks = stats.live_bytes,
        .fordblks = arena - ap__min(stats.live_bytes, arena),
        .keepcost = stats.heap.dirty_bytes,
    };
}

static int saturated(size_t figure)
{
    return figure > INT_MAX ? INT_MAX : (int)figure;
}

struct ap_mallinfo ap__mallinfo(void)
{
    struct ap_mallinfo2 wide = ap__mallinfo2();
    return (struct ap_mallinfo){
        .arena = saturated(wide.arena),
        .ordblks = saturated(wide.ordblks),
        .smblks = saturated(wide.smblks),
        .hblks = saturated(wide.hblks),
        .hblkhd = saturated(wide.hblkhd),
        .usmblks = saturated(wide.usmblks),
        .fsmblks = saturated(wide.fsmblks),
        .uordblks = saturated(wide.uordblks),
        .fordblks = saturated(wide.fordblks),
        .keepcost = saturated(wide.keepcost),
    };
}

static void write_to_stream(void *context, const char *text, size_t length)
{
    (void)fwrite(text, 1, length, context);
}

static void write_to_stderr(void *context, const char *text, size_t length)
{
    (void)context;
    ap__os_write_stderr(text, length);
}

int ap__malloc_info(int options, FILE *stream)
{
    if (options != 0) {
        errno = EINVAL;
        return -1;
    }
    struct ap__stats stats;
    ap__stats_collect(&stats);
    ap__stats_print_xml(&stats, write_to_stream, stream);
    return ferror(stream) != 0 ? -1 : 0;
}

void ap__malloc_stats(void)
{
    struct ap__stats stats;
    ap__stats_collect(&stats);
    ap__stats_print_text(&stats, write_to_stderr, NULL);
}

__attribute__((destructor)) static void at_exit(void)
{
    if (ap__options.hardened != 0) {
        (void)ap__hardened_flush(ap__thread_cache_or_null()); /* what still waits is looked at */
    }
    if (ap__options.stats_at_exit != 0) {
        ap__malloc_stats();
    }
}
