/* SPDX-License-Identifier: MIT */
/*
 * decay.h: memory that nobody uses goes back to the kernel, a while after it became unused.
 *
 * Does: looks at what is unused (free spans; free pages inside partly used spans; blocks that lie in
 * transfer caches; pages of metadata) and gives back what has been so for long enough. Does not: have a thread or a clock;
 * life/helper.c has the thread, and a program without one decays on its own slow paths by poll().
 * Callers: any thread, holding no lock.
 *
 * Bounds, with `decay_ms` = D: spans of 1 MiB and more are gone D/5 after they became free, the others
 * after D, along the curve of curve.h; pages inside spans D/4 to 17/16 D after the last block was taken from
 * the span; blocks in transfer caches D/16 to D/8 after the last use; hidden blocks of thread caches D/4 after
 * the fold was made; pages of metadata D/16 to D/8 after they became free, if many did.
 */
#ifndef AP_DECAY_DECAY_H
#define AP_DECAY_DECAY_H

#include "base/compiler.h"
#include "os/bell.h"

/* Once, before the first use. `decay_ms`: 0 gives back at once, AP__DECAY_NEVER not at all. */
#define AP__DECAY_NEVER UINT64_MAX
void ap__decay_init(uint64_t decay_ms);

/*
 * Gives back what is due at `now_ms` (of a clock that does not go backwards). Returns the milliseconds
 * until there may be more to do; -1: nothing is left to do, until something becomes unused.
 * One thread at a time does the work; any other that calls meanwhile leaves word that once more is wanted.
 */
int64_t ap__decay_step(uint64_t now_ms);

/* What else is to be looked at, from above this layer: gives back what has been unused for so many looks, and
 * says whether there is more that is not. Once, before the first step; any thread may call it. */
typedef bool ap__decay_look(unsigned age_least);
void ap__decay_look_also(ap__decay_look *look);

/* Something has become unused: the next steps look everywhere again. */
void ap__decay_expect_work(void);

/* The same by one who knows that nothing has become unused since `since_ms`. */
int64_t ap__decay_step_since(uint64_t now_ms, uint64_t since_ms);

/*
 * On slow paths, before they leave memory unused: does a step if one is due and no helper thread is there to
 * do it. What is unused then counts as unused since the last poll, so that a program which has slept gives
 * all of it back at its first call.
 */
void ap__decay_poll(void);

/* What transfer caches hold, and idle threads' caches, goes home now. `function` is for reports. */
void ap__decay_empty_caches(const char *function);

/* After memory was left unused: a step if `decay_ms` is 0. */
void ap__decay_poll_at_once(void);

/* After a span was taken: a step now, by this thread or the helper, if the heap is above its soft limit. What only
 * grows leaves nothing unused, and would never be told. */
void ap__decay_poll_above_limit(void);

/* How often a heap above its soft limit is looked through. */
enum { AP__PRESSURE_MS = 50 };

/* Rung when the heap is above its soft limit: a helper's sleep until its next step is to end. */
extern struct ap__bell ap__decay_bell;

/* Whether a helper thread does the steps: said by one thread at a time, and never so in a child process. */
void ap__decay_set_helped(bool helped);
bool ap__decay_is_helped(void);

/* A forked child has none, and no step is under way. */
void ap__decay_after_fork_in_child(void);

#endif
