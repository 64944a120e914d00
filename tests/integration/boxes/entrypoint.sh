#!/bin/sh
# PID 1 of a box: sshd and, where BOX_ENGINE=yes, dockerd, started again whenever it dies,
# as systemd would. Where BOX_INIT=systemd, systemd itself takes over.
set -eu

authorize() { # user, home
    install -d -m 0700 -o "$1" -g "$1" "$2/.ssh"
    printf '%s\n' "$BOX_AUTHORIZED_KEY" > "$2/.ssh/authorized_keys"
    chown "$1:$1" "$2/.ssh/authorized_keys"
    chmod 0600 "$2/.ssh/authorized_keys"
}

# With cgroup v2 a group that holds processes cannot have limited children: step aside
# (as in moby's hack/dind).
nest_cgroups() {
    [ -f /sys/fs/cgroup/cgroup.controllers ] || return 0
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 < /sys/fs/cgroup/cgroup.procs > /sys/fs/cgroup/init/cgroup.procs || :
    sed -e 's/ / +/g' -e 's/^/+/' < /sys/fs/cgroup/cgroup.controllers \
        > /sys/fs/cgroup/cgroup.subtree_control
}

run_engine() {
    if [ "$BOX_CONTAINERD_STORE" = yes ]; then
        mkdir -p /etc/docker
        echo '{"features": {"containerd-snapshotter": true}}' > /etc/docker/daemon.json
    fi
    while [ ! -e /run/box-stops ]; do
        # of an engine that was killed; a number in them may by now be another process
        rm -f /run/docker.pid /run/docker/containerd/containerd.pid
        dockerd >> /var/log/dockerd.log 2>&1 || :
        sleep 0.2
    done
}

stop() {
    touch /run/box-stops
    if pid=$(cat /run/docker.pid 2>/dev/null); then
        kill -TERM "$pid" 2>/dev/null || :
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    fi
    exit 0
}
trap stop TERM INT

authorize root /root
authorize ada /home/ada
unset BOX_AUTHORIZED_KEY
ssh-keygen -A > /dev/null
mkdir -p /run/sshd
set -- -o LogLevel=VERBOSE # its "Accepted publickey" counts the logins
# All tests come from one address: one that is refused on purpose must not lock out the others.
# (OpenSSH 9.8 and newer; older ones do not know the option.)
if /usr/sbin/sshd -t -o PerSourcePenalties=no 2> /dev/null; then
    set -- "$@" -o PerSourcePenalties=no
fi
if [ "$BOX_INIT" = systemd ]; then
    echo "SSHD_OPTS='-E /var/log/sshd.log $*'" > /etc/default/ssh
    exec /sbin/init
fi
/usr/sbin/sshd -D -E /var/log/sshd.log "$@" &
if [ "$BOX_ENGINE" = yes ]; then
    nest_cgroups
    run_engine &
fi
# PID 1 reaps whatever is left to it
while :; do
    wait || :
done
