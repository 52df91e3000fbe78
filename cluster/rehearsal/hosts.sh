# shellcheck shell=bash
# shellcheck source=cluster/rehearsal/ray_cluster.sh
. "$PROJECT/cluster/rehearsal/ray_cluster.sh"
# shellcheck source=cluster/rehearsal/training.sh
. "$PROJECT/cluster/rehearsal/training.sh"
# shellcheck source=cluster/rehearsal/service.sh
. "$PROJECT/cluster/rehearsal/service.sh"

# Hosts with the built image: a head, two nodes, and one outside of the cluster that submits jobs and calls the service.
#
#   --image NAME    the image, metacross:rehearsal unless it is given (see build_image.sh)
#   --venv DIR      this machine's own files and a virtual environment of it, in place of an image
#   --small         a head, which also works, and one node; only one training, which is left in peace
hosts_rehearsal() {
    local image=metacross:rehearsal venv="" small=""
    while (($#)); do
        case $1 in
            --image) image=${2:?a name} && shift ;;
            --venv) venv=$(realpath "${2:?a directory}") && shift ;; # jobs have other directories
            --small) small=yes ;;
            *) echo "cluster/rehearsal.sh hosts: unknown option $1" >&2 && exit 2 ;;
        esac
        shift
    done
    needs redis-server=redis-server wget=wget
    if [[ $venv ]]; then
        machine_files "$venv"
    else
        needs buildah=buildah
        image_mount "$image"
        figure "revision of the image" "$(image_label org.opencontainers.image.revision)"
    fi
    NODES=(head one two)
    HEAD_CPUS=0      # as in cluster/kuberay: no replica on the head
    SETTINGS=()      # of the trainings, over those of training.sh
    WITHOUT_HEAD=200 # answers of each node while the head is away
    [[ ! $small ]] || NODES=(head one) HEAD_CPUS=1 SETTINGS=(train.steps=60 train.eval_every=30) WITHOUT_HEAD=80

    step "hosts on a switch, and a Redis" hosts_start
    step "a Ray cluster of ${#NODES[@]} nodes" cluster_start
    step "a training with 2 workers, submitted from outside" training
    [[ $small ]] || step "the same training; a host is cut off, and comes back" training_with_a_cut
    step "the service on 2 nodes" service
    step "the page and an answer, from outside" call
    step "metrics of alerts and dashboard" metrics
    step "the head is killed, and comes back" head_killed
    step "a host of the service is cut off, and comes back" service_with_a_cut
}

declare -A ADDRESSES=([head]=10.77.0.11 [one]=10.77.0.12 [two]=10.77.0.13 [outside]=10.77.0.20)

