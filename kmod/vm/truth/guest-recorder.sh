# shellcheck shell=sh
# guest-recorder.sh: steps of guest.sh about pgtrace-capture as something people leave running. Sourced by it.
# shellcheck disable=SC2154,SC2086 # $capture, $workload, $pid and others are guest.sh's

# background OPTIONS..: records $pid (and what else is said) in the background; sets $recorder. Words go to /tmp/words.
background() {
    $capture record --pid "$pid" "$@" 2>/tmp/words &
    recorder=$!
    state_soon recording || failed "it does not record: $(cat /tmp/words)"
}
ended() { # ended NAME CODE: the recorder, with this exit code
    wait "$recorder"
    code=$?
    check "$1: exit code $code" [ "$code" = "$2" ]
}
# refused NAME WORDS COMMAND..: exit code 2, and WORDS on stderr
refused() {
    name=$1 words=$2
    shift 2
    "$@" >/dev/null 2>/tmp/refused
    code=$?
    check "$name: $(tail -1 /tmp/refused)" sh -c "[ $code = 2 ] && grep -q '$words' /tmp/refused"
}
# What was recorded in /tmp/ram goes to the host. (Not at once: 6.12's 9p may hang when a file it reads is replaced.)
bring() { # bring STEP
    keep "$1"
    cp /tmp/words "/out/$1/words"
    mv /tmp/ram/chunks "/out/$1/"
}
size_of() { # size_of FOLDER: bytes of its chunks, while the recorder stands still
    kill -STOP "$recorder"
    find "$1" -name '*.pgt' -exec stat -c %s {} + 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'
    kill -CONT "$recorder"
}

# Only the newest chunks stay on disk. Programs come and go: the names of those that are gone are not for ever.
step_keep() {
    load
    mkdir -p /out/keep
    # shellcheck disable=SC2016
    gated sh -c 'for i in $(seq 40); do "$@" anon -p 5 -t /dev/null & "$@" zero -d /tmp/ram -p 5 -t /dev/null; wait; done' sh "$workload"
    background -o /tmp/ram/chunks --level full --clean 5ms --keep-last 2MiB
    begin
    most=0
    while [ -d /proc/"$pid" ]; do
        bytes=$(size_of /tmp/ram/chunks)
        [ "$bytes" -le "$most" ] || most=$bytes
        usleep 100000
    done
    wait "$pid"
    ended "keep 2 MiB" 0
    check "keep: never more than 2 MiB: $most" [ "$most" -le $((2 << 20)) ]
    check "keep: $(grep made.room /tmp/words)" grep -q 'older chunks' /tmp/words
    check "keep: the first chunks are gone" sh -c '! [ -e /tmp/ram/chunks/cpu000-000000.pgt ]'
    bring keep
    unload
}

# Memory keeps the newest; two snapshots on demand, one at a signal, one at the end. While one is read, a machine that is
# busy elsewhere may read slower than the program writes: that is told, in the exit code, too.
step_memory() {
    load
    mkdir -p /out/memory
    gated sh -c "for _ in 1 2 3 4; do $workload all -s -d /tmp/ram -p 20 -t /dev/null; done"
    before=$(grep n_subbufs $debugfs/status)
    background -o /tmp/ram/chunks --level full --clean 20ms --in-memory --keep-last 1MiB
    begin
    sleep 1
    check "memory: nothing is written meanwhile" [ "$(size_of /tmp/ram/chunks)" = 0 ]
    $capture snapshot --wait >/out/memory/first || failed "memory: first snapshot"
    check "memory: the chunks of a snapshot: $(wc -l </out/memory/first)" [ -s /out/memory/first ]
    sleep 1
    kill -USR1 $recorder
    sleep 1
    $capture snapshot --wait >/out/memory/third || failed "memory: third snapshot"
    wait "$pid"
    code=0
    ! grep -q '^total.* lost' /tmp/words || code=1
    ended memory $code
    bring memory
    check "memory: $(grep '^total' /tmp/words)" grep -q 'given up for newer ones' /tmp/words
    check "memory: the buffers are as before" [ "$(grep n_subbufs $debugfs/status)" = "$before" ]
    unload
}

