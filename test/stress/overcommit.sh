#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Exhaustion where the system promises no more memory than it has. This changes a setting of the whole machine,
# for some seconds, and other programs may run out of memory meanwhile: so only where AP_TEST_OVERCOMMIT names the
# folder of the settings, /proc/sys/vm. Argument: exhaustion_stress.
set -euo pipefail

folder=${AP_TEST_OVERCOMMIT:-}
if [[ -z $folder || ! -w $folder/overcommit_memory || ! -w $folder/overcommit_kbytes ]]; then
    echo 'skipped: AP_TEST_OVERCOMMIT is not the name of a folder with writable settings'
    exit 77
fi
memory=$(<"$folder/overcommit_memory")
kbytes=$(<"$folder/overcommit_kbytes")
ratio=$(<"$folder/overcommit_ratio")

# Of ratio and kbytes, the one that is not 0 counts, and writing one sets the other to 0.
restore() {
    echo "$memory" >"$folder/overcommit_memory"
    if [[ $kbytes != 0 ]]; then
        echo "$kbytes" >"$folder/overcommit_kbytes"
    else
        echo "$ratio" >"$folder/overcommit_ratio"
    fi
}
trap restore EXIT
trap 'exit 1' HUP INT TERM

committed=$(awk '/^Committed_AS/ { print $2 }' /proc/meminfo)
echo $((committed + (512 << 10))) >"$folder/overcommit_kbytes"
echo 2 >"$folder/overcommit_memory"
"$1" commit
