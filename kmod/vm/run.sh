#!/bin/bash
# run.sh: boot Debian's kernel in a virtual machine, run a script in it, bring its files out.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'USAGE'
usage: run.sh [--kernel 6.1|6.12] [--cpus N] [--memory MB] [--timeout S] [--host-root] [--one-thread] [--icount]
              [--append 'kernel args'] [--qemu-arg ARG].. [--file SRC[:GUESTPATH]].. --out DIR SCRIPT [ARGS..]

Runs SCRIPT (a file of the host) with ARGS under the guest's /bin/sh (busybox), in /tmp. In the guest:
  /out                     DIR, read and write
  /lib/pgtrace/pgtrace.ko  the module, when build.sh has built it for this kernel (it is not loaded)
  /files/NAME              each --file (or GUESTPATH when given; a folder is copied whole)
  /host                    with --host-root: the host's / read-only, so that "chroot /host CMD" runs any program
                           of the host; /tmp, /run, /var/tmp and /dev/shm in there are empty and writable, /out is /mnt
--one-thread: all virtual CPUs take turns on one thread of the host. For whatever patches the kernel's code while other
CPUs run it (a hook that comes and goes under load): with several threads QEMU 7.2 goes on executing the breakpoint
that was there for a moment, and the guest dies of "Oops: int3", or hangs; the kernel's own tracer does that, too.
--icount: one CPU whose clock counts instructions, for repeatable measurements.
Defaults: --kernel 6.1 --cpus 2 --memory 1024 --timeout 120

DIR gets output.txt (the script's output, also on stdout), exit-code, dmesg.txt, console.log.
Exit code: the script's; 124 timeout; 3 the kernel crashed or complained (its lines go to stderr); 2 wrong use.
USAGE
}

kernel=6.1 cpus=2 memory=1024 seconds=120 host_root=0 append='' out='' files=() extra=()
# no_timer_check, below: on a host that is busy the guest's kernel may find at boot that its timer does not work, and panic.
accel=(-accel "tcg,thread=multi") # never KVM: in nested machines the device opens, and then guests abort or hang
while [[ $# -gt 0 ]]; do
    case $1 in
    --kernel | --cpus | --memory | --timeout | --append | --qemu-arg | --file | --out)
        [[ $# -ge 2 ]] || die 2 "$1 needs a value" ;;&
    --kernel) kernel=$2 && shift 2 ;;
    --cpus) cpus=$2 && shift 2 ;;
    --memory) memory=$2 && shift 2 ;;
    --timeout) seconds=$2 && shift 2 ;;
    --append) append=$2 && shift 2 ;;
    --qemu-arg) extra+=("$2") && shift 2 ;;
    --file) files+=("$2") && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --host-root) host_root=1 && shift ;;
    --one-thread) accel=(-accel "tcg,thread=single") && shift ;;
    --icount) accel=(-accel "tcg,thread=single" -icount "shift=0,sleep=off") && cpus=1 && shift ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    -*) usage >&2 && die 2 "unknown option $1" ;;
    *) break ;;
    esac