# By time: what is older than two seconds is in no snapshot. And on the exit of a target.
step_lately() {
    load
    mkdir -p /out/lately
    gated sh -c "$workload anon -p 20 -t /dev/null; sleep 3; $workload zero -d /tmp/ram -p 20 -t /dev/null; sleep 1"
    background -o /tmp/ram/chunks --level full --clean 20ms --in-memory --keep-last 2s
    begin
    wait "$pid"
    ended lately 0
    bring lately

    $capture record -o /tmp/ram/exits --all --in-memory --snapshot-on exit --level light 2>/tmp/words &
    recorder=$!
    state_soon recording
    $workload zero -d /tmp/ram -t /dev/null
    for _ in $(seq 50); do
        grep -q '^snapshot 1' /tmp/words && break
        usleep 100000
    done
    check "exits: $(grep '^snapshot 1' /tmp/words)" grep -q '^snapshot 1' /tmp/words
    kill -INT $recorder
    ended exits 0
    unload
}

# A disk that would be full: the recording ends before, in order.
step_full_disk() {
    load
    mkdir -p /tmp/small /out/full_disk
    mount -t tmpfs -o size=24m tmpfs /tmp/small
    gated $torture -s 60 -w 2 -t 2 -d /tmp/ram
    background -o /tmp/small/chunks --level full --clean 2ms --min-free 8MiB
    begin
    ended "full disk" 1
    kill -9 "$pid" 2>/dev/null
    pkill -9 torture 2>/dev/null || killall -9 torture 2>/dev/null
    wait "$pid" 2>/dev/null
    keep full_disk
    free=$(df -k /tmp/small | awk 'END { print $4 }')
    check "full disk: $free kB are left" [ "$free" -gt 2048 ]
    check "full disk: $(grep '^warning' /tmp/words)" grep -q 'min-free.*ended in order' /tmp/words
    cp -r /tmp/small/chunks /out/full_disk/
    umount /tmp/small
    unload
}

# What a running recording is told.
step_switch() {
    load
    mkdir -p /out/switch
    gated sh -c "for _ in 1 2 3; do $workload all -s -d /tmp/ram -p 20 -t /dev/null; done"
    background -o /tmp/ram/chunks --level rich --clean 20ms
    begin
    for command in 'level light' 'level full' 'clean 10ms' 'fifo 64' 'clean off' 'fifo 32' 'fifo off' 'clean 30ms'; do
        $capture $command || failed "switch: $command"
        usleep 200000
    done
    sleep 1000 &
    other=$!
    $capture add --pid $other || failed "switch: add"
    check "switch: a target was added" status_is targets 2
    $capture remove --pid $other || failed "switch: remove"
    check "switch: and taken back" status_is targets 1
    kill $other
    refused "switch: no such process" 'no such process: 4000000' $capture add --pid 4000000
    refused "switch: no such cgroup" 'no such cgroup: /no/where' $capture add --cgroup /no/where
    refused "switch: one at a time" 'another recording is running' $capture record -o /tmp/x --pid 1
    refused "switch: never added" 'the module refused' $capture remove --comm nobody
    check "switch: the recording goes on" status_is state recording
    wait "$pid"
    ended switch 0
    bring switch
    refused "switch: nothing runs" 'no recording is running' $capture level light
    refused "memory that is not there" 'no memory for buffers' $capture record -o /tmp/x --buffer 512GiB -- true
    refused "a process that is not there" 'no such process' $capture record -o /tmp/x --pid 4000000
    refused "a cgroup that is not there" 'no such cgroup' $capture record -o /tmp/x --cgroup /no/where
    unload
}

# What doctor says of a real machine, in three states.
step_doctor() {
    $capture doctor >/tmp/before
    code=$?
    check "doctor, not loaded: exit code $code" [ $code = 2 ]
    check "doctor: $(grep '^problem  module:' /tmp/before)" grep -q '^problem  module: not loaded.*modprobe pgtrace' /tmp/before
    load
    $capture doctor -o /tmp >/tmp/after
    code=$?
    check "doctor, loaded: exit code $code, $(grep -vc '^ok ' /tmp/after) complaints" [ $code -le 1 ]
    check "doctor: $(grep '^ok       permission' /tmp/after)" grep -q '^ok       permission' /tmp/after
    umount /sys/kernel/debug
    $capture doctor >/tmp/unmounted
    code=$?
    check "doctor, without debugfs: exit code $code" [ $code = 2 ]
    check "doctor: $(grep debugfs: /tmp/unmounted)" grep -q '^problem  debugfs.*mount -t debugfs' /tmp/unmounted
    mount -t debugfs none /sys/kernel/debug
    cat /tmp/after >/out/doctor
    # shellcheck disable=SC2016
    check "doctor, another user" sh -c '! setuidgid nobody /files/pgtrace-capture doctor >/dev/null 2>&1'
    unload
}
