"""Meta-training without Ray: what every worker does, alone or in a team.

Modules:
    preparation  a configuration -> the parts that a learner works with
    episodes     pseudo-NER tasks and meta-batches
    learner      a meta-step, a measurement, a bundle
    loop         step after step: measurements, checkpoints, the best bundle
    dev_set      development sentences, scored at every measurement
    optimizer    AdamW, the gradient in one buffer
    averaging    the average of theta over the last steps
    seeds        the seeds of runs that differ in nothing else
    bundle_average  one bundle of several: the mean of their weights
    schedule     the learning rate of every step
    checkpoint   what a run resumes from
    extension    what a longer run has in common with a shorter one
    progress     how far a run has come
    event_log    progress.jsonl, and a stop while a run is being prepared
    pace         how fast it gets on
    profiler     a trace of ten steps
    team         what a worker knows of the others
"""
