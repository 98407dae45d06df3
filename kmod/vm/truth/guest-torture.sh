#!/bin/sh
# guest-torture.sh: more steps of guest.sh, which reads it: what must not hurt, tried hard.
# Settings, as arguments NAME=VALUE of guest.sh before the steps they are for:
#   TORTURE   seconds of each torment (default 5)
#   WORKERS   processes of each torment, with two threads each (default 2)
#   ROUNDS    unloads of step_chaos (default 15)
#   LEAKS     processes of each recording of step_leaks (default 60, which its counts are for; kmemleak needs fewer)
#   FUZZ      seconds of step_fuzz (default 6)
#   HUGE      huge pages that step_huge must meet at least (default 1)
#   SHRINK    kB that free memory may shrink by in step_leaks (default 6144)
#   SWAPPED   pages that step_pressure must write to swap at least, and half of them read (default 1000)
#   SEED      of the shell's random numbers (default: the clock; it is printed)
# shellcheck disable=SC2154 # debugfs, torture, workload: guest.sh
# shellcheck disable=SC3028,SC2015,SC2016,SC2086 # busybox has RANDOM; failed is for whatever fails
fuzz=/files/fuzz
: "${SEED:=$(date +%s)}"

# --- memory pressure ---

# Swap in compressed memory, and a group of processes that may have little else.
pressure() { # pressure BYTES
    if [ ! -e /tmp/swap ]; then
        disk
        echo 400M >/sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null && swapon /dev/zram0 || failed "no swap in zram"
        echo +memory >/sys/fs/cgroup/cgroup.subtree_control
        mkdir -p /sys/fs/cgroup/torture
        echo 1 >/sys/kernel/mm/ksm/run
        echo 20 >/sys/kernel/mm/ksm/sleep_millisecs
        echo 50 >/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs
        echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled
        touch /tmp/swap
    fi
    echo "$1" >/sys/fs/cgroup/torture/memory.max
}
counter() { awk -v name="$1" '$1 == name { print $2 }' /proc/vmstat; }

# Pages move, caches are dropped: until $1 exists no more.
stir() {
    while [ -e "$1" ]; do
        sleep 1 # compaction is most of the time on a kernel that checks itself
        echo 1 >/proc/sys/vm/compact_memory
        echo 1 >/proc/sys/vm/drop_caches
    done
}

# The relay files are read, and what is read thrown away: until the module goes.
drain() {
    for file in "$debugfs"/refs* "$debugfs"/names*; do
        (while cat "$file" >/dev/null 2>&1; do usleep 20000; done) &
    done
}

# What torture says it did, all workers together: NAME COUNT a line.
deeds() {
    awk '/^torture: done / { for (i = 3; i < NF; i += 2) sum[$i] += $(i + 1) } END { for (name in sum) print name, sum[name] }' "$1"
}

# controls 'COMMAND; ..' WHAT: one after the other, by this process, which owns the set-up after "clear".
controls() {
    set -f
    IFS=';'
    for command in $1; do
        unset IFS
        [ -z "$3" ] || usleep $((RANDOM % $3 * 1000))
        control "$command" || failed "$2: $command"
    done
    unset IFS
    set +f
}

# What torture said, but for the good news, on one line: it comes after the name of the check.
complaints() { # complaints FILE
    { grep -v -e '^torture: done' -e 'every byte as it must be' "$1" | tail -8 | tr '\n' '; '; } 2>/dev/null
}

