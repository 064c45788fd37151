#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The limits of a made-up control group. Arguments: a program, what it is to do, options for it. limit_program does
# group and lowered; kept_files_program the others.
set -euo pipefail

root=$(mktemp -d)
trap 'rm -rf -- "$root"' EXIT
group=$root/sys/fs/cgroup
mkdir -p "$root/proc/self" "$group"
echo '0::/' >"$root/proc/self/cgroup"
echo $((50 << 20)) >"$group/memory.current"
case $1:$2 in
*/limit_program:group) limit=$((100 << 20)) ;;
*/limit_program:lowered) limit=max ;;
*)
    limit=$((350 << 20))
    echo max >"$group/memory.high"
    echo 'anon 1' >"$group/memory.stat"
    ;;
esac
[[ $2 != few_numbers ]] || ulimit -S -n 64
[[ $2 != none_open ]] || limit=${AP_GROUP_LIMIT:-$limit}
echo "$limit" >"$group/memory.max"
APMALLOC_CONF="cgroup_root:$root${3:+,$3}" "$1" "$2" "$root"
