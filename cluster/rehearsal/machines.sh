# shellcheck shell=bash
# Hosts on this machine, each with its own network, processes, host name and files, on one switch.
#
#   switch_start 10.77.0.1/24             the switch; its address is every host's gateway
#   host_start head 10.77.0.11 [ROOT]     a host whose file system is a private copy of ROOT (/ if not given)
#   on head ray status                    runs a command there, as HOST_USER, in HOST_DIRECTORY, with HOST_ENVIRONMENT
#   as_root head mount ...                the same as root
#   on_switch moto_server ...             runs a command of this machine that the hosts reach at the switch's address
#   host_cut head; host_join head         takes the cable out, and puts it back
#   host_kill head                        ends it with all that runs there, at once; host_start brings a new one
#   machines_end                          ends everything; to be called when the script ends for whatever reason
#
# A host is a process with namespaces of its own. Nothing has a name outside of them: no bridge, no mount and no
# namespace outlives the process, and the process does not outlive the script that started it, even when that gets SIGKILL.
# What is written on a host is in memory, and gone with it. Only SHARED, at /srv/metacross on every host, is kept.

: "${WORK:?the directory of this rehearsal}"
SHARED=$WORK/shared                  # what all hosts see at /srv/metacross
HOST_USER=0                          # user and group as which `on` runs commands
HOST_DIRECTORY=/                     # where
HOST_ENVIRONMENT=(PATH="$PATH")      # with these variables alone
HOST_MEMORY=2g                       # what may be written on a host
declare -A HOST_PID=() HOST_PORT=()  # of each host: its first process; its port at the switch
SWITCH_PID=""
PORTS=0
MACHINES_DIR=$(dirname "${BASH_SOURCE[0]}")

# Starts a process in namespaces of its own; NEW_PID is the first process there. Must run in the script's own shell: the
# process ends with the shell that started it.
_start_process() { # LOG UNSHARE_ARGUMENTS...
    local log=$1 parent
    shift
    setpriv --pdeathsig KILL unshare --fork --kill-child "$@" >"$log" 2>&1 &
    parent=$!
    until NEW_PID=$(pgrep -P "$parent"); do
        kill -0 "$parent" || { cat "$log" >&2; return 1; }
        sleep 0.05
    done
}

switch_start() { # ADDRESS/BITS
    mkdir -p "$SHARED"
    chmod 1777 "$SHARED"
    printf '127.0.0.1 localhost\n' >"$WORK/etc-hosts"
    SWITCH_ADDRESS=${1%/*} SWITCH_BITS=${1#*/}
    _start_process "$WORK/switch.log" --net sleep infinity
    SWITCH_PID=$NEW_PID
    on_switch ip link set lo up
    on_switch ip link add switch type bridge
    on_switch ip address add "$1" dev switch
    on_switch ip link set switch up
}

on_switch() { # COMMAND...
    nsenter --target "$SWITCH_PID" --net -- "$@"
}

host_start() { # NAME ADDRESS [ROOT]
    local name=$1 address=$2 root=${3:-/} port=port$((++PORTS))
    grep -q "^$address $name$" "$WORK/etc-hosts" || echo "$address $name" >>"$WORK/etc-hosts"
    rm -f "$WORK/$name.ready"
    # The host itself gets the kernel's file systems and a private copy of ROOT: see host_init.sh.
    _start_process "$WORK/$name.log" --net --mount --uts --ipc --pid \
        bash "$MACHINES_DIR/host_init.sh" "$name" "$root" "$WORK" "$HOST_MEMORY"
    HOST_PID[$name]=$NEW_PID
    HOST_PORT[$name]=$port
    on_switch ip link add "$port" master switch type veth peer name eth0 netns "$NEW_PID"
    on_switch ip link set "$port" up
    local inside=(nsenter --target "$NEW_PID" --net -- ip)
    "${inside[@]}" link set lo up
    "${inside[@]}" address add "$address/$SWITCH_BITS" dev eth0
    "${inside[@]}" link set eth0 up
    "${inside[@]}" route add default via "$SWITCH_ADDRESS"
    until [[ -e $WORK/$name.ready ]]; do
        kill -0 "$NEW_PID" || { cat "$WORK/$name.log" >&2; return 1; }
        sleep 0.05
    done
}

_enter() { # NAME USER COMMAND...
    local name=$1 user=$2
    shift 2
    nsenter --target "${HOST_PID[$name]}" --net --mount --uts --ipc --pid --root --setuid "$user" --setgid "$user" -- \
        env --ignore-environment --chdir="$HOST_DIRECTORY" "${HOST_ENVIRONMENT[@]}" "$@"
}

on() { # NAME COMMAND...
    local name=$1
    shift
    _enter "$name" "$HOST_USER" "$@"
}

as_root() { # NAME COMMAND...
    local name=$1
    shift
    _enter "$name" 0 "$@"
}

host_cut() { # NAME
    on_switch ip link set "${HOST_PORT[$1]}" down
}

host_join() { # NAME
    on_switch ip link set "${HOST_PORT[$1]}" up
}

host_kill() { # NAME
    local pid=${HOST_PID[$1]}
    unset "HOST_PID[$1]"
    _kill "$pid"
}

machines_end() {
    _kill "${HOST_PID[@]}" ${SWITCH_PID:+"$SWITCH_PID"}
    HOST_PID=() SWITCH_PID=""
}

# Ends first processes of namespaces, and with them all others there, and waits until they are gone.
_kill() { # PID...
    local pid
    for pid in "$@"; do kill -KILL "$pid" 2>/dev/null || true; done
    for pid in "$@"; do
        while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    done
}