# torment NAME FOLDER 'COMMAND; ..' [NOT DONE..]: torture in FOLDER while it is recorded as the commands say (more of them
# may follow after "then", each some time after the other). Every operation must have been done, but for those named.
torment() {
    torment=$1 folder=$2 commands=$3 says=/tmp/torment
    shift 3
    in_group=/sys/fs/cgroup/torture/cgroup.procs
    gated sh -c '[ ! -e '$in_group' ] || echo $$ >'$in_group'; exec "$@"' torture \
        $torture -s "${TORTURE:-5}" -w "${WORKERS:-2}" -t 2 -d "$folder" -r "$SEED" ${only:+-o $only} -x "$(echo "$*" | tr ' ' ,)" >$says 2>&1
    control clear && control "pid $pid" && control "level full" || failed "$torment: set-up"
    controls "${commands%%then*}" "$torment"
    control start || failed "$torment: start"
    [ -n "$only" ] || touch /tmp/stirring
    stir /tmp/stirring &
    drain
    begin
    case $commands in
    *then*)
        while kill -0 "$pid" 2>/dev/null; do controls "${commands#*then}" "$torment" 400; done
        ;;
    esac
    wait "$pid"
    code=$?
    rm -f /tmp/stirring
    check "$torment: memory intact, exit code $code, seed $SEED: $(complaints $says)" [ "$code" = 0 ]
    check "$torment: all workers got to their end" [ "$(grep -c 'every byte as it must be' $says)" = "${WORKERS:-2}" ]
    deeds $says >/tmp/deeds
    missing=$(awk -v none=" $* " '$2 == 0 && !index(none, " " $1 " ") { print $1 }' /tmp/deeds | tr '\n' ' ')
    check "$torment: every operation was done ($(awk '{ n += $2 } END { print n }' /tmp/deeds))${missing:+ but: $missing}" [ -z "$missing" ]
    check "$torment: still recording" status_is state recording
    control stop
    check "$torment: there were references" awk '/^cpu / { n += $4 } END { exit n < 1000 }' $debugfs/status
}

# Everything a program can do to its memory, cleaned every 2 ms, read by pgtrace-capture.
step_torture() {
    load
    mkdir -p /out/torture
    $capture record -o /out/torture/chunks --level full --clean 1ms -- \
        $torture -s "${TORTURE:-8}" -w 2 -t 2 -d /tmp/ram >/out/torture/says 2>&1
    code=$?
    keep torture
    check "torture: memory intact, exit code $code" sh -c "[ $code -le 1 ] && grep -c 'every byte as it must be' /out/torture/says >/dev/null"
    check "torture: both workers got to their end" [ "$(grep -c 'every byte as it must be' /out/torture/says)" = 2 ]
    check "torture: nothing is wrong" sh -c "! grep -q WRONG /out/torture/says"
    unload
    load
    busy 3 /out # 9p without a cache: the kernel pins the pages (get_user_pages)
    intact "torture with pinned pages"
    control stop
    keep pinned
    dump /out/pinned/raw
    unload
}

# Without the module: what is wrong here is not the module's doing.
step_untraced() {
    pressure max
    for way in ksm fork; do echo "(Linux's own loss by MADV_FREE and $way: $(/files/lazyfree $way) pages, see lazyfree.c)"; done
    $torture -s "${TORTURE:-5}" -w "${WORKERS:-2}" -t 2 -d "${UNTRACED:-/tmp/ext4}" -r "$SEED" ${only:+-o $only} >/tmp/torment 2>&1
    code=$?
    check "torture without the module: memory intact, exit code $code: $(complaints /tmp/torment)" [ "$code" = 0 ]
}

# Under pressure: pages are written to swap and come back while they are cleaned. Transparent huge pages are off in what
# is recorded page by page, so nothing collapses into one.
step_pressure_only() {
    pressure 16M
    load
    torment "clean 1, swap" /tmp/ext4 'clean 1' collapse
    unload
}
step_pressure() {
    pressure 20M
    out_before=$(counter pswpout) in_before=$(counter pswpin)
    load
    torment "clean 1, swap" /tmp/ext4 'clean 1' collapse
    torment "fifo 16, swap" /tmp/ext4 'fifo 16' collapse
    torment "fifo 64, swap" /tmp/ext4 'fifo 64; overwrite on; buffers 65536 4' collapse
    unload
    out=$(($(counter pswpout) - out_before)) in=$(($(counter pswpin) - in_before))
    check "$out pages were written to swap, $in read from it" [ $((out > ${SWAPPED:-1000} && in > ${SWAPPED:-1000} / 2)) = 1 ]
}

# A short run for bugs that any run finds.
step_brief() {
    pressure max
    load
    only=fork,remap,dontneed,spawn,exit,vm_writev,resize
    torment "in brief" /tmp/ram 'clean 2'
    only=''
    unload
}

# Huge pages left whole, and every switch of level and policy while it goes on.
step_huge() {
    pressure max
    load
    huge=$(counter thp_fault_alloc)
    # What the hook remembers of the mapping that a thread used last counts where no other page faults in between.
    torment "first touches only" /tmp/ram 'level light; clean 0' collapse
    torment "grain 2m, first touches" /tmp/ram 'grain 2m; level light; clean 0'
    # Later kernels collapse no pages that are all read-only, and cleaned ones are.
    torment "grain 2m, clean 1" /tmp/ram 'grain 2m; clean 1' collapse
    torment "grain 2m, fifo 64" /tmp/ram 'grain 2m; fifo 64' collapse
    huge=$(($(counter thp_fault_alloc) - huge))
    check "there were $huge huge pages" [ $huge -ge "${HUGE:-1}" ]
    torment "everything switched" /tmp/ram 'clean 1; overwrite on; buffers 65536 4 then fifo 16; level light; level rich; clean 2; level full; snapshot begin; fifo 1000; snapshot end; fifo 0; clean 1; fifo 64' collapse
    unload
}

