// SPDX-License-Identifier: MIT
//
// new_handler.cc: the new-handler and std::bad_alloc, through weak references to the C++ runtime.
//
// The one C++ file of the library, because only C++ can say "catch whatever the handler throws".
// It must not make the library depend on the C++ runtime: every symbol of it is weak.
#include "api/new_handler.h"

#include <new>

extern "C" {
#include "os/check.h"
#include "os/os.h"
}

// The compiler refers to these for the catch block and for noexcept.
__asm__(".weak __gxx_personality_v0\n"
        ".weak __cxa_begin_catch\n"
        ".weak __cxa_end_catch\n"
        ".weak _ZSt9terminatev\n"
        ".weak _Unwind_Resume\n");

extern "C" {
std::new_handler ap_runtime_get_new_handler() __asm__("_ZSt15get_new_handlerv")
    __attribute__((weak));
void ap_runtime_throw_bad_alloc() __asm__("_ZSt17__throw_bad_allocv") __attribute__((weak));
}

extern "C" bool ap__new_handler_call(void)
{
    std::new_handler handler =
        ap_runtime_get_new_handler != nullptr ? ap_runtime_get_new_handler() : nullptr;
    if (handler == nullptr) {
        return false;
    }
    handler();
    return true;
}

extern "C" bool ap__new_handler_call_nothrow(void)
{
    try {
        return ap__new_handler_call();
    } catch (...) {
        return false;
    }
}

extern "C" void ap__throw_bad_alloc(void)
{
    if (ap_runtime_throw_bad_alloc != nullptr) {
        ap_runtime_throw_bad_alloc();
    }
    static const char text[] =
        "apmalloc: operator new: out of memory, and no C++ runtime to throw std::bad_alloc\n";
    ap__os_write_stderr(text, sizeof text - 1);
    ap__abort();
}
