#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The limits of a made-up control group. Arguments: limit_program, what it is to do: group, or lowered.
set -euo pipefail

root=$(mktemp -d)
trap 'rm -rf -- "$root"' EXIT
mkdir -p "$root/proc/self" "$root/sys/fs/cgroup"
echo '0::/' >"$root/proc/self/cgroup"
echo $((50 << 20)) >"$root/sys/fs/cgroup/memory.current"
case $2 in
group) limit=$((100 << 20)) conf=decay_ms:600000 ;;
lowered) limit=max conf=decay_ms:1000,cgroup_check_ms:20 ;;
esac
echo "$limit" >"$root/sys/fs/cgroup/memory.max"
APMALLOC_CONF="cgroup_root:$root,$conf" "$1" "$2" "$root"
