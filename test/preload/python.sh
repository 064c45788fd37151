#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# CPython with every object allocated by malloc: threads, then processes (fork from a threaded parent).
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

python=/usr/bin/python3
[[ -x $python ]] || python=python3
need "$python"
export PYTHONMALLOC=malloc PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1

same_on_both 'python3, threads' "$python" "$here/python_threads.py"
same_on_both 'python3, processes' "$python" "$here/python_processes.py"
