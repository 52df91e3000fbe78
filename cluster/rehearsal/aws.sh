# shellcheck shell=bash
# cluster/aws.yaml against a stand-in for AWS: moto answers for EC2, IAM and S3, and every instance is a host
# (instances.sh) whose docker is a stand-in, too (docker). What the file is changed in is in aws_overlay.yaml.

ADDRESS=172.31.255.1             # of moto, in the network of the default VPC
METADATA=169.254.169.254         # where instances ask for the credentials of their role
REGION=eu-central-1
IMAGE=metacross:rehearsal        # see build_image.sh
# A tagger of two layers, which learns little: the rehearsal is about the cluster.
TRAINING=(
    train.storage_path=s3://my-bucket/runs train.workers=2 train.use_gpu=false model.layers=2 model.frozen_layers=1
    episodes.meta_batch_size=8 train.steps=120 train.eval_every=20 train.eval_sentences=20 train.checkpoint_every=10
)

# cluster/rehearsal.sh aws [--image NAME] [--venv DIRECTORY]
aws_rehearsal() {
    ssh_options "$@"
    needs buildah=buildah sshd=openssh-server ssh=openssh-client rsync=rsync
    needs_python ray boto3 flask_cors moto
    step "AWS's stand-in" account
    step "ray up: the head runs" cluster_up
    step "a training with 2 workers, undisturbed" job_whole undisturbed
    step "the same training, and a spot node is taken" job_with_loss disturbed
    expect "the weights are the same, bit by bit" same_weights
    step "idle nodes are gone" wait_for 900 "idle nodes to go" only_the_head
    step "ray down" cluster_down
    expect "no instance and no disk is left" nothing_left
}

# shellcheck source=cluster/rehearsal/ssh_hosts.sh
. "$PROJECT/cluster/rehearsal/ssh_hosts.sh"

account() {
    local image=$WORK/image
    image_mount "$IMAGE"
    mkdir "$image" "$WORK/instances"
    # Containers are told where moto is, and have no keys. They share one machine with everything else, so they are patient.
    printf "%s\n" "${HOST_ENVIRONMENT[@]}" "AWS_ENDPOINT_URL=http://$ADDRESS" RAY_worker_niceness=0 \
        AWS_METADATA_SERVICE_TIMEOUT=20 AWS_METADATA_SERVICE_NUM_ATTEMPTS=5 >"$image/variables"
    echo "$HOST_USER" >"$image/user"
    echo "$HOST_DIRECTORY" >"$image/directory"

    switch_start "$ADDRESS/16"
    on_switch ip address add "$METADATA/32" dev switch
    in_background "$WORK/moto.log" setpriv --pdeathsig KILL nsenter --target "$SWITCH_PID" --net -- \
        "$VENV/bin/python" "$PROJECT/cluster/rehearsal/moto_server.py"
    engineer_start 172.31.255.2
    as_root engineer ip route replace default dev eth0
    HOST_ENVIRONMENT+=(
        AWS_ENDPOINT_URL="http://$ADDRESS" AWS_DEFAULT_REGION="$REGION" AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none
    )
    wait_for 60 moto on engineer bash -c "</dev/tcp/$ADDRESS/80" 2>/dev/null
    on_moto prepare
    on engineer python cluster/rehearsal/overlay.py cluster/aws.yaml cluster/rehearsal/aws_overlay.yaml \
        >"$SHARED/aws.yaml" 2>"$WORK/overlay.log"
    say "    changed in cluster/aws.yaml: $(paste --serial --delimiters=';' "$WORK/overlay.log")"
    in_background "$WORK/instances.log" env PROJECT="$PROJECT" WORK="$WORK" VENV="$VENV" AWS_DEFAULT_REGION="$REGION" \
        AWS_ENDPOINT_URL="http://$ADDRESS" AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none \
        setpriv --pdeathsig KILL bash "$PROJECT/cluster/rehearsal/instances.sh" "$SWITCH_PID" "$ADDRESS" "$SWITCH_BITS" "$ROOT"
}

on_moto() { # COMMAND OF moto_account.py
    on engineer python cluster/rehearsal/moto_account.py "$@" 2>>"$WORK/account.log"
}

cluster_up() {
    on engineer ray up --yes /srv/metacross/aws.yaml >"$WORK/up.log" 2>&1 &
    wait "$!"
    on engineer bash -c 'ray dashboard /srv/metacross/aws.yaml >~/dashboard.log 2>&1 &'
    wait_for 60 "the dashboard" on engineer bash -c '</dev/tcp/localhost/8265' 2>/dev/null
}

job() { # NAME OF THE RUN
    on engineer timeout 1800 env RAY_AUTH_MODE=token ray job submit --address http://localhost:8265 --working-dir . \
        --runtime-env cluster/runtime_env.yaml -- metacross train "train.name=$1" "${TRAINING[@]}" >"$WORK/$1.log" 2>&1
}

job_whole() { # NAME
    job "$1" &
    wait_for 900 "two spot instances" instances 2 spot
    figure "two spot instances have started after" "$(since "$STEP_BEGAN") s"
    wait_for 900 "the first steps" grep -q 'step 20: dev' "$WORK/$1.log"
    figure "both have joined, and 20 steps are done after" "$(since "$STEP_BEGAN") s"
    wait "$!"
}

job_with_loss() { # NAME
    job "$1" &
    wait_for 900 "some steps" grep -q 'step 20: dev' "$WORK/$1.log"
    say "    taken: $(on_moto take-spot)"
    figure "a spot instance is taken after" "$(since "$STEP_BEGAN") s"
    wait_for 900 "workers to be missed" grep -q 'lost workers' "$WORK/$1.log"
    figure "the run knows after" "$(since "$STEP_BEGAN") s"
    wait_for 900 "the run to go on" grep -q 'going on after step' "$WORK/$1.log"
    figure "it goes on, with another spot instance, after" "$(since "$STEP_BEGAN") s"
    wait "$!"
}

cluster_down() {
    on engineer ray down --yes /srv/metacross/aws.yaml >"$WORK/down.log" 2>&1 &
    wait "$!"
}

# Whether so many instances run on this market.
instances() { # NUMBER MARKET
    [[ $(cat "$WORK"/instances/* | grep --count "^$2 ") == "$1" ]]
}

only_the_head() {
    [[ $(cut --delimiter=" " --fields=2 "$WORK"/instances/*) == head ]]
}

same_weights() {
    on_moto digests >"$WORK/digests"
    [[ $(grep -c . "$WORK/digests") == 2 && $(awk '{print $1}' "$WORK/digests" | sort --unique | wc -l) == 1 ]]
}

nothing_left() {
    [[ -z $(on_moto left) ]]
}
