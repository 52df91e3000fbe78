"""From a sentence to its entities: the nearest labelled sentences, weights adapted to them, tags, an answer.

Modules:
    tagger         AdaptiveTagger: what users, the CLI and the service call
    window_tagger  windows encoded, looked up, adapted and tagged in batches
    cut_texts      texts whose windows are tagged a few at a time
    adaptation     the forward that tags every window under weights of its own
    word_encoding  labelled windows -> vectors and tags of their words, which vote
    factor_cache   the factors of support sentences, cached so that adaptation needs no backward
    factor_layout  how these factors are stacked, and products of pairs of them
    influence      what each labelled word of the support changed in an answer
    tag_sequences  tag probabilities of words -> the likeliest valid tags, and how sure each entity is
    decoding       tagged windows -> words of a sentence; tags -> entities of a text
    calibration    the temperature at which scores mean what they say
    development    a bundle's development data, tagged again when its weights were changed
    assembly       tagged windows -> the answers for sentences
    answers        the types of answers
    huggingface    answers with the keys of Hugging Face's pipeline
    pipeline       the tagger without adaptation as a pipeline of transformers; every bundle has a copy
    evaluation     F1 on labelled corpora, without and with adaptation
    scoring        precision, recall and F1 of entities
"""
