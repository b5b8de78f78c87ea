# What tests/tests/oci_v2.rs has a guest do: `carve oci` on cgroup v2 with all controllers. Each line `v2: NAME ok` is a check.
export PATH=/bin
if [ ! -e /switched ]; then
    # No process can leave the root that an initramfs is (pivot_root(2)).
    /bin/busybox mount -t tmpfs -o size=80% tmpfs /mnt
    /bin/busybox cp -a /bin /carve /init /bundles /rootfs /mnt/
    for dir in /lib /lib64; do [ -e $dir ] && /bin/busybox cp -a $dir /mnt/; done
    /bin/busybox mkdir /mnt/proc /mnt/sys /mnt/dev /mnt/tmp /mnt/run
    /bin/busybox touch /mnt/switched
    exec /bin/busybox switch_root /mnt /init
fi
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cd /
# Rather an end than a test that waits for ever.
(sleep 400; echo 'v2: took too long'; poweroff -f) &
CG=/sys/fs/cgroup

check() { # NAME COMMAND…
    name=$1
    shift
    if "$@" > /tmp/check 2>&1; then
        echo "v2: $name ok"
    else
        echo "v2: $name FAILED: $* ($(head -c 400 /tmp/check))"
    fi
}
oci() { /carve oci "$@"; }
create() { oci create --bundle /bundles/$1 $1 > /tmp/$1.out 2>&1 < /dev/null || cat /tmp/$1.out; }
says() { # FILE LINE
    [ "$(cat $CG/carve-oci/all/$1)" = "$2" ] || { cat $CG/carve-oci/all/$1; return 1; }
}
fails() { # WORDS COMMAND…: it fails and says so
    words=$1
    shift
    ! "$@" > /tmp/said 2>&1 && grep -q "$words" /tmp/said || { cat /tmp/said; return 1; }
}
stopped() {
    tries=0
    until oci state $1 | grep -q stopped; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] || return 1
        sleep 0.1
    done
}
gone() { [ ! -e $CG/carve-oci/$1 ]; }
disk() { oci exec all sh -c "busybox mknod /tmp/d b $(cat /sys/block/vda/dev | tr : ' '); head -c 512 /tmp/d | wc -c" | grep -q 512; }
no() { ! "$@"; }

check controllers grep -q memory $CG/cgroup.controllers

check run oci run --bundle /bundles/plain plain
check run-leaves-nothing gone plain

create all
check memory.max says memory.max 33554432
check memory.low says memory.low 8388608
check memory.high says memory.high 30408704
check cpu.weight says cpu.weight 174
check cpu.max says cpu.max "20000 50000"
check cpu.max.burst says cpu.max.burst 10000
check cpuset says cpuset.cpus 0
check pids.max says pids.max 20
check io.max says io.max "$(cat /sys/block/vda/dev) rbps=1048576 wbps=max riops=max wiops=7"
check start oci start all
check ps sh -c "/carve oci ps --format json all | grep -q '^\[[0-9]*\]$'"
check stats sh -c "/carve oci events --stats all | grep '\"limit\":33554432' | grep -q '\"current\":1,'"

check pause oci pause all
check frozen grep -q 'frozen 1' $CG/carve-oci/all/cgroup.events
check paused sh -c '/carve oci state all | grep -q paused'
check resume oci resume all
check thawed grep -q 'frozen 0' $CG/carve-oci/all/cgroup.events

check update oci update --memory 64m --memory-swap 64m --pids-limit 9 --cpu-quota 30000 --cpu-share 1024 all
check updated-memory says memory.max 67108864
check updated-pids says pids.max 9
check updated-cpu says cpu.max "30000 50000"
check updated-weight says cpu.weight 100

check device-forbidden no disk
echo "{\"devices\": [{\"allow\": false}, {\"allow\": true, \"type\": \"b\", \"major\": $(cut -d: -f1 /sys/block/vda/dev)}]}" > /tmp/rules
check update-devices oci update --resources /tmp/rules all
check device-allowed disk
echo '{"devices": [{"allow": false}]}' | oci update --resources - all
check device-forbidden-again no disk

