/* SPDX-License-Identifier: MIT */
/*
 * stack_trace_test.c: who called.
 * Goal: a trace leads from the function that takes it to its callers; none before it is prepared, nor where the
 * unwinder is the caller, nor during a fork; errno stays. Method: a chain of functions that the compiler cannot merge.
 */
#include "os/stack_trace.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include "support/child.h"

static struct ap__stack_trace trace;
static const void *heap_caller;

AP_NOINLINE static void *inner(void)
{
    ap__stack_trace_take(&trace, heap_caller);
    return __builtin_return_address(0);
}

static void *(*volatile call)(void) = inner;

AP_NOINLINE static void *outer(void)
{
    void *address = call();
    __asm__ volatile("" ::: "memory"); /* no tail call */
    return address;
}

Test(stack_trace, is_empty_before_it_is_prepared)
{
    (void)outer();
    cr_assert_eq(trace.count, 0);
}

Test(stack_trace, leads_to_the_callers)
{
    ap__stack_trace_prepare();
    errno = 1789;
    void *in_outer = outer();
    cr_assert_eq(errno, 1789);
    cr_assert_gt(trace.count, 3);
    cr_assert_leq(trace.count, AP__STACK_FRAMES_MAX);
#ifdef __SANITIZE_ADDRESS__
    cr_assert_eq(trace.frames[2], in_outer); /* AddressSanitizer's own backtrace() is one, too */
#else
    cr_assert_eq(trace.frames[1], in_outer);
#endif
}

/* An address in the library that backtrace() uses, from what the loader knows. */
static int find_code(struct dl_phdr_info *object, size_t size, void *found)
{
    (void)size;
    if (strstr(object->dlpi_name, "/libgcc_s.so") == NULL) {
        return 0;
    }
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0) {
            *(uintptr_t *)found = object->dlpi_addr + segment->p_vaddr + segment->p_memsz / 2;
        }
    }
    return 1;
}

Test(stack_trace, is_none_where_the_unwinder_calls)
{
    uintptr_t code = 0;
    ap__stack_trace_prepare();
    if (dl_iterate_phdr(find_code, &code) == 0) {
        cr_skip_test("the unwinder is no library here");
    }
    cr_assert(ap__stack_trace_is_allowed(NULL));
    cr_assert(ap__stack_trace_is_allowed((const void *)(uintptr_t)outer));
    cr_assert_not(ap__stack_trace_is_allowed((const void *)code));
    heap_caller = (const void *)code;
    (void)outer();
    cr_assert_eq(trace.count, 0);
}

static unsigned frames_now(void)
{
    (void)outer();
    return trace.count;
}

Test(stack_trace, is_none_during_a_fork_and_goes_on_afterwards)
{
    ap__stack_trace_prepare();
    ap__stack_trace_before_fork();
    cr_assert_eq(frames_now(), 0);
    ap__stack_trace_before_fork(); /* of another thread */
    ap__stack_trace_after_fork_in_parent();
    cr_assert_eq(frames_now(), 0);
    ap__stack_trace_after_fork_in_parent();
    cr_assert_gt(frames_now(), 3);
    ap__stack_trace_before_fork();
    ap__stack_trace_after_fork_in_child(true);
    cr_assert_eq(frames_now(), 0);
    ap__stack_trace_after_fork_in_child(false);
    cr_assert_gt(frames_now(), 3);
}

static void write_trace(void *unused)
{
    (void)unused;
    ap__stack_trace_write(&trace);
}

Test(stack_trace, is_a_line_a_frame)
{
    struct child_result result;
    ap__stack_trace_prepare();
    (void)outer();
    child_run(&result, write_trace, NULL);
    unsigned lines = 0;
    for (const char *at = result.text; *at != '\0'; at++) {
        lines += *at == '\n';
    }
    cr_assert_eq(lines, trace.count);
    cr_assert_not_null(strstr(result.text, ")[0x"));
    trace.count = 0;
    child_run(&result, write_trace, NULL);
    cr_assert_str_eq(result.text, "  (no stack trace)\n");
}
