# shellcheck shell=bash
# Trainings that are submitted as jobs, from a host outside of the cluster.
#
#   training_begin NAME [SETTINGS]   submits one; settings of the rehearsal go over those below
#   training_step NAME               how far it has come
#   training_reached NAME STEP       whether it has come so far
#   training_end                     waits for the job; fails if it does

# A tagger of two layers, which learns little: the rehearsal is about the cluster.
_TRAINING=(
    train.storage_path=/srv/metacross/runs train.workers=2 train.use_gpu=false model.layers=2 model.frozen_layers=1
    episodes.meta_batch_size=8 train.steps=120 train.eval_every=60 train.eval_sentences=40 train.checkpoint_every=10
)
_JOB=""
_JOB_LOG=""

training_begin() { # NAME [SETTINGS]
    _JOB_LOG=$WORK/job-$1.log
    on outside ray job submit --address http://head:8265 --working-dir . \
        --runtime-env /srv/metacross/runtime_env.yaml -- \
        metacross train "train.name=$1" "${_TRAINING[@]}" "${@:2}" >"$_JOB_LOG" 2>&1 &
    _JOB=$!
}

training_step() { # NAME
    local step
    step=$(grep -o '"step": [0-9]*' "$SHARED/runs/$1/progress.jsonl" 2>/dev/null | tail -n 1)
    echo $((${step##* }))
}

training_reached() { # NAME STEP
    (($(training_step "$1") >= $2))
}

training_end() {
    wait "$_JOB" || { tail -n 30 "$_JOB_LOG" >&2; return 1; }
}
