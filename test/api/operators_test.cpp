/* SPDX-License-Identifier: MIT */
/*
 * operators_test.cpp: new and delete in all their forms.
 * Goal: the 20 replaceable operators are ours, work together with one another and with malloc and
 * free, and fail as the C++ standard says: the new-handler is called until there is memory, it
 * throws, or there is none; then bad_alloc or a null pointer. Method: a plain program of checks;
 * the first that is wrong names its line and ends it with status 1.
 */
#include "apmalloc.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition);          \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

const std::size_t IMPOSSIBLE = static_cast<std::size_t>(PTRDIFF_MAX) + 1000;
const std::align_val_t ALIGNMENT{256};

/* The compiler may leave out a pair of new and delete; not one whose pointer escapes. */
void *opaque(void *p)
{
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

std::size_t opaque(std::size_t n)
{
    __asm__ volatile("" : "+r"(n));
    return n;
}

bool is_aligned(void *p, std::size_t alignment)
{
    return reinterpret_cast<std::uintptr_t>(p) % alignment == 0;
}

/* --- whose they are --- */

const char *const names[] = {
    "_Znwm",               /* new(size) */
    "_Znam",               /* new[](size) */
    "_ZnwmRKSt9nothrow_t", /* nothrow */
    "_ZnamRKSt9nothrow_t",
    "_ZnwmSt11align_val_t", /* aligned */
    "_ZnamSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_ZdlPv", /* delete(p) */
    "_ZdaPv",
    "_ZdlPvm", /* sized */
    "_ZdaPvm",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t",
    "_ZdaPvSt11align_val_t",
    "_ZdlPvmSt11align_val_t",
    "_ZdaPvmSt11align_val_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
};

void all_twenty_are_ours()
{
    static_assert(sizeof names / sizeof names[0] == 20, "the standard has 20");
    Dl_info library;
    CHECK(dladdr(dlsym(RTLD_DEFAULT, "ap_malloc"), &library) != 0);
    for (const char *name : names) {
        Dl_info found;
        void *address = dlsym(RTLD_DEFAULT, name);
        CHECK(address != nullptr);
        CHECK(dladdr(address, &found) != 0);
        if (std::strcmp(found.dli_fname, library.dli_fname) != 0) {
            std::fprintf(stderr, "%s is %s's\n", name, found.dli_fname);
            std::exit(1);
        }
    }
}

/* --- plain use --- */

void every_form_allocates_and_frees()
{
    const std::size_t sizes[] = {
        0, 1, 16, 100, 1000, 5000, 100000, 262144, 300000, 3000000, std::size_t{64} << 20};
    const std::size_t before = ap_mallinfo2().uordblks;
    for (std::size_t n : sizes) {
        void *p[8];
        errno = 1789;
        p[0] = ::operator new(n);
        p[1] = ::operator new[](n);
        p[2] = ::operator new(n, std::nothrow);
        p[3] = ::operator new[](n, std::nothrow);
        p[4] = ::operator new(n, ALIGNMENT);
        p[5] = ::operator new[](n, ALIGNMENT);
        p[6] = ::operator new(n, ALIGNMENT, std::nothrow);
        p[7] = ::operator new[](n, ALIGNMENT, std::nothrow);
        for (int i = 0; i < 8; i++) {
            CHECK(p[i] != nullptr);
            CHECK(is_aligned(p[i], i < 4 ? 16 : 256));
            CHECK(ap_usable_size(p[i]) >= n);
            std::memset(p[i], i, std::min(n, std::size_t{3000000}));
            for (int j = 0; j < i; j++) {
                CHECK(p[i] != p[j]);
            }
        }
        ::operator delete(p[0]);
        ::operator delete[](p[1]);
        ::operator delete(p[2], std::nothrow);
        ::operator delete[](p[3], std::nothrow);
        ::operator delete(p[4], ALIGNMENT);
        ::operator delete[](p[5], ALIGNMENT);
        ::operator delete(p[6], ALIGNMENT, std::nothrow);
        ::operator delete[](p[7], ALIGNMENT, std::nothrow);
        ::operator delete(::operator new(n), n);
        ::operator delete[](::operator new[](n), n);
        ::operator delete(::operator new(n, ALIGNMENT), n, ALIGNMENT);
        ::operator delete[](::operator new[](n, ALIGNMENT), n, ALIGNMENT);
        CHECK(errno == 1789);
    }
    CHECK(ap_mallinfo2().uordblks == before);
}

void null_is_nothing_to_delete()
{
    errno = 1789;
    ::operator delete(opaque(nullptr));
    ::operator delete[](opaque(nullptr));
    ::operator delete(opaque(nullptr), std::nothrow);
    ::operator delete[](opaque(nullptr), std::nothrow);
    ::operator delete(opaque(nullptr), opaque(std::size_t{10}));
    ::operator delete[](opaque(nullptr), opaque(std::size_t{10}));
    ::operator delete(opaque(nullptr), ALIGNMENT);
    ::operator delete[](opaque(nullptr), ALIGNMENT);
    ::operator delete(opaque(nullptr), opaque(std::size_t{10}), ALIGNMENT);
    ::operator delete[](opaque(nullptr), opaque(std::size_t{10}), ALIGNMENT);
    ::operator delete(opaque(nullptr), ALIGNMENT, std::nothrow);
    ::operator delete[](opaque(nullptr), ALIGNMENT, std::nothrow);
    CHECK(errno == 1789);
}

void size_0_yields_distinct_objects()
{
    void *p[20];
    for (int i = 0; i < 20; i++) {
        p[i] = ::operator new(opaque(std::size_t{0}));
        CHECK(p[i] != nullptr);
        for (int j = 0; j < i; j++) {
            CHECK(p[i] != p[j]);
        }
    }
    for (void *each : p) {
        ::operator delete(each, opaque(std::size_t{0}));
    }
}

void alignments_are_kept()
{
    for (std::size_t alignment = 1; alignment <= (std::size_t{1} << 22); alignment *= 2) {
        for (std::size_t n = 1; n < 400000; n = n * 5 + 1) {
            void *p = ::operator new (n, std::align_val_t{alignment});
            CHECK(is_aligned(p, alignment) && is_aligned(p, 16));
            std::memset(p, 1, n);
            ::operator delete (p, n, std::align_val_t{alignment});
        }
    }
}

struct alignas(128) Aligned {
    char bytes[300];
};

struct WithDestructor {
    std::string text{"a text that is too long for the string object itself"};
    ~WithDestructor()
    {
        text.clear();
    }
};

void expressions_of_the_language_work()
{
    Aligned *one = new Aligned, *many = new Aligned[5];
    CHECK(is_aligned(one, 128) && is_aligned(many, 128));
    delete one;
    delete[] many;
    auto *objects = new WithDestructor[100];
    delete[] objects;
    std::map<int, std::vector<std::string>> map;
    for (int i = 0; i < 2000; i++) {
        map[i % 100].push_back(std::string(static_cast<std::size_t>(i), 'x'));
    }
    CHECK(map[99].back().size() == 1999);
    auto shared = std::make_shared<Aligned>();
    CHECK(is_aligned(shared.get(), 128));
}

void blocks_may_cross_between_the_families()
{
    ::operator delete(opaque(std::malloc(100)));
    std::free(opaque(::operator new(100)));
    ap_free(opaque(::operator new[](100000)));
    ::operator delete[](opaque(ap_malloc(1000000)));
    ::operator delete[](opaque(::operator new(50)));
}

/* --- want of memory --- */

int handler_calls;
void *reserve;

void throwing_handler()
{
    handler_calls++;
    throw std::bad_alloc();
}

void handler_with_another_exception()
{
    handler_calls++;
    throw std::runtime_error("not a bad_alloc");
}

struct MyBadAlloc : std::bad_alloc {
};

void handler_with_a_derived_exception()
{
    handler_calls++;
    throw MyBadAlloc();
}

void handler_that_gives_up_at_the_third_call()
{
    if (++handler_calls == 3) {
        std::set_new_handler(nullptr);
    }
}

void second_handler()
{
    handler_calls += 100;
    std::set_new_handler(nullptr);
}

void handler_that_installs_another()
{
    handler_calls++;
    std::set_new_handler(second_handler);
}

template <typename Exception, typename Call> bool throws(Call call)
{
    try {
        call();
    } catch (const Exception &) {
        return true;
    }
    return false;
}

/* The four operators that throw, and the four that do not, by number. */
void *call_throwing(int form, std::size_t n)
{
    switch (form) {
    case 0:
        return ::operator new(n);
    case 1:
        return ::operator new[](n);
    case 2:
        return ::operator new(n, ALIGNMENT);
    default:
        return ::operator new[](n, ALIGNMENT);
    }
}

void *call_nothrow(int form, std::size_t n)
{
    switch (form) {
    case 0:
        return ::operator new(n, std::nothrow);
    case 1:
        return ::operator new[](n, std::nothrow);
    case 2:
        return ::operator new(n, ALIGNMENT, std::nothrow);
    default:
        return ::operator new[](n, ALIGNMENT, std::nothrow);
    }
}

void without_a_handler_bad_alloc_or_null()
{
    const std::size_t sizes[] = {IMPOSSIBLE, SIZE_MAX, SIZE_MAX - 100, std::size_t{1} << 62};
    CHECK(std::get_new_handler() == nullptr);
    for (int form = 0; form < 4; form++) {
        for (std::size_t n : sizes) {
            CHECK(throws<std::bad_alloc>([=] { (void)opaque(call_throwing(form, opaque(n))); }));
            CHECK(call_nothrow(form, opaque(n)) == nullptr);
        }
    }
}

void array_of_impossible_length_throws()
{
    CHECK(throws<std::bad_alloc>([] {
        std::size_t n = opaque(std::size_t{1} << 60);
        delete[] new double[n];
    }));
}

void handler_is_called_until_it_uninstalls_itself()
{
    for (int form = 0; form < 4; form++) {
        handler_calls = 0;
        std::set_new_handler(handler_that_gives_up_at_the_third_call);
        CHECK(
            throws<std::bad_alloc>([=] { (void)opaque(call_throwing(form, opaque(IMPOSSIBLE))); }));
        CHECK(handler_calls == 3);
        handler_calls = 0;
        std::set_new_handler(handler_that_gives_up_at_the_third_call);
        CHECK(call_nothrow(form, opaque(IMPOSSIBLE)) == nullptr);
        CHECK(handler_calls == 3);
    }
}

void handler_may_install_another()
{
    for (int form = 0; form < 4; form++) {
        handler_calls = 0;
        std::set_new_handler(handler_that_installs_another);
        CHECK(
            throws<std::bad_alloc>([=] { (void)opaque(call_throwing(form, opaque(IMPOSSIBLE))); }));
        CHECK(handler_calls == 101);
        CHECK(std::get_new_handler() == nullptr);
    }
}

void exceptions_of_a_handler_arrive_or_become_null()
{
    for (int form = 0; form < 4; form++) {
        handler_calls = 0;
        std::set_new_handler(throwing_handler);
        CHECK(
            throws<std::bad_alloc>([=] { (void)opaque(call_throwing(form, opaque(IMPOSSIBLE))); }));
        CHECK(handler_calls == 1);
        CHECK(call_nothrow(form, opaque(IMPOSSIBLE)) == nullptr);
        CHECK(handler_calls == 2);
        std::set_new_handler(handler_with_a_derived_exception);
        CHECK(throws<MyBadAlloc>([=] { (void)opaque(call_throwing(form, opaque(IMPOSSIBLE))); }));
        CHECK(call_nothrow(form, opaque(IMPOSSIBLE)) == nullptr);
        CHECK(handler_calls == 4);
    }
    std::set_new_handler(handler_with_another_exception);
    CHECK(throws<std::runtime_error>([] { (void)opaque(call_throwing(0, opaque(IMPOSSIBLE))); }));
    std::set_new_handler(nullptr);
}

void destructors_run_on_the_way_of_the_exception()
{
    bool destroyed = false;
    struct Guard {
        bool &flag;
        ~Guard()
        {
            flag = true;
        }
    };
    std::set_new_handler(throwing_handler);
    CHECK(throws<std::bad_alloc>([&] {
        Guard guard{destroyed};
        (void)opaque(call_throwing(0, opaque(IMPOSSIBLE)));
    }));
    CHECK(destroyed);
    std::set_new_handler(nullptr);
}

void handler_that_frees_the_reserve()
{
    handler_calls++;
    CHECK(handler_calls == 1);
    std::free(reserve);
    reserve = nullptr;
}

/* Under a limit, in a process of its own: the handler makes room, and new succeeds. */
int handler_that_frees_memory_lets_new_succeed()
{
    for (int form = 0; form < 8; form++) {
        reserve = std::malloc(std::size_t{64} << 20);
        CHECK(reserve != nullptr);
        std::memset(reserve, 1, std::size_t{64} << 20);
        std::vector<void *> blocks;
        blocks.reserve(100000);
        for (void *p; (p = std::malloc(std::size_t{1} << 20)) != nullptr;) {
            CHECK(blocks.size() < blocks.capacity());
            blocks.push_back(p);
        }
        handler_calls = 0;
        std::set_new_handler(handler_that_frees_the_reserve);
        const std::size_t n = std::size_t{32} << 20;
        void *p = form < 4 ? call_throwing(form, n) : call_nothrow(form - 4, n);
        CHECK(p != nullptr);
        CHECK(handler_calls == 1);
        std::set_new_handler(nullptr);
        if (form % 4 < 2) {
            ::operator delete(p);
        } else {
            ::operator delete(p, ALIGNMENT);
        }
        for (void *each : blocks) {
            std::free(each);
        }
    }
    return 0;
}

void in_a_limited_child(int (*body)())
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const struct rlimit limit = {std::size_t{512} << 20, RLIM_INFINITY};
        (void)alarm(60);
        CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
        _exit(body());
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* --- threads --- */

std::atomic<int> destroyed_objects;

struct PerThread {
    std::vector<int> numbers = std::vector<int>(1000);
    ~PerThread()
    {
        auto *more = new std::string(100000, 'x');
        numbers.resize(50000);
        delete more;
        destroyed_objects++;
    }
};

thread_local PerThread per_thread;

void thread_local_destructors_may_use_the_heap()
{
    const int threads = 50;
    for (int i = 0; i < threads; i++) {
        std::thread([] { per_thread.numbers[5] = 1; }).join();
    }
    CHECK(destroyed_objects == threads);
}

} // namespace

int main()
{
    all_twenty_are_ours();
    null_is_nothing_to_delete();
    size_0_yields_distinct_objects();
    alignments_are_kept();
    expressions_of_the_language_work();
    blocks_may_cross_between_the_families();
    without_a_handler_bad_alloc_or_null();
    array_of_impossible_length_throws();
    handler_is_called_until_it_uninstalls_itself();
    handler_may_install_another();
    exceptions_of_a_handler_arrive_or_become_null();
    destructors_run_on_the_way_of_the_exception();
    in_a_limited_child(handler_that_frees_memory_lets_new_succeed);
    every_form_allocates_and_frees(); /* leaves a heap too large for the limit */
    thread_local_destructors_may_use_the_heap();
    return 0;
}
