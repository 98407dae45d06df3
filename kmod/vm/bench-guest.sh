#!/bin/sh
# bench-guest.sh STEP..: the part of bench.sh that runs in the virtual machine. Prints figures, one a line: what, how, value,
# parted by tabs. A step that goes wrong ends the run: half a table would be read as a whole one.
bench=/files/bench
capture=/files/pgtrace-capture
debugfs=/sys/kernel/debug/pgtrace
mkdir -p /tmp/ram && mount -t ramfs ramfs /tmp/ram || exit 2

die() {
    echo "bench-guest: $*" >&2
    exit 2
}
control() { echo "$*" >$debugfs/control || die "control <- $*"; }
figure() { printf '%s\t%s\t%s\n' "$1" "$2" "$3"; }
number() { # number KEY: the sum over all CPUs of a field of the status
    awk -v key="$1" '{ for (i = 1; i < NF; i++) if ($i == key) sum += $(i + 1) } END { print sum + 0 }' $debugfs/status
}

# A burst of $1 look-ups, which waits until the gate opens: sets $pid.
burst() {
    rm -f /tmp/gate && mkfifo /tmp/gate
    $bench lookups /tmp/ram/lookups "$1" </tmp/gate &
    pid=$!
    exec 4>/tmp/gate
}
go() {
    echo go >&4
    over
}
over() {
    exec 4>&-
    wait "$pid" || die "the burst failed"
}

# Instructions of `cat` for a buffer with $1 look-ups in it, and the bytes; $2 tells which cat.
drain_by_cat() {
    burst "$1"
    control clear
    for line in "pid $pid" 'level full' 'clean 0' start; do control "$line"; done
    go
    control stop
    [ "$(number refs_lost)" = 0 ] || die "cat: records were lost"
    case $2 in
    busybox) $bench cost busybox cat $debugfs/refs0 >/tmp/drained 3>/tmp/cost || die "cat failed" ;;
    GNU) $bench cost /files/gnu/ld.so --library-path /files/gnu /files/gnu/cat $debugfs/refs0 >/tmp/drained 3>/tmp/cost || die "cat failed" ;;
    esac
    figure "drain, $2 cat: instructions" "$1" "$(cat /tmp/cost)"
    figure "drain, $2 cat: bytes" "$1" "$(stat -c %s /tmp/drained)"
    rm /tmp/drained
}

# The same of the recorder's thread that drains, while it happens: its run time once it has drained all, in nanoseconds.
drain_by_capture() {
    rm -rf /tmp/chunks
    burst "$1"
    $capture record -o /tmp/chunks --pid "$pid" --level full --clean 0ms 2>/tmp/words 4>&- &
    recorder=$!
    for _ in $(seq 100); do grep -q '^state recording' $debugfs/status && break; usleep 50000; done
    echo go >&4
    for _ in $(seq 100); do [ "$(number refs_emitted)" -ge "$1" ] && break; usleep 100000; done
    sleep 1 # a part of a sub-buffer is drained after 100 ms
    thread=$(grep -l '^drain0$' /proc/$recorder/task/*/comm) || die "the recorder has no thread drain0"
    figure 'drain, pgtrace-capture: instructions' "$1" "$(awk '{ print $1 }' "${thread%/comm}/schedstat")"
    over
    wait $recorder || die "the recorder ended with $?: $(cat /tmp/words)"
    figure 'drain, pgtrace-capture: bytes' "$1" "$(cat /tmp/chunks/*.pgt | wc -c)"
}

drain() {
    dd if=/dev/zero of=/tmp/ram/lookups bs=4096 count=32 2>/dev/null
    insmod /lib/pgtrace/pgtrace.ko || die insmod
    for _ in 1 2 3; do
        for cat in busybox GNU; do
            drain_by_cat 20000 $cat
            drain_by_cat 220000 $cat
        done
        drain_by_capture 20000
        drain_by_capture 620000
    done
    rmmod pgtrace || die rmmod
}

# Every CPU faults as fast as it can while the recorder drains at the default buffers, $1 faults a CPU: several times what
# its buffer holds. Before it, more than one buffer holds while nobody drains: the count of losses can be other than 0.
flat() {
    dd if=/dev/zero of=/tmp/ram/lookups bs=4096 count=2048 2>/dev/null
    insmod /lib/pgtrace/pgtrace.ko || die insmod
    cpus=$(nproc)
    burst 300000
    control clear
    for line in "pid $pid" 'level full' 'clean 0' start; do control "$line"; done
    taskset -p 1 "$pid" >/dev/null || die taskset
    go
    control stop
    figure 'nobody drains: lost' "$cpus CPUs" "$(number refs_lost)"
    $capture record -o /tmp/chunks --level light --clean 0ms -- $bench flat /tmp/ram/lookups "$1" "$cpus" >/tmp/faults 2>/tmp/words
    code=$?
    [ $code -le 1 ] || die "the recorder ended with $code: $(cat /tmp/words)"
    figure 'flat out: faults' "$cpus CPUs" "$(cat /tmp/faults)"
    figure 'flat out: emitted' "$cpus CPUs" "$(number refs_emitted)"
    figure 'flat out: lost' "$cpus CPUs" "$(($(number refs_lost) + $(number names_lost)))"
    rmmod pgtrace || die rmmod
}

workload() { # workload NAME SETTINGS COMMAND..
    $bench slowdown "$@" || die "slowdown $1"
}
slowdown() {
    short='loaded,first touches,timer 10,timer 1,fifo 8192,fifo 1024,fifo 256,fifo 64'
    long='loaded,timer 1000,timer 500,timer 100'
    # shellcheck disable=SC2016 # the inner shell's
    build='for i in $(seq $0); do sed s/1/2/g /tmp/ram/part | sort | md5sum >/tmp/ram/part.$((i % 8)); done'
    $bench program database 1 # makes the files
    awk 'BEGIN { srand(1); for (i = 0; i < 60000; i++) print int(rand() * 1e9), i }' >/tmp/ram/long
    head -15000 /tmp/ram/long >/tmp/ram/short
    head -100 /tmp/ram/long >/tmp/ram/part
    workload 'database' "$short" $bench program database 50000
    workload 'sort' "$short" busybox sort -n -o /tmp/ram/sorted /tmp/ram/short
    workload 'shell' "$short" busybox sh -c "$build" 50
    workload 'database, longer' "$long" $bench program database 1200000
    workload 'sort, longer' "$long" busybox sort -n -o /tmp/ram/sorted /tmp/ram/long
    workload 'shell, longer' "$long" busybox sh -c "$build" 500
}

# A file system on a block device, in memory.
disk() {
    for module in /files/*-ext4/*.ko; do insmod "$module" 2>/dev/null; done
    mkdir -p /tmp/ext4
    losetup /dev/loop0 /files/*-ext4/image || die losetup
    mount -t ext4 /dev/loop0 /tmp/ext4 || die 'mount ext4'
}

for step in "$@"; do
    case $step in
    matrix)
        disk
        $bench matrix || die matrix
        ;;
    cleaner | fifo) $bench "$step" || die "$step" ;;
    drain | slowdown) $step ;;
    flat=*) flat "${step#flat=}" ;;
    *) die "no step $step" ;;
    esac
done
