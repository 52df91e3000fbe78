# shellcheck shell=bash disable=SC2034  # variables that machines.sh and the rehearsals read
# Hosts of this machine's files that are reached over ssh, and the one at which the engineer sits who runs `ray up`.
#
#   ssh_options OPTIONS...                --venv DIRECTORY and --image NAME, which set VENV and IMAGE
#   needs_python MODULE...                as `needs`, for Python's modules
#   engineer_start ADDRESS                that host; `on engineer ray up ...` runs a command there, in PROJECT, as the engineer
#   user_add HOST USER UID                a user who can run what is on this machine
#   sshd_start HOST USER KEY              an ssh server that lets this user in, by the public key
#   in_background LOG COMMAND...          the same as COMMAND..., which ends with the script at the latest

: "${PROJECT:?the project}"
: "${VENV:=$PROJECT/.venv}"             # the programs of the engineer, and of hosts
ENGINEER=59000                          # a user id that nobody has

ssh_options() { # OPTIONS...
    while (($#)); do
        case $1 in
            --venv) VENV=$(realpath "${2:?the directory of a virtual environment}") ;;
            --image) IMAGE=${2:?a name} ;;
            *) echo "cluster/rehearsal.sh: unknown option $1" >&2; exit 2 ;;
        esac
        shift 2
    done
}

needs_python() { # MODULE...
    local module
    for module in "$@"; do
        "$VENV/bin/python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$module') is None)" && continue
        echo "This rehearsal needs $module in $VENV (pip install -e '.[cpu,dev]'; --venv names another directory)." >&2
        exit 3
    done
}

engineer_start() { # ADDRESS
    HOST_DIRECTORY=$PROJECT
    HOST_ENVIRONMENT=(PATH="$VENV/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/home/engineer RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1)
    host_start engineer "$1"
    user_add engineer engineer "$ENGINEER"
    HOST_USER=$ENGINEER
    on engineer ray get-auth-token --generate >/dev/null 2>&1
}

user_add() { # HOST USER UID
    as_root "$1" useradd --non-unique --uid "$3" --create-home --shell /bin/bash --password '*' "$2"
    # The programs may be below a directory that is closed to others, such as /root.
    # shellcheck disable=SC2016  # for the shell on the host
    as_root "$1" bash -c 'for path; do until [[ $path == / ]]; do chmod o+x "$path"; path=$(dirname "$path"); done; done' \
        - "$PROJECT" "$VENV" "$("$VENV/bin/python" -c 'import sys; print(sys.base_prefix)')"
}

sshd_start() { # HOST USER KEY
    # shellcheck disable=SC2016  # for the shell on the host
    as_root "$1" bash -c '
        install --directory --owner="$1" --mode=700 "/home/$1/.ssh"
        echo "$2" >"/home/$1/.ssh/authorized_keys"
        mkdir --parents /run/sshd
        ssh-keygen -q -t ed25519 -N "" -f /run/sshd/host_key
        /usr/sbin/sshd -f /dev/null -h /run/sshd/host_key -o UsePAM=no -o PasswordAuthentication=no -o PidFile=none' \
        - "$2" "$3"
}

# Not a function's call with an ampersand: that would be a shell of its own, whose child would outlive the script.
in_background() { # LOG COMMAND...
    local log=$1
    shift
    "$@" >"$log" 2>&1 &
}
