#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Small programs: a shell script with many children, and the memory a program like ls needs. Second
# argument: peak_rss, which runs a program and prints its highest resident set in KiB.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

peak_rss=${2:?usage: $0 LIBRARY PEAK_RSS}
# 300 for the heap, and what the system's cache makes of the rest: libc's pages are mapped 64 KiB at a time, as far as they
# are cached, and the same program without the library was seen to differ by 190 KiB from one minute to the next.
most_above_system_kib=450

cat >"$scratch/script.bash" <<'SHELL'
set -eu
declare -A count
for i in {1..3000}; do
    key="k$((i * 7919 % 251))"
    count[$key]=$((${count[$key]:-0} + i))
done
for key in "${!count[@]}"; do echo "$key ${count[$key]}"; done | sort -k2n | tail -n 3
text=$(printf 'word%s ' {1..5000})
echo "${#text}" "$(echo "$text" | tr ' ' '\n' | grep -c 7)"
for i in {1..40}; do (exit $((i % 7))) || echo -n "$?"; done
echo
seq 1 20000 | sed 's/\(.*\)7$/<\1>/' | sort -r | md5sum
ls -l /usr/bin | awk '{ sum += $5 } END { print NR, sum }'
SHELL
same_on_both 'bash and children' bash "$scratch/script.bash"

peak_kib() {
    "$peak_rss" "$@" 2>/dev/null
}

# Pairs of runs side by side, since how many of a library's pages are mapped depends on what the system has in its
# cache at that moment; a line with the difference and both sizes each.
pairs_of_peaks() {
    local system ours
    for _ in {1..9}; do
        system=$(peak_kib "$@")
        ours=$(peak_kib env LD_PRELOAD="$library" "$@")
        echo "$((ours - system)) $ours $system"
    done
}

for command in 'ls /usr/bin' 'cat /etc/passwd' 'sort /etc/passwd'; do
    read -ra words <<<"$command"
    # The middle of nine differences.
    read -r above ours system < <(pairs_of_peaks "${words[@]}" | sort -n | sed -n 5p)
    printf 'memory: %s: peak %s KiB, on the system malloc %s KiB\n' "$command" "$ours" "$system"
    ((above <= most_above_system_kib)) ||
        fail "$command: $above KiB more than on the system malloc"
done
