#!/usr/bin/env bash
# Rehearsals of a cluster on this machine: hosts are made of namespaces. docs/deploying/rehearsal.md says what each does.
#
#   cluster/rehearsal.sh NAME [OPTIONS]      NAME is a file of cluster/rehearsal/ with a function NAME_rehearsal
#
# Exit status: 0 when everything was as expected, 1 when not, 2 for wrong options, 3 when the machine lacks something.
set -euo pipefail
export LC_ALL=C.UTF-8 # numbers with points
cd "$(dirname "$0")/.."
PROJECT=$PWD

case ${1:-} in
    hosts | aws | local) ;;
    *) echo "usage: cluster/rehearsal.sh hosts|aws|local [OPTIONS]" >&2; exit 2 ;;
esac
WORK=$(mktemp --directory --tmpdir metacross-rehearsal.XXXXXX)
# shellcheck source=cluster/rehearsal/needs.sh
. "$PROJECT/cluster/rehearsal/needs.sh"
# shellcheck source=cluster/rehearsal/steps.sh
. "$PROJECT/cluster/rehearsal/steps.sh"
# shellcheck source=cluster/rehearsal/machines.sh
. "$PROJECT/cluster/rehearsal/machines.sh"
# shellcheck source=cluster/rehearsal/image.sh
. "$PROJECT/cluster/rehearsal/image.sh"
# shellcheck source=/dev/null
. "$PROJECT/cluster/rehearsal/$1.sh"

# However the rehearsal ends: what it started ends, then the table is printed. Its logs stay where it failed.
finish() {
    local status=$?
    trap '' INT TERM
    machines_end
    image_unmount
    if ((status == 2 || status == 3)); then # it has not begun
        rm -rf "$WORK"
        exit "$status"
    fi
    steps_end "$status" || status=$((status ? status : 1))
    if ((status)); then
        echo "Logs: $WORK" >&2
    else
        rm -rf "$WORK"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$1_rehearsal" "${@:2}"
