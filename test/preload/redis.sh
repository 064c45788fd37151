#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# redis-server under redis-benchmark, on 127.0.0.1 at a free port, started and stopped here. The content
# after a fixed sequence of commands must be the same on both allocators (DEBUG DIGEST). Reports the
# memory it keeps after FLUSHALL. Debian's redis brings jemalloc: that is then what "system" stands for.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

need redis-server redis-cli redis-benchmark awk

# A port that nobody listens on; if somebody is quicker, the server says so and the next one is tried.
start_server() {
    local name=$1 attempt setting=()
    if [[ $name == apmalloc ]]; then
        setting=(LD_PRELOAD="$library" APMALLOC_CONF=stats_at_exit:true)
    fi
    for attempt in {1..20}; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        env "${setting[@]}" redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no \
            --dir "$scratch" --io-threads 2 --enable-debug-command yes --daemonize no --hz 50 \
            >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null &
        server=$!
        started=("$server")
        if wait_for 20 server_answers_or_died && kill -0 "$server" 2>/dev/null; then
            return
        fi
        wait "$server" || true
        grep -q 'Address already in use' "$scratch/$name.out" || {
            cat "$scratch/$name.out" "$scratch/$name.err"
            fail "redis-server does not start on $name (attempt $attempt)"
        }
    done
    fail 'no free port found'
}

# By its process id: what answers at the port must be the server started here.
server_answers_or_died() {
    ! kill -0 "$server" 2>/dev/null ||
        [[ $(cli info server | tr -d '\r' | sed -n 's/^process_id://p') == "$server" ]]
}

cli() {
    redis-cli -h 127.0.0.1 -p "$port" "$@"
}

stop_server() {
    cli shutdown nosave >/dev/null 2>&1 || true
    local status=0
    wait "$server" || status=$?
    started=()
    ((status == 0)) || {
        tail -n 20 "$scratch/$1.out"
        [[ $1 == system ]] || show_errors
        fail "redis-server on $1 ended with status $status"
    }
}

fixed_commands() {
    awk 'BEGIN {
        srand(5)
        for (i = 0; i < 60000; i++) {
            k = int(rand() * 8000)
            v = sprintf("%0*d", 1 + int(rand() * rand() * 600), i)
            r = int(rand() * 10)
            if (r < 3) print "SET s:" k " " v
            else if (r == 3) print "APPEND s:" k " " v
            else if (r == 4) print "LPUSH l:" k % 500 " " v
            else if (r == 5) print "HSET h:" k % 300 " f" i % 90 " " v
            else if (r == 6) print "ZADD z:" k % 200 " " i % 1000 " m" v
            else if (r == 7) print "SADD t:" k % 400 " " v
            else if (r == 8) print "DEL s:" k
            else print "LPOP l:" k % 500
        }
        print "SETRANGE huge 20000000 x"
        print "EVAL \"for i = 1, 20000 do redis.call(\047set\047, \047lua:\047 .. i, string.rep(\047x\047, i % 300)) end\" 0"
    }'
}

session() {
    local name=$1
    start_server "$name"
    if [[ $name == apmalloc ]]; then
        grep -q libapmalloc "/proc/$server/maps" || fail 'the library is not in the server'
    fi
    redis-benchmark -h 127.0.0.1 -p "$port" -q -n 60000 -c 40 -P 16 -d 200 -r 50000 \
        -t set,get,incr,lpush,rpop,sadd,hset,zadd,mset >"$scratch/benchmark" 2>&1 || {
        cat "$scratch/benchmark"
        fail "redis-benchmark on $name"
    }
    [[ $(cli flushall) == OK && $(cli dbsize) == 0 ]] || fail "FLUSHALL on $name"
    # The keys' memory is released by a thread of the server; wait until it is through.
    wait_for 30 lazy_free_is_done || fail "the server on $name does not finish freeing"
    printf 'memory: redis on %s: peak %d MiB, after FLUSHALL %d MiB\n' "$name" \
        $(($(process_kib "$server" VmHWM) / 1024)) $(($(process_kib "$server" VmRSS) / 1024))

    cli <"$scratch/commands" | grep -i '^(\?err' && fail "a command fails on $name"
    {
        cli debug digest
        cli dbsize
    } >"$scratch/$name.digest"
    # A child writes the data out while the server goes on; then it is read back.
    cli config set save '' >/dev/null
    [[ $(cli debug reload) == OK ]] || fail "DEBUG RELOAD on $name"
    cli debug digest >>"$scratch/$name.digest"
    cli bgsave >/dev/null
    wait_for 30 background_save_is_done || fail "BGSAVE on $name"
    stop_server "$name"
    rm -f -- "$scratch/dump.rdb"
}

lazy_free_is_done() {
    cli info memory | tr -d '\r' | grep -qx 'lazyfree_pending_objects:0'
}

background_save_is_done() {
    local info
    info=$(cli info persistence | tr -d '\r')
    grep -qx 'rdb_bgsave_in_progress:0' <<<"$info" && grep -qx 'rdb_last_bgsave_status:ok' <<<"$info"
}

fixed_commands >"$scratch/commands"
session system
session apmalloc
assert_library_was_used
assert_same digest redis
echo 'ok: redis'
