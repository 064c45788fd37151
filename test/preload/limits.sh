#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Little address space: 64 MiB from the start, or limits lowered at run time. Second argument: probe.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

probe=${2:?usage: $0 LIBRARY PROBE}

limited() {
    local limit=$1 label=$2
    shift 2
    prefix=(bash -c "ulimit $limit && exec \"\$@\"" limited)
    same_on_both "$label" "$@"
    prefix=()
}
proof=at_start # ls closes standard error before it ends
limited '-v 65536' 'ls in 64 MiB' ls -a /etc
proof=at_exit
limited '-v 65536 -s 1024' 'threads in 64 MiB' "$probe"
limited '-d 65536 -s 1024' 'threads in 64 MiB of data' "$probe"
same_on_both 'RLIMIT_AS at run time' "$probe" limit-as
same_on_both 'RLIMIT_DATA at run time' "$probe" limit-data
