#!/usr/bin/env bash
# The first process of a host (machines.sh): makes its file system, and becomes tini, which lasts as long as the host.
set -euo pipefail
name=$1 source=$2 work=$3 memory=$4

hostname "$name"
# A private copy of the source: what is written goes into memory. Another file system must hold it, because a directory
# below the source cannot.
mount -t tmpfs -o "size=$memory" tmpfs /mnt
mkdir /mnt/written /mnt/work /mnt/root
root=/mnt/root
mount -t overlay -o "lowerdir=$source,upperdir=/mnt/written,workdir=/mnt/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o size=1g,mode=1777 tmpfs "$root/dev/shm"
# Ray sessions of this machine are not the host's.
mkdir -p "$root/tmp/ray" "$root/srv/metacross"
mount -t tmpfs -o "size=$memory,mode=1777" tmpfs "$root/tmp/ray"
mount --bind "$work/shared" "$root/srv/metacross"
mount --bind "$work/etc-hosts" "$root/etc/hosts"
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"

: >"$work/$name.ready"
exec chroot "$root" tini -s -- sleep infinity
