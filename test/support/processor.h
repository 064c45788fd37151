/* SPDX-License-Identifier: MIT */
/*
 * processor.h: moves a thread to the processor that a test wants it on.
 *
 * What is divided among processors goes by the remainder of the processor's number: so does this. Of the processors
 * that the program might use when it first asked. Use by one thread at a time.
 */
#ifndef TEST_SUPPORT_PROCESSOR_H
#define TEST_SUPPORT_PROCESSOR_H

/* Moves the calling thread to the first processor of shard `number` of `shards`; 0 of 1: to the first that there is.
 * Returns the processor's number, -1: that shard has none, or the kernel does not let a thread move. */
int processor_run_on_shard(unsigned number, unsigned shards);

#endif
