r"""Tables with a header, separated by commas, semicolons or tabs: a row for a word, for a sentence, or for a raw text.

The first is the form of the Groningen Meaning Bank as it is shared on Kaggle (ner_dataset.csv, in latin-1):

    Sentence #,Word,POS,Tag
    Sentence: 1,Thousands,NNS,O
    ,",",",",O

There the first column is filled in the first row of a sentence only; in other tables it is in every row. The second has
the words of a sentence separated by spaces or as a Python list, and its tags likewise ("Sentence,Tag", "text,labels").
The third is read only to be tagged ("id,text"). Columns are found by their names.

Source: RFC 4180, and the csv module of Python's documentation; headers of published tables.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Literal

from metacross.corpora.raw import Document, Oddities, Problems, RawSentence, Reading, ReadOptions, Row, shortened
from metacross.corpora.sentence import Sentence
from metacross.corpora.source import Source
from metacross.corpora.utf8 import without_surrogates
from metacross.errors import UserError
from metacross.wording import counted

# Names of columns as `_plain` gives them. Where a header has several, the first of these counts.
_WORD = ("word", "token")
_WORDS = ("words", "tokens", "text", "sentence")
_TEXT = ("text", "sentence")
_TAG = ("nertag", "nertags", "ner", "tag", "tags", "label", "labels", "wordlabels", "iob", "bio")
_NUMBER = ("sentence#", "sentenceid", "sentenceidx", "sentencenumber", "sentid", "sentidx", "sent", "sentence")

_HEAD = 8  # lines that are looked at to find out what a table is like
_EXPECTED = "expected a table as its header says. Repair the rows, or write the table again with a CSV library."
_LINE_BREAK = re.compile(r"[\r\n]")
_ENCLOSED = re.compile(r'"(?:[^"]|"")*"')
_BLANK = re.compile(r"[ \t\r\n]+")  # no other white space: words may hold it
# An item of a list, quoted or not, and what follows it. Lists of numpy are printed without commas.
_ITEM = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s,'"]+))(?:\s*,|(?=\s)|$)""", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5})|(.))", re.DOTALL)


@dataclass(frozen=True)
class _Table:
    """What a header and the first rows say; columns are counted from 0.

    Attributes:
        names: of all columns.
        separator: between fields.
        words: the column of the words, or of the texts.
        tags: the column of the tags; None if there is none.
        number: the column that shows where a sentence begins; None if there is none.
        row: what a row is.
    """

    names: list[str]
    separator: str
    words: int
    tags: int | None
    number: int | None
    row: Literal["word", "sentence", "text"]


def looks_like_csv_table(lines: Sequence[str], options: ReadOptions) -> bool:
    """Whether a file's first lines begin with a header that names a column of words and one of tags.

    Args:
        lines: the file's first lines; more than a few are not looked at.
        options: the name or number of the tags' column, if it is none of the usual ones. If no tags are needed, a
            column that numbers the sentences does as well, and so does one of raw texts.
    """
    return _find_table(lines, options) is not None


def _find_table(lines: Sequence[str], options: ReadOptions) -> _Table | None:
    """What a file's first lines are; None if they are no table."""
    lines = list(itertools.dropwhile(lambda line: not line.strip(), lines))[:_HEAD]
    for separator in ",;\t":
        rows: list[list[str]] = []
        with suppress(csv.Error):  # a row that cannot be read is refused later, if this is a table
            for _, fields in _read(lines, separator):
                rows.append(fields)
        if not rows:
            continue
        names = [name.strip() for name in rows[0]]
        plain = [_plain(name) for name in names]
        chosen = _chosen(names, options.tag_column)
        tags = chosen if chosen is not None else _first(plain, _TAG)
        words, by_sentence = _first(plain, _WORD), False
        if words is None and not options.labelled and (text := _text_column(rows, plain, tags, separator)) is not None:
            return _Table(names, separator, text, None, None, "text")
        if words is None and tags is not None:
            words = _first(plain, _WORDS)
            by_sentence = _has_several(rows, tags)
        number = _first(plain, _NUMBER)
        number = None if number == words else number
        if words is None or words == tags or (tags is None and (options.labelled or number is None)):
            continue
        return _Table(names, separator, words, tags, number, "sentence" if by_sentence else "word")
    return None


