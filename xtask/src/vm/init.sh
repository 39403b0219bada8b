#!/bin/busybox sh
# shellcheck shell=dash
# The first process of a guest: mounts its root, and goes on there.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
for module in $(/bin/busybox cat /modules/order); do
    /bin/busybox insmod "/modules/$module"
done
/bin/busybox mkdir -p /lower /memory /new
/bin/busybox mount -t virtiofs root /lower -o ro
/bin/busybox mount -t tmpfs memory /memory
/bin/busybox mkdir -p /memory/upper /memory/work
parameter() {
    /bin/busybox tr ' ' '\n' </proc/cmdline | /bin/busybox sed -n "s/^$1=//p"
}
/bin/busybox mount -t overlay root /new \
    -o "lowerdir=/lower$(parameter guest.root),upperdir=/memory/upper,workdir=/memory/work"
for place in $(parameter guest.shared | /bin/busybox tr ':' ' '); do
    /bin/busybox mkdir -p "/new$place"
    /bin/busybox mount --bind "/lower$place" "/new$place"
done
/bin/busybox cp /guest.sh /new/guest.sh
for place in proc sys dev; do
    /bin/busybox mount --move "/$place" "/new/$place"
done
exec /bin/busybox switch_root /new /bin/bash /guest.sh
