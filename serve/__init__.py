"""The service: metacross over HTTP, on Ray Serve.

Modules:
    app             the deployments, wired
    ingress         the deployment that takes HTTP requests
    tagger          the deployment that tags
    source_index    the deployment that holds a node's index
    source_shards   the deployments that hold a shard of a large index each
    engine          what a tagger does with a batch
    results         what was found in a text, as the HTTP interface has it
    work_parts      a request's work as parts that a batch may have
    jobs            what an Ingress sends to a Tagger
    batcher         requests take turns, in batches, long ones a part at a time
    pace            how much work a batch may have
    changeover      from one bundle to the next while the service answers
    examples        added examples, in a database
    annotations     labelled sentences as users send them
    replicas        calls to lost replicas, tried again
    prometheus      metrics
    node_metrics    the metrics of all replicas, for GET /metrics
    http_headers    connections whose header does not come
    places          names of files as answers show them
    memory          freed memory goes back to the system
    logs            log lines in Serve's files
    ray_internals   Ray's private names
    run             `metacross serve`
    check           a config file checked without a cluster
"""
