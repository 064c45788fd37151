/* SPDX-License-Identifier: MIT */
/*
 * unwind_program.cpp: a program that makes code at run time, as compilers of scripts do, tells the unwinder of it, and
 * throws exceptions through it. Helper of unwind_test.c, and a plain program by itself.
 *
 * The unwinder sorts what was registered when the next exception is thrown or the next stack trace is taken, and calls
 * malloc() and free() for that while it holds a lock, which a stack trace would ask for.
 *
 * unwind_program throws|traces|threads|fork|fault|fault_large: exceptions; none, so that whoever takes a stack trace sorts;
 * exceptions in several threads; children of a program whose threads allocate; the unwinder is left with a description that was freed, in a sampled block or a large one,
 * and runs into it when an exception is thrown.
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" void __register_frame(void *);
extern "C" void __deregister_frame(void *);

namespace
{
enum {
    CODE_BYTES = 4096,
    DESCRIPTION_BYTES = 90 /* no class */,
    THREADS = 4,
    ROUNDS = 3000,
    RING = 20000,
    FORKS = 400
};

typedef void callback();

struct writer {
    unsigned char *at;
    template <class T> void put(T value)
    {
        std::memcpy(at, &value, sizeof value);
        at += sizeof value;
    }
    void put_bytes(const unsigned char *bytes, std::size_t n)
    {
        std::memcpy(at, bytes, n);
        at += n;
    }
};

/* A function that calls its argument. NULL: not known for this processor; then nothing is thrown through it. */
unsigned char *make_code()
{
    void *code = mmap(nullptr, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) {
        std::puts("SKIP: code cannot be made here");
        std::exit(77);
    }
#if defined(__x86_64__)
    static const unsigned char text[] = {0x48, 0x83, 0xEC, 0x08, 0xFF, 0xD7,
                                         0x48, 0x83, 0xC4, 0x08, 0xC3};
    std::memcpy(code, text, sizeof text);
#endif
    return static_cast<unsigned char *>(code);
}

/* A block for which sampling, which alone tells exact sizes, has been chosen. */
void *make_sampled_block(std::size_t size)
{
    for (int tries = 0; tries < 10000; tries++) {
        void *p = std::malloc(size);
        if (malloc_usable_size(p) == size) {
            return p;
        }
    }
    std::exit(2);
}

/* The description of `code` in the form of .eh_frame: a common part, a function, and an end. */
void describe(unsigned char *description, const unsigned char *code)
{
    static const unsigned char common[16] = {1, 'z',  'R', 0, 1,    0x78, 16, 1,
                                             0, 0x0C, 7,   8, 0x90, 1,    0,  0};
    static const unsigned char function[8] = {0, 0x44, 0x0E, 16, 0, 0, 0, 0};
    writer w = {description};
    w.put<std::uint32_t>(4 + sizeof common);
    w.put<std::uint32_t>(0);
    w.put_bytes(common, sizeof common);
    w.put<std::uint32_t>(4 + 16 + sizeof function);
    w.put<std::uint32_t>(static_cast<std::uint32_t>(w.at - description));
    w.put<std::uint64_t>(reinterpret_cast<std::uintptr_t>(code));
    w.put<std::uint64_t>(CODE_BYTES);
    w.put_bytes(function, sizeof function);
    w.put<std::uint32_t>(0);
}

void throw_it()
{
    throw 42;
}

void catch_it(const unsigned char *code)
{
    int caught = 0;
    try {
#if defined(__x86_64__)
        reinterpret_cast<void (*)(callback *)>(reinterpret_cast<std::uintptr_t>(code))(throw_it);
#else
        (void)code;
        throw_it();
#endif
    } catch (int value) {
        caught = value;
    }
    if (caught != 42) {
        std::abort();
    }
}

/* Blocks of many sizes come and go, so that some are sampled and freed between exceptions. */
void churn(unsigned round)
{
    static thread_local void *ring[RING];
    static thread_local unsigned random;
    for (int i = 0; i < 20; i++) {
        random = random * 1664525 + 1013904223 + round;
        unsigned place = (random >> 8) % RING;
        std::free(ring[place]);
        ring[place] = std::malloc((random >> 5) % 600);
    }
}

void *work(void *throws)
{
    unsigned char *code = make_code();
    for (unsigned round = 0; round < ROUNDS; round++) {
        auto *description = static_cast<unsigned char *>(std::malloc(DESCRIPTION_BYTES));
        describe(description, code);
        __register_frame(description);
        churn(round);
        if (throws != nullptr) {
            catch_it(code);
        }
        __deregister_frame(description);
        std::free(description);
    }
    munmap(code, CODE_BYTES);
    return nullptr;
}

void work_in_threads()
{
    static char yes;
    pthread_t threads[THREADS];
    for (pthread_t &thread : threads) {
        if (pthread_create(&thread, nullptr, work, &yes) != 0) {
            std::exit(2);
        }
    }
    for (pthread_t &thread : threads) {
        pthread_join(thread, nullptr);
    }
}

void *churn_for_ever(void *unused)
{
    for (unsigned round = 0;; round++) {
        churn(round);
    }
    return unused;
}

/* Threads that have stack traces taken all the time, and hold the unwinder's lock for that, do not exist in children. */
void fork_beside_threads()
{
    unsigned char description[DESCRIPTION_BYTES];
    describe(description, make_code());
    __register_frame(description);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, churn_for_ever, nullptr) != 0) {
            std::exit(2);
        }
    }
    for (int i = 0; i < FORKS; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            for (unsigned round = 0; round < 20; round++) {
                churn(round);
            }
            _exit(0);
        }
        if (waitpid(child, &status, 0) != child || status != 0) {
            _exit(3);
        }
    }
    _exit(0);
}

void free_too_early(void *block)
{
    unsigned char *code = make_code();
    auto *description = static_cast<unsigned char *>(block);
    describe(description, code);
    __register_frame(description);
    std::free(description);
    catch_it(code);
}
} // namespace

int main(int argc, char **argv)
{
    static char yes;
    const char *mode = argc > 1 ? argv[1] : "throws";
    if (std::strcmp(mode, "threads") == 0) {
        work_in_threads();
    } else if (std::strcmp(mode, "fork") == 0) {
        fork_beside_threads();
    } else if (std::strcmp(mode, "fault") == 0) {
        free_too_early(make_sampled_block(DESCRIPTION_BYTES));
    } else if (std::strcmp(mode, "fault_large") == 0) {
        free_too_early(std::malloc(1 << 20));
    } else {
        work(std::strcmp(mode, "throws") == 0 ? &yes : nullptr);
    }
    return 0;
}
