#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The limits of a made-up control group. Argument: limit_program.
set -euo pipefail

root=$(mktemp -d)
trap 'rm -rf -- "$root"' EXIT
mkdir -p "$root/proc/self" "$root/sys/fs/cgroup"
echo '0::/' >"$root/proc/self/cgroup"
echo $((100 << 20)) >"$root/sys/fs/cgroup/memory.max"
echo $((50 << 20)) >"$root/sys/fs/cgroup/memory.current"
APMALLOC_CONF="cgroup_root:$root,decay_ms:600000" "$1" group "$root"
