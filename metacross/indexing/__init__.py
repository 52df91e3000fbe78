"""What `metacross index` does: encode and index a large source once for many runs.

Modules:
    build           the steps: read, encode, index, look up neighbours, measure
    parts           sentences and vectors as Parquet files
    window_encoder  a part of sentences -> a part of vectors
    ray_pool        the same by a pool of encoders on Ray Data
    recall          what an approximate index finds of what exact search finds
"""
