#!/bin/bash
# debug-kernel.sh: build Debian's kernel source with every check on (debug-kernel.config) into the ignored cache, as the
# kernel "debug61" of run.sh and build.sh. Takes 5 to 15 minutes and 3 GB of disk while it lasts, 60 MB after; done
# again only when Debian's source or the configuration is another one.
#
# PGTRACE_KERNEL_WORK  where it is compiled (default: a folder in the cache; removed afterwards)
#
# Like fetch.sh it installs nothing: what compiling needs and this machine lacks is unpacked beside the source.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ $# == 0 ]] || die 2 "usage: debug-kernel.sh"
name=debug61 package=linux-source-6.1
how=1 # raise this when a change to this script makes another kernel of the same source and configuration
config=$VM_DIR/debug-kernel.config
finished tools || "$VM_DIR/fetch.sh" 6.1

offered=$(apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: *//p')
# Without package lists, what was built from counts as the newest there is.
if [[ -z $offered || $offered == "(none)" ]]; then
    [[ -r $VM_CACHE/$name/key ]] || die 2 "no package $package. The likely mend: 'apt-get update'"
    read -r offered _ <"$VM_CACHE/$name/key"
fi
key="$offered $how $(sha256sum <"$config" | cut -c1-16)"
is_built() { finished "$name" && [[ -r $VM_CACHE/$name/key && $(<"$VM_CACHE/$name/key") == "$key" ]]; }
if is_built; then exit 0; fi

exec 9>"$VM_CACHE/.debug.lock"
flock 9
if is_built; then exit 0; fi
for program in gcc-12 make bc perl xz dpkg patch; do
    command -v "$program" >/dev/null || die 2 "$program is missing"
done

work=${PGTRACE_KERNEL_WORK:-$VM_CACHE/$name.work} new=$VM_CACHE/$name.making
rm -rf "$new"
mkdir -p "$new"
trap 'rm -rf "$new"' EXIT # the work stays until it is done: a second try goes on from there

fetch_source() {
    rm -rf "$work"
    mkdir -p "$work/packages" "$work/root" "$work/linux"
    say "fetching $package $offered"
    # flex and bison generate the kernel's own tools, and objtool needs libelf.
    (cd "$work/packages" && apt-get -q -o APT::Sandbox::User=root download "$package=$offered" m4 flex bison libelf-dev >&2) ||
        die 2 "cannot download $package=$offered. The likely mend: 'apt-get update'"
    for deb in "$work"/packages/*.deb; do dpkg -x "$deb" "$work/root"; done
    tar -xf "$work"/root/usr/src/linux-source-*.tar.xz -C "$work/linux" --strip-components=1
    rm -rf "$work/packages" "$work"/root/usr/src
    printf '%s\n' "$offered" >"$work/source"
}
[[ -r $work/source && $(<"$work/source") == "$offered" ]] || fetch_source
work=$(cd "$work" && pwd -P)

# What was unpacked beside it names its own parts by absolute path.
export PATH=$work/root/usr/bin:$PATH M4=$work/root/usr/bin/m4 BISON_PKGDATADIR=$work/root/usr/share/bison
libs=$work/root/usr/lib/x86_64-linux-gnu
ln -sf "$(echo "$VM_CACHE"/tools/usr/lib/x86_64-linux-gnu/libelf-*.so)" "$libs/libelf.so"
export C_INCLUDE_PATH=$work/root/usr/include LIBRARY_PATH=$libs:$VM_CACHE/tools/usr/lib/x86_64-linux-gnu
build() { LD_LIBRARY_PATH=$(tool_libs) make -s -C "$work/linux" CC=gcc-12 HOSTCC=gcc-12 KBUILD_BUILD_USER=pgtrace KBUILD_BUILD_HOST=pgtrace LOCALVERSION=-pgtrace-debug "$@"; }

say "configuring"
build tinyconfig >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; die 1 "make tinyconfig failed"; }
(cd "$work/linux" && scripts/kconfig/merge_config.sh -m .config "$config") >>"$work/log" 2>&1
build olddefconfig >>"$work/log" 2>&1 || { tail -20 "$work/log" >&2; die 1 "make olddefconfig failed"; }
# An option whose dependencies are not met is dropped without a word: a check that is off would pass for one that is content.
dropped=0
while IFS= read -r line; do
    case $line in
    CONFIG_*=n) ! grep -q "^${line%=n}=" "$work/linux/.config" || { say "the kernel turned on ${line%=n}"; dropped=1; } ;;
    CONFIG_*) grep -qxF "$line" "$work/linux/.config" || { say "the kernel dropped $line"; dropped=1; } ;;
    esac
done <"$config"
[[ $dropped == 0 ]] || die 1 "the configuration did not survive (debug-kernel.config)"

say "compiling (5 to 15 minutes; log: $work/log)"
build -j"$(nproc)" bzImage modules >>"$work/log" 2>&1 || { tail -40 "$work/log" >&2; die 1 "the kernel does not compile"; }
release=$(build kernelrelease)

# What builds a module outside of the tree, as Debian's headers packages have it.
say "packing $release"
mkdir -p "$new/usr/src/linux-$release"
(
    cd "$work/linux"
    {
        find . -maxdepth 1 \( -name 'Makefile*' -o -name Kbuild -o -name .config -o -name Module.symvers -o -name Kconfig \)
        find arch/x86 -maxdepth 1 -name 'Makefile*'
        find include scripts arch/x86/include \( -type f -o -type l \) ! -name '*.o' ! -name '*.cmd' ! -path 'scripts/dtc/include-prefixes/*'
        find scripts -name 'module*.o'
        echo tools/objtool/objtool
    } | LC_ALL=C sort -u | tar -c -T -
) | tar -x -C "$new/usr/src/linux-$release"
ln -s "usr/src/linux-$release" "$new/headers"
cp "$work/linux/arch/x86/boot/bzImage" "$new/vmlinuz"
printf '%s\n' "$release" >"$new/release"
mkdir -p "$new/lib/modules/$release"
cp "$work/linux"/modules.{builtin,builtin.modinfo,order} "$new/lib/modules/$release/"
base_initramfs "$name" "$new"
printf '%s\n' "$key" >"$new/key"
printf 'recipe %s\n' "$RECIPE" >"$new/stamp"
rm -rf "${VM_CACHE:?}/$name"
mv "$new" "$VM_CACHE/$name"
rm -rf "$work"
say "built $name: $release"
