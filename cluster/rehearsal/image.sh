# shellcheck shell=bash
# shellcheck disable=SC2034 # machines.sh reads these variables
# The files that hosts have: those of the built image, or those of this machine.
#
#   image_mount IMAGE     sets ROOT, and the user, directory and variables with which the image runs (see machines.sh)
#   image_label NAME      a label of that image
#   image_unmount
#   machine_files VENV    the same for this machine's own files, with this project and the programs of a virtual environment

ROOT=/
_CONTAINER=""

image_mount() { # IMAGE
    if ! buildah inspect --type image "$1" >/dev/null 2>&1; then
        echo "This rehearsal needs the image $1, which cluster/rehearsal/build_image.sh builds." >&2
        exit 3
    fi
    _CONTAINER=$(buildah from --pull-never --name "metacross-rehearsal-$$" "$1")
    ROOT=$(buildah mount "$_CONTAINER")
    mapfile -t HOST_ENVIRONMENT < <(buildah inspect --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$_CONTAINER" | grep .)
    HOST_DIRECTORY=$(buildah inspect --format '{{.OCIv1.Config.WorkingDir}}' "$_CONTAINER")
    HOST_USER=$(buildah inspect --format '{{.OCIv1.Config.User}}' "$_CONTAINER")
    HOST_USER=${HOST_USER%:*}
}

image_label() { # NAME
    buildah inspect --format "{{index .OCIv1.Config.Labels \"$1\"}}" "$_CONTAINER"
}

image_unmount() {
    [[ -n $_CONTAINER ]] || return 0
    buildah rm "$_CONTAINER" >/dev/null
    _CONTAINER=""
}

machine_files() { # VENV
    ROOT=/
    HOST_USER=0
    HOST_DIRECTORY=$PROJECT
    HOST_ENVIRONMENT=(
        PATH="$1/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root PYTHONPATH="$PROJECT"
        PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0 TOKENIZERS_PARALLELISM=false
    )
}
