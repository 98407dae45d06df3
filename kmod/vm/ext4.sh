#!/bin/bash
# ext4.sh VERSION: an empty ext4 file system and the modules to mount it in the virtual machine, so that files are on
# something like a disk: faults that need I/O, write-back; and zram, to swap to. Prints a folder to hand to run.sh --file;
# in the guest,
#   for module in /files/VERSION-ext4/*.ko; do insmod $module; done; losetup /dev/loop0 /files/VERSION-ext4/image
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ $# == 1 ]] || die 2 "usage: ext4.sh VERSION"
version=$1
need_version "$version"
PATH=$PATH:/usr/sbin:/sbin
command -v mkfs.ext4 >/dev/null || die 2 "mkfs.ext4 is missing (package e2fsprogs)"
out=$REPO_DIR/target/vm/$version-ext4
mkdir -p "$out"
exec 8>"$out/.lock" # machines are started two at a time
flock 8
names=(loop crc32c_generic ext4 lzo-rle zram)
made_of="$(release_of "$version") ${names[*]}"
if [[ ! -e $out/modules-of || $(<"$out/modules-of") != "$made_of" ]]; then
    rm -f "$out"/*.ko
    number=10
    for name in "${names[@]}"; do
        kmod_as modprobe -d "$VM_CACHE/$version" -S "$(release_of "$version")" --show-depends "$name"
    done | while read -r kind path _; do
        [[ $kind == insmod ]] || continue # the others are "builtin"
        file=${path##*/}
        # In the order to load them, which the names keep.
        case $path in *.xz) xz -dc "$path" ;; *) cat "$path" ;; esac >"$out/$number-${file%.xz}"
        number=$((number + 1))
    done
    printf '%s\n' "$made_of" >"$out/modules-of"
fi
# Always the same 32 MB, of which little is written; every machine gets its own copy.
if [[ ! -e $out/image ]]; then
    truncate -s 32M "$out/image.new"
    mkfs.ext4 -q -F -U 70677472-6163-4500-8000-000000000001 -E hash_seed=70677472-6163-4500-8000-000000000002 "$out/image.new"
    mv "$out/image.new" "$out/image"
fi
printf '%s\n' "$out"
