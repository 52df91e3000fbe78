"""The labelled sentences that are nearest to a sentence, and the labelled words that are nearest to a word.

Modules:
    index            FAISS index over vectors of windows, or of words
    gpu_index        which kinds of index go to a GPU, and with which options
    index_shard      a shard of an index, with vectors and windows on the disk
    sharded          shards searched as one index
    source           the source sentences of a training, ready to be support
    pools            what a tagger searches: the bundle's source sentences, and added examples
    near_duplicates  which labelled sentences say nearly the same
    support          both pools searched together, as trunk states
    labelled_words   labelled words vote on the tags of similar words
    prepared         what `metacross index` leaves for runs
"""