def _text_column(rows: Sequence[Sequence[str]], plain: Sequence[str], tags: int | None, separator: str) -> int | None:
    """The column of raw texts, by its name and by spaces in them, which no word has; None if there is none."""
    column = _first(plain, _TEXT)
    if column is None or len(plain) < 2 or (tags is not None and _has_several(rows, tags)):
        return None
    # Words in columns are separated by tabs or spaces, so a header with commas is enough: Chinese texts have no spaces.
    is_sure = tags is None and separator != "\t"
    return column if is_sure or any(" " in row[column].strip() for row in rows[1:] if len(row) > column) else None


def _read(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, each with the number of its first line.

    Raises:
        csv.Error: a row that cannot be read; its arguments are the number of its line, and the reason.
    """
    # The ends of lines are needed where a quoted field goes on in the next one.
    ended = (f"{line}\n" for line in lines)
    # In a table with tabs, a quotation mark is mostly a word, and would quote all that follows.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(ended, delimiter=separator, quoting=quoting)
    line = 1
    try:
        for fields in reader:
            yield line, [_unquoted(value) for value in fields] if separator == "\t" else fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(line, str(error)) from None


def _unquoted(value: str) -> str:
    """A field of a table with tabs, without the quotation marks that enclose it."""
    return value[1:-1].replace('""', '"') if _ENCLOSED.fullmatch(value) else value


def _plain(name: str) -> str:
    """A column's name in small letters, without what separates words: "NER_Tag" is "nertag"."""
    return re.sub(r"[\s_.:-]", "", name.casefold())


def _first(plain: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((plain.index(name) for name in wanted if name in plain), None)


def _chosen(names: Sequence[str], tag_column: int | str | None) -> int | None:
    """The column that the user chose, by number or by name; None if there is no such column."""
    if isinstance(tag_column, int):
        return tag_column - 1 if 1 <= tag_column <= len(names) else None
    return names.index(tag_column) if tag_column in names else None


def _has_several(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether some row after the header has the tags of a sentence in a column, not the one of a word."""
    fields = [row[column] for row in rows[1:] if len(row) > column]
    return any(field.startswith("[") or len(field.split()) > 1 for field in fields)


# --- reading ---------------------------------------------------------------------------------------------------------


def read_csv_table(source: Source, options: ReadOptions) -> Reading:
    """Reads a table for which `looks_like_csv_table` is true, row by row.

    Args:
        source: the file.
        options: `tag_column` is the name or number of the tags' column.

    Raises:
        UserError: no such column, or rows that do not fit the header.
    """
    lines = source.lines()
    head = list(itertools.islice(lines, _HEAD))
    table = _find_table(head, options)
    if table is None:
        raise UserError(f"{source.place(1)}: found no header; expected one such as Sentence #,Word,Tag.")
    if options.tag_column is not None and _chosen(table.names, options.tag_column) is None:
        raise UserError(
            f"{source.place(1)}: found no column {options.tag_column!r}; the header has {', '.join(table.names)}."
        )
    rows = _Rows(source, table, itertools.chain(head, lines))
    items: Iterator[RawSentence | Document]
    if table.row == "text":
        items = rows.texts()
    elif table.row == "sentence":
        items = rows.sentences(labelled=options.labelled)
    else:
        items = rows.words()
    return Reading("csv", items, breaks_given=table.row != "word" or table.number is not None)


@dataclass(frozen=True)
class _Rows:
    """The rows of a table, from its header on, and what cannot be meant in them."""

    source: Source
    table: _Table
    lines: Iterator[str]
    problems: Problems = field(default_factory=lambda: Problems(_EXPECTED))

    def words(self) -> Iterator[RawSentence]:
        """The sentences of a table with a row for every word."""
        sentence: list[Row] = []
        number, numbered = "", True  # the sentence's number, and whether the row before has one
        for line, fields in self._fields():
            new = not fields
            if fields and self.table.number is not None:
                this = fields[self.table.number].strip()
                new = bool(this) and (this != number or not numbered)
                number, numbered = this or number, bool(this)
            if new and sentence:
                yield RawSentence(sentence)
                sentence = []
            if fields:
                sentence.append(self._row(line, fields))
        if sentence:
            yield RawSentence(sentence)
        self.problems.refuse()

    def _row(self, line: int, fields: list[str]) -> Row:
        word = fields[self.table.words]
        # One quotation mark too few makes a word of several rows.
        if _LINE_BREAK.search(word) and self.table.separator in word:
            self._problem(
                line, f"found {shortened(word)} as a word, which begins at a quotation mark without a partner"
            )
        return Row(word, "" if self.table.tags is None else fields[self.table.tags].strip(), line)

    def sentences(self, *, labelled: bool) -> Iterator[RawSentence]:
        """The sentences of a table with a row for each of them."""
        for line, fields in self._fields():
            if not fields or self.table.tags is None:
                continue
            text, written = fields[self.table.words].strip(), fields[self.table.tags].strip()
            # A text may begin with a bracket; in a list the words are quoted.
            words = _items(text) if re.match(r"\[\s*['\"]", text) else _BLANK.split(text) if text else []
            tags = _items(written) if written.startswith("[") else _BLANK.split(written) if written else []
            if not labelled and not written:
                tags = [""] * len(words or [])
            if words is None or tags is None or len(words) != len(tags):
                self._problem(
                    line, f"found {shortened(text)} and {shortened(written)}, which are not as many words as tags"
                )
            elif words:
                yield RawSentence([Row(word, tag, line) for word, tag in zip(words, tags, strict=True)])
            else:
                self.source.oddities.count("rows without words left out", self.source.place(line))
        self.problems.refuse()

    def texts(self) -> Iterator[Document]:
        """The texts of a table with a row for each of them; their records are the rows by the header's names."""
        for line, fields in self._fields():
            if fields:
                record = dict(zip(self.table.names, fields, strict=False))
                yield Document(fields[self.table.words], place=self.source.place(line), record=record)
        self.problems.refuse()

    def _fields(self) -> Iterator[tuple[int, list[str]]]:
        """The rows after the header, each with its first line's number; no fields for a row without any content."""
        width = len(self.table.names)
        header_seen = False
        try:
            for line, fields in _read(self.lines, self.table.separator):
                has_content = any(map(str.strip, fields))
                if not header_seen:
                    header_seen = has_content
                elif not has_content:
                    yield line, []
                elif len(fields) < width or any(fields[width:]):  # a separator at the end of a row does no harm
                    shown = ", ".join(self.table.names)
                    self._problem(
                        line, f"found {counted(len(fields), 'fields')} in a row; the header has {width} ({shown})"
                    )
                else:
                    yield line, fields
        except csv.Error as error:
            line, reason = error.args
            self._problem(line, f"found what is no row ({reason})")

    def _problem(self, line: int, problem: str) -> None:
        self.problems.add(self.source.place(line), problem)


def _items(written: str) -> list[str] | None:
    """The items of a list as Python, numpy or JSON write it; None if it is none.

    >>> _items('''['O', "it's"]'''), _items("['O' 'B-geo']"), _items("[O, B-geo]")
    (['O', "it's"], ['O', 'B-geo'], ['O', 'B-geo'])
    """
    if not written.endswith("]"):
        return None
    with suppress(ValueError, RecursionError):  # JSON has escapes of its own
        strings = json.loads(written)
        if isinstance(strings, list) and all(isinstance(item, str) for item in strings):
            return strings
    inside, at, items = written[1:-1].rstrip(), 0, []
    while at < len(inside):
        match = _ITEM.match(inside, at)
        if match is None:
            return None
        single, double, bare = match.groups()
        items.append(bare if bare is not None else _ESCAPE.sub(_unescaped, single if single is not None else double))
        at = match.end()
    return items


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code:
        return chr(int(code, 16))
    return {"n": "\n", "t": "\t", "r": "\r"}.get(match[4], match[4])


# --- writing ---------------------------------------------------------------------------------------------------------


def write_csv_table(items: Iterable[Sentence], file: IO[bytes], oddities: Oddities) -> None:
    """Writes a row for every word, in the form of the Groningen Meaning Bank without its column of parts of speech.

    Args:
        items: the sentences; one that has not been annotated is written with empty tags.
        file: where the table goes, in UTF-8.
        oddities: what is counted while writing.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["Sentence #", "Word", "Tag"])
        for number, sentence in enumerate(items, 1):
            if sentence.tags is None:
                oddities.count("sentences without annotation, written with empty tags", sentence.place)
            first = f"Sentence: {number}"
            for word, tag in zip(sentence.words, sentence.tags or [""] * len(sentence.words), strict=True):
                writer.writerow([first, _storable(word, sentence.place, oddities), tag])
                first = ""
    finally:
        text.detach()  # else the file would be closed with the wrapper


def _storable(word: str, place: str, oddities: Oddities) -> str:
    """A word as a row of a table in UTF-8 can hold it."""
    word, replaced = _LINE_BREAK.subn(" ", without_surrogates(word, place, oddities))
    if replaced:
        oddities.count("line breaks within words turned into white space", place, replaced)
    return word
