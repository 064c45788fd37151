/* SPDX-License-Identifier: MIT */
/*
 * raw_clone_program.c: processes that share the memory of this one and are no threads of libc's.
 * Goal: a child of clone(CLONE_VM), which runs on its creator's thread-local storage while the
 * creator waits, may allocate and free, its own blocks and its creator's; afterwards the heap is as it
 * should be. Method: many such children, with the creator suspended by the kernel (as for vfork) and
 * with the creator waiting in a system call.
 *
 * raw_clone_program: status 0 if all is well, else a line on standard error and 1.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "entry_points.h"
#include "expect.h"

enum { STACK_BYTES = 256 << 10, CHILDREN = 100, BLOCKS = 40 };

static struct {
    void *blocks[BLOCKS];
    size_t sizes[BLOCKS];
} of_parent, of_child;

static void allocate_all(void **blocks, size_t *sizes, unsigned seed)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        const struct entry_points *e = &entry_points[(i + seed) % ENTRY_POINT_SETS];
        sizes[i] = (size_t)1 << i % 20;
        blocks[i] = allocate(e, (i + seed) % ALLOCATORS, sizes[i]);
        expect(blocks[i] != NULL, "a block is had");
        fill(blocks[i], sizes[i], i + seed);
    }
}

static void free_all(void **blocks, const size_t *sizes, unsigned seed)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        expect(is_filled(blocks[i], sizes[i], i + seed), "a block holds what was written");
        ap_free(blocks[i]);
    }
}

static int child(void *number)
{
    unsigned seed = *(unsigned *)number;
    allocate_all(of_child.blocks, of_child.sizes, seed + 1);
    free_all(of_parent.blocks, of_parent.sizes, seed);
    return 0;
}

static void run_child(char *stack, unsigned number, int flags)
{
    int status = 0;
    allocate_all(of_parent.blocks, of_parent.sizes, number);
    pid_t pid = clone(child, stack + STACK_BYTES,
                      CLONE_VM | CLONE_FS | CLONE_FILES | flags | SIGCHLD, &number);
    expect(pid > 0, "clone");
    expect(waitpid(pid, &status, 0) == pid, "waitpid");
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ends well");
    free_all(of_child.blocks, of_child.sizes, number + 1);
}

int main(void)
{
    char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    expect((void *)stack != MAP_FAILED, "a stack");
    size_t before = 0;
    for (unsigned i = 0; i < CHILDREN; i++) {
        run_child(stack, i, i % 2 == 0 ? CLONE_VFORK : 0);
        if (i == 1) {
            before = ap_mallinfo2().uordblks;
        }
    }
    expect(ap_mallinfo2().uordblks == before, "nothing is left of the children");
    return 0;
}
