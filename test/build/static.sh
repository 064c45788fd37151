#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs linked with the static library: -static, static-pie and dynamic, in C with threads and in C++.
# Arguments: static library, include directory.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

archive=$1 include=$2

link_and_run() {
    local label=$1
    shift
    quietly "$@" -o "$scratch/program"
    assert_runs_on_library "$scratch/program"
    # With what takes stack traces: a static program's unwinder has to be started first.
    for conf in guard_sample:1 hardened:true; do
        APMALLOC_CONF=$conf quietly "$scratch/program"
    done
    echo "ok: $label"
}

# An exception through code made at run time, with an unwinder inside of the program; 77: there can be no such code.
throw_under_options() {
    local status conf
    for conf in guard_sample:1 guard_sample:100 hardened:true; do
        status=0
        APMALLOC_CONF=$conf timeout 60 "$scratch/program" >"$scratch/log" 2>&1 || status=$?
        ((status == 0 || status == 77)) || fail "exceptions, $conf: status $status: $(<"$scratch/log")"
    done
}

for kind in -static -static-pie -no-pie -pie; do
    # gcc wants position-independent objects for static-pie, and says so with -fPIE only.
    flags=(-O2 -pthread "$kind")
    [[ $kind == *-pie && $kind != -no-pie ]] && flags+=(-fPIE)
    link_and_run "C $kind" "${cc[@]}" "${flags[@]}" -I "$include" "$here/ask.c" "$archive"
    # Nothing but new and delete: without all of the archive the linker would be content with libstdc++'s.
    link_and_run "C++ $kind" "${cxx[@]}" -std=c++17 "${flags[@]}" "$here/only_new.cpp" \
        -Wl,--whole-archive "$archive" -Wl,--no-whole-archive
    quietly "${cxx[@]}" -std=c++17 "${flags[@]}" "$here/../api/unwind_program.cpp" \
        -Wl,--whole-archive "$archive" -Wl,--no-whole-archive -o "$scratch/program"
    throw_under_options
    echo "ok: exceptions $kind"
done
