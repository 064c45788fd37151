/* SPDX-License-Identifier: MIT */
/*
 * fork_order.c: our fork handlers are registered before all others.
 *
 * libc calls what was registered first last before a fork, and first after it: the place of a malloc, which
 * others' handlers may need, and whose locks nobody may hold who waits for theirs. Constructors of other libraries
 * run before ours as often as not, so the function behind pthread_atfork() is ours, too: at its first call it registers
 * our handlers, then it goes on to libc's. Only in the shared library, and with the names of libc: see meson.build.
 * A static program has but one list of constructors, and ours is among the first.
 *
 * Idea: libc's own malloc, whose locks fork() takes after all handlers.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

#include "base/compiler.h"
#include "life/fork.h"

/* Weak: a static program has no use for this file, nor for the dynamic linker. */
extern __typeof__(dlsym) dlsym __attribute__((weak));

typedef void handler(void);
typedef int register_atfork(handler *prepare, handler *parent, handler *child, void *object);

/* libc's; NULL if there is none. */
static register_atfork *next(void)
{
    static _Atomic(uintptr_t) found; /* relaxed: whoever stores it stores the same */
    uintptr_t address = atomic_load_explicit(&found, memory_order_relaxed);
    if (address == 0 && dlsym != NULL) {
        address = (uintptr_t)dlsym(RTLD_NEXT, "__register_atfork");
        atomic_store_explicit(&found, address, memory_order_relaxed);
    }
    return (register_atfork *)address;
}

AP_API register_atfork ap__register_atfork;

int ap__register_atfork(handler *prepare, handler *parent, handler *child, void *object)
{
    ap__fork_watch();
    register_atfork *libc = next();
    if (libc == NULL) {
        return ENOSYS;
    }
    ap__fork_registration_begin();
    int error = libc(prepare, parent, child, object);
    ap__fork_registration_end();
    return error;
}
