"""Meta-training on Ray Train, over workers that may die.

Modules:
    driver               `train`: what `metacross train` calls
    seed_runs            the same configuration trained with several seeds
    attempts             workers started, watched, and started again
    failures             why an attempt failed, and whether another may help
    signals              what Ctrl-C and SIGTERM do
    process_group        torch's process group, on loopback where all workers are on one machine
    worker               what runs on every worker
    directory            a run's directory as its driver sees it
    resources            what each worker gets of the cluster
    trackers             where figures go besides progress.jsonl
    tensorboard_tracker  TensorBoard files
    prometheus_tracker   Prometheus, through Ray's metrics
    mlflow_tracker       MLflow
"""
