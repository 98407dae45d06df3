#!/bin/sh
# guest.sh STEP..: runs in the virtual machine (busybox sh). Records workloads into /out/STEP for the host to check, and
# tries what must not hurt. One line a check: "ok NAME" or "FAIL NAME: why".
debugfs=/sys/kernel/debug/pgtrace
workload=/files/workload
torture=/files/torture
patterns=/files/patterns
capture=/files/pgtrace-capture
mkdir -p /tmp/ram
mount -t ramfs ramfs /tmp/ram # files go through the ordinary page cache there, unlike in tmpfs

ok() { echo "ok $*"; }
failed() { echo "FAIL $*"; }
check() { # check NAME COMMAND..
    name=$1
    shift
    if "$@"; then ok "$name"; else failed "$name: $*"; fi
}
load() { insmod /lib/pgtrace/pgtrace.ko "$@" || failed "insmod $*"; }
unload() { rmmod pgtrace || failed "rmmod"; }
control() { echo "$*" >$debugfs/control; }
status_is() { grep -q "^$1 $2\$" $debugfs/status 2>/dev/null; }
loaded() { grep -q '^pgtrace ' /proc/modules; }
# Of a slow kernel PATIENCE times as long.
status_soon() { # status_soon NAME VALUE: within 10 s
    for _ in $(seq $((100 * ${PATIENCE:-1}))); do
        status_is "$1" "$2" && return 0
        usleep 100000
    done
    return 1
}
state_soon() { status_soon state "$1"; }
gone_soon() { # gone_soon PID
    for _ in $(seq 100); do
        [ -d "/proc/$1" ] || return 0
        usleep 100000
    done
    return 1
}

# A program that waits until it is told to begin: sets $pid; begin lets it go.
gated() {
    rm -f /tmp/gate
    mkfifo /tmp/gate
    # shellcheck disable=SC2016
    sh -c 'read -r _ </tmp/gate; exec "$@"' gated "$@" &
    pid=$!
}
begin() { echo go >/tmp/gate; }

# The relay files as they are now, by plain copying.
dump() { # dump FOLDER
    mkdir -p "$1"
    for file in "$debugfs"/refs* "$debugfs"/names*; do cat "$file" >"$1/${file##*/}"; done
}
dump_refs() { # dump_refs FOLDER
    mkdir -p "$1"
    for file in "$debugfs"/refs*; do cat "$file" >"$1/${file##*/}"; done
}
keep() { # keep STEP: the module's own count
    mkdir -p "/out/$1"
    cp $debugfs/status "/out/$1/status"
}

# Several processes append to the truth; 9p would mix their lines, tmpfs does not.
keep_truth() { [ ! -e /tmp/truth ] || { cp /tmp/truth "/out/$1/truth"; rm /tmp/truth; }; }

# record STEP LEVEL CLEAN_MS COMMAND..: by pgtrace-capture; its words go to /out/STEP/words. fifo=N takes the place of CLEAN_MS.
record() {
    step=$1 level=$2 policy="--clean ${3}ms"
    [ -z "${fifo-}" ] || policy="--fifo $fifo"
    shift 3
    mkdir -p "/out/$step"
    # shellcheck disable=SC2086 # an option and its value
    $capture record -o "/out/$step/chunks" --level "$level" $policy -- "$@" 2>"/out/$step/words"
    code=$?
    keep "$step"
    # The exit code is 1 where records were lost; the host counts them.
    [ $code -le 1 ] || { failed "$step: pgtrace-capture ended with $code"; cat "/out/$step/words"; }
    keep_truth "$step"
}
# The same without pgtrace-capture, read only after the end. fifo=N takes the place of CLEAN_MS; grain=2m.
record_raw() {
    step=$1 level=$2 policy="clean $3"
    [ -z "${fifo-}" ] || policy="fifo $fifo"
    shift 3
    mkdir -p "/out/$step"
    gated "$@"
    control clear && control "pid $pid" && control "level $level" && control "$policy" &&
        control "grain ${grain:-4k}" && control start || failed "$step: start"
    begin
    wait "$pid" || failed "$step: the program ended with $?"
    control stop || failed "$step: stop"
    keep "$step"
    dump "/out/$step/raw"
    keep_truth "$step"
}

