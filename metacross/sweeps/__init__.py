"""The search for good settings, on Ray Tune: every trial is a training run.

Modules:
    driver  `tune`: what `metacross tune` calls
    space   what is searched, from YAML
    tuner   Ray Tune set up
    trial   what runs inside a trial
    trials  the trials, read back
    report  table, best settings, page
    plots   its plots
"""
