#!/usr/bin/env bash
# Boots systemd as the first process of namespaces of its own, on a copy of this machine's files that is thrown away, with
# our units as packaged. Becomes it; the caller bounds its time.
#   boot.sh WORK BINARY      WORK/result is written by check.sh
set -euo pipefail
work=$1 binary=$2 here=$(cd "$(dirname "$0")" && pwd)
packaged=$here/../../packaging/systemd
mount --make-rprivate /
mount -t tmpfs tmpfs "$work/over"
mkdir "$work/over/up" "$work/over/work" "$work/over/root"
root=$work/over/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/over/up,workdir=$work/over/work" "$root"
mkdir -p "$root/proc" "$root/sys" "$root/run" "$root/dev" "$root/result"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount --bind "$work/result" "$root/result"
install -m 755 "$binary" "$root/usr/bin/echomesh"
install -m 755 "$here/check.sh" "$root/run/check.sh"
mkdir -p "$root/run/units" "$root/etc/sysusers.d" "$root/etc/tmpfiles.d"
cp "$packaged"/*.service "$here"/*.target "$here"/*.service "$root/run/units/"
cp "$packaged/echomesh.sysusers" "$root/etc/sysusers.d/echomesh.conf"
cp "$packaged/echomesh.tmpfiles" "$root/etc/tmpfiles.d/echomesh.conf"
rm -rf "$root/var/lib/echomesh" "$root/etc/echomesh" "$root/etc/openwrt_release"
ip link set lo up
export SYSTEMD_UNIT_PATH=/run/units container=echomesh-test
# Not chroot: the kernel makes no user namespace (PrivateUsers=) in one.
cd "$root"
mkdir -p run/old
pivot_root . run/old
umount -l /run/old
exec /lib/systemd/systemd --system --unit=check.target --log-target=console --log-level=notice --show-status=no
