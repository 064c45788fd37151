/* SPDX-License-Identifier: MIT */
/* damage_transfer.c: the transfer caches with a way to spoil them. */
#include "central/transfer_cache.c"
#include "damage.h"

void damage_transfer(unsigned size_class, enum damage_transfer which)
{
    struct transfer *transfer = &transfers[0][size_class];
    switch (which) {
    case DAMAGE_TRANSFER_COUNT:
        set_count_locked(transfer, transfer->capacity + 1);
        break;
    case DAMAGE_TRANSFER_LIMIT:
        set_limit_locked(transfer, transfer->capacity + 1);
        break;
    case DAMAGE_TRANSFER_UNUSED:
        transfer->unused = count_of(transfer) + 1;
        break;
    case DAMAGE_TRANSFER_BLOCK:
        transfer->blocks[0] = transfer->blocks[1];
        break;
    }
}

void damage_transfer_put(unsigned size_class, void *p)
{
    transfers[0][size_class].blocks[0] = p;
}
