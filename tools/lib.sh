# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Functions shared by tools/run and tools/test: install what is missing, configure, build.
# Sourced. The caller has set `set -euo pipefail`, and tool_name for messages
# and, if 1 will not do, failure_status.
#
# Nothing here writes to standard output or reads standard input.

# The checkout, whatever the working directory and through symbolic links.
ap_root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
ap_build=$ap_root/build

say() {
    printf '%s: %s\n' "${tool_name:-apmalloc}" "$*" >&2
}

die() {
    say "$@"
    exit "${failure_status:-1}"
}

# --- packages ---

# What a package is there for: a command (no slash) or a file that shows it is installed. A pattern may
# be given for files; one match is enough.
have() {
    local probe=$1
    if [[ $probe != */* ]]; then
        type -P "$probe" >/dev/null
    else
        compgen -G "$probe" >/dev/null
    fi
}

# ap_install PACKAGE=PROBE...: installs the packages whose probe is absent. Without any, no command runs
# and no network is touched.
ap_install() {
    local pair missing=() as_root=()
    for pair in "$@"; do
        have "${pair#*=}" || missing+=("${pair%%=*}")
    done
    ((${#missing[@]})) || return 0
    type -P apt-get >/dev/null ||
        die "needs ${missing[*]} (Debian's names): please install them, there is no apt-get here"
    if ((EUID != 0)); then
        type -P sudo >/dev/null ||
            die "needs the packages ${missing[*]}: please run as root, or: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    if ! ap_apt_get update || ! ap_apt_get install --no-install-recommends "${missing[@]}"; then
        die "could not install ${missing[*]}"
    fi
    for pair in "$@"; do
        have "${pair#*=}" || die "installed ${pair%%=*}, but ${pair#*=} is still absent"
    done
}

# Descriptor 9 is our lock: a server started by a package must not inherit it.
ap_apt_get() {
    local log status=0
    log=$(mktemp)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1 </dev/null 9>&- || status=$?
    ((status == 0)) || cat -- "$log" >&2
    rm -f -- "$log"
    return "$status"
}

ap_install_for_build() {
    ap_install gcc=gcc g++=g++ meson=meson ninja-build=ninja pkg-config=pkg-config \
        'libc6-dev=/usr/include/stdio.h'
}

# --- configure and build ---

# ap_quietly COMMAND...: its output shows only if it fails.
ap_quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    ((status == 0)) || cat -- "$log" >&2
    rm -f -- "$log"
    return "$status"
}

# A directory that an interrupted configuration left, or that was copied along with the checkout from
# elsewhere (meson notes the absolute path of the source), cannot be used.
ap_is_configured() {
    local directory=$1
    [[ -f $directory/build.ninja && -f $directory/meson-info/meson-info.json ]] &&
        grep -qF "\"source\": \"$ap_root\"" "$directory/meson-info/meson-info.json"
}

# ap_configure DIRECTORY OPTION...: sets up the build directory, or brings an existing one to the options
# where they differ. The options last given are remembered beside meson's own files.
ap_configure() {
    local directory=$1 note
    shift
    note="$directory/apmalloc-options"
    if ap_is_configured "$directory"; then
        if [[ $(cat -- "$note" 2>/dev/null || true) == "$*" ]]; then
            return 0
        fi
        ap_quietly meson setup --reconfigure "$@" "$directory" "$ap_root" || return
    else
        rm -rf -- "$directory"
        ap_quietly meson setup "$@" "$directory" "$ap_root" || {
            rm -rf -- "$directory"
            return 1
        }
    fi
    printf '%s' "$*" >"$note"
}

# ap_ninja DIRECTORY TARGET...
ap_ninja() {
    local directory=$1
    shift
    ap_quietly ninja -C "$directory" "$@"
}

# ap_locked COMMAND...: one at a time over all processes that use this checkout, in a subshell, without
# whatever is preloaded into the caller.
ap_locked() {
    (
        unset LD_PRELOAD
        exec 9>"$ap_build/.lock"
        flock 9
        "$@"
    )
}

# --- the release library ---

ap_library=$ap_build/release/lib/libapmalloc.so
ap_demo=$ap_build/release/perf/programs/kv_server

# What tools/run needs, no more: neither Criterion nor liburcu. A directory that is set up already keeps
# its options; tools/test may have chosen others.
ap_build_release_locked() {
    local targets=()
    if [[ ${1:-} == demo ]]; then
        targets+=(perf/programs/kv_server)
    fi
    ap_install_for_build
    if ! ap_is_configured "$ap_build/release"; then
        ap_configure "$ap_build/release" -Dbuildtype=release -Dtests=disabled ||
            die "configuring $ap_build/release failed"
    fi
    # First the build files themselves: with another version the library's file has another name, and
    # ninja knows no symbolic links.
    ap_ninja "$ap_build/release" build.ninja || die "configuring $ap_build/release failed"
    targets+=("lib/$(basename -- "$(readlink -m -- "$ap_library")")")
    ap_ninja "$ap_build/release" "${targets[@]}" || die "building failed"
}

# ap_build_release [demo]
ap_build_release() {
    if ! mkdir -p -- "$ap_build" 2>/dev/null || [[ ! -w $ap_build ]] ||
        [[ -d $ap_build/release && ! -w $ap_build/release ]]; then
        # Somebody else's checkout: what he has built will do.
        if [[ ! -r $ap_library || (${1:-} == demo && ! -x $ap_demo) ]]; then
            die "$ap_build is not writable, and nothing is built there yet"
        fi
        return 0
    fi
    ap_locked ap_build_release_locked "$@"
}