check pause-again oci pause all
check kill oci kill all KILL
check killed stopped all
check delete oci delete all
check delete-leaves-nothing gone all

create oom
oci events --interval 60s oom > /tmp/oom.events &
events=$!
while ! [ -s /tmp/oom.events ]; do sleep 0.1; done
check oom-start oci start oom
check oom-killed stopped oom
[ -e /proc/$events ] && sleep 1
check oom-event grep -q '{"type":"oom","id":"oom"}' /tmp/oom.events
check oom-delete oci delete oom

oci run --bundle /bundles/forks forks > /tmp/forks 2>&1
check forks grep -q fork /tmp/forks
create storm
oci start storm
sleep 1
check storm-kill oci kill --all storm KILL
check storm-killed stopped storm
check storm-empty sh -c "[ \"\$(/carve oci ps -f json storm)\" = '[]' ]"
check storm-delete oci delete storm

mkdir $CG/busy
sleep 1000 &
echo $! > $CG/busy/cgroup.procs
check no-internal-processes fails 'processes of its own' oci run --bundle /bundles/busy busy
mkdir $CG/threads $CG/threads/a
echo threaded > $CG/threads/a/cgroup.type
check threaded fails threaded oci run --bundle /bundles/threads threads
check parents-stay [ -d $CG/busy -a -d $CG/threads -a ! -e $CG/busy/x -a ! -e $CG/threads/x ]
check what-v2-lacks fails 'knows no such limit' oci run --bundle /bundles/swappiness swappiness
# What systemd gives a user, and where their shell is.
mkdir -p /etc /home/b $CG/user/app/shell
echo 'user:x:1000:1000::/home:/bin/sh' > /etc/passwd
echo '+memory +pids' > $CG/user/cgroup.subtree_control
for dir in $CG/user/app $CG/user/app/shell; do
    chown 1000 $dir $dir/cgroup.procs $dir/cgroup.subtree_control
done
chown 1000 /home /home/b
user() { # GROUP COMMAND…
    group=$1
    shift
    sh -c 'echo $$ > "$0/cgroup.procs" && exec su user -c "$1"' $CG/$group "$*"
}
rootless() { user user/app/shell /carve oci --root /home/state "$@"; }
user user/app/shell /carve oci spec --rootless --bundle /home/b
sed -i 's/"path": "rootfs"/"path": "\/rootfs"/; s/^ *"sh"$/"sleep", "1000"/; s/"terminal": true/"terminal": false/' /home/b/config.json
rootless run --detach --bundle /home/b mine > /tmp/mine.out 2>&1 < /dev/null || cat /tmp/mine.out
check delegated grep -q '[0-9]' $CG/user/app/mine/cgroup.procs
check delegated-limit rootless update --pids-limit 7 mine
check delegated-limit-holds grep -qx 7 $CG/user/app/mine/pids.max
check delegated-exec rootless exec mine true
check delegated-pause rootless pause mine
check delegated-kill rootless delete --force mine
check delegated-leaves-nothing [ -d $CG/user/app -a ! -e $CG/user/app/mine ]
rootless run --detach --bundle /home/b mine > /tmp/mine.out 2>&1 < /dev/null || cat /tmp/mine.out
check exec-from-another-session sh -c "echo \$\$ > $CG/busy/cgroup.procs && su user -c '/carve oci --root /home/state exec mine true' 2>&1 | grep -q 'not in the container'"
check delegated-delete rootless delete --force mine
mkdir $CG/alone && chown 1000 $CG/alone $CG/alone/cgroup.procs
user alone /carve oci --root /home/state run --detach --bundle /home/b own > /tmp/own.out 2>&1 < /dev/null || cat /tmp/own.out
check below-the-own-group [ -d $CG/alone/own ]
check below-the-own-group-delete user alone /carve oci --root /home/state delete --force own
check list sh -c '[ "$(/carve oci list -q)" = "" ]'
check nothing-left gone ''
echo v2: done
poweroff -f
