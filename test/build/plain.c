/* SPDX-License-Identifier: MIT */
/* With the libc names left out of the library: malloc is the system's, ap_malloc is there all the
 * same. */
#include <apmalloc.h>

#include <stdlib.h>
#include <string.h>

enum { BIG_BYTES = 3 << 20 };

int main(void)
{
    size_t before = ap_mallinfo2().uordblks;
    char *system = malloc(BIG_BYTES);
    if (system == NULL || ap_mallinfo2().uordblks >= before + BIG_BYTES)
        return 1;
    memset(system, 1, BIG_BYTES);
    char *ours = ap_malloc(BIG_BYTES);
    if (ours == NULL || ap_mallinfo2().uordblks < before + BIG_BYTES)
        return 2;
    memset(ours, 1, BIG_BYTES);
    ap_free(ours);
    free(system);
    return 0;
}
