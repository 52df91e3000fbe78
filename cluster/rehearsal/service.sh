# shellcheck shell=bash
# The service on a cluster's nodes, and clients outside that ask it all the time.
#
#   service_deploy BUNDLE           checks and deploys cluster/kuberay's config file with this bundle
#   service_answers HOST            whether it is ready there
#   service_call HOST PATH [JSON]   what it answers
#   load_begin HOST...              clients of these hosts begin to ask, two for each
#   load_wait ANSWERS HOST...       waits until each of these hosts has answered so many requests from now on
#   load_count SINCE HOST           sets ANSWERS, FAILURES, STALL (seconds without an answer) since a time

service_deploy() { # BUNDLE
    local check
    sed -e 's|serve.examples: .*|serve.examples: ""|' -e "s|{bundle: .*}|{bundle: $1}|" \
        "$PROJECT/cluster/kuberay/base/serve-config.yaml" >"$SHARED/serve-config.yaml"
    # The check, which loads the bundle, takes as long as Serve takes to start.
    on outside python3 -m serve.check /srv/metacross/serve-config.yaml >"$WORK/check.log" 2>&1 &
    check=$!
    on outside serve deploy --address http://head:8265 /srv/metacross/serve-config.yaml >"$WORK/deploy.log" 2>&1
    wait "$check" || { cat "$WORK/check.log" >&2; return 1; }
}

service_answers() { # HOST
    service_call "$1" /readyz >/dev/null 2>&1
}

service_call() { # HOST PATH [JSON]
    on outside wget --quiet --timeout 30 --tries 1 --output-document - --header "authorization: Bearer $SERVICE_TOKEN" \
        --header 'content-type: application/json' ${3:+--post-data "$3"} "http://$1:8000$2"
}

load_begin() { # HOST...
    on outside python3 /srv/metacross/load.py ask /srv/metacross/load.txt "$@" >"$WORK/load.log" 2>&1 &
}

load_wait() { # ANSWERS HOST...
    local answers=$1 since=$EPOCHREALTIME host
    shift
    for host in "$@"; do wait_for 120 "$answers answers of $host" _answered "$answers" "$since" "$host"; done
}

_answered() { # ANSWERS SINCE HOST
    awk -v answers="$1" -v since="$2" -v host="$3" \
        '$1 > since && $2 == host && $3 == 200 { found++ } END { exit found < answers }' "$SHARED/load.txt"
}

load_count() { # SINCE HOST
    read -r ANSWERS FAILURES STALL KINDS < <(on outside python3 /srv/metacross/load.py count /srv/metacross/load.txt "$@")
    figure "$2: answers, failures, longest time without an answer" "$ANSWERS, $FAILURES ($KINDS), $STALL s"
}