# A file system on a block device, at /tmp/ext4.
disk() {
    [ ! -d /tmp/ext4 ] || return 0
    for file in /files/*-ext4/*.ko; do insmod "$file" 2>/dev/null; done
    mkdir /tmp/ext4
    losetup /dev/loop0 /files/*-ext4/image && mount -t ext4 /dev/loop0 /tmp/ext4 || failed "mount ext4"
}

# --- recordings that the host holds against the truth ---

step_raw() { load; record_raw raw full 50 $workload all -t /tmp/truth -d /tmp/ram -p 50; unload; }
step_full() { load; record full full 50 $workload all -t /tmp/truth -d /tmp/ram -p 50; unload; }
step_ext4() { disk; load; record ext4 full 50 $workload all -t /tmp/truth -d /tmp/ext4 -p 50; unload; }
step_ext4_raw() { disk; load; record_raw ext4_raw full 50 $workload all -t /tmp/truth -d /tmp/ext4 -p 50; unload; }
step_rich() { load; record rich rich 30 $workload all -t /tmp/truth -d /dev/shm -p 30; unload; }
step_light() { load; record light light 0 $workload all -t /tmp/truth -d /tmp/ram -p 1; unload; }
# Buffers of 64 references, two of them: much is lost, and everything lost is counted.
step_tiny() {
    load subbuf_size=4096 n_subbufs=2
    record tiny full 20 $workload all -t /tmp/truth -d /tmp/ram -p 20
    unload
}
# And with a reader that comes only when all is over.
step_tiny_raw() {
    load subbuf_size=4096 n_subbufs=2
    record_raw tiny_raw full 20 $workload all -t /tmp/truth -d /tmp/ram -p 20
    unload
}
# Every process of a user, taken in at its first fault.
step_uid() {
    load
    mkdir -p /tmp/ram/u
    chmod 777 /tmp/ram/u
    control clear && control "uid 1000" && control "level rich" && control "clean 30" && control start || failed "uid: start"
    $workload zero -d /tmp/ram # another user's: not recorded
    $workload fork -u 1000 -t /tmp/truth -d /tmp/ram/u -p 30 || failed "uid: the program ended with $?"
    control stop
    keep uid
    dump /out/uid/raw
    keep_truth uid
    unload
}
# Two recordings, one module: nothing of the first is in the second.
step_again() {
    load
    record again1 rich 20 $workload anon -t /tmp/truth -d /tmp/ram -p 20
    record again2 full 20 $workload names -t /tmp/truth -d /tmp/ram -p 20
    unload
}

# Who is recorded: a recording for each scenario of /files/targets (workloads/targets.c); the host compares it (who.py).
who() { # who SCENARIO..
    mkdir -p /tmp/actors
    cp /files/targets /tmp/actors/targets
    for name in alpha beta gamma delta; do ln -sf targets /tmp/actors/$name; done
    for scenario in "$@"; do
        load
        mkdir -p "/out/who/$scenario"
        /tmp/actors/targets "$scenario" "/tmp/who" || failed "$scenario ended with $?"
        cp /tmp/who "/out/who/$scenario/truth"
        keep "who/$scenario"
        dump "/out/who/$scenario/raw"
        killall -9 targets alpha beta gamma delta 2>/dev/null
        unload
    done
}
step_who() {
    who by_pid many by_uid by_comm comm_only by_cgroup everyone follow_exec follow_fork follow_none reuse threads owners
}
# Targets that come and go under load: on one thread of the host, see run.sh.
step_churn() { who churn; }

# --- without the module ---

perf_record() { # perf_record STEP USER ARGUMENTS..: as that user; the chunks are made in memory, where anybody may write
    step=$1 user=$2
    shift 2
    mkdir -p "/out/$step"
    su -s /bin/sh "$user" -c "${limit:-true}; exec $capture record --source perf -o /tmp/perf-chunks $*" 2>"/out/$step/words"
    code=$?
    [ ! -d /tmp/perf-chunks ] || { cp -r /tmp/perf-chunks "/out/$step/chunks" && rm -r /tmp/perf-chunks; }
    keep_truth "$step"
}
step_perf() {
    check "perf: the module is not loaded" sh -c "! grep -q '^pgtrace ' /proc/modules"
    # Forks, execs, threads, every kind of memory, faults that need I/O; started by the recorder.
    disk
    perf_record perf root -- $workload all -t /tmp/truth -d /tmp/ext4 -p 1
    check "perf: it ends with $code" [ $code = 0 ]
    check "perf: it says what it cannot see" grep -q 're-references' /out/perf/words

    # A process that runs already.
    gated $workload threads -t /tmp/truth -d /tmp/ram -p 1
    (while ! ls /tmp/perf-chunks/*.pgt >/dev/null 2>&1; do usleep 10000; done; sleep 1; begin) &
    perf_record perf_pid root --pid $pid
    wait "$pid"
    check "perf --pid: it ends with the process, with $code" sh -c "[ $code = 0 ] && grep -q 'lost in' /out/perf_pid/words"

    # Without root, as far as the kernel lets it.
    echo "user:x:1000:1000:user:/tmp:/bin/sh" >>/etc/passwd
    mkdir -p /tmp/ram/user && chown 1000 /tmp/ram/user
    paranoid=/proc/sys/kernel/perf_event_paranoid
    echo 2 >$paranoid
    # All sections but `kernel`: what the kernel touches is not seen.
    for section in anon shared private zero heap stack exec threads procs fork execs names lookups cold; do
        echo "$workload $section -t /tmp/truth -d /tmp/ram/user -p 1 || exit 1"
    done >/tmp/sections
    perf_record perf_user user -- /bin/sh /tmp/sections
    check "perf without root: it ends with $code" [ $code = 0 ]
    check "perf without root: it says that it does not see the kernel's touches" grep -q "CAP_PERFMON" /out/perf_user/words
    # The smallest ring of one CPU, and nobody reads it: much is lost, and all that is lost is counted.
    echo 20 >/proc/sys/kernel/perf_event_mlock_kb
    rm -f /tmp/gate && mkfifo /tmp/gate
    su -s /bin/sh user -c "read -r _ </tmp/gate; exec taskset 1 $workload threads -t /tmp/truth -d /tmp/ram/user -p 1" &
    pid=$!
    until grep -q '^Uid:[[:space:]]*1000' /proc/$pid/status; do usleep 10000; done
    (
        while ! ls /tmp/perf-chunks/*.pgt >/dev/null 2>&1; do usleep 10000; done
        sleep 1
        killall -STOP pgtrace-capture
        begin
        while [ -d /proc/$pid ]; do usleep 100000; done
        killall -CONT pgtrace-capture
    ) &
    limit="ulimit -l 0" perf_record perf_lossy user --pid $pid
    wait "$pid"
    check "perf with losses: it ends with $code" [ $code = 1 ]
    echo 3 >$paranoid # Debian's own default
    perf_record perf_refused user -- /bin/true
    check "perf refused: exit code $code" [ $code = 2 ]
    check "perf refused: says how to mend it" grep -q 'sysctl kernel.perf_event_paranoid=2' /out/perf_refused/words
    check "perf refused: leaves nothing" [ ! -e /out/perf_refused/chunks ]
    check "perf: the module was never loaded" sh -c "! grep -q '^pgtrace ' /proc/modules"
}

# What changes address spaces, and pages that come along with others.
events=/files/events
step_events() {
    load
    around=/sys/kernel/debug/fault_around_bytes before=$(cat /sys/kernel/debug/fault_around_bytes)
    record_raw maps rich 0 $events maps /tmp/truth /tmp/ram
    echo 65536 >$around
    record_raw around rich 0 $events around /tmp/truth /tmp/ram
    fifo=64 record_raw around_fifo rich 0 $events around /tmp/truth /tmp/ram
    echo "$before" >$around
    # Pages that are whole count as such only while they are not cleaned: the kernel's own figure.
    grain=2m record_raw huge rich 500 $events huge /tmp/truth /tmp/ram 1200
    record_raw small rich 500 $events huge /tmp/truth /tmp/ram 1200
    unload
}
# The active-PTE FIFO, small and large.
step_fifo() {
    load
    for n in 32 256; do
        fifo=$n record_raw fifo$n full 0 $workload all -s -t /tmp/truth -d /tmp/ram -p 4
    done
    fifo=64 record_raw fifo64 full 0 $workload all -t /tmp/truth -d /tmp/ram -p 4
    unload
}
# Labelled strings, for the classification (workloads/patterns.c). PATTERNS: references to each file, seed, sets.
step_patterns() {
    # shellcheck disable=SC2086 # words
    set -- ${PATTERNS:-1000 1 alone turns-noise threads}
    references=$1 seed=$2
    shift 2
    load
    mkdir /tmp/ram/patterns
    $patterns make /tmp/ram/patterns "$@" || failed "patterns: make"
    fifo=32 record patterns full 0 $patterns run /tmp/ram/patterns "$references" "$seed" /tmp/truth "$@"
    rm -r /tmp/ram/patterns
    unload
}
# The newest records are kept: two snapshots while it runs, and what is there at the end.
step_flight() {
    load
    control clear && control "buffers 4096 8" && control "overwrite on" || failed "flight: overwrite"
    check "snapshot without a recording is refused" sh -c "! echo snapshot begin >$debugfs/control 2>/dev/null"
    gated sh -c "for _ in 1 2 3 4; do $workload all -s -d /tmp/ram -p 20 -t /dev/null; done"
    control "pid $pid" && control "level full" && control "clean 20" && control start || failed "flight: start"
    check "buffers are fixed while recording" sh -c "! echo buffers 8192 4 >$debugfs/control 2>/dev/null"
    mkdir -p /out/flight
    # Names are read all the time, as a recorder does.
    (while cat $debugfs/names0 >>/tmp/names0 2>/dev/null && cat $debugfs/names1 >>/tmp/names1 && [ -d /proc/$pid ]; do
        usleep 50000
    done) &
    begin
    for shot in 1 2; do
        sleep 1
        mkdir -p /out/flight/$shot
        cp $debugfs/status /out/flight/$shot/before
        control "snapshot begin" || failed "flight: snapshot"
        sleep 1 # nobody reads: what comes must fit the free sub-buffer, and the rest is lost
        dump_refs /out/flight/$shot
        control "snapshot end"
        cp $debugfs/status /out/flight/$shot/status
    done
    wait "$pid" || failed "flight: the program ended with $?"
    control stop
    mkdir -p /out/flight/3
    dump_refs /out/flight/3
    cp $debugfs/status /out/flight/3/status
    rm -f /tmp/names0 /tmp/names1
    unload
}

# --- what must not hurt ---

busy() { # busy SECONDS: torture in the background, traced, cleaned every 2 ms; sets $pid
    gated $torture -s "$1" -w 2 -t 2 -d "${2:-/tmp/ram}" -r "$(date +%s)"
    control clear && control "pid $pid" && control "level full" && control "clean 2" && control start
    begin
}
intact() { # intact NAME: the busy program found every byte as it must be
    wait "$pid"
    code=$?
    check "$1: memory intact, exit code $code" [ "$code" = 0 ]
}

step_safety() {
    load
    busy 1
    usleep 300000
    check "rmmod while recording" rmmod pgtrace
    intact "rmmod while recording"

    load
    busy 1
    for file in "$debugfs"/refs* "$debugfs"/names*; do
        (while cat "$file" >/dev/null 2>&1; do usleep 10000; done) &
    done
    # shellcheck disable=SC2094
    exec 8<$debugfs/refs0 9>$debugfs/control
    usleep 300000
    rmmod pgtrace 2>/dev/null && ok "rmmod with the relay files open" || {
        # The control file is open and holds the module; without it, it goes.
        exec 9>&-
        check "rmmod with relay files open" rmmod pgtrace
    }
    cat <&8 >/dev/null 2>&1
    exec 8<&- 9>&-
    intact "rmmod under open files"

    load
    busy 30
    usleep 300000
    # The children are killed, too.
    pkill -9 torture 2>/dev/null || killall -9 torture
    wait "$pid" 2>/dev/null
    check "kill -9 of the program: no process is left in the tables" status_soon processes 0
    check "kill -9 of the program: still recording" status_is state recording
    control stop
    check "stop after it" status_is state stopped

    sleep 1000 &
    recorder=$!
    gated $torture -s 2 -w 1 -t 2 -d /tmp/ram
    control clear && control "pid $pid" && control "recorder $recorder" && control "level full" && control "clean 2" &&
        control start
    begin
    usleep 300000
    kill -9 $recorder
    wait $recorder 2>/dev/null
    check "the recorder died: recording stops by itself" state_soon stopped
    intact "the recorder died"

    sleep 1000 &
    pid=$!
    control clear && control "pid $pid" && control start
    usleep 100000
    check "THP is off while recorded" grep -q '^THP_enabled:[[:space:]]*0' /proc/$pid/status
    check "a second start is refused" sh -c "! echo start >$debugfs/control 2>/dev/null"
    check "an unknown command is refused" sh -c "! echo nonsense >$debugfs/control 2>/dev/null"
    check "buffers are fixed while recording" sh -c "! echo buffers 8192 4 >$debugfs/control 2>/dev/null"
    control stop
    check "THP is back after stop" grep -q '^THP_enabled:[[:space:]]*1' /proc/$pid/status
    check "no such process is refused" sh -c "! echo pid 4000000 >$debugfs/control 2>/dev/null"
    kill $pid
    unload
}

# pgtrace-capture in the same situations.
step_recorder() {
    load
    gated $torture -s 3 -w 1 -t 2 -d /tmp/ram
    $capture record -o /out/killed/chunks --level full --clean 2ms --pid $pid 2>/tmp/words &
    recorder=$!
    state_soon recording || failed "recorder: it does not record: $(cat /tmp/words)"
    begin
    usleep 700000
    kill -9 $recorder
    wait $recorder 2>/dev/null
    check "kill -9 of pgtrace-capture: recording stops by itself" state_soon stopped
    intact "kill -9 of pgtrace-capture"

    gated $torture -s 3 -w 1 -t 2 -d /tmp/ram
    $capture record -o /out/unloaded/chunks --level full --clean 2ms --pid $pid 2>/tmp/words &
    recorder=$!
    state_soon recording
    begin
    usleep 700000
    check "rmmod under pgtrace-capture" rmmod pgtrace
    check "pgtrace-capture ends then" gone_soon $recorder
    wait $recorder
    code=$?
    check "with exit code 1, and says why: $(tail -1 /tmp/words)" [ $code = 1 ]
    intact "rmmod under pgtrace-capture"

    load
    gated $torture -s 2 -w 1 -t 1 -d /tmp/ram
    $capture record -o /out/interrupted/chunks --level full --clean 20ms --pid $pid 2>/tmp/words &
    recorder=$!
    state_soon recording
    begin
    usleep 500000
    kill -INT $recorder
    wait $recorder
    code=$?
    check "SIGINT ends pgtrace-capture with $code" [ $code -le 1 ]
    keep interrupted
    intact "SIGINT"
    unload
}

# shellcheck source=guest-torture.sh
. /files/guest-torture.sh
# shellcheck source=guest-recorder.sh
. /files/guest-recorder.sh

for step in "$@"; do
    case $step in
    *=*)
        export "${step?}"
        continue
        ;;
    esac
    echo "-- $step ($(cut -d' ' -f1 /proc/uptime) s)"
    "step_$step"
done
! loaded || failed "the module is still loaded"
