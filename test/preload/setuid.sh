#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Set-uid programs: the loader ignores a preloaded library, and without a word; a program that has the
# library linked runs on it and ignores its options. The same programs without the bit show that both
# would have had an effect. Arguments: library, secure, secure_linked. Needs root, to make such programs.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

program=${2:?usage: $0 LIBRARY SECURE SECURE_LINKED}
linked=${3:?usage: $0 LIBRARY SECURE SECURE_LINKED}
owner=65533 caller=65534
options=help:true,stats_at_exit:true

need setpriv
((EUID == 0)) || {
    echo 'SKIP: needs root'
    exit 77
}
# The caller must reach all that he runs and preloads.
chmod 755 -- "$scratch"
install -m 755 -- "$library" "$scratch/libapmalloc.so"
install -m 755 -- "$program" "$scratch/plain"
install -m 755 -- "$linked" "$scratch/linked"
install -o $owner -m 4755 -- "$program" "$scratch/plain_setuid"
install -o $owner -m 4755 -- "$linked" "$scratch/linked_setuid"

# as_caller VARIABLE=VALUE... COMMAND: leaves $scratch/out and $scratch/err.
as_caller() {
    setpriv --reuid=$caller --regid=$caller --clear-groups env "$@" >"$scratch/out" 2>"$scratch/err" </dev/null ||
        fail "$*: status $?: $(cat "$scratch/err")"
}

assert_says() {
    [[ $(cat "$scratch/out") == "$1" ]] || fail "$2: says '$(cat "$scratch/out")', not '$1'"
}

assert_options_count() {
    grep -q '^apmalloc: options' "$scratch/err" || fail "$1: the options have no effect"
    grep -q '^apmalloc statistics' "$scratch/err" || fail "$1: the options have no effect at its end"
}

assert_silent() {
    [[ ! -s $scratch/err ]] || fail "$1: $(cat "$scratch/err")"
    echo "ok: $1"
}

as_caller "$scratch/plain_setuid"
[[ $(cat "$scratch/out") == 'secure 1,'* ]] || {
    echo 'SKIP: the set-uid bit has no effect here'
    exit 77
}
preload=(LD_PRELOAD="$scratch/libapmalloc.so" APMALLOC_CONF="$options")

as_caller "${preload[@]}" "$scratch/plain"
assert_says "secure 0, malloc is apmalloc's" 'preloaded'
assert_options_count 'preloaded'

as_caller "${preload[@]}" "$scratch/plain_setuid"
assert_says "secure 1, malloc is libc's" 'preloaded, set-uid'
assert_silent 'preloaded, set-uid: no effect'

as_caller APMALLOC_CONF=$options "$scratch/linked"
assert_says "secure 0, malloc is apmalloc's" 'linked'
assert_options_count 'linked'

as_caller APMALLOC_CONF=$options "$scratch/linked_setuid"
assert_says "secure 1, malloc is apmalloc's" 'linked, set-uid'
assert_silent 'linked, set-uid: options are ignored'
