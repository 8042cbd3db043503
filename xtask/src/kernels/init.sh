#!/bin/busybox sh
# The first process of a guest: prepares the system, runs each line of /tests/jobs, and powers off. Reports on the console:
#   @@ boot RELEASE             the system is ready
#   @@ run NAME                 a job begins; its output follows
#   @@ end NAME CODE MS         its exit code (137: exceeded its time) and duration
#   @@ note TEXT                a remark
#   @@ done                     all jobs have run
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb CI=true
busybox mount -t devtmpfs dev /dev
exec <"/dev/$(busybox cat /tests/console)" >"/dev/$(busybox cat /tests/console)" 2>&1
busybox stty -onlcr
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t tmpfs tmpfs /tmp
busybox mount -t tmpfs tmpfs /run
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
busybox mount -t tracefs tracefs /sys/kernel/tracing
busybox mount -t bpf bpf /sys/fs/bpf
busybox mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /dev/pts
busybox ln -s /proc/self/fd /dev/fd
busybox hostname guest
busybox ip link set lo up
while read -r module; do
    busybox insmod "/modules/$module" || echo "@@ note cannot load $module"
done </modules/order
echo "+memory +pids +io" >/sys/fs/cgroup/cgroup.subtree_control
# shellcheck source=/dev/null
. /tests/environment
echo "@@ boot $(busybox uname -r)"

milliseconds() {
    read -r up _ </proc/uptime
    echo "$(busybox echo "$up" | busybox tr -d .)0"
}

# matches NAME FILE: true if one of the patterns in the file matches.
matches() {
    while read -r pattern; do
        # shellcheck disable=SC2254 # a pattern
        case $1 in $pattern) return 0 ;; esac
    done <"$2"
    return 1
}

# run NAME SECONDS COMMAND…
run() {
    local name=$1 seconds=$2 begin code end
    shift 2
    echo "@@ run $name"
    begin=$(milliseconds)
    busybox timeout -s KILL "$seconds" "$@" >/tmp/output 2>&1 </dev/null
    code=$?
    end=$(milliseconds)
    # Descendants of a killed job. Signals to all processes spare the first one.
    [ "$code" = 137 ] && kill -KILL -1
    # A long output would take longer than the job.
    busybox tail -c 20000 /tmp/output | busybox tr -d '\r' | busybox sed 's/^/| /'
    echo
    echo "@@ end $name $code $((end - begin))"
}

while read -r kind name seconds command; do
    case $kind in
    # The command is a test executable; each of its tests is a job.
    tests)
        $command --list --format terse 2>/tmp/errors | busybox sed -n 's/: test$//p' >/tmp/tests
        [ -s /tmp/tests ] || echo "@@ note $command lists no test: $(busybox tail -n 1 /tmp/errors)"
        while read -r test; do
            matches "$test" /tests/only || continue
            matches "$name::$test" /tests/skip && continue
            run "$name::$test" "$seconds" $command --exact "$test" --test-threads=1 --show-output
        done </tmp/tests
        ;;
    *)
        # shellcheck disable=SC2086 # words
        run "$name" "$seconds" $command
        ;;
    esac
done </tests/jobs
echo "@@ done"
busybox poweroff -f
