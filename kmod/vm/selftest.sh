#!/bin/bash
# selftest.sh [6.1|6.12 ...]: does the machinery of this folder work? Boots each kernel (default: both) with a small
# module and checks what the other scripts rely on. Independent of pgtrace's own module.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

versions=("$@")
[[ ${#versions[@]} -gt 0 ]] || versions=("${ALL_VERSIONS[@]}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
export PGTRACE_KMOD_SRC=$work/src PGTRACE_KMOD_OUT=$work/built

failures=0
check() { # check WHAT COMMAND...
    local what=$1
    shift
    if "$@"; then printf 'ok    %s\n' "$what"; else
        printf 'FAIL  %s\n' "$what"
        failures=$((failures + 1))
    fi
}
same() { [[ $1 == "$2" ]] || { printf '      wanted %q\n      got    %q\n' "$2" "$1"; return 1; }; }
has() { grep -qF -- "$2" "$1" || { sed 's/^/      /' "$1"; return 1; }; }
vm() { # vm ARGS...: sets code, and leaves stdout and stderr in files
    code=0
    "$VM_DIR/run.sh" --kernel "$version" "$@" >"$work/stdout" 2>"$work/stderr" || code=$?
}

cat >"$work/src/Kbuild" <<'END'
obj-m := pgtrace.o
pgtrace-y := hello.o
END
cat >"$work/src/hello.c" <<'END'
#include <linux/module.h>
static bool complain;
module_param(complain, bool, 0);
static int __init hello_init(void) { WARN_ON(complain); pr_info("hello from the module\n"); return 0; }
static void __exit hello_exit(void) { pr_info("goodbye from the module\n"); }
module_init(hello_init);
module_exit(hello_exit);
MODULE_DESCRIPTION("self test");
MODULE_LICENSE("GPL");
END
cat >"$work/job.sh" <<'END'
insmod /lib/pgtrace/pgtrace.ko || exit 90
grep -q '^pgtrace ' /proc/modules || exit 91
rmmod pgtrace || exit 92
[ "$(cat /sys/kernel/debug/fault_around_bytes)" = 4096 ] || exit 93
ip link show lo | grep -q UP || exit 94
[ "$(cat /files/data)" = brought ] && [ "$(cat /etc/there)" = brought ] || exit 95
dd if=/dev/urandom of=/out/bytes bs=1M count=4 2>/dev/null
md5sum </out/bytes >/out/sum
for arg in "$@"; do printf '<%s>\n' "$arg"; done
echo "WARNING: a word of the script, not of the kernel"
sleep 1000 & # left behind: must not hold up the end
exit 42
END
echo brought >"$work/data"
echo 'echo started; sleep 1000' >"$work/hang.sh"
echo 'insmod /lib/pgtrace/pgtrace.ko complain=1; exit 0' >"$work/complain.sh"
echo 'echo before; sleep 1; echo c >/proc/sysrq-trigger; sleep 5' >"$work/crash.sh"
echo 'chroot /host perl -e "print 6*7"; chroot /host sh -c "echo x >/tmp/x && echo y >/mnt/y; ! touch /etc/pgtrace-selftest 2>/dev/null"' >"$work/host.sh"
# shellcheck disable=SC2016 # the point of it: nothing of this may be expanded
args=('a b' "it's" '$HOME "x" `y` \n *' '' $'two\nlines')
wanted=$(for arg in "${args[@]}"; do printf '<%s>\n' "$arg"; done; echo "WARNING: a word of the script, not of the kernel")

"$VM_DIR/fetch.sh" "${versions[@]}"
for version in "${versions[@]}"; do
    printf -- '-- kernel %s (%s)\n' "$version" "$(release_of "$version")"
    ko=$("$VM_DIR/build.sh" "$version")
    check "build.sh prints the module's path" same "$ko" "$work/built/$version/pgtrace.ko"
    before=$(stat -c %y "$ko")
    "$VM_DIR/build.sh" "$version" >"$work/stdout"
    check "an unchanged source is not built again" same "$(stat -c %y "$ko")" "$before"
    check "the source folder stays clean" same "$(cd "$work/src" && echo *)" "Kbuild hello.c"

    start=$SECONDS
    vm --cpus 1 --file "$work/data" --file "$work/data:/etc/there" --out "$work/out" "$work/job.sh" "${args[@]}"
    check "the script's exit code ($((SECONDS - start)) s, 1 CPU)" same "$code" 42
    check "stdout is the script's output, arguments intact" same "$(<"$work/stdout")" "$wanted"
    check "output.txt too" same "$(<"$work/out/output.txt")" "$wanted"
    check "exit-code" same "$(<"$work/out/exit-code")" 42
    check "files come out whole" same "$(md5sum <"$work/out/bytes")" "$(<"$work/out/sum")"
    check "dmesg.txt has the module's words" has "$work/out/dmesg.txt" "goodbye from the module"

    vm --host-root --out "$work/out" "$work/host.sh"
    check "--host-root runs the host's programs, read-only" same "$code $(<"$work/stdout")" "0 42"
    check "/out is /mnt in there" test -s "$work/out/y"

    vm --out "$work/out" "$work/complain.sh"
    check "a warning of the kernel gives 3" same "$code" 3
    check "and is shown" has "$work/stderr" "WARNING: CPU"
    vm --out "$work/out" "$work/crash.sh"
    check "a crash gives 3, and what was printed before it is kept" same "$code $(<"$work/stdout")" "3 before"
    check "and is shown" has "$work/stderr" "sysrq triggered crash"
    vm --timeout 20 --out "$work/out" "$work/hang.sh"
    check "a timeout gives 124" same "$code $(<"$work/stdout")" "124 started"
    check "and says so" has "$work/stderr" "timeout: stopped after 20 s"
done
code=0
"$VM_DIR/fetch.sh" 9.9 2>"$work/stderr" || code=$?
check "an unknown kernel is refused" same "$code" 2
[[ $failures == 0 ]] || { printf '%s checks failed\n' "$failures"; exit 1; }
echo "all good"
