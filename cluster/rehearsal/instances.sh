#!/usr/bin/env bash
# Makes a host of every instance that runs in moto's EC2, and ends those of instances that are gone. aws.sh starts it.
# Like an instance, a host has a private and a public address, an ssh server with the instance's key, and docker. The file
# WORK/instances/ID says on which market it was bought, and which of Ray's node types it is.
set -euo pipefail
# shellcheck source=cluster/rehearsal/machines.sh
. "$PROJECT/cluster/rehearsal/machines.sh"
# shellcheck source=cluster/rehearsal/ssh_hosts.sh
. "$PROJECT/cluster/rehearsal/ssh_hosts.sh"

here=$PROJECT/cluster/rehearsal
# shellcheck disable=SC2034  # read in machines.sh
SWITCH_PID=$1 SWITCH_ADDRESS=$2 SWITCH_BITS=$3 PORTS=100 HOST_MEMORY=4g
image=$4
HOST_ENVIRONMENT=(PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root)

instance_start() { # ID PRIVATE_ADDRESS PUBLIC_ADDRESS KEY
    host_start "$1" "$2"
    as_root "$1" ip address add "$3/32" dev eth0
    # Public addresses are on the same switch, so there is no gateway on the way.
    as_root "$1" ip route replace default dev eth0 src "$2"
    # shellcheck disable=SC2016  # for the shell there
    nsenter --target "${HOST_PID[$1]}" --mount -- bash -c '
        mkdir /mnt/root/srv/image /mnt/root/etc/image
        mount --bind "$1" /mnt/root/srv/image
        install --target-directory=/mnt/root/etc/image "$2"/image/*
        install "$3/docker" /mnt/root/usr/local/bin/docker
        install --mode=4755 -D /usr/bin/setpriv /mnt/root/usr/local/libexec/become-root' - "$image" "$WORK" "$here"
    user_add "$1" ubuntu 1000
    sshd_start "$1" ubuntu "$4"
}

while read -r what id market node_type private public key; do
    case $what in
        running)
            instance_start "$id" "$private" "$public" "$key"
            echo "$market $node_type" >"$WORK/instances/$id"
            ;;
        gone)
            host_kill "$id"
            rm "$WORK/instances/$id"
            ;;
    esac
    echo "$what $id $market $node_type"
done < <(exec nsenter --target "$SWITCH_PID" --net -- setpriv --pdeathsig KILL "$VENV/bin/python" "$here/moto_account.py" follow)
