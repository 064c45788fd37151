#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program under memcheck with the library preloaded: once on valgrind's own malloc, as it replaces
# any by default, and once on ours. Neither may find an error. Second argument: probe.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

probe=${2:?usage: $0 LIBRARY PROBE}
need valgrind
run_on system "$probe"

memcheck() {
    local label=$1
    shift
    env LD_PRELOAD="$library" APMALLOC_CONF=stats_at_exit:true \
        valgrind -q --error-exitcode=99 "$@" "$probe" \
        >"$scratch/apmalloc.out" 2>"$scratch/apmalloc.err" </dev/null || {
        show_errors
        fail "$label"
    }
    assert_same out "$label"
    assert_library_was_used
    printf 'ok: %s\n' "$label"
}
memcheck 'valgrind, its own malloc'
memcheck 'valgrind, our malloc' --soname-synonyms=somalloc=nouserintercepts
