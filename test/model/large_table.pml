/* SPDX-License-Identifier: MIT */
/*
 * large_table.pml: the protocol of lib/table/large_table.c, for exhaustive search by Spin.
 *
 * What is modelled: slot words, the chain of tables, tickets and the root; insert, find, delete and
 * migration, one step for each shared access. All keys have the same home slot, so that they
 * compete, and records are left out, so that words of one key and tag are equal when they recur.
 * What is not: orders weaker than sequential consistency (ThreadSanitizer watches those in
 * test/stress), the displacement bound, and want of memory. Migrators are processes of their own,
 * which allows every schedule that operations which help with migration have.
 *
 * Configurations: TABLES (2 or 3), KEYS (1 or 2), MIGRATORS, ROUNDS that a key lives.
 * Key 1 is deleted by two processes at once, and exactly one must win. Key 2 has one owner.
 *
 * Mutants, each one wrong in one step. Spin must find an error in each:
 *   PEND_ALWAYS_COUNTS    PEND is a hit also when MOVED was not seen
 *   MOVED_STAYS_KNOWN     MOVED of any older table makes PEND a hit, not only of the one before
 *   MOVED_BEFORE_PEND     authority is given up before its successor is in place
 *   FROZEN_TO_TOMB        a delete of a frozen entry leaves a slot that is free again
 *   EMPTY_STAYS_OPEN      a migrator does not close the empty slots of its block
 *   REVIVE_BLINDLY        PEND becomes LIVE by a store instead of a compare-and-swap
 *   ROOT_BEFORE_LAST      the root moves on when the last block is begun, not done
 */
#ifndef TABLES
#define TABLES 2
#endif
#ifndef KEYS
#define KEYS 2
#endif
#ifndef MIGRATORS
#define MIGRATORS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

#define EMPTY 0
#define TOMB 1
#define CLOSED 2
#define LIVE 0
#define FROZEN 1
#define MOVED 2
#define PEND 3
#define WORD(key, tag) (4 * (key) + (tag))
#define KEY(word) ((word) / 4)
#define TAG(word) ((word) % 4)
#define IS_CLOSING(word) \
    ((word) == CLOSED || (KEY(word) != 0 && (TAG(word) == FROZEN || TAG(word) == MOVED)))

/* Table 0 has 2 slots, each a block. The others have 4, in two blocks. */
#define LAST (TABLES - 1)
#define SIZE(t) ((t) == 0 -> 2 : 4)
#define BASE(t) ((t) == 0 -> 0 : 4 * (t) - 2)
#define BLOCKS 2
#define BLOCK_SLOTS(t) (SIZE(t) / BLOCKS)

byte slots[4 * TABLES - 2]; /* all EMPTY */
bool has_next[TABLES];
byte tickets[TABLES];
byte blocks_done[TABLES];
byte root;

/* The two deletes of key 1. */
byte armed;
byte wins;
byte finished;

/* CAS of slots[index]: `ok` tells; on failure `seen` receives what is there. */
inline cas(index, seen, new_word, ok)
{
    atomic {
        if
        :: slots[index] == seen -> slots[index] = new_word; ok = true
        :: else -> seen = slots[index]; ok = false
        fi
    }
}

#ifdef PEND_ALWAYS_COUNTS
#define PEND_COUNTS true
#else
#define PEND_COUNTS moved
#endif

/* Uses t, i, w, p, moved, state. Afterwards state is HIT or MISS; a hit is word w of slot p. */
#define SCAN 0
#define HIT 1
#define MISS 2
#define NEXT 3
inline locate(key)
{
    atomic { t = root; moved = false; i = 0; state = SCAN }
    do
    :: state == SCAN ->
        atomic {
            w = EMPTY;
            if
            :: i < SIZE(t) -> p = BASE(t) + i; w = slots[p]
            :: else
            fi;
            if
            :: w == EMPTY ->
                state = NEXT;
#ifndef MOVED_STAYS_KNOWN
                moved = false
#endif
            :: KEY(w) == key && TAG(w) == MOVED ->
                assert(has_next[t]); /* guarantee D */
                state = NEXT;
                moved = true
            :: KEY(w) == key && (TAG(w) != PEND || PEND_COUNTS) && TAG(w) != MOVED -> state = HIT
            :: else -> i++
            fi
        }
    :: state == NEXT ->
        atomic {
            if
            :: has_next[t] -> t++; i = 0; state = SCAN
            :: else -> state = MISS
            fi
        }
    :: else -> break
    od
}

/* First free slot of the newest table. Uses t, i, w, p, ok. */
inline place(word)
{
    i = 0;
    do
    :: atomic {
            assert(i < SIZE(t)); /* guarantee G: there is room */
            p = BASE(t) + i;
            w = slots[p]
        };
        ok = false;
        if
        :: w == EMPTY || w == TOMB -> cas(p, w, word, ok)
        :: else
        fi;
        if
        :: ok -> break
        :: !ok && IS_CLOSING(w) -> atomic { assert(has_next[t]); t++; i = 0 } /* guarantee D */
        :: else -> i++
        fi
    od
}

