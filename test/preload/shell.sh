#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Small programs: a shell script with many children, and the memory a program like ls needs. Second
# argument: peak_rss, which runs a program and prints its highest resident set in KiB.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

peak_rss=${2:?usage: $0 LIBRARY PEAK_RSS}
most_above_system_kib=300

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

# The middle of five runs.
peak_kib() {
    for _ in 1 2 3 4 5; do
        "$peak_rss" "$@" 2>/dev/null
    done | sort -n | sed -n 3p
}
for command in 'ls /usr/bin' 'cat /etc/passwd' 'sort /etc/passwd'; do
    read -ra words <<<"$command"
    system=$(peak_kib "${words[@]}")
    ours=$(peak_kib env LD_PRELOAD="$library" "${words[@]}")
    printf 'memory: %s: peak %s KiB, on the system malloc %s KiB\n' "$command" "$ours" "$system"
    ((ours - system <= most_above_system_kib)) ||
        fail "$command: $((ours - system)) KiB more than on the system malloc"
done
