/* SPDX-License-Identifier: MIT */
/*
 * yield.h: a mark between two steps of lock-free code.
 *
 * AP__YIELD_POINT() stands where another thread may come in between two atomic operations that belong
 * together. In the builds that people use it is nothing. With -Dyields=true (tests only) the thread
 * now and then lets others run there, so that schedules come about that are rare by chance.
 */
#ifndef AP_OS_YIELD_H
#define AP_OS_YIELD_H

#ifdef AP_YIELDS
/* Any thread, holding any lock; leaves errno alone. */
void ap__yield_at_random(void);
#define AP__YIELD_POINT() ap__yield_at_random()
#else
#define AP__YIELD_POINT() ((void)0)
#endif

#endif