inline insert(key)
{
    t = root;
    do
    :: has_next[t] -> t++
    :: else -> break
    od;
    place(WORD(key, LIVE))
}

#ifdef FROZEN_TO_TOMB
#define GONE(word) TOMB
#else
#define GONE(word) (TAG(word) == FROZEN -> CLOSED : TOMB)
#endif

/* Afterwards ok: this call took it out. */
inline delete(key)
{
    ok = false;
    do
    :: !ok ->
        locate(key);
        if
        :: state == MISS -> break
        :: else -> cas(p, w, GONE(w), ok)
        fi
    :: else -> break
    od
}

proctype Owner(byte key)
{
    byte t, i, w, p, state, round;
    bool moved, ok;
    do
    :: round < ROUNDS ->
        round++;
        insert(key);
        locate(key);
        assert(state == HIT);
        if
        :: key == 1 -> armed++
        :: else
        fi;
        delete(key);
        if
        :: key == 1 ->
            atomic { wins = wins + ok; finished++ };
            atomic { finished == 2 -> assert(wins == 1); finished = 0; wins = 0 }
        :: else -> assert(ok)
        fi;
        locate(key);
        assert(state == MISS)
    :: else -> break
    od
}

/* Frees key 1, too, each time it lives: a program's mistake. */
proctype Racer()
{
    byte t, i, w, p, state, round;
    bool moved, ok;
    do
    :: round < ROUNDS ->
        round++;
        armed == round;
        delete(1);
        atomic { wins = wins + ok; finished++ }
    :: else -> break
    od
}

/* Moves the entry `word` of slot `s` of table `from`. */
inline move_entry()
{
    t = from + 1;
#ifdef MOVED_BEFORE_PEND
    cas(s, frozen, WORD(KEY(frozen), MOVED), won);
    if
    :: won -> place(WORD(KEY(word), LIVE))
    :: else
    fi
#else
    place(WORD(KEY(word), PEND));
    assert(t == from + 1); /* guarantee F */
    cas(s, frozen, WORD(KEY(word), MOVED), won);
    pending = WORD(KEY(word), PEND);
    if
#ifdef REVIVE_BLINDLY
    :: won -> slots[p] = WORD(KEY(word), LIVE)
#else
    :: won -> cas(p, pending, WORD(KEY(word), LIVE), ok)
#endif
    :: else -> cas(p, pending, TOMB, ok); assert(ok) /* guarantee E */
    fi
#endif
}

inline migrate_slot()
{
    word = slots[s];
    ok = false;
    do
    :: ok -> break
    :: !ok && (word == EMPTY || word == TOMB) ->
#ifdef EMPTY_STAYS_OPEN
        if
        :: word == EMPTY -> ok = true
        :: else -> cas(s, word, CLOSED, ok)
        fi
#else
        cas(s, word, CLOSED, ok)
#endif
    :: !ok && KEY(word) != 0 ->
        assert(TAG(word) == LIVE); /* one migrator a slot, and no PEND in the root */
        cas(s, word, WORD(KEY(word), FROZEN), ok)
    od;
    if
    :: KEY(word) != 0 ->
        frozen = WORD(KEY(word), FROZEN);
        move_entry()
    :: else
    fi
}

proctype Migrator()
{
    byte from, block, n, s, word, frozen, pending;
    byte t, i, w, p;
    bool ok, won;
end:
    do
    :: atomic {
            root < LAST && has_next[root] && tickets[root] < BLOCKS ->
            from = root;
            block = tickets[from];
            tickets[from]++;
#ifdef ROOT_BEFORE_LAST
            if
            :: tickets[from] == BLOCKS -> root = from + 1
            :: else
            fi
#endif
        };
        n = 0;
        do
        :: n < BLOCK_SLOTS(from) ->
            s = BASE(from) + block * BLOCK_SLOTS(from) + n;
            migrate_slot();
            n++
        :: else -> break
        od;
        blocks_done[from]++;
        atomic {
            if
            :: blocks_done[from] == BLOCKS && root == from -> root = from + 1
            :: else
            fi
        };
        atomic { from = 0; block = 0; n = 0; s = 0; word = 0; frozen = 0; pending = 0;
                 t = 0; i = 0; w = 0; p = 0; ok = false; won = false }
    od
}

/* Any insert may append a table at any time. */
proctype Grower()
{
    byte t;
    do
    :: t < LAST -> has_next[t] = true; t++
    :: else -> break
    od
}

init
{
    byte m;
    atomic {
        run Owner(1);
        run Racer();
        if
        :: KEYS == 2 -> run Owner(2)
        :: else
        fi;
        run Grower();
        do
        :: m < MIGRATORS -> run Migrator(); m++
        :: else -> break
        od
    }
}
