# shellcheck shell=bash
# Three hosts that run the image.

hosts_rehearsal() {
    needs buildah=buildah
    image_mount metacross:0.1.0-cpu
    step "three hosts" three_hosts
    expect "the second reaches the first by its name" on two bash -c 'getent hosts one >/dev/null'
    step "fails" false
}

three_hosts() {
    switch_start 10.77.0.1/24
    host_start one 10.77.0.11 "$ROOT"
    host_start two 10.77.0.12 "$ROOT"
    host_start three 10.77.0.13 "$ROOT"
    figure "metacross on the first host" "$(on one metacross --help | grep -c .)"
}
