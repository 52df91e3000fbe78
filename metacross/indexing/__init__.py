"""What `metacross index` does: encode and index a large source once, for many runs or in shards for a service.

Modules:
    build           the steps: read, encode, index or write shards, measure
    parts           sentences and vectors as Parquet files
    shard_writer    an index in shards, each filled and stored by itself
    window_encoder  a part of sentences -> a part of vectors
    on_ray          the same by a pool of encoders on Ray Data
    recall          what an approximate index finds of what exact search finds
"""
