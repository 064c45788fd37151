# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# common.sh: what the scripts of this folder share. Sourced. Compilers: $CC and $CXX, one word or more.
set -euo pipefail

# shellcheck disable=SC2034
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/apmalloc-build.XXXXXX")
trap 'rm -rf -- "$scratch"' EXIT
trap 'exit 130' INT TERM
unset LD_PRELOAD APMALLOC_CONF
export LC_ALL=C

# shellcheck disable=SC2034
read -ra cc <<<"${CC:-cc}"
# shellcheck disable=SC2034
read -ra cxx <<<"${CXX:-c++}"

fail() {
    printf 'FAIL: %s\n' "$*"
    exit 1
}

# quietly COMMAND...: output only if it fails.
quietly() {
    "$@" >"$scratch/log" 2>&1 </dev/null || {
        tail -n 60 "$scratch/log"
        fail "$*"
    }
}

# The program must succeed, and our allocator say at its end that it was there.
assert_runs_on_library() {
    APMALLOC_CONF=stats_at_exit:true "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || {
        cat "$scratch/out" "$scratch/err"
        fail "$* fails"
    }
    grep -q '^apmalloc statistics' "$scratch/err" || fail "$*: its malloc is not ours"
}
