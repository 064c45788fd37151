/* SPDX-License-Identifier: MIT */
/*
 * soft_limit.c: option and control group.
 */
#include "life/soft_limit.h"

#include "base/bits.h"
#include "config/options.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "os/cgroup.h"

static size_t option_bytes(void)
{
    return ap__options.soft_limit != 0 ? ap__options.soft_limit : SIZE_MAX;
}

/* What the group leaves to this heap: what it has already, and what there is room for. */
static size_t cgroup_bytes(void)
{
    struct ap__cgroup cgroup;
    struct ap__cgroup_memory memory;
    if (ap__options.cgroup == 0 ||
        !ap__cgroup_find_and_read(&cgroup, ap__options.cgroup_root, &memory) ||
        memory.room_bytes == SIZE_MAX) {
        return SIZE_MAX;
    }
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    size_t own = stats.usable_bytes - stats.free_bytes + stats.dirty_bytes;
    return (memory.room_bytes + own) / 10 * 9;
}

void ap__soft_limit_init(void)
{
    ap__heap_limits_set_soft(option_bytes());
}

void ap__soft_limit_update(void)
{
    ap__heap_limits_set_soft(ap__min(option_bytes(), cgroup_bytes()));
}
