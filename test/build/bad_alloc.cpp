// SPDX-License-Identifier: MIT
// A C++ program that asks for too much, and catches what comes of it.
#include <cstddef>
#include <cstdio>
#include <new>

// volatile: what nobody uses the compiler need not allocate, and a size that it knows it refuses.
static char *volatile block;
static volatile std::size_t size = static_cast<std::size_t>(1) << 60;

int main()
{
    try {
        block = new char[size];
    } catch (const std::bad_alloc &) {
        return 0;
    }
    std::puts("new returned");
    return 1;
}
