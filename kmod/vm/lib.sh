# shellcheck shell=bash
# Shared by the scripts of this folder: where things are, and how the unpacked tools are started.
# Sourced, never run.

VM_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
REPO_DIR=$(cd "$VM_DIR/../.." && pwd -P)
VM_CACHE=${PGTRACE_CACHE:-$REPO_DIR/.cache}/vm
case $VM_CACHE in /*) ;; *) VM_CACHE=$PWD/$VM_CACHE ;; esac
# Built modules: $KMOD_OUT/VERSION/pgtrace.ko. The self test points this elsewhere, so that it never overwrites a real build.
# shellcheck disable=SC2034 # read by the scripts that source this file
KMOD_OUT=${PGTRACE_KMOD_OUT:-$REPO_DIR/target/kmod}
# pgtrace-capture as a static program, which the machines can run.
# shellcheck disable=SC2034
STATIC_CAPTURE=${PGTRACE_CAPTURE_STATIC:-$REPO_DIR/target/x86_64-unknown-linux-gnu/debug/pgtrace-capture}
# shellcheck disable=SC2034
ALL_VERSIONS=(6.1 6.12)
# Raise this when what fetch.sh leaves in the cache changes: older caches are then fetched again.
RECIPE=1

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
    local code=$1
    shift
    say "$*"
    exit "$code"
}

known_version() {
    local v
    for v in "${ALL_VERSIONS[@]}"; do [[ $v == "$1" ]] && return 0; done
    die 2 "unknown kernel '$1' (known: ${ALL_VERSIONS[*]})"
}

# A folder is finished when its stamp names this recipe; the stamp is part of the folder that gets renamed into place.
finished() {
    local stamp=
    [[ -r $VM_CACHE/$1/stamp ]] && read -r stamp <"$VM_CACHE/$1/stamp"
    [[ $stamp == "recipe $RECIPE" ]]
}

# The release (uname -r) of a fetched version, e.g. 6.1.0-56-amd64.
release_of() { printf '%s\n' "$(<"$VM_CACHE/$1/release")"; }

# Fetch unless it is there. Cheap when it is. A finished folder counts whatever its name, so a kernel of one's own can
# stand beside Debian's: it needs vmlinuz, headers, base.cpio, release and stamp.
need_version() {
    if finished tools && finished "$1"; then return 0; fi
    known_version "$1"
    "$VM_DIR/fetch.sh" "$1" >&2
}

# The unpacked packages hold only what this host does not have, so the rest comes from the host's own library path.
tool_libs() { printf '%s' "$VM_CACHE/tools/usr/lib/x86_64-linux-gnu:$VM_CACHE/tools/lib/x86_64-linux-gnu"; }

busybox() { "$VM_CACHE/tools/bin/busybox" "$@"; }

# kmod is one program with many names; the package's links are absolute and would point into the host.
kmod_as() {
    local name=$1
    shift
    (
        LD_LIBRARY_PATH=$(tool_libs)
        export LD_LIBRARY_PATH
        exec -a "$name" "$VM_CACHE/tools/bin/kmod" "$@"
    )
}

# pack_cpio DIR OUT: an uncompressed newc archive. Uncompressed, because unpacking gzip under emulation costs more than
# it saves, and because archives put one after the other must each start at a multiple of four bytes.
pack_cpio() {
    (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | busybox cpio -o -H newc -R 0:0 2>/dev/null) >"$2"
}

# base_initramfs VERSION DIR: busybox and the modules the guest needs, with their order of loading.
base_initramfs() {
    local dir=$2 root=$2/base.tmp release name kind path file
    release=$(<"$dir/release")
    mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,lib/modules,lib/pgtrace,proc,sys,dev,tmp,run,out,host,root,etc,job,files}
    cp "$VM_CACHE/tools/bin/busybox" "$root/bin/busybox"
    busybox --list | while read -r name; do [[ $name == busybox ]] || ln -s busybox "$root/bin/$name"; done
    ln -s ../../bin/busybox "$root/usr/bin/env"
    kmod_as depmod -b "$dir" "$release" 2>/dev/null
    : >"$root/lib/modules/order"
    for name in virtio_pci 9pnet_virtio 9p overlay; do
        kmod_as modprobe -d "$dir" -S "$release" --show-depends "$name"
    done | while read -r kind path _; do
        [[ $kind == insmod ]] || continue # the others are "builtin"
        file=${path##*/}
        file=${file%.xz}
        [[ ! -e $root/lib/modules/$file ]] || continue
        case $path in *.xz) xz -dc "$path" ;; *) cat "$path" ;; esac >"$root/lib/modules/$file"
        printf '%s\n' "$file" >>"$root/lib/modules/order"
    done
    grep -q '^9p\.ko$' "$root/lib/modules/order" || grep -q '/9p\.ko$' "$dir/lib/modules/$release/modules.builtin" ||
        die 2 "kernel $1 ($release) has no 9p module: not the ordinary image?"
    pack_cpio "$root" "$dir/base.cpio"
    rm -rf "$root"
}
