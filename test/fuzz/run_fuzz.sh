#!/bin/sh
# SPDX-License-Identifier: MIT
# run_fuzz.sh TARGET CORPUS (libfuzzer | driver): runs the committed inputs, then looks for others for
# AP_FUZZ_SECONDS (40) with libFuzzer, 3 seconds at random with the driver. What is found is left in the working
# directory.
set -eu
UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}
export UBSAN_OPTIONS
target=$1 corpus=$2 kind=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "$kind" = libfuzzer ]; then
    # All committed inputs are run, whatever the time. By default a finding is status 77, which means skipped.
    "$target" -max_total_time="${AP_FUZZ_SECONDS:-40}" -max_len=1500 -len_control=0 -timeout=60 -rss_limit_mb=0 \
        -close_fd_mask=1 -print_final_stats=1 -error_exitcode=1 "$work" "$corpus"
else
    "$target" -seconds=3 "$corpus"
fi