hosts_start() {
    local name
    cluster_environment
    switch_start 10.77.0.1/24
    redis_start 10.77.0.2
    for name in "${NODES[@]}" outside; do host_start "$name" "${ADDRESSES[$name]}" "$ROOT"; done
    cp "$PROJECT"/cluster/rehearsal/*.py "$PROJECT"/cluster/runtime_env.yaml "$PROJECT"/cluster/monitoring/* "$SHARED"
}

cluster_start() {
    local name
    ray_head head --num-cpus="$HEAD_CPUS"
    for name in "${NODES[@]:1}"; do ray_node "$name" --num-cpus=1; done
    for name in "${NODES[@]}"; do wait_for 180 "$name to join" is_node "$name"; done
    on outside python3 /srv/metacross/metrics.py watch /srv/metacross/seen.txt "${NODES[@]}" >"$WORK/metrics.log" 2>&1 &
}

is_node() { # NAME
    cluster_state nodes 2>/dev/null | grep -qx "${ADDRESSES[$1]}"
}

is_no_node() { # NAME
    local nodes
    nodes=$(cluster_state nodes 2>/dev/null) && ! grep -qx "${ADDRESSES[$1]}" <<<"$nodes"
}

service_runs() {
    [[ $(cluster_state service 2>/dev/null) == RUNNING ]]
}

# Whether actors of a kind are on so many different hosts.
spread_over() { # HOSTS KIND
    (($(cluster_state actors "$2" 2>/dev/null | cut -d ' ' -f 1 | sort -u | wc -l) == $1))
}

training() {
    training_begin calm "${SETTINGS[@]}"
    wait_for 300 "the first steps" training_reached calm 1
    expect "its workers are on two hosts" spread_over 2 RayTrainWorker
    training_end
}

training_with_a_cut() {
    local weights=bundle/model.safetensors step began
    training_begin cut "${SETTINGS[@]}"
    wait_for 300 "step 20" training_reached cut 20
    host_cut two
    began=$(milliseconds)
    wait_for 120 "Ray to miss the host" is_no_node two
    figure "until Ray misses the host that is cut off" "$(since "$began") s"
    host_join two
    began=$(milliseconds)
    wait_for 180 "the host to join again" is_node two
    figure "until it has joined again" "$(since "$began") s"
    step=$(training_step cut)
    wait_for 300 "the training to go on" training_reached cut $((step + 1))
    figure "until the training goes on" "$(since "$began") s"
    training_end
    expect "it lost its workers on the way" grep -q "lost workers" "$WORK/job-cut.log"
    expect "its weights are those of the undisturbed training" cmp "$SHARED/runs/"{calm,cut}"/$weights"
}

service() {
    local name kind
    service_deploy /srv/metacross/runs/calm/bundle
    wait_for 600 "all replicas" service_runs
    for name in "${NODES[@]: -2}"; do wait_for 60 "the service on $name" service_answers "$name"; done
    for kind in SourceIndex Tagger Ingress; do expect "a $kind on each host" spread_over 2 "$kind"; done
}

call() {
    local host=${NODES[-1]} manifest=$SHARED/runs/calm/bundle/manifest.json answer
    expect "the page" grep -q "<title>" <(service_call "$host" /)
    answer=$(service_call "$host" /v1/entities '{"text": "La cumbre se celebró en Quito.", "explain": true}')
    expect "an answer by the bundle that was trained" grep -q "$(sha256sum "$manifest" | head -c 12)" <<<"$answer"
    load_begin "${NODES[@]: -2}"
}

metrics() {
    # Nodes export every two seconds what the clients' first requests brought.
    wait_for 60 "the nodes' metrics" nodes_export_all || true # the next line says what is missing
    expect "the nodes export all that alerts and dashboard name${MISSING:+, but not: ${MISSING//$'\n'/ }}" nodes_export_all
    wait_for 60 "the service's metrics" service_exports_all || true
    expect "the service's /metrics has its part of them${MISSING:+, but not: ${MISSING//$'\n'/ }}" service_exports_all
}

nodes_export_all() {
    MISSING=$(missing_metrics seen.txt) && [[ ! $MISSING ]]
}

# Of the service's own port only the service's metrics are expected.
service_exports_all() {
    on outside python3 /srv/metacross/metrics.py service /srv/metacross/service.txt "${NODES[-1]}" &&
        MISSING=$(missing_metrics service.txt | sed -e '/^ray_node_/d' -e '/^ray_metacross_train_/d') && [[ ! $MISSING ]]
}

# What alerts and dashboard name and a file of metrics lacks.
missing_metrics() { # FILE
    on outside python3 /srv/metacross/metrics.py missing "/srv/metacross/$1" \
        /srv/metacross/alerts.yaml /srv/metacross/grafana-dashboard.json
}

head_killed() {
    local name before since=$EPOCHREALTIME killed
    before=$(cluster_state actors Tagger)
    killed=$(milliseconds)
    host_kill head
    load_wait "$WITHOUT_HEAD" "${NODES[@]:1}"
    figure "without a head, for $WITHOUT_HEAD answers of each node" "$(since "$killed") s"
    host_start head "${ADDRESSES[head]}" "$ROOT"
    ray_head head --num-cpus="$HEAD_CPUS"
    for name in "${NODES[@]}"; do wait_for 180 "$name to be a node" is_node "$name"; done
    figure "until the head knows its cluster again" "$(since "$killed") s"
    wait_for 300 "all replicas" service_runs
    load_wait 50 "${NODES[@]:1}"
    for name in "${NODES[@]:1}"; do
        load_count "$since" "$name"
        expect "no request of $name failed" test "$FAILURES" = 0
    done
    [[ $HEAD_CPUS != 0 ]] || expect "the Taggers are the same" test "$before" = "$(cluster_state actors Tagger)"
}

service_with_a_cut() {
    local host=${NODES[-1]} other=${NODES[-2]} since=$EPOCHREALTIME cut back
    host_cut "$host"
    cut=$(milliseconds)
    wait_for 120 "Ray to miss the host" is_no_node "$host"
    figure "until Ray misses the host that is cut off" "$(since "$cut") s"
    load_wait 50 "$other"
    host_join "$host"
    back=$(milliseconds)
    wait_for 180 "the host to join again" is_node "$host"
    figure "until it has joined again" "$(since "$back") s"
    wait_for 180 "the service on it" service_answers "$host"
    figure "until the service answers there" "$(since "$back") s"
    wait_for 300 "a Tagger on each host" spread_over 2 Tagger
    wait_for 300 "all replicas" service_runs
    figure "until all replicas run" "$(since "$back") s"
    load_wait 50 "$host" "$other"
    load_count "$since" "$host"
    load_count "$since" "$other"
    expect "of $other no requests failed but those under way" test "$FAILURES" -le 2
}