# --- start, stop and unload at random moments under a program that checks its memory ---

a_target() {
    case $((RANDOM % 5)) in
    0) echo "comm torture" ;;
    1) echo "uid 0" ;;
    2) echo "cgroup /torture" ;;
    *)
        # shellcheck disable=SC2046
        set -- $(pidof torture)
        [ $# = 0 ] || shift $((RANDOM % $#))
        echo "pid ${1:-1}"
        ;;
    esac
}
a_setting() {
    case $((RANDOM % 12)) in
    0) echo "level light" ;;
    1) echo "level rich" ;;
    2 | 3) echo "level full" ;;
    4 | 5) echo "clean $((RANDOM % 5))" ;;
    6 | 7) echo "fifo $((16 + RANDOM % 100))" ;;
    8) echo "snapshot begin" ;;
    9) echo "snapshot end" ;;
    10) echo "remove $(a_target)" ;;
    11) a_target ;;
    esac
}

step_chaos() {
    pressure max
    RANDOM=$((SEED % 32768))
    echo "(seed $SEED)"
    $torture -s 10000 -w 1 -t 3 -d /tmp/ram -r "$SEED" >/tmp/chaos 2>&1 &
    busy_pid=$!
    echo $busy_pid >/sys/fs/cgroup/torture/cgroup.procs
    usleep 300000
    rounds=0 unloads=0
    while [ $unloads -lt "${ROUNDS:-15}" ] && kill -0 $busy_pid 2>/dev/null; do
        loaded || load subbuf_size=65536 n_subbufs=4
        control clear || failed "chaos: clear in round $rounds"
        for child in $(pidof torture); do control "pid $child" 2>/dev/null; done
        control "level full" && control "clean 2" || failed "chaos: set-up in round $rounds"
        [ $((RANDOM % 3)) != 0 ] || control "overwrite on"
        [ $((RANDOM % 3)) != 0 ] || control "grain 2m"
        [ $((RANDOM % 3)) != 0 ] || control "fifo 64"
        [ $((RANDOM % 3)) != 0 ] || control "buffers $((4096 << (RANDOM % 5))) $((2 + RANDOM % 6))"
        echo "(round $rounds: $(grep -E '^(policy|grain|overwrite|clean_ms|fifo) ' $debugfs/status | tr '\n' ' '))"
        control start || failed "chaos: start in round $rounds"
        for _ in 1 2 3; do
            control "$(a_setting)" 2>/dev/null # may be refused: nothing to remove, not in overwrite mode
            usleep $((RANDOM % 100 * 1000))
        done
        case $((RANDOM % 6)) in
        0 | 1 | 2)
            unloads=$((unloads + 1))
            rmmod pgtrace || failed "chaos: rmmod in round $rounds"
            ;;
        3) # under readers, who see the end of their files
            drain
            usleep $((RANDOM % 100 * 1000))
            unloads=$((unloads + 1))
            rmmod pgtrace || failed "chaos: rmmod under readers in round $rounds"
            ;;
        4)
            unloads=$((unloads + 1))
            control stop && unload
            ;;
        *) control stop && cat $debugfs/refs0 >/dev/null ;;
        esac
        rounds=$((rounds + 1))
    done
    loaded && unload
    killall -TERM torture
    wait "$busy_pid"
    code=$?
    check "chaos: all unloads were done" [ $unloads -ge "${ROUNDS:-15}" ]
    check "$rounds rounds of start and stop, $unloads of unload: memory intact, exit code $code, seed $SEED: $(complaints /tmp/chaos)" [ "$code" = 0 ]
}

# --- what the module took, it gives back ---

