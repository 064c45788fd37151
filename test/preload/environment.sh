#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Unusual surroundings: no environment, options without sense or end, addresses that are not random, and a root
# directory with neither /proc nor /sys nor /dev. Second argument: probe.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

probe=$(realpath -- "${2:?usage: $0 LIBRARY PROBE}")

prefix=(env -i)
same_on_both 'no environment' "$probe"
prefix=()

# with_options LABEL WARNINGS VALUE: the program runs as ever, and each bad word is one line.
with_options() {
    local label=$1 warnings=$2 found
    env LD_PRELOAD="$library" APMALLOC_CONF="$3" "$probe" >"$scratch/apmalloc.out" 2>"$scratch/apmalloc.err" </dev/null ||
        fail "$label: status $?"
    assert_same out "$label"
    found=$(grep -c '^apmalloc: ' "$scratch/apmalloc.err" || true)
    [[ $found == "$warnings" && $(wc -l <"$scratch/apmalloc.err") == "$warnings" ]] ||
        fail "$label: $(wc -l <"$scratch/apmalloc.err") lines, of them $found warnings, not $warnings: $(head -c 2000 "$scratch/apmalloc.err")"
    printf 'ok: %s\n' "$label"
}
long=$(head -c 100000 /dev/zero | tr '\0' x)
with_options 'an empty option' 0 ''
with_options 'commas only' 0 ',,,,,'
with_options 'separators only' 1 ',,,:,,'
with_options 'a word of 100000 bytes' 1 "$long"
with_options 'a value of 100000 bytes' 1 "reserve:$long"
with_options 'bytes that are no text' 1 $'\x01\xff\xfe'

# Whoever read standard error has gone: the statistics are lost, the program's status is not.
(
    status=0
    env LD_PRELOAD="$library" APMALLOC_CONF=stats_at_exit:true bash -c 'sleep 0.3; exit 5' 2>&1 >/dev/null || status=$?
    echo "$status" >"$scratch/status"
) | true
[[ $(cat "$scratch/status") == 5 ]] || fail "statistics into a closed pipe: status $(cat "$scratch/status"), not 5"
echo 'ok: statistics into a closed pipe'

if type -P setarch >/dev/null && setarch -R true 2>/dev/null; then
    prefix=(setarch -R)
    same_on_both 'addresses that are not random' "$probe"
    prefix=()
else
    echo 'not run: addresses that are not random (setarch)'
fi

# copy_with_libraries PROGRAM...: into $root, at the same paths.
copy_with_libraries() {
    local program file
    for program in "$@"; do
        {
            realpath -- "$program"
            ldd "$program" | grep -oE '/[^ ]+' || true
        } | while IFS= read -r file; do
            mkdir -p -- "$root$(dirname -- "$file")"
            cp -L -- "$file" "$root$file"
        done
    done
}
root=$scratch/root
if ((EUID == 0)); then
    copy_with_libraries "$(type -P env)" "$probe" "$library"
    prefix=(chroot "$root")
    same_on_both 'without /proc, /sys and /dev' "$probe"
    same_on_both 'without /proc, RLIMIT_DATA at run time' "$probe" limit-data
else
    echo 'not run: without /proc, /sys and /dev (needs root)'
fi
