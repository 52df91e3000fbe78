# shellcheck shell=bash
# A Ray cluster on hosts, as KubeRay makes one with cluster/kuberay: the same flags, variables, ports, and Redis.
#
#   redis_start ADDRESS        a real Redis, on a host with this machine's files
#   cluster_environment        adds to HOST_ENVIRONMENT what the cluster's processes and its users need
#   ray_head HOST [FLAGS]      keeps a head running there, as a kubelet would
#   ray_node HOST [FLAGS]      keeps a node running there
#   cluster_state WHAT         asks the head from outside of the cluster, see cluster_state.py

_random_text() {
    od --address-radix=n --format=x1 --read-bytes=32 /dev/urandom | tr -d ' \n'
}

REDIS_PASSWORD=$(_random_text)
RAY_TOKEN=$(_random_text)
SERVICE_TOKEN=$(_random_text)

redis_start() { # ADDRESS
    host_start redis "$1"
    # The arguments of cluster/kuberay/base/redis.yaml.
    HOST_DIRECTORY=/tmp as_root redis redis-server --bind 0.0.0.0 --requirepass "$REDIS_PASSWORD" \
        --appendonly yes --maxmemory 1gb --maxmemory-policy noeviction >"$WORK/redis-server.log" 2>&1 &
}

cluster_environment() {
    HOST_ENVIRONMENT+=(
        TERM=dumb
        RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$RAY_TOKEN"
        RAY_ROTATION_MAX_BYTES=104857600 RAY_ROTATION_BACKUP_COUNT=5
        RAY_SERVE_USE_GRPC_BY_DEFAULT=1 RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH=268435456
        SERVICE_TOKEN="$SERVICE_TOKEN"
        METACROSS_TOKENS="[{name: rehearsal, token: $SERVICE_TOKEN, may: [tag, read_metrics]}]"
        OMP_NUM_THREADS=1 RAY_worker_niceness=0 # all hosts share this machine's processors, with each other and others
        # KubeRay's setting: how long nodes wait for a head that is gone.
        RAY_gcs_rpc_server_reconnect_timeout_s=600
        # A host that is cut off is missed after seconds, and short trainings show their metrics.
        RAY_health_check_initial_delay_ms=0 RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=2000
        RAY_health_check_failure_threshold=5 RAY_metrics_report_interval_ms=2000
    )
}

# The object store is as small as it may be, since all hosts share this machine's memory.
_RAY_FLAGS=(--block --metrics-export-port=8080 --object-store-memory=100000000)

ray_head() { # HOST [FLAGS]
    _keep_running "$1" RAY_REDIS_ADDRESS=redis:6379 RAY_external_storage_namespace=rehearsal \
        ray start --head --port=6379 --dashboard-host=0.0.0.0 --redis-password="$REDIS_PASSWORD" "${_RAY_FLAGS[@]}" "${@:2}"
}

ray_node() { # HOST [FLAGS]
    _keep_running "$1" ray start --address=head:6379 "${_RAY_FLAGS[@]}" "${@:2}"
}

# Starts a command on a host, and again whenever it has ended, as long as the host is there.
_keep_running() { # HOST COMMAND...
    local host=$1
    shift
    while kill -0 "${HOST_PID[$host]}" 2>/dev/null; do
        on "$host" env "$@" || sleep 1
    done >>"$WORK/$host.log" 2>&1 &
}

cluster_state() { # WHAT
    on outside python3 /srv/metacross/cluster_state.py "$@"
}
