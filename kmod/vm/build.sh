#!/bin/bash
# build.sh VERSION: build the kernel module for one of the fetched kernels; prints the path of the .ko.
#
# PGTRACE_KMOD_SRC  the module's sources, a folder with a Kbuild (default: kmod/)
# PGTRACE_KMOD_OUT  where it goes: OUT/VERSION/NAME.ko, with the work in OUT/VERSION/build (default: target/kmod)
#
# Nothing is written into the source folder: the build folder holds links to the sources, and make follows them, so a
# rebuild happens when a source is newer.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ $# == 1 && $1 != -* ]] || { printf 'usage: build.sh %s\n' "$(IFS='|'; echo "${ALL_VERSIONS[*]}")" >&2; exit 2; }
version=$1
need_version "$version"
source_dir=$(cd "${PGTRACE_KMOD_SRC:-$REPO_DIR/kmod}" && pwd -P)
[[ -e $source_dir/Kbuild || -e $source_dir/Makefile ]] || die 2 "no Kbuild in $source_dir"
mkdir -p "$KMOD_OUT/$version/build"
out=$(cd "$KMOD_OUT/$version" && pwd -P)
build=$out/build
exec 9>"$out/.lock"
flock 9

# vm/ holds scripts only. What an editor or an earlier build in the source folder left is not a source.
mapfile -t sources < <(cd "$source_dir" && find . -name vm -prune -o -type f \
    \( -name '*.[chS]' -o -name Kbuild -o -name Makefile \) ! -name '*.mod.c' -printf '%P\n' | LC_ALL=C sort)
# What a finished build stands for; a change in here (a file gone, another kernel) starts from nothing.
identity=$(printf '%s\n' "$(release_of "$version")" "$VM_CACHE" "$source_dir" "${sources[@]}")
if [[ ! -e $out/built-from || $(<"$out/built-from") != "$identity" ]]; then
    rm -rf "$build" "$out/built-from" "$out"/*.ko
    mkdir -p "$build"
fi

print_modules() {
    local ko
    for ko in "$out"/*.ko; do printf '%s\n' "$ko"; done
}
# make itself takes a second to find that there is nothing to do, hence this look first.
if [[ -e $out/built-from ]]; then
    newer=0
    for file in "${sources[@]}"; do [[ ! $source_dir/$file -nt $out/built-from ]] || newer=1; done
    [[ $newer == 1 ]] || { print_modules; exit 0; }
fi

for file in "${sources[@]}"; do
    mkdir -p "$(dirname "$build/$file")"
    ln -sfn "$source_dir/$file" "$build/$file"
done
command -v make >/dev/null || die 2 "make is missing (package make)"
compiler=(CC=gcc-12)
if ! command -v gcc-12 >/dev/null; then # the one Debian built both kernels with
    command -v gcc >/dev/null || die 2 "no C compiler: gcc-12 is wanted (package gcc-12)"
    say "gcc-12 is missing, trying $(gcc -dumpfullversion) instead"
    compiler=(CC=gcc)
fi
# Sources may change during the build; what counts is that the mark is older than the compilation.
touch "$out/started"
# The only chatter let go is the one line on BTF, which says what fetch.sh did on purpose.
if ! LD_LIBRARY_PATH=$(tool_libs) make -s -C "$VM_CACHE/$version/headers" M="$build" KCFLAGS=-Werror \
    ${compiler[@]+"${compiler[@]}"} modules >"$out/build.log" 2>&1; then
    cat "$out/build.log" >&2
    rm -f "$out/built-from" "$out"/*.ko # an older module must not pass for this one
    die 1 "the module does not build for $version"
fi
grep -v 'Skipping BTF generation' "$out/build.log" >&2 || true
rm -f "$out"/*.ko
find "$build" -name '*.ko' -exec cp -t "$out" {} +
printf '%s\n' "$identity" >"$out/built-from"
touch -r "$out/started" "$out/built-from"
print_modules
