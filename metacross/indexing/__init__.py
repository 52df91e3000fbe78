"""What `metacross index` does: encode and index a large source once for many runs.

Modules:
    build           the steps: read, encode, index, look up neighbours, measure
    shards          sentences and vectors as Parquet files
    window_encoder  a shard of sentences -> a shard of vectors
    ray_pool        the same by a pool of encoders on Ray Data
    recall          what an approximate index finds of what exact search finds
"""
