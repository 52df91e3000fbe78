"""Reading the corpora that a configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metacross.config import Config
from metacross.corpora.reader import Corpus, read_corpus, refuse_unknown_types, require_entities
from metacross.corpora.sentence import Sentence
from metacross.sequences import spread


def read_source(config: Config) -> list[Sentence]:
    """Reads all labelled source sentences."""
    return [sentence for corpus in source_corpora(config) for sentence in corpus.sentences]


def source_corpora(config: Config) -> Iterator[Corpus]:
    """Reads the corpora of labelled source sentences, one file after the other.

    Raises:
        UserError: a file cannot be read, or has no entities.
    """
    for path in [config.data.source] if isinstance(config.data.source, str) else config.data.source:
        corpus = read_corpus(
            path, tag_map=config.data.tag_map, language=config.data.source_language, max_words=config.data.max_words
        )
        require_entities(corpus)
        yield corpus


def read_dev(config: Config, file: str, language: str, tags: Sequence[str]) -> list[Sentence]:
    """Reads development sentences: `train.eval_sentences` of them, spread evenly over the file.

    Args:
        config: the configuration.
        file: the corpus.
        language: the corpus' language, ISO 639-1.
        tags: the tags that the tagger knows.

    Raises:
        UserError: the file cannot be read, has no entities, or has entity types that are not among `tags`.
    """
    corpus = read_corpus(file, tag_map=config.data.tag_map, language=language, max_words=config.data.max_words)
    require_entities(corpus)
    refuse_unknown_types(corpus, tags, tag_map=config.data.tag_map)
    return [corpus.sentences[i] for i in spread(len(corpus.sentences), config.train.eval_sentences)]
