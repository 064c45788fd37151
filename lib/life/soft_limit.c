/* SPDX-License-Identifier: MIT */
/*
 * soft_limit.c: option and control group.
 *
 * One group's files stay open, of those that the process is in: the one with the least room when all were read. What
 * the others left then goes on counting as it was. Without a limit nothing stays open, unless option
 * cgroup_check_ms asks for readings: most processes are in some group, and few have need of four descriptors.
 */
#include "life/soft_limit.h"

#include "base/bits.h"
#include "config/options.h"
#include "heap/heap_limits.h"
#include "heap/page_heap.h"
#include "life/helper.h"
#include "os/cgroup.h"
#include "os/lock.h"

/* The kernel adds a group's figures up for each reading, and does so by itself every two seconds. */
enum { PERIOD_MS = 5000 };

static struct ap__lock lock = AP_LOCK_INIT(AP__RANK_LIMITS);

/* Under `lock`: one group's files, how often to read them, and what all others left to this heap at the last look. */
static struct ap__cgroup_kept kept;
static uint64_t period_ms;
static size_t others_bytes = SIZE_MAX;

struct ap__lock *ap__soft_limit_lock(void)
{
    return &lock;
}

static size_t option_bytes(void)
{
    return ap__options.soft_limit != 0 ? ap__options.soft_limit : SIZE_MAX;
}

/* What a group leaves to this heap: what it has already, and what there is room for. */
static size_t bytes_for(size_t room_bytes)
{
    if (room_bytes == SIZE_MAX) {
        return SIZE_MAX;
    }
    struct ap__page_heap_stats stats;
    ap__page_heap_stats(&stats);
    size_t own = stats.usable_bytes - stats.free_bytes + stats.dirty_bytes;
    return (room_bytes + own) / 10 * 9;
}

static void set(size_t cgroup_bytes)
{
    ap__heap_limits_set_soft(ap__min(option_bytes(), ap__min(cgroup_bytes, others_bytes)));
}

/* 0: never. */
static uint64_t period_for(const struct ap__cgroup_memory *memory)
{
    if (ap__options.cgroup_check_ms != AP__CGROUP_CHECK_AUTO) {
        return ap__options.cgroup_check_ms;
    }
    return memory->room_bytes != SIZE_MAX ? PERIOD_MS : 0;
}

/* Looks at all groups, and chooses the one to keep. */
static void update_locked(void)
{
    struct ap__cgroup cgroup;
    struct ap__cgroup_memory memory;
    ap__cgroup_forget(&kept);
    others_bytes = SIZE_MAX;
    if (ap__options.cgroup == 0 ||
        !ap__cgroup_find_and_read(&cgroup, ap__options.cgroup_root, &memory)) {
        set(SIZE_MAX);
        return;
    }
    others_bytes = bytes_for(memory.other_room_bytes);
    set(bytes_for(memory.room_bytes));
    period_ms = period_for(&memory);
    if (period_ms != 0 && ap__helper_is_wanted()) {
        (void)ap__cgroup_keep(&kept, &cgroup, &memory);
    }
}

void ap__soft_limit_init(void)
{
    ap__heap_limits_set_soft(option_bytes());
}

void ap__soft_limit_update(void)
{
    ap__lock_take(&lock);
    update_locked();
    ap__lock_release(&lock);
}

void ap__soft_limit_update_now_and_then(uint64_t now_ms)
{
    static uint64_t read_ms; /* under `lock` */
    struct ap__cgroup_memory memory;
    ap__lock_take(&lock);
    if (now_ms - read_ms >= period_ms) {
        read_ms = now_ms;
        if (ap__cgroup_read_kept(&kept, &memory)) {
            set(bytes_for(memory.room_bytes));
        }
    }
    ap__lock_release(&lock);
}
