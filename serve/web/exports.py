"""Examples as a file, in the formats of `metacross convert` that are text."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from metacross.corpora.conversion import write_corpus
from metacross.corpora.formats.writing import formats
from metacross.corpora.reader import Corpus
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError
from metacross.wording import counted
from serve.examples import ExampleStore
from serve.examples.filters import ExampleFilter
from serve.web.example_schemas import ExportFormat
from serve.web.lines import NDJSON
from serve.web.problems import ProblemError
from serve.web.responses import TEXT

MOST = 20_000  # examples in a file, which are in memory twice while it is written
_PAGE = 1000

_JSON = "application/json"
_MEDIA_TYPES = {"csv": "text/csv", "label-studio": _JSON, "label-studio-predictions": _JSON}
_MEDIA_TYPES |= dict.fromkeys(("jsonl", "jsonl-spans", "prodigy"), NDJSON)
_ENDINGS = {NDJSON: "jsonl", "text/csv": "csv", _JSON: "json", "text/plain": "conll"}
FILES: dict[str, Any] = {media_type: TEXT for media_type in _ENDINGS if media_type != _JSON}
FILES[_JSON] = {"schema": {"type": "array"}}


class ExportedFile:
    """Examples written in a format, and read back.

    Args:
        store: has the examples.
        wanted: which of them.
        form: the format's name.

    Attributes:
        content: the file's.
        media_type: of the format.
        name: what the file may be called.
        oddities: what the format could not hold, a line each.

    Raises:
        ProblemError: 404 where no example matches; 422 where too many do, or the format cannot hold them.
    """

    def __init__(self, store: ExampleStore, wanted: ExampleFilter, form: ExportFormat) -> None:
        sentences = _sentences(store, wanted)
        self.media_type = _MEDIA_TYPES.get(form, "text/plain")
        self.name = f"examples.{_ENDINGS[self.media_type]}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, self.name)
            try:
                written = write_corpus(_corpus(sentences), path, formats()[form])
            except UserError as error:
                raise ProblemError(422, str(error), field="format") from None
            self.content = path.read_bytes()
        self.oddities = written.oddities
        uncertain = sum(bool(sentence.uncertain) for sentence in sentences)
        if uncertain:
            self.oddities.append(
                f"{counted(uncertain, 'examples')} with labels that may be wrong; the file does not say which"
            )


def _sentences(store: ExampleStore, wanted: ExampleFilter) -> list[Sentence]:
    total = store.total(wanted)
    if not total:
        raise ProblemError(404, "No example matches, so there is nothing to export.")
    if total > MOST:
        raise ProblemError(422, f"{total} examples match, at most {MOST} a file. Export a language or a time at once.")
    sentences: list[Sentence] = []
    after: int | None = None
    while page := store.page(after, _PAGE, wanted=wanted):
        sentences += [example.sentence for example in page]
        after = page[-1].id
    return sentences


def _corpus(sentences: list[Sentence]) -> Corpus:
    return Corpus(
        path="examples",
        format="",
        scheme="IOB2",
        encoding="utf-8",
        language=None,
        sentences=sentences,
        documents=None,
        counts={},
        dropped={},
        oddities=[],
        sentence_oddities=[],
    )
