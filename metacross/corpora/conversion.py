"""Writing a corpus in another format, and reading it back to see that nothing has changed.

Texts with marked entities stay complete documents if the new format is one of texts: they are not split into sentences,
and overlapping entities are kept. A reader finds columns by the evidence of all lines, so no single line shows whether
a file of columns reads back as it was meant; hence the second reading.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import IO

from metacross.corpora.formats.writing import FolderFormat, Format, TextFormat, WordFormat
from metacross.corpora.raw import Document, Oddities
from metacross.corpora.reader import Corpus, read_corpus
from metacross.corpora.scheme_writer import Scheme, in_scheme
from metacross.corpora.sentence import Sentence, entities
from metacross.corpora.spans import document_of
from metacross.errors import UserError
from metacross.wording import counted


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        items: how many sentences or documents.
        unit: which of the two.
        entities: how many entities.
        oddities: one line for each kind of thing that did not fit.
    """

    items: int
    unit: str
    entities: int
    oddities: list[str]


def write_corpus(corpus: Corpus, path: Path, form: Format, *, scheme: Scheme = "iob2") -> Written:
    """Writes a corpus in another format, and reads it back.

    In a format of words, sentences that nobody has annotated are left out and counted. In one of texts, each sentence
    whose words the old file gives becomes a document. Texts that come back changed are refused, or counted if the
    format has counted what it could not hold.

    Args:
        corpus: the corpus.
        path: where nothing is yet; for a format of several files, an empty folder.
        form: the format to write.
        scheme: of the tags, in a format of words.

    Raises:
        UserError: the format cannot hold the corpus, or a reader would take the file for something else.
        OSError: the file cannot be written.
    """
    oddities = Oddities()
    if isinstance(form, WordFormat):
        sentences = _annotated(corpus, oddities)
        with _new_file(path) as file:
            form.write((replace(s, tags=in_scheme(s.tags or (), scheme)) for s in sentences), file, oddities)
        _compare_sentences(sentences, _read_again(path, corpus.path).sentences)
        number = sum(len(entities(s.tags or ())) for s in sentences)
        return Written(len(sentences), "sentences", number, oddities.lines())
    documents = corpus.documents or [document_of(sentence) for sentence in corpus.sentences]
    if isinstance(form, FolderFormat):
        form.write(documents, path, oddities)
    else:
        with _new_file(path) as file:
            form.write(documents, file, oddities)
    is_gold = not isinstance(form, TextFormat) or form.is_gold
    expected = documents if is_gold else [replace(document, marked=None) for document in documents]
    _compare_documents(expected, _read_again(path, corpus.path).documents or [], oddities)
    return Written(len(documents), "documents", sum(len(d.marked or ()) for d in documents), oddities.lines())


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write; at the end it is on the disk, so that it may take another one's place."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _annotated(corpus: Corpus, oddities: Oddities) -> list[Sentence]:
    sentences = [sentence for sentence in corpus.sentences if sentence.tags is not None]
    if not sentences:
        raise UserError(f"{corpus.path}: nobody has annotated it; there are no tags to write.")
    if missing := len(corpus.sentences) - len(sentences):
        oddities.count("sentences that nobody has annotated, left out", number=missing)
    return sentences


def _read_again(path: Path, place: str) -> Corpus:
    try:
        # The most words of a sentence would break a file with one long sentence up.
        return read_corpus(path, max_words=sys.maxsize)
    except UserError as error:
        raise _refused(place, f"cannot be read again ({str(error).replace(str(path), 'the new file')})") from None


def _compare_sentences(before: Sequence[Sentence], after: Sequence[Sentence]) -> None:
    """Refuses sentences that did not come back the same."""
    expected = [(s.words, s.tags) for s in before]
    got = [(s.words, s.tags) for s in after]
    if len(before) == 1:  # nothing shows that such a file has sentence breaks: a reader looks for some in its words
        words, tags = zip(*got, strict=True)
        got = [(tuple(chain(*words)), tuple(chain(*tags)))]
    for i, (one, other) in enumerate(zip_longest(expected, got)):
        if one != other:
            shown = f"{list(zip(*other, strict=True))[:3]}" if other else "nothing"
            raise _refused(before[min(i, len(before) - 1)].place, f"would be read as {shown}")


def _compare_documents(before: Sequence[Document], after: Sequence[Document], oddities: Oddities) -> None:
    """Counts documents that did not come back the same; refuses them if the format has counted nothing itself."""
    has_counted = bool(oddities.lines())
    for one, other in zip_longest(before, after):
        if one is None or other is None:
            raise _refused(
                before[-1].place, f"would be read as {counted(len(after), 'documents')} in place of {len(before)}"
            )
        # Some formats do not tell a text without entities from one that nobody has annotated.
        if one.text == other.text and sorted(one.marked or ()) == sorted(other.marked or ()):
            continue
        if not has_counted:
            raise _refused(one.place, f"would be read as {other.text[:40]!r}, or with other entities")
        oddities.count("documents read back with another text or other entities", one.place)


def _refused(place: str, problem: str) -> UserError:
    return UserError(
        f"{place}: what was written in this format {problem}. It was not kept; write another format, such as jsonl."
    )
