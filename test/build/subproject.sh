#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A scratch project that has this one as a meson subproject: it builds, links, and its malloc is ours, in
# C and in a C++ program with nothing but new and delete, and std::bad_alloc gets to who catches it. Static and
# shared, also where the project's own code is compiled in ways that do not suit the library; and without the libc names.
# Argument: root of this project.
# shellcheck source=test/build/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

root=$1
project=$scratch/project
mkdir -p -- "$project/subprojects/apmalloc"
tar -C "$root" --exclude=./.git --exclude='./build*' -cf - . | tar -C "$project/subprojects/apmalloc" -xf -
cp -- "$here/ask.c" "$here/only_new.cpp" "$here/bad_alloc.cpp" "$here/plain.c" "$project"
cat >"$project/subprojects/apmalloc.wrap" <<'WRAP'
[wrap-file]
directory = apmalloc

[provide]
apmalloc = apmalloc_dep
WRAP
cat >"$project/meson.build" <<'MESON'
project('user', 'c', 'cpp', default_options: ['cpp_std=c++17', 'buildtype=debugoptimized'])
apmalloc = dependency('apmalloc')
threads = dependency('threads')
if get_option('override_malloc')
  executable('ask', 'ask.c', dependencies: [apmalloc, threads])
  executable('only_new', 'only_new.cpp', dependencies: [apmalloc, threads])
  executable('bad_alloc', 'bad_alloc.cpp', dependencies: apmalloc, cpp_args: '-fexceptions')
else
  executable('plain', 'plain.c', dependencies: [apmalloc, threads])
endif
MESON
echo "option('override_malloc', type: 'boolean', value: true)" >"$project/meson_options.txt"

needs_shared_library() {
    readelf -d "$1" | grep -q 'NEEDED.*libapmalloc'
}

# works KIND [OPTION]...: builds the project with these options of meson and runs it.
works() {
    local kind=$1 build=$scratch/build program
    rm -rf -- "$build"
    quietly meson setup --wrap-mode=nodownload -Ddefault_library="$kind" "${@:2}" "$build" "$project"
    quietly ninja -C "$build" -j 2
    for program in ask only_new bad_alloc; do
        assert_runs_on_library "$build/$program"
        if [[ $kind == static ]]; then
            ! needs_shared_library "$build/$program" || fail "$program needs the shared library"
        else
            needs_shared_library "$build/$program" || fail "$program does not need the shared library"
        fi
        echo "ok: subproject, $*: $program"
    done
}

works static
works shared
works shared -Dcpp_eh=none
works shared -Dunity=on
# Not every clang comes with what its linker needs for this.
echo 'int main() { return 0; }' >"$scratch/empty.cpp"
if "${cxx[@]}" -flto "$scratch/empty.cpp" -o "$scratch/empty" >"$scratch/log" 2>&1; then
    works static -Db_lto=true
else
    echo 'left out: the compiler cannot link with -flto'
fi

quietly meson setup --wrap-mode=nodownload -Dapmalloc:override=false -Doverride_malloc=false \
    "$scratch/plain" "$project"
quietly ninja -C "$scratch/plain" -j 2
"$scratch/plain/plain" || fail 'without the libc names: status' $?
echo 'ok: subproject, without the libc names'
