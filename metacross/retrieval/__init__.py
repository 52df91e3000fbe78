"""The labelled sentences that are nearest to a sentence.

Modules:
    index     FAISS index over vectors of windows
    source    the source sentences of a training, ready to be support
    pools     what a tagger searches: the bundle's source sentences, and added examples
    support   both pools searched together, as trunk states
    prepared  what `metacross index` leaves for runs
"""
