# shellcheck shell=bash
# cluster/local.yaml over ssh into three hosts, which have the addresses of that file: 1 node, 3 by demand, 1 again.

# shellcheck source=cluster/rehearsal/ssh_hosts.sh
. "$PROJECT/cluster/rehearsal/ssh_hosts.sh"

HEAD=192.0.2.10
WORKERS=(192.0.2.11 192.0.2.12)

# cluster/rehearsal.sh local [--venv DIRECTORY]
local_rehearsal() {
    ssh_options "$@"
    needs_python ray
    needs sshd=openssh-server rsync=rsync wget=wget
    step "three machines, and the engineer's" machines
    step "ray up: the head runs" cluster_up
    expect "the head is the only node" nodes 1
    step "a training whose workers fill both machines" job
    expect "it left a bundle" test -s "$SHARED/runs/rehearsal/bundle/model.safetensors"
    step "idle nodes leave" wait_for 900 "idle nodes to leave" nodes 1
    step "ray down" cluster_down
    expect "nothing of Ray runs on any machine" nothing_left
}

machines() {
    switch_start 192.0.2.1/24
    engineer_start 192.0.2.2
    on engineer ssh-keygen -q -t ed25519 -N "" -f /home/engineer/.ssh/id_ed25519
    machine_start head "$HEAD"
    # A worker is told that it has one CPU, so two training workers need both.
    machine_start worker-1 "${WORKERS[0]}" "export RAY_OVERRIDE_RESOURCES='{\"CPU\": 1}'"
    machine_start worker-2 "${WORKERS[1]}" "export RAY_OVERRIDE_RESOURCES='{\"CPU\": 1}'"
    on engineer python cluster/rehearsal/overlay.py cluster/local.yaml cluster/rehearsal/local_overlay.yaml \
        >"$SHARED/local.yaml" 2>"$WORK/overlay.log"
    say "    changed in cluster/local.yaml: $(paste --serial --delimiters=';' "$WORK/overlay.log")"
}

machine_start() { # NAME ADDRESS LINE...
    host_start "$1" "$2"
    user_add "$1" metacross "$((ENGINEER + 1))"
    sshd_start "$1" metacross "$(on engineer cat /home/engineer/.ssh/id_ed25519.pub)"
    # As docs/deploying/own-machines.md says.
    # shellcheck disable=SC2016  # for the shell on the host
    as_root "$1" bash -c 'printf "%s\n" "$@" >>/home/metacross/.profile' - \
        "export PATH=$VENV/bin:\$PATH" "export RAY_worker_niceness=0" "${@:3}"
}

cluster_up() {
    on engineer ray up --yes /srv/metacross/local.yaml >"$WORK/up.log" 2>&1 &
    wait "$!"
    on engineer bash -c 'ray dashboard /srv/metacross/local.yaml >~/dashboard.log 2>&1 &'
    wait_for 60 "the dashboard" on engineer bash -c '</dev/tcp/localhost/8265' 2>/dev/null
}

job() {
    on engineer timeout 1800 env RAY_AUTH_MODE=token ray job submit --address http://localhost:8265 --working-dir . \
        --runtime-env cluster/runtime_env.yaml -- metacross train train.name=rehearsal train.workers=2 \
        train.storage_path=/srv/metacross/runs train.use_gpu=false model.layers=2 model.frozen_layers=1 \
        episodes.meta_batch_size=8 train.steps=40 train.eval_every=20 train.eval_sentences=20 >"$WORK/job.log" 2>&1 &
    wait_for 300 "three nodes" nodes 3
    figure "three nodes after" "$(since "$STEP_BEGAN") s"
    wait "$!"
}

# Whether the cluster has so many nodes.
nodes() { # NUMBER
    [[ $(alive) == "$1" ]]
}

alive() {
    # shellcheck disable=SC2016  # for the shell on the host
    on engineer bash -c 'wget -q --tries 1 -O - --header "authorization: Bearer $(cat ~/.ray/auth_token)" \
        "http://localhost:8265/api/v0/nodes"' | grep --only-matching '"state": "ALIVE"' | wc -l
}

cluster_down() {
    on engineer ray down --yes /srv/metacross/local.yaml >"$WORK/down.log" 2>&1 &
    wait "$!"
}

nothing_left() {
    local name
    for name in head worker-1 worker-2; do
        ! as_root "$name" pgrep --full raylet >/dev/null || return 1
    done
}
