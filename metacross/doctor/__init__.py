"""What `metacross doctor` does: it looks at all nodes of a cluster, or at this machine, and says what would go wrong.

Modules:
    findings     what was found: ok, a warning or a failure, each with its fix
    probe        what runs on every node: it tells what is there, and tries storage
    nodes        the nodes, as they are asked: those of the cluster at RAY_ADDRESS, or this machine
    checks       what nodes tell -> findings
    storage      whether all nodes reach one storage: files that one writes and another reads
    examination  all of it
"""
