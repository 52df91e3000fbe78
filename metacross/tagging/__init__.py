"""From a sentence to its entities: the nearest labelled sentences, weights adapted to them, tags, an answer.

Modules:
    tagger         AdaptiveTagger: what users, the CLI and the service call
    window_tagger  windows encoded, looked up, adapted and tagged in batches
    adaptation     the forward that tags every window under weights of its own
    factor_cache   the factors of support sentences, cached so that adaptation needs no backward
    decoding       tag probabilities -> tags -> entities
    assembly       tagged windows -> the answer for a sentence
    answers        the types of answers
    huggingface    answers with the keys of Hugging Face's pipeline
    pipeline       the tagger without adaptation as a pipeline of transformers; every bundle has a copy
    evaluation     F1 on labelled corpora, without and with adaptation
    scoring        precision, recall and F1 of entities
"""
