# shellcheck shell=bash
# The service on a cluster's nodes, and clients outside that ask it all the time.
#
#   service_deploy BUNDLE           deploys cluster/kuberay's config file with this bundle
#   service_answers HOST            whether it is ready there
#   service_call HOST PATH [JSON]   what it answers
#   load_begin HOST...              clients of these hosts begin to ask, two for each
#   load_count SINCE HOST           sets ANSWERS, FAILURES, STALL (seconds without an answer) since a time

service_deploy() { # BUNDLE
    sed -e 's|serve.examples: .*|serve.examples: ""|' -e "s|{bundle: .*}|{bundle: $1}|" \
        "$PROJECT/cluster/kuberay/base/serve-config.yaml" >"$SHARED/serve-config.yaml"
    on outside python3 -m serve.check /srv/metacross/serve-config.yaml >"$WORK/deploy.log"
    on outside serve deploy --address http://head:8265 /srv/metacross/serve-config.yaml >>"$WORK/deploy.log" 2>&1
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

load_count() { # SINCE HOST
    read -r ANSWERS FAILURES STALL KINDS < <(on outside python3 /srv/metacross/load.py count /srv/metacross/load.txt "$@")
    figure "$2: answers, failures, longest time without an answer" "$ANSWERS, $FAILURES ($KINDS), $STALL s"
}
