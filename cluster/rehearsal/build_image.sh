#!/usr/bin/env bash
# Builds the image that the rehearsal's hosts run, from cluster/image/Dockerfile, without Docker (needs root, buildah,
# debootstrap):
#
#   cluster/rehearsal/build_image.sh [OPTIONS OF buildah bud]
#
# Options say, for instance, where pip finds packages: --volume /etc/pip.conf:/etc/pip.conf:ro
# If the base python:3.11-slim-bookworm is not there, Debian 12 with its own Python takes its place under the same name.
# `buildah pull docker.io/library/python:3.11-slim-bookworm` gets the real one.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=cluster/rehearsal/needs.sh
. cluster/rehearsal/needs.sh
BASE=docker.io/library/python:3.11-slim-bookworm

make_base() {
    local files container
    files=$(mktemp --directory)
    trap 'rm -rf "$files"' RETURN
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$files"
    container=$(buildah from scratch)
    buildah add "$container" "$files" /
    buildah commit --rm "$container" "$BASE"
}

needs buildah=buildah debootstrap=debootstrap
buildah inspect --type image "$BASE" >/dev/null 2>&1 || make_base
revision=$(git rev-parse --short HEAD)
[[ -z $(git status --porcelain -- metacross serve samples cluster/image pyproject.toml constraints.txt) ]] || revision+=-changed
buildah bud --isolation chroot --network host --pull-never --format docker --layers \
    --build-arg REVISION="$revision" --tag metacross:rehearsal --file cluster/image/Dockerfile "$@" .
