"""Reading the corpora that a configuration names.

Whatever was odd in a corpus, or was mended while it was read, goes to `tell`, a line each with the name of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from metacross.config import Config, DataConfig
from metacross.corpora.reader import Corpus, read_corpus
from metacross.corpora.refusals import refuse_unknown_types, require_entities
from metacross.corpora.sentence import Sentence
from metacross.sequences import spread

Tell = Callable[[str], None]


def read_configured(path: str, data: DataConfig, *, language: str | None = None) -> Corpus:
    """Reads a corpus with the settings of a configuration; see `read_corpus`."""
    return read_corpus(
        path, tag_map=data.tag_map, language=language, max_words=data.max_words, tag_column=data.tag_column
    )


def read_source(config: Config, tell: Tell) -> list[Sentence]:
    """Reads all labelled source sentences."""
    return [sentence for corpus in source_corpora(config, tell) for sentence in corpus.sentences]


def source_corpora(config: Config, tell: Tell) -> Iterator[Corpus]:
    """Reads the corpora of labelled source sentences, one file after the other.

    Raises:
        UserError: a file cannot be read, or has no entities.
    """
    for path in [config.data.source] if isinstance(config.data.source, str) else config.data.source:
        corpus = read_configured(path, config.data, language=config.data.source_language)
        require_entities(corpus)
        _tell_oddities(corpus, tell)
        yield corpus


def read_dev(config: Config, file: str, language: str, tags: Sequence[str], tell: Tell) -> list[Sentence]:
    """Reads development sentences: `train.eval_sentences` of them, spread evenly over the file.

    Args:
        config: the configuration.
        file: the corpus.
        language: the corpus' language, ISO 639-1.
        tags: the tags that the tagger knows.
        tell: gets what was odd in the file.

    Raises:
        UserError: the file cannot be read, has no entities, or has entity types that are not among `tags`.
    """
    corpus = read_configured(file, config.data, language=language)
    require_entities(corpus)
    refuse_unknown_types(corpus, tags, tag_map=config.data.tag_map)
    _tell_oddities(corpus, tell)
    return [corpus.sentences[i] for i in spread(len(corpus.sentences), config.train.eval_sentences)]


def _tell_oddities(corpus: Corpus, tell: Tell) -> None:
    for oddity in corpus.oddities:
        tell(f"{corpus.path}: {oddity}")
