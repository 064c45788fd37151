/* SPDX-License-Identifier: MIT */
/*
 * list_fold.pml: how blocks are taken from a thread's list while it runs, for exhaustive search by Spin.
 *
 * What is modelled: one list, its owner's hit paths as lib/cache/free_list.h has them, one step for each shared
 * access, and another thread that hides all in sight and takes it, as lib/cache/fold.h has it. The owner's stores wait
 * in a buffer, from which his own loads are served and which empties at any time: in the order of the stores
 * (as on x86), or, with WEAK, those to different words in any order. A barrier that the other thread asks
 * for empties it. A slow path of the owner, and the other thread, hold the claim.
 * What is not: more than one list, whose steps have nothing in common; blocks that were hidden before, but as
 * the other thread hides them twice.
 *
 * Each block is in the list, with the owner or with the other thread; who takes one that is not in the list has
 * found an error, and so has who loses one.
 *
 * Mutants, each one wrong in one step. Spin must find an error in each:
 *   ONE_LOOK          a pop does not look at the word again
 *   LOOK_FIRST        a pop looks again before it lowers the top
 *   NO_BARRIER        the other thread does not wait for the owner's stores
 *   ONE_BARRIER       there is no second barrier; an error with WEAK only
 *   TOP_ONLY          the other thread does not look at the word after the barriers
 *   WORD_ONLY         it does not look at the top
 *   BACK_BLINDLY      a block that cannot be had goes back by a store
 */
#ifndef ROUNDS
#define ROUNDS 4 /* pops and pushes of the owner */
#endif
#ifndef VISITS
#define VISITS 2 /* of the other thread */
#endif
#define BLOCKS 2
#define WORDS (BLOCKS + 1)
#define NONE 0 /* NULL */

#define IN_LIST 0
#define OWNERS 1
#define OTHERS 2

/* Memory. Address 0 is the top, 1 + i is word i. */
#define TOP 0
#define WORD(i) (1 + (i))
byte memory[1 + WORDS];
byte place[BLOCKS + 1]; /* of each block: who has it */
bool claimed;
byte folded; /* under the claim */

/* The owner's store buffer, oldest first. */
#define STORES 4
byte addresses[STORES];
byte values[STORES];
byte stores;

inline drain_at(k)
{
    memory[addresses[k]] = values[k];
    j = k;
    do
    :: j + 1 < stores ->
        addresses[j] = addresses[j + 1];
        values[j] = values[j + 1];
        j++
    :: else -> break
    od;
    stores--;
    addresses[stores] = 0;
    values[stores] = 0;
    j = 0
}

/* Whether nothing older in the buffer is for the same address. */
#define IS_FIRST(k) ((k) == 0 || (addresses[0] != addresses[k] && \
    ((k) == 1 || (addresses[1] != addresses[k] && ((k) == 2 || addresses[2] != addresses[k])))))

proctype buffer()
{
    byte j;
end:
    do
    :: atomic { stores > 0 -> drain_at(0) }
#ifdef WEAK
    :: atomic { stores > 1 && IS_FIRST(1) -> drain_at(1) }
    :: atomic { stores > 2 && IS_FIRST(2) -> drain_at(2) }
    :: atomic { stores > 3 && IS_FIRST(3) -> drain_at(3) }
#endif
    od
}

/* Waits for room: the buffer empties by itself. */
#define STORE(address, value) atomic { stores < STORES -> addresses[stores] = address; values[stores] = value; stores++ }

#define IS_LAST(k, address) (stores > (k) && addresses[k] == (address))
#define LOADED(address) (IS_LAST(3, address) -> values[3] : (IS_LAST(2, address) -> values[2] : \
    (IS_LAST(1, address) -> values[1] : (IS_LAST(0, address) -> values[0] : memory[address]))))

#define BARRIER stores == 0 /* blocks until all have left */

