# Sourced: what every step that leaves something in the image ends with, so that the same lock gives
# the same bytes: no logs, no caches, and no file that is younger than the lock.
settle() {
    rm -rf /var/log/apt /var/log/*.log /var/cache/apt/*.bin /var/cache/apt/archives/*.deb \
        /var/cache/debconf/*-old /var/cache/fontconfig/* /var/cache/ldconfig/aux-cache \
        /var/cache/man/* /var/lib/dpkg/*-old /etc/*- /root/.cache
    # only what is younger: what the base has is not taken away, which would leave a trace as well
    if [ -d /var/lib/apt/lists ]; then
        find /var/lib/apt/lists -type f -newermt "@$1" -delete
    fi
    # what the engine mounts is not ours
    find / -ignore_readdir_race -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /build -o -path /cache \
        -o -path /debs -o -path /opt/uv -o -path /run/secrets -o -path /etc/hosts \
        -o -path /etc/hostname -o -path /etc/resolv.conf \) -prune \
        -o -newermt "@$1" -exec touch -h -d "@$1" {} +
}
