# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# common.sh: what the scripts of this folder share. Sourced, with the library's path as the script's
# first argument.
#
# A script runs its program twice, on the system malloc and on the library, and demands the same
# standard output and exit status. That the library was in the process, and in use, is shown by what it
# writes to standard error when asked to. Exit status: 0; 77 when the program is absent; else failure.
set -euo pipefail

# shellcheck disable=SC2034
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
library=$(realpath -- "${1:?usage: $0 LIBRARY [HELPER]}")
scratch=$(mktemp -d "${TMPDIR:-/tmp}/apmalloc-preload.XXXXXX")
started=() # processes to end with this script
prefix=()  # put before each command run, and itself not on the library
proof=at_exit # what shows that the library was in use; at_start for programs that close standard error
unset LD_PRELOAD APMALLOC_CONF
export LC_ALL=C

clean_up() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf -- "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
    printf 'FAIL: %s\n' "$*"
    exit 1
}

# need PROGRAM...: the programs without which there is nothing to test.
need() {
    local program
    for program in "$@"; do
        type -P -- "$program" >/dev/null || {
            printf 'SKIP: %s is not installed\n' "$program"
            exit 77
        }
    done
}

# run_on NAME COMMAND...: NAME is system or apmalloc. Leaves $scratch/NAME.{out,err,status}.
run_on() {
    local name=$1 status=0 setting=()
    shift
    if [[ $name == apmalloc ]]; then
        setting=(LD_PRELOAD="$library" APMALLOC_CONF=stats_at_exit:true)
        [[ $proof == at_exit ]] || setting=(LD_PRELOAD="$library" APMALLOC_CONF=help:true)
    fi
    "${prefix[@]}" env "${setting[@]}" "$@" >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null || status=$?
    printf '%s\n' "$status" >"$scratch/$name.status"
}

# What the program itself had to say: standard error without the statistics.
show_errors() {
    grep -vE '^apmalloc statistics|^  ' "$scratch/apmalloc.err" | tail -n 30 || true
}

# The first lines of the statistics and of the list of options.
assert_library_was_used() {
    local begins='^apmalloc statistics'
    [[ $proof == at_exit ]] || begins='^apmalloc: options'
    grep -q "$begins" "$scratch/apmalloc.err" || {
        show_errors
        fail "no sign that the library was in the process"
    }
}

assert_same() {
    local what=$1 label=$2
    cmp -s -- "$scratch/system.$what" "$scratch/apmalloc.$what" || {
        diff -- "$scratch/system.$what" "$scratch/apmalloc.$what" | head -n 40 || true
        show_errors
        fail "$label: $what differs from the run on the system malloc"
    }
}

# same_on_both LABEL COMMAND...: runs it on both and compares; the command must succeed and say something.
same_on_both() {
    local label=$1
    shift
    run_on system "$@"
    [[ $(cat "$scratch/system.status") == 0 ]] || {
        tail -n 20 "$scratch/system.err"
        fail "$label: fails on the system malloc"
    }
    [[ -s $scratch/system.out ]] || fail "$label: prints nothing"
    run_on apmalloc "$@"
    assert_same status "$label"
    assert_same out "$label"
    assert_library_was_used
    printf 'ok: %s\n' "$label"
}

# A figure of /proc/PID/status in KiB.
process_kib() {
    awk -v name="$2:" '$1 == name { print $2 }' "/proc/$1/status"
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}
