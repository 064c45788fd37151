/* SPDX-License-Identifier: MIT */
/*
 * secure: says whether this process has more rights than its caller (AT_SECURE), and whether its malloc
 * is apmalloc's; for runs with the set-uid bit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

extern size_t ap_usable_size(void *p) __attribute__((weak));

int main(void)
{
    char *block = malloc(100000);
    if (block == NULL)
        return 1;
    memset(block, 1, 100000);
    int ours = ap_usable_size != NULL && ap_usable_size(block) >= 100000;
    free(block);
    printf("secure %lu, malloc is %s\n", getauxval(AT_SECURE), ours ? "apmalloc's" : "libc's");
    return 0;
}
