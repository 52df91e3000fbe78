"""The corpora that a configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metacross.config import Config
from metacross.corpora.reader import Corpus, read_corpus, refuse_unknown_types, require_entities
from metacross.corpora.sentence import Sentence
from metacross.sequences import spread


def read_source(config: Config) -> list[Sentence]:
    """The labelled source sentences of a configuration."""
    return [sentence for corpus in source_corpora(config) for sentence in corpus.sentences]


def source_corpora(config: Config) -> Iterator[Corpus]:
    """The corpora of labelled source sentences, one file after the other."""
    for path in [config.data.source] if isinstance(config.data.source, str) else config.data.source:
        corpus = read_corpus(
            path, tag_map=config.data.tag_map, language=config.data.source_language, max_words=config.data.max_words
        )
        require_entities(corpus)
        yield corpus


def read_dev(config: Config, file: str, language: str, tags: Sequence[str]) -> list[Sentence]:
    """Development sentences, `train.eval_sentences` of them spread evenly over the file."""
    corpus = read_corpus(file, tag_map=config.data.tag_map, language=language, max_words=config.data.max_words)
    require_entities(corpus)
    refuse_unknown_types(corpus, tags, tag_map=config.data.tag_map)
    return [corpus.sentences[i] for i in spread(len(corpus.sentences), config.train.eval_sentences)]
