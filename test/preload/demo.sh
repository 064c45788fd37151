#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The bundled key-value server with a fixed amount of work; it checks every value it reads. Second
# argument: kv_server.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

kv_server=${2:?usage: $0 LIBRARY KV_SERVER}
for load in '--operations 600000' '--operations 300000 --clients 16 --workers 8 --connection-operations 500' \
    '--operations 200000 --clients 1 --workers 1'; do
    read -ra words <<<"$load"
    run_on apmalloc "$kv_server" --idle 0 "${words[@]}"
    assert_library_was_used
    if [[ $(cat "$scratch/apmalloc.status") != 0 ]]; then
        cat "$scratch/apmalloc.out"
        show_errors
        fail "kv_server $load"
    fi
    printf 'ok: kv_server %s\n' "$load"
done
