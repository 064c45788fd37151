#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# git in a scratch repository: import, log with diffs, gc with threads, fsck.
# shellcheck source=test/preload/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

need git
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME=$scratch

# 600 commits over 40 files, the same each time.
history() {
    awk 'BEGIN {
        srand(1)
        for (c = 1; c <= 600; c++) {
            print "commit refs/heads/main\nmark :" c
            print "committer Tester <tester@example.org> " 1600000000 + c * 60 " +0000"
            message = "change " c
            print "data " length(message) "\n" message
            for (f = 0; f < 3; f++) {
                n = int(rand() * 40)
                text[n] = text[n] sprintf("line %d of commit %d: %f\n", f, c, rand())
                print "M 100644 inline dir" n % 5 "/file" n "\ndata " length(text[n]) "\n" text[n]
            }
        }
    }'
}

history >"$scratch/history"

# All that can be seen of a repository before and after it is packed.
cat >"$scratch/session" <<'TEXT'
set -eu
git init -q -b main "$1"
cd "$1"
git fast-import --quiet <"$2"
git log --stat -p | cksum
git log --format='%h %s' -n 3
git -c pack.threads=4 gc -q --aggressive --prune=now
git fsck --full --strict
git rev-list --objects --all | git cat-file --batch-check='%(objectname) %(objecttype) %(objectsize)' | sort | cksum
git reset -q --hard main~200
git merge -q main
git grep -c 'commit 7' | sort | head -n 5
git archive main | cksum
git blame dir1/file1 | tail -n 2
TEXT

rm -rf -- "$scratch/repository"
run_on system sh "$scratch/session" "$scratch/repository" "$scratch/history"
rm -rf -- "$scratch/repository"
run_on apmalloc sh "$scratch/session" "$scratch/repository" "$scratch/history"
[[ $(cat "$scratch/system.status") == 0 ]] || {
    cat "$scratch/system.err"
    fail 'git fails on the system malloc'
}
assert_same status git
assert_same out git
assert_library_was_used
echo 'ok: git'
