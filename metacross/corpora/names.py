"""What the name of a file says about its content, where no content could: raw text, or a corpus."""

from __future__ import annotations

from pathlib import PurePath

_COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst", ".zip"})
_COLUMNS = {".conll", ".conllu", ".conllup", ".bio", ".iob", ".iob1", ".iob2", ".iobes", ".bioes", ".bilou", ".tsv"}
_CORPUS = _COLUMNS | {".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".arrow", ".spacy", ".ann"}


def names_corpus(name: str) -> bool:
    """Whether a file's name, compressed or not, is that of a corpus; other files are read as raw text.

    Raw text is told from words in columns by the name alone: no content could.

    >>> names_corpus("de.conll.gz"), names_corpus("de.txt"), names_corpus("-")
    (True, False, False)
    """
    endings = [ending.lower() for ending in PurePath(name).suffixes]
    if endings and endings[-1] in _COMPRESSED:
        endings.pop()
    return bool(endings) and endings[-1] in _CORPUS