memory() { # /proc/slabinfo as NAME OBJECTS OBJECTS-A-SLAB, then what is in use altogether
    for _ in 1 2; do # what RCU frees late is in the way of the first
        sync
        echo 3 >/proc/sys/vm/drop_caches
        for shrink in /sys/kernel/slab/*/shrink; do echo 1 >"$shrink"; done 2>/dev/null
        sleep 1
    done
    awk 'NR > 2 { print "slab:" $1, $2, $5 }' /proc/slabinfo
    awk '/^(MemFree|Slab|Percpu|PageTables|KernelStack|VmallocUsed):/ { print $1 $2, 0 }' /proc/meminfo | sed 's/:/ /'
    echo "vmalloc-of-relay $(grep -c -E 'relay|pgtrace' /proc/vmallocinfo) 0"
    echo "kprobes $(wc -l </sys/kernel/debug/kprobes/list) 0"
    echo "hooks $(wc -l </sys/kernel/tracing/enabled_functions) 0"
    echo "threads $(pidof pgtrace-cleaner | wc -w) 0"
}
grew() { # grew NAME: by how much, first column
    awk -v name="$1" '$1 == name { if (FNR == NR) before = $2; else print $2 - before }' /tmp/memory.before /tmp/memory.after
}
leak_cycle() { # leak_cycle COMMAND..: one load, one recording of 60 processes, one unload
    load subbuf_size=65536 n_subbufs=8
    # shellcheck disable=SC2016
    gated sh -c 'echo $$ >/sys/fs/cgroup/torture/cgroup.procs; for i in $(seq $0); do /bin/busybox true; done; cat /bin/busybox >/dev/null' "${LEAKS:-60}"
    control clear
    # One that a kernel or an older module does not know is no leak.
    for command in "pid $pid" "level full" "$@"; do control "$command" 2>/dev/null; done
    control start || failed "leaks: start with: $*"
    begin
    wait "$pid"
    control "snapshot begin" 2>/dev/null
    control stop
    dump /tmp/leaks
    [ "$(awk '$1 == "pgtrace" { print $3 }' /proc/modules)" = 0 ] || failed "something uses the module after: $*"
    unload
    rm -r /tmp/leaks
}
leak_cycles() {
    leak_cycle "clean 5"
    leak_cycle "fifo 16"
    leak_cycle "grain 2m" "fifo 64" "overwrite on" "buffers 8192 4"
    leak_cycle "clean 1" "comm sh" "comm busybox" "cgroup /torture" "follow fork"
    leak_cycle "uid 0" "fifo 64" "follow none"
    leak_cycle "all" "clean 2"
}
step_leaks() {
    pressure max
    leak_cycles
    memory >/tmp/memory.before
    # What leaks grows every time; what the kernel fills up once does not: a second look decides.
    for _ in 1 2; do
        leak_cycles
        memory >/tmp/memory.after
        # 6 recordings with 60 processes each: one thing forgotten a process is 360 objects of one size. A slab that a CPU
        # holds counts as full: of the smallest objects (512 a slab) only kmemleak can tell so few.
        grown=$(awk 'FNR == NR { before[$1] = $2; next } /^slab:/ && $2 - before[$1] > 200 && $2 - before[$1] > 2 * $3 { print substr($1, 6) "+" $2 - before[$1] }' \
            /tmp/memory.before /tmp/memory.after | tr '\n' ' ')
        [ -n "$grown" ] || break
        cp /tmp/memory.after /tmp/memory.before
    done
    check "no slab cache grew by 200 objects${grown:+: $grown}" [ -z "$grown" ]
    check "slabs grew by $(grew Slab) kB, per-CPU memory by $(grew Percpu) kB" [ $(($(grew Slab) + $(grew Percpu))) -lt 500 ]
    check "page tables grew by $(grew PageTables) kB, stacks by $(grew KernelStack) kB" [ $(($(grew PageTables) + $(grew KernelStack))) -lt 200 ]
    # 6 sets of buffers are 10 MB a CPU; what stands in the kernel's lists of hot pages comes and goes.
    check "free memory shrank by $((-$(grew MemFree))) kB" [ $((-$(grew MemFree))) -lt "${SHRINK:-6144}" ]
    for what in vmalloc-of-relay kprobes hooks threads; do check "no $what left: $(grew $what) more" [ "$(grew $what)" -le 0 ]; done
}

# --- the control files in wrong hands ---

may() { # may UID GID r|w FILE yes|no
    $fuzz as "$1" "$2" "$3" "$debugfs/$4"
    code=$?
    case $5 in yes) wanted=0 ;; *) wanted=1 ;; esac
    check "uid $1, gid $2: open $4 ($3): $5" [ $code = $wanted ]
}
step_permissions() {
    mount -o remount,mode=755 /sys/kernel/debug # else nobody but root gets as far as our files
    load
    for file in status refs0 names0; do may 1000 1000 r $file no; done
    may 1000 1000 w control no
    may 0 0 r refs0 yes
    unload
    load gid=1000
    for file in status refs0 names0; do
        may 1000 1000 r $file yes
        may 1000 1001 r $file no
        may 1000 1000 w $file no
    done
    may 1000 1000 w control yes
    may 1001 1001 w control no
    control "buffers 8192 4" # files that are made later are like the first
    may 1000 1000 r refs0 yes
    may 1000 1001 r refs0 no
    unload
    mount -o remount,mode=700 /sys/kernel/debug
}
# What nobody should ask for at loading time: refused, or it works.
step_parameters() {
    for parameters in subbuf_size=0 subbuf_size=1 subbuf_size=4097 subbuf_size=4294967295 subbuf_size=-1 n_subbufs=0 n_subbufs=1 \
        n_subbufs=4294967295 names_subbuf_size=1 names_subbuf_size=4294967295 names_n_subbufs=0 names_n_subbufs=4294967295 \
        "subbuf_size=4294963200 n_subbufs=4294967295" clean_ms=4294967295 clean_ms=x gid=4294967295 nothing=1; do
        # shellcheck disable=SC2086
        if insmod /lib/pgtrace/pgtrace.ko $parameters 2>/dev/null; then
            loaded || continue
            echo "(accepted: $parameters)"
            control "uid 12345"
            control start && control stop || failed "$parameters is accepted, but does not record"
            unload
        fi
    done
    ok "odd module parameters"
}
step_fuzz_only() {
    load subbuf_size=65536 n_subbufs=4
    mkdir -p /sys/fs/cgroup/fuzz
    $torture -s 1000 -w 1 -t 1 -d /tmp/ram >/tmp/fuzzed 2>&1 &
    busy_pid=$!
    sleep 1000 &
    sleeper=$!
    $fuzz -s "${FUZZ:-6}" -w 4 -r "$SEED" -p $busy_pid -p $sleeper $debugfs >/tmp/fuzz 2>&1
    code=$?
    cat /tmp/fuzz
    check "fuzz of the control files, exit code $code: $(head -1 /tmp/fuzz)" [ $code = 0 ]
    killall -TERM torture
    kill $sleeper
    wait $busy_pid
    code=$?
    check "fuzz: memory of a program intact, exit code $code, seed $SEED: $(complaints /tmp/fuzzed)" [ "$code" = 0 ]
    refused=$(awk '/^fuzz: accepted / { for (i = 3; i < NF; i += 2) if ($(i + 1) == 0) print $i }' /tmp/fuzz | tr '\n' ' ')
    check "fuzz: every command was accepted now and then${refused:+, but: $refused}" [ -z "$refused" ]
    unload
}
step_fuzz() {
    step_permissions
    step_parameters
    step_fuzz_only
    load
    record_raw fuzz full 50 $workload all -t /tmp/truth -d /tmp/ram -p 50
    unload
}

# --- a kernel that watches itself: see ../debug-kernel.sh ---

kmemleak() { # what two scans find that is older than kmemleak's age limit of 5 s
    sleep 6
    echo scan >/sys/kernel/debug/kmemleak
    echo scan >/sys/kernel/debug/kmemleak
    cat /sys/kernel/debug/kmemleak
}
# First of all steps: what the boot left behind is not ours.
step_watch() {
    [ -e /sys/kernel/debug/kmemleak ] || failed "this kernel has no kmemleak"
    echo scan=off >/sys/kernel/debug/kmemleak
    echo scan >/sys/kernel/debug/kmemleak
    echo clear >/sys/kernel/debug/kmemleak
}
# Last of all steps: lockdep still watches, and nothing was forgotten, with the module there and without it.
step_verdict() {
    load
    leaks=$(kmemleak)
    [ -z "$leaks" ] || echo "$leaks"
    check "kmemleak, the module loaded: $(echo "$leaks" | grep -c '^unreferenced') objects" [ -z "$leaks" ]
    unload
    leaks=$(kmemleak)
    [ -z "$leaks" ] || echo "$leaks"
    check "kmemleak, the module gone: $(echo "$leaks" | grep -c '^unreferenced') objects" [ -z "$leaks" ]
    check "lockdep still watches" grep -q '^ debug_locks: *1$' /proc/lockdep_stats
}
