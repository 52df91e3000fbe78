"""Meta-training without Ray: what every worker does, alone or in a team.

Modules:
    preparation  a configuration -> the parts that a learner works with
    episodes     pseudo-NER tasks and meta-batches
    learner      a meta-step, a measurement, a bundle
    loop         step after step: measurements, checkpoints, the best bundle
    dev_set      development sentences, scored at every measurement
    optimizer    AdamW, its learning rate, the gradient in one buffer
    checkpoint   what a run resumes from
    progress     how far a run has come
    pace         how fast it gets on
    profiler     a trace of ten steps
    team         what a worker knows of the others
"""
