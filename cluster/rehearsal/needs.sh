# shellcheck shell=bash
# What a rehearsal needs of the machine, said in one line if it is missing.

# Ends the script with status 3 unless it runs as root and finds these programs, each named with its Debian package.
needs() { # PROGRAM=PACKAGE...
    local pair missing=()
    for pair in unshare=util-linux ip=iproute2 pgrep=procps tini=tini "$@"; do
        command -v "${pair%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    if ((EUID != 0)); then
        echo "This rehearsal needs root, because it makes hosts of namespaces." >&2
        exit 3
    fi
    if ((${#missing[@]})); then
        echo "This rehearsal needs packages that are not installed: apt-get install ${missing[*]}" >&2
        exit 3
    fi
    if ! unshare --mount --net --uts --ipc --pid --fork true 2>/dev/null; then
        echo "This rehearsal needs a machine that lets root make namespaces, which most containers do not." >&2
        exit 3
    fi
}
