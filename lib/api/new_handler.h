/* SPDX-License-Identifier: MIT */
/*
 * new_handler.h: what operator new does when memory runs out.
 *
 * The C++ standard ([new.delete.single]) wants the installed new-handler called again and again until
 * it makes memory available, throws, or there is none. The C++ runtime is not linked: its functions
 * are weak references, which a program that can call operator new has resolved.
 */
#ifndef AP_API_NEW_HANDLER_H
#define AP_API_NEW_HANDLER_H

#include "base/compiler.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Calls the new-handler. `false`: there is none. It may throw: then this does not return. */
bool ap__new_handler_call(void);

/* The same, but `false` too if the handler throws; the exception ends here. */
bool ap__new_handler_call_nothrow(void);

/* Throws std::bad_alloc; ends the process where there is no C++ runtime to throw it. */
AP_NORETURN void ap__throw_bad_alloc(void);

#ifdef __cplusplus
}
#endif

#endif
