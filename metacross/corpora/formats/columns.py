"""Files with a word a line: CoNLL-2002 and -2003, CoNLL-U, Universal NER, WikiANN, GermEval, HIPE, and their like.

An empty line ends a sentence. `corpora.layout` finds the columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from metacross.corpora.layout import Layout, find_layout, is_blank, is_border, is_document_start, most
from metacross.corpora.raw import Problems, RawSentence, Reading, ReadOptions, Row, shortened
from metacross.corpora.source import Source
from metacross.corpora.words import is_unspaced
from metacross.errors import UserError

KNOWN = (
    "one word and its tag a line (columns separated by tabs or spaces, an empty line after each sentence), or one JSON "
    'object a line such as {"tokens": ["Rome"], "ner_tags": ["B-LOC"]}'
)
# The layout is found by so many lines. The tags of a corpus may begin late; words to be tagged are clear at once, and
# nobody wants to wait for the end of a stream.
_HEAD_LABELLED = 200_000
_HEAD_UNLABELLED = 2_000
_COMMENTS = "comment lines (with # at the beginning) that may hold a tag"
_NEARLY_TAG = re.compile(r"[BIMELSUW0]([-_]\S*)?", re.IGNORECASE)
_RANGES = "lines of word ranges or empty nodes (such as 3-4 or 8.1) left out"


def read_columns(source: Source, options: ReadOptions) -> Reading:
    """Finds the layout of a file with columns; its sentences come when they are asked for.

    Args:
        source: the file.
        options: what the user says about it.

    Raises:
        UserError: the file has no words, or no column of tags where there has to be one. The sentences raise it where
            lines do not fit; to be tagged a file is refused at the first such line, else at its end, with all of them.
    """
    lines = source.lines()
    head = list(islice(lines, _HEAD_LABELLED if options.labelled else _HEAD_UNLABELLED))
    layout = _layout(head, source.path, options)
    while options.labelled and not (layout and _has_entity(layout, head)):
        more = list(islice(lines, len(head)))
        if not more:
            break
        head += more
        layout = _layout(head, source.path, options)
    if layout is None:
        number, line = _first_line(head, source.path)
        raise UserError(
            f"{source.path}:{number}: found {shortened(line)}, and most lines have no tag in any column; expected "
            f"{KNOWN}. Tags are O or like B-PER."
        )
    for oddity in layout.oddities():
        source.oddities.note(oddity)
    sentences = _sentences(chain(head, lines), layout, source, options)
    return Reading(_name(layout, head), sentences, breaks_given=layout.numbered, language=layout.language)


def _layout(head: Sequence[str], path: str, options: ReadOptions) -> Layout | None:
    return find_layout(head, path=path, tag_column=options.tag_column, labelled=options.labelled)


def _has_entity(layout: Layout, head: Iterable[str]) -> bool:
    """Whether some line of the head has a tag other than O, so that the column of the tags is sure."""
    for line in head:
        if "-" in line and not is_blank(line):
            try:
                row = layout.row(line, 0)
            except ValueError:
                continue
            if row is not None and row.tag not in ("O", "-", "_"):
                return True
    return False


def _first_line(lines: Iterable[str], path: str) -> tuple[int, str]:
    """The first line that has a word and is no comment, with its number."""
    written = [(n, line) for n, line in enumerate(lines, 1) if not is_border(line)]
    if not written:
        raise UserError(f"{path}: found no words; expected {KNOWN}.")
    return next((pair for pair in written if not pair[1].startswith("#")), written[0])


def _sentences(lines: Iterable[str], layout: Layout, source: Source, options: ReadOptions) -> Iterator[RawSentence]:
    problems = Problems(f"expected {layout}.")
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if is_border(line):
            if rows:
                yield RawSentence(rows)
            rows = []
        elif line == layout.header:
            continue
        elif line[0] == "#" and (layout.numbered or not rows) and layout.is_comment(line):
            if _may_be_row(line, layout):
                source.oddities.count(_COMMENTS, source.place(number))
        else:
            try:
                row = layout.row(line, number)
            except ValueError as error:
                problems.add(source.place(number), f"found {error} in the line {shortened(line)}")
                if not options.labelled:
                    problems.refuse()
                continue
            if row is None:
                source.oddities.count(_RANGES)
            else:
                rows.append(row)
    problems.refuse()
    if rows:
        yield RawSentence(rows)


def _may_be_row(comment: str, layout: Layout) -> bool:
    """Whether what is read as a comment may be the word # with a tag that is written wrong."""
    fields = layout.fields(comment)
    if layout.numbered or layout.tag is None or len(fields) != layout.columns:
        return False
    return _NEARLY_TAG.fullmatch(fields[layout.tag]) is not None


def _name(layout: Layout, head: Iterable[str]) -> str:
    if layout.numbered:
        return "universal-ner" if (layout.separator, layout.tag) == ("\t", 2) else "numbered-columns"
    if layout.language:
        return "wikiann"
    if layout.columns == 2 and _has_characters(layout, head):
        return "characters"
    if layout.separator != "\t":
        return "conll-2003" if layout.columns > 3 else "conll-2002"
    return "word-tab-tag" if layout.columns == 2 else "columns-tab"


def _has_characters(layout: Layout, head: Iterable[str]) -> bool:
    """Whether every word is a character, most of them of a script without spaces."""
    words = []
    for line in head:
        fields = layout.fields(line)
        if len(fields) == layout.columns and not is_document_start(line) and line != layout.header:
            words.append(fields[layout.word])
            if len(words[-1]) > 1:
                return False
    return most(map(is_unspaced, filter(None, words)))