done
[[ -n $out && $# -gt 0 ]] || { usage >&2; die 2 "needs --out DIR and a SCRIPT"; }
script=$1
shift
[[ -r $script ]] || die 2 "cannot read the script $script"
for number in "$cpus" "$memory" "$seconds"; do [[ $number =~ ^[1-9][0-9]*$ ]] || die 2 "not a number: '$number'"; done
need_version "$kernel"
mkdir -p "$out"
out=$(cd "$out" && pwd -P)
rm -f "$out"/{output.txt,exit-code,dmesg.txt,console.log}
: >"$out/output.txt"
: >"$out/console.log"

work=$(mktemp -d)
qemu=''
# shellcheck disable=SC2317,SC2329 # called by the trap
cleanup() {
    [[ -z $qemu ]] || kill "$qemu" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The initramfs of this run: the cached base, and after it an archive with what is this run's own.
root=$work/root
mkdir -p "$root/job" "$root/lib/pgtrace" "$root/files"
cp "$VM_DIR/guest-init" "$root/init" && chmod 755 "$root/init"
cp -L "$script" "$root/job/script"
printf 'HOST_ROOT=%s\n' "$host_root" >"$root/job/settings"
{
    printf 'set --'
    # Single quotes keep everything but a single quote, which becomes '\''.
    for arg in "$@"; do printf " '%s'" "${arg//\'/\'\\\'\'}"; done
    printf '\n'
} >"$root/job/args"
module=$KMOD_OUT/$kernel/pgtrace.ko
[[ ! -e $module ]] || cp "$module" "$root/lib/pgtrace/pgtrace.ko"
for spec in ${files[@]+"${files[@]}"}; do
    source=$spec target=
    # A colon may be part of the name: only what does not exist as a whole is split.
    if [[ ! -e $spec && $spec == *:/* ]]; then source=${spec%%:/*} target=/${spec#*:/}; fi
    [[ -r $source ]] || die 2 "cannot read --file $source"
    target=$root/${target:-files/$(basename "$source")}
    mkdir -p "$(dirname "$target")"
    cp -rL --preserve=mode,timestamps "$source" "$target"
done
pack_cpio "$root" "$work/run.cpio"
cat "$VM_CACHE/$kernel/base.cpio" "$work/run.cpio" >"$work/initramfs"

tools=$VM_CACHE/tools
share() { # share TAG PATH OPTIONS: a folder of the host over 9p. QEMU wants commas doubled.
    printf '%s\n' -fsdev "local,id=$1,path=${2//,/,,},security_model=none,multidevs=remap$3" \
        -device "virtio-9p-pci,fsdev=$1,mount_tag=$1"
}
mapfile -t shares < <(share out "$out" ''; [[ $host_root == 0 ]] || share host / ,readonly=on)
LD_LIBRARY_PATH=$(tool_libs) timeout -k 5 "$seconds" "$tools/usr/bin/qemu-system-x86_64" \
    -L "$tools/usr/share/qemu" -L "$tools/usr/share/seabios" -nographic -nodefaults -no-user-config -no-reboot \
    -net none -monitor none -chardev "file,id=console,path=${out//,/,,}/console.log" -serial chardev:console \
    -cpu max "${accel[@]}" -smp "$cpus" -m "$memory" "${shares[@]}" \
    -kernel "$VM_CACHE/$kernel/vmlinuz" -initrd "$work/initramfs" \
    -append "console=ttyS0 panic=-1 oops=panic quiet no_timer_check transparent_hugepage=madvise $append" \
    ${extra[@]+"${extra[@]}"} </dev/null >"$work/qemu.log" 2>&1 &
qemu=$!
# In the background and waited for, because bash runs a trap only between foreground commands.
tail -c +1 -s 0.1 -f --pid="$qemu" "$out/output.txt" 2>/dev/null &
stream=$!
status=0
wait "$qemu" || status=$?
qemu=''
wait "$stream" || true

# What the kernel says when something is wrong, only in its own lines: "[   12.345678] ...".
trouble=$(cat "$out/dmesg.txt" "$out/console.log" 2>/dev/null | tr -d '\r' | LC_ALL=C grep -aE \
    '^\[ *[0-9]+\.[0-9]+\].*(WARNING:|BUG:|Oops|Call Trace|Kernel panic|general protection|rcu.*(stall|starved)|blocked for more than)' |
    sort -u || true)
console_tail() {
    say "the console's last lines:"
    tail -n "$1" "$out/console.log" | tr -d '\r' >&2
}
[[ -z $trouble ]] || { say "the kernel complained:"; printf '%s\n' "$trouble" >&2; }
if [[ $status == 124 || $status == 137 ]]; then
    console_tail 30
    die 124 "timeout: stopped after $seconds s (--timeout)"
elif [[ ! -s $out/exit-code ]]; then
    cat "$work/qemu.log" >&2
    console_tail 60
    die 3 "the machine ended (QEMU: $status) before the script did: a crash of the kernel, or QEMU did not start"
elif [[ -n $trouble ]]; then
    die 3 "the script's exit code was $(<"$out/exit-code"), but see the kernel's lines above and $out/dmesg.txt"
fi
exit "$(<"$out/exit-code")"
