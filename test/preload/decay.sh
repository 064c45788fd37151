#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program that has used much memory gives it back while it waits; one of a single thread gets a user
# namespace.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

python=/usr/bin/python3
[[ -x $python ]] || python=python3
need "$python"
export PYTHONMALLOC=malloc PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1

peak_kib=250000 # of 400000 blocks of 600 bytes and more, with room to spare
rest_kib=80000

# start CONF: the program with its standard input held open by this script; leaves its number in $program.
start() {
    rm -f "$scratch/input"
    mkfifo "$scratch/input"
    LD_PRELOAD="$library" APMALLOC_CONF=$1 "$python" "$here/decay.py" \
        <"$scratch/input" >"$scratch/output" 2>&1 &
    program=$!
    started+=("$program")
    exec 3>"$scratch/input"
    wait_for 60 grep -q '^\[' "$scratch/output" || fail "the program has not come so far"
}

# finish: gives the program its line.
finish() {
    echo >&3
    exec 3>&-
    wait "$program" || fail "the program ends with an error"
    [[ $(tail -n 1 "$scratch/output") == "done" ]] || fail "the program does not end well"
    (($(<"$scratch/peak") > peak_kib)) || fail "the program has not used much memory"
}

note_peak() {
    process_kib "$program" VmHWM >"$scratch/peak"
}

is_down() {
    (($(process_kib "$program" VmRSS) < rest_kib))
}

start decay_ms:500
wait_for 5 is_down || fail "$(process_kib "$program" VmRSS) KiB stay resident while the program waits"
note_peak
finish
echo 'ok: memory goes back while the program waits'

start decay_ms:-1
sleep 2
! is_down || fail "memory goes back although decay is off"
note_peak
finish
echo 'ok: memory stays with decay off'

proof=at_start # sh ends without exit handlers
if unshare -U true 2>/dev/null; then
    same_on_both 'user namespace' unshare -U sh -c 'echo inside'
fi
