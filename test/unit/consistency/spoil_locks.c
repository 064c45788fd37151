/* SPDX-License-Identifier: MIT */
/* spoil_locks.c: locks that are not as free ones should be. */
#include <pthread.h>

#include "central/central_free_list.h"
#include "meta/meta.h"
#include "os/lock.h"
#include "spoil.h"
#include "support/consistency.h"

static void lock_is_mine(void)
{
    ap__lock_take(ap__central_lock(0, 1));
}

static void *keep_lock(void *unused)
{
    ap__lock_take(ap__meta_lock());
    return unused;
}

static void lock_is_kept(void)
{
    pthread_t thread;
    consistency_lock_seconds = 1;
    (void)pthread_create(&thread, NULL, keep_lock, NULL);
    (void)pthread_join(thread, NULL);
}

static void lock_is_recursive(void)
{
    ap__meta_lock()->recursion = 1;
}

static void lock_has_owner(void)
{
    atomic_store(&ap__meta_lock()->owner, 1);
}

static const struct spoil all[] = {
    {lock_is_mine, "this thread holds a lock"},
    {lock_is_kept, "a lock is never released"},
    {lock_is_recursive, "taken twice"},
    {lock_has_owner, "has an owner"},
};

const struct spoils spoils_of_locks = {all, sizeof all / sizeof *all};
