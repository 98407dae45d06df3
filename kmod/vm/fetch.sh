#!/bin/bash
# fetch.sh [6.1|6.12 ...]: get QEMU, busybox, kmod and the kernels with their headers into the ignored cache.
#
# Nothing of the host is installed or changed: packages are downloaded and unpacked. (Installing QEMU may remove other
# packages of the host, and newer headers pull in an upgrade of systemd.) The one exception: when this machine has no
# package lists, or outdated ones, `apt-get update` is run.
# Each folder of the cache is made under a temporary name and renamed when complete, so half a fetch never looks done.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wanted=("$@")
[[ ${#wanted[@]} -gt 0 ]] || wanted=("${ALL_VERSIONS[@]}")
missing=()
for part in tools "${wanted[@]}"; do
    [[ $part == tools ]] || known_version "$part"
    finished "$part" || missing+=("$part")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

[[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]] || die 2 "needs a Debian or Ubuntu machine with amd64 packages (dpkg, apt-get)"
mkdir -p "$VM_CACHE"
# Two runs at once would fetch everything twice; the second waits, then finds the work done.
exec 9>"$VM_CACHE/.lock"
flock 9

update_lists() {
    say "running apt-get update"
    # One at a time: the parallel fetches below would fail on apt's own lock.
    flock "$VM_CACHE/.update" apt-get update -qq >&2 || die 2 "apt-get update failed (it needs root and a reachable package mirror); run it by hand, then this again"
}

# depends PACKAGE PATTERN: the first dependency that matches.
depends() { apt-cache depends "$1" 2>/dev/null | sed -n 's/^ *|\?Depends: *//p' | grep -E -m1 "$2" || true; }

# Lists of an older day may know none of the packages, or fewer kernels than the mirror has by now.
lists_know() {
    local part
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || return 1 # what is installed is known without lists, too
    for part in "$@"; do
        if [[ $part == tools ]]; then apt-cache show qemu-system-x86 >/dev/null 2>&1; else (resolve_kernel "$part") >/dev/null 2>&1; fi || return 1
    done
}

# Version names roll with every security update, so the fixed names of Debian's meta packages are the way in.
# The ordinary image, not the smaller "cloud" one: that has no 9p.
resolve_kernel() {
    local v=$1 meta image headers tried=()
    for meta in "$v-amd64" amd64; do
        tried+=("linux-image-$meta")
        image=$(depends "linux-image-$meta" "^linux-image-${v//./\\.}[.+-].*amd64\$")
        [[ -n $image ]] || continue
        headers=linux-headers-${image#linux-image-}
        printf '%s\n' "$image" "$headers" "$(depends "$headers" '^linux-headers-.*-common$')" "$(depends "$headers" '^linux-kbuild-')"
        return 0
    done
    die 2 "no package for kernel $v (looked at the dependencies of: ${tried[*]}). The likely mend: 'apt-get update'; for 6.12 on Debian 12 the bookworm-security or bookworm-backports suite must be in the apt sources"
}

# What an installation would add to this machine, by simulation, plus the ones needed even where they are installed already.
resolve_tools() {
    local roots=(qemu-system-x86 qemu-system-common qemu-system-data seabios busybox-static kmod libelf1) simulated
    simulated=$(apt-get -s --no-install-recommends install "${roots[@]}" 2>&1) ||
        die 2 "apt cannot find a way to ${roots[*]}: $(grep -m1 '^E:' <<<"$simulated"). The likely mend: 'apt-get update', or the main suite in the apt sources"
    { sed -n 's/^Inst \([^ ]*\).*/\1/p' <<<"$simulated"; printf '%s\n' "${roots[@]}"; } | LC_ALL=C sort -u
}

# download DIR PACKAGE...: lists may be older than the mirror, hence the second try with new ones.
download() {
    local dir=$1 log try
    shift
    for try in 1 2; do
        # As root: the sandbox user could not write into the cache folder, which apt otherwise warns about.
        log=$(cd "$dir" && apt-get -q -o APT::Sandbox::User=root download "$@" 2>&1) && return 0
        [[ $try == 2 ]] || update_lists
    done
    grep -E '^(E|W|Err)' <<<"$log" >&2 || true
    die 2 "cannot download one of: $* (see above which). Tried twice, with 'apt-get update' in between. The likely mend: look at the apt sources and the network, then run this again"
}

fetch_tools() {
    local dir=$1 deb packages
    packages=$(resolve_tools)
    mapfile -t packages <<<"$packages"
    download "$dir" "${packages[@]}"
    for deb in "$dir"/*.deb; do dpkg -x "$deb" "$dir"; done
    printf '%s\n' "${packages[@]}" >"$dir/packages"
}

fetch_kernel() {
    local v=$1 dir=$2 deb packages release
    packages=$(resolve_kernel "$v")
    mapfile -t packages <<<"$packages"
    download "$dir" "${packages[@]}"
    release=${packages[0]#linux-image-}
    # Of the image only the kernel and the modules a virtual machine may want: the drivers of real hardware are most of it.
    dpkg-deb --fsys-tarfile "$dir"/linux-image-*.deb | tar -x -C "$dir" --no-anchored --wildcards \
        './boot/*' './lib/modules/*/modules.*' './lib/modules/*/kernel/[abcflm]*' './lib/modules/*/kernel/net/9p*' \
        './lib/modules/*/kernel/drivers/block/*' './lib/modules/*/kernel/drivers/virtio/*' './lib/modules/*/kernel/drivers/char/hw_random/*'
    for deb in "$dir"/linux-headers-*.deb "$dir"/linux-kbuild-*.deb; do dpkg -x "$deb" "$dir"; done
    # The headers name each other by absolute path. Relative to the including file they work wherever the cache is.
    # shellcheck disable=SC2016 # for make, not for the shell
    sed -i 's|^include /usr/src/|include $(dir $(lastword $(MAKEFILE_LIST)))../|' "$dir/usr/src/linux-headers-$release/Makefile"
    # With a vmlinux the build generates BTF and wants pahole; without, it says so and goes on.
    rm -f "$dir/usr/src/linux-headers-$release/vmlinux"
    ln -s "usr/src/linux-headers-$release" "$dir/headers"
    ln -s "boot/vmlinuz-$release" "$dir/vmlinuz"
    printf '%s\n' "$release" >"$dir/release"
    printf '%s\n' "${packages[@]}" >"$dir/packages"
}

lists_know "${missing[@]}" || update_lists

rm -rf "$VM_CACHE"/*.new # left by a run that was killed; its children hold the lock while they live, so nobody is in there
jobs=()
for part in "${missing[@]}"; do
    finished "$part" && continue # done by the run this one waited for
    mkdir -p "$VM_CACHE/$part.new"
    if [[ $part == tools ]]; then fetch_tools "$VM_CACHE/tools.new" & else fetch_kernel "$part" "$VM_CACHE/$part.new" & fi
    jobs+=("$part $!")
done
failed=0
for job in ${jobs[@]+"${jobs[@]}"}; do wait "${job#* }" || failed=2; done
[[ $failed == 0 ]] || { rm -rf "$VM_CACHE"/*.new; exit "$failed"; }

for job in ${jobs[@]+"${jobs[@]}"}; do # the tools come first: the others' initramfs needs them in place
    part=${job% *}
    [[ $part == tools ]] || base_initramfs "$part" "$VM_CACHE/$part.new"
    rm -f "$VM_CACHE/$part.new"/*.deb
    printf 'recipe %s\n' "$RECIPE" >"$VM_CACHE/$part.new/stamp"
    rm -rf "${VM_CACHE:?}/$part"
    mv "$VM_CACHE/$part.new" "$VM_CACHE/$part"
    say "fetched $part"
done
