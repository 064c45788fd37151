/* SPDX-License-Identifier: MIT */
/*
 * thread_local_torture.cpp: C++ thread_local objects and pthread keys that allocate while a thread ends.
 * Goal: libc runs destructors of thread_local objects before those of keys, in up to four rounds; all may use the
 * heap, and nothing is left. Method: each thread has
 * containers that grow in destructors, and a key that is set again in every round; growth is read from the
 * library's statistics.
 */
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "apmalloc.h"

namespace
{

constexpr int threads = 2000, at_once = 8, warm_up = 400;
std::atomic<unsigned> object_ends, key_calls;
pthread_key_t key;

[[noreturn]] void fail(const char *what)
{
    (void)std::fprintf(stderr, "not so: %s\n", what);
    _exit(1);
}

void use_heap(unsigned seed)
{
    std::map<unsigned, std::string> map;
    for (unsigned i = 0; i < 50; i++) {
        map[i * seed % 97] = std::string(i * 37 % 900 + 1, 'x');
    }
    std::vector<char> large(300000 + seed % 1000, 'y');
    if (large.back() != 'y') {
        fail("a block holds what was written");
    }
}

struct holder {
    std::vector<std::unique_ptr<std::string>> strings;

    void add(unsigned n)
    {
        strings.push_back(std::make_unique<std::string>(n * 13 % 5000 + 1, 'z'));
    }
    ~holder()
    {
        for (unsigned i = 0; i < 20; i++) {
            add(i);
        }
        use_heap(3);
        object_ends++;
    }
};

thread_local holder first;
thread_local std::unique_ptr<holder> second;

extern "C" void end_key(void *value)
{
    auto *round = static_cast<unsigned *>(value);
    key_calls++;
    use_heap(*round);
    if (*round < 3) {
        (void)pthread_setspecific(key, new unsigned(*round + 1));
    }
    delete round;
}

void body(unsigned number)
{
    first.add(number);
    second = std::make_unique<holder>();
    second->add(number);
    if (pthread_setspecific(key, new unsigned(0)) != 0) {
        fail("a key is set");
    }
}

void run_threads(int count)
{
    for (int i = 0; i < count; i += at_once) {
        std::vector<std::thread> running;
        for (int k = 0; k < at_once; k++) {
            running.emplace_back(body, static_cast<unsigned>(i + k));
        }
        for (auto &thread : running) {
            thread.join();
        }
    }
}

} // namespace

int main()
{
    if (pthread_key_create(&key, end_key) != 0) {
        fail("a key is made");
    }
    run_threads(warm_up);
    size_t before = ap_mallinfo2().uordblks;
    run_threads(threads);
    size_t after = ap_mallinfo2().uordblks;
    (void)std::printf("%u objects, %u calls for keys; live %zu -> %zu bytes\n", object_ends.load(),
                      key_calls.load(), before, after);
    if (object_ends < 2u * (threads + warm_up) || key_calls != 4u * (threads + warm_up)) {
        fail("all destructors ran, those of keys in four rounds");
    }
    if (after > before + threads) {
        fail("threads leave nothing");
    }
    return 0;
}
