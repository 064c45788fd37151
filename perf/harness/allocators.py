# SPDX-License-Identifier: MIT
"""
allocators.py: which allocators there are to compare, where their libraries lie, which version they are.

All are preloaded, so that one binary runs on each; glibc's is the absence of a preload.
"""
import glob
import os
import subprocess
from dataclasses import dataclass

LIBRARIES = "/usr/lib/x86_64-linux-gnu"

# name: (Debian's package, pattern of the library to preload)
RIVALS = {
    "glibc": ("libc6", ""),
    "jemalloc": ("libjemalloc2", LIBRARIES + "/libjemalloc.so.2"),
    "tcmalloc": ("libtcmalloc-minimal4", LIBRARIES + "/libtcmalloc_minimal.so.4"),
    "mimalloc": ("libmimalloc2.0", LIBRARIES + "/libmimalloc.so.2*"),
    "tbbmalloc": ("libtbbmalloc2", LIBRARIES + "/libtbbmalloc_proxy.so.2"),
    "scudo": ("libclang-rt-14-dev",
              "/usr/lib/llvm-14/lib/clang/*/lib/linux/libclang_rt.scudo_standalone-x86_64.so"),
}


@dataclass(frozen=True)
class Allocator:
    name: str
    library: str  # "": the system's own
    version: str
    options: str = ""  # APMALLOC_CONF


def _package_version(package):
    query = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], check=False,
                           capture_output=True, text=True)
    return query.stdout.strip() or "unknown"


def _rival(name):
    package, pattern = RIVALS[name]
    if not pattern:
        return Allocator(name, "", _package_version(package))
    found = sorted(glob.glob(pattern))
    return Allocator(name, found[-1], _package_version(package)) if found else None


def own(build, version):
    """The library under test, and the first version's scheme, from a build directory."""
    return [Allocator("apmalloc", str(build / "lib/libapmalloc.so"), version)]


def earlier(build):
    return Allocator("first_apmalloc", str(build / "perf/programs/libfirst_apmalloc.so"), "0")


def parse(text):
    """NAME=PATH[,OPTIONS], as a user gives it. ValueError with a message for him."""
    name, equals, rest = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--alloc wants NAME=PATH[,OPTIONS], not {text}")
    path, _, options = rest.partition(",")
    if not os.path.isfile(path):
        raise ValueError(f"--alloc {name}: there is no file {path}")
    version = " ".join(filter(None, (os.path.basename(os.path.realpath(path)), options)))
    return Allocator(name, os.path.abspath(path), version, options)


def rivals():
    """Those that are installed, and the names and packages of those that are not."""
    found = {name: _rival(name) for name in RIVALS}
    missing = {name: RIVALS[name][0] for name, allocator in found.items() if allocator is None}
    return [allocator for allocator in found.values() if allocator], missing
