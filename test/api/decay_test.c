/* SPDX-License-Identifier: MIT */
/*
 * decay_test.c: memory that nobody uses goes back to the kernel.
 * Goal: what the options decay_ms and helper promise, seen from outside as resident size and processor
 * time. Method: decay_program does the work in a process of its own, with the options in its
 * environment. Bounds are three times the time of the option.
 */
#include <criterion/criterion.h>

#include "run_beside.h"

TestSuite(decay, .timeout = 120);

#define DECAY "decay_ms:500" /* DECAY_MS of decay_program.c */

static void run(const char *mode, const char *conf)
{
    expect_good_run("decay_program", mode, conf);
}

/* --- programs of several threads --- */

Test(decay, memory_goes_back_while_all_threads_sleep)
{
    run("asleep", DECAY);
}

Test(decay, memory_goes_back_while_threads_go_on)
{
    run("at_work", DECAY);
}

Test(decay, memory_goes_back_also_when_it_is_many_mappings)
{
    run("asleep", DECAY ",reserve:4M");
}

Test(decay, memory_goes_back_when_every_call_is_slow)
{
    run("asleep", DECAY ",hardened:true");
}

Test(decay, an_idle_thread_keeps_nothing_in_its_cache)
{
    run("idle_cache", DECAY);
}

Test(decay, many_caches_hold_what_the_bound_says)
{
    run("many_caches", "cache_total:4M,transfer_class:0,decay_ms:-1");
}

Test(decay, memory_stays_with_decay_off)
{
    run("never", "decay_ms:-1");
}

Test(decay, memory_stays_until_threads_go_on_when_there_is_no_helper)
{
    run("unhelped", DECAY ",helper:false");
}

Test(decay, memory_goes_back_at_once_with_decay_0)
{
    run("at_once", "decay_ms:0");
    run("at_once_alone", "decay_ms:0");
}

/* --- programs of one thread --- */

Test(decay, a_lone_thread_stays_alone_and_gives_memory_back)
{
    run("alone", DECAY);
}

Test(decay, a_lone_thread_that_has_slept_gives_all_back_at_its_first_call)
{
    run("alone_wakes", DECAY);
}

Test(decay, a_lone_thread_may_have_a_user_namespace)
{
    run("namespace", DECAY);
}

/* --- kernels that refuse --- */

Test(decay, memory_goes_back_where_no_thread_can_be_added)
{
    run("without_new_threads", DECAY);
}

Test(decay, programs_rest_where_madvise_does_not_exist)
{
    run("without_madvise_enosys", DECAY);
}

Test(decay, programs_rest_where_madvise_is_refused)
{
    run("without_madvise_einval", DECAY);
}

Test(decay, locked_memory_goes_back_where_the_kernel_can_do_that_and_programs_rest_elsewhere)
{
    run("locked", DECAY);
    run("locked", DECAY ",reserve:4M");
}

Test(decay, locked_memory_stays_with_decay_off)
{
    run("locked_never", "decay_ms:-1");
}