proctype owner()
{
    byte round, top, p, again, mine[BLOCKS], count, at;
    do
    :: round == ROUNDS -> break
    :: round < ROUNDS -> /* malloc */
        round++;
        top = LOADED(TOP);
        p = LOADED(WORD(top));
        if
        :: p != NONE ->
#ifdef ONE_LOOK
            STORE(TOP, top - 1);
            again = p;
#else
#ifdef LOOK_FIRST
            again = LOADED(WORD(top));
            STORE(TOP, top - 1);
#else
            STORE(TOP, top - 1);
            again = LOADED(WORD(top));
#endif
#endif
            p = again;
            if
            :: p == NONE -> STORE(TOP, top)
            :: else
            fi
        :: else
        fi;
        if
        :: p == NONE -> /* the slow path: waits for the claim, and makes the list whole */
            atomic { !claimed && BARRIER -> claimed = true }
            d_step {
                top = memory[TOP];
                p = memory[WORD(top)];
                assert(p != NONE || top == folded);
                if
                :: p != NONE -> memory[TOP] = top - 1 /* it has come back */
                :: else
                fi;
                claimed = false
            }
        :: else
        fi;
        d_step {
            if
            :: p != NONE ->
                assert(place[p] == IN_LIST);
                place[p] = OWNERS;
                mine[count] = p;
                count++
            :: else
            fi
        }
    :: round < ROUNDS && count > 0 -> /* free */
        round++;
        if /* the newest or the oldest */
        :: at = 0
        :: at = count - 1
        fi;
        d_step {
            p = mine[at];
            count--;
            mine[at] = mine[count];
            mine[count] = NONE;
            place[p] = IN_LIST;
            at = 0
        }
        top = LOADED(TOP);
        STORE(WORD(top + 1), p);
        STORE(TOP, top + 1)
    od;
    /* At the end of the thread, under the claim: all that is in the list is found there. */
    atomic { !claimed && BARRIER -> claimed = true }
    d_step {
        top = memory[TOP];
        do
        :: top > folded ->
            assert(memory[WORD(top)] != NONE && place[memory[WORD(top)]] == IN_LIST);
            place[memory[WORD(top)]] = OWNERS;
            top--
        :: else -> break
        od;
        p = 1;
        do
        :: p <= BLOCKS -> assert(place[p] != IN_LIST); p++
        :: else -> break
        od;
        memory[TOP] = folded;
        claimed = false
    }
}

#ifdef WORD_ONLY
#define IS_KEPT true
#else
#define IS_KEPT (top >= at)
#endif
#ifdef TOP_ONLY
#define IS_NULL true
#else
#define IS_NULL (memory[WORD(at)] == NONE)
#endif

proctype other()
{
    byte visit, at, block, top, i;
    do
    :: visit == VISITS -> break
    :: visit < VISITS ->
        visit++;
        atomic { !claimed -> claimed = true }
        at = memory[TOP];
        block = NONE;
        if
        :: at > folded ->
            block = memory[WORD(at)];
            atomic { /* compare and swap */
                if
                :: block != NONE && memory[WORD(at)] == block -> memory[WORD(at)] = NONE
                :: else -> block = NONE
                fi
            }
        :: else
        fi;
        if
        :: block != NONE ->
#ifndef NO_BARRIER
            BARRIER;
#endif
            top = memory[TOP];
#if !defined(NO_BARRIER) && !defined(ONE_BARRIER)
            BARRIER;
#endif
            if
            :: IS_KEPT && IS_NULL -> /* raised: all from `folded` up to here is taken */
                d_step {
                    memory[WORD(folded)] = block;
                    i = folded;
                    do
                    :: i < at ->
                        assert(memory[WORD(i)] != NONE && place[memory[WORD(i)]] == IN_LIST);
                        place[memory[WORD(i)]] = OTHERS;
                        memory[WORD(i)] = NONE;
                        i++
                    :: else -> break
                    od;
                    folded = at;
                    i = 0
                }
            :: else ->
#ifdef BACK_BLINDLY
                memory[WORD(at)] = block
#else
                atomic {
                    if
                    :: memory[WORD(at)] == NONE -> memory[WORD(at)] = block
                    :: else
                    fi
                }
#endif
            fi
        :: else
        fi;
        claimed = false
    od
}

init
{
    atomic {
        memory[TOP] = BLOCKS;
        memory[WORD(1)] = 1;
        memory[WORD(2)] = 2;
        run buffer();
        run owner();
        run other()
    }
}
