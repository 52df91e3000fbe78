"""How the lines of a file with columns are laid out, found by their content: separator, word column, tag column.

Two columns can be mistaken for what they are not. A first column that counts the words of each sentence looks like
words; a column of `_` or `-`, or of syntactic chunks, looks like tags. So the evidence of many lines decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from operator import itemgetter

from metacross.corpora.characters import INVISIBLE
from metacross.corpora.raw import Row
from metacross.corpora.schemes import is_tag
from metacross.errors import UserError

_LANGUAGE = re.compile(r"([a-z]{2,12}(?:-[a-z]{2,12})*):")  # WikiANN's en: or zh-min-nan: in front of each word
_RANGE = re.compile(r"\d+[-.]\d+")  # CoNLL-U's 3-4 and 8.1: not words of the tagged sentence
_ENTITY = re.compile(r"[BIMELSUW]-(\S+)")
_LOOSE_ENTITY = re.compile(r"[BIMELSUW][-_](\S+)", re.IGNORECASE)  # b-per, B_PER
_TYPE = re.compile(r"[^\W\d_][\w./&|-]*")  # PER, on every word of an entity
_MOST_TYPES = 40
# Types of syntactic chunks: CoNLL-2000 and CoNLL-2003 English, and NC, PC, VC of CoNLL-2003 German.
_CHUNKS = frozenset(["NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "PC", "VC"])
_WORD_NAMES = frozenset({"token", "tokens", "word", "words", "form", "text"})  # of the word column in a header
_MISC = 9  # CoNLL-U's last column
_BORDER_STARTS = INVISIBLE | {"-"}  # what a line without words begins with, unless it is empty
_MISC_KEYS = ("name", "ner", "ne", "entity")  # where it has entities, in lower case


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are laid out. Columns are counted from 0.

    Attributes:
        separator: a tab, a space, or "" for any number of both.
        columns: how many columns a line has; at least so many if words are numbered.
        numbered: whether the first column counts the words of each sentence, as in Universal NER and GermEval.
        word: the column of the words.
        tag: the column of the tags, or None if the file has none.
        tag_columns: all columns that hold tags of entities, if there are several; `tag` is one of them.
        key: the tags' key in a column of key=value pairs (CoNLL-U's MISC); "" where the column is the tag.
        language: the prefix of every word in WikiANN.
        names: the names of the columns, where the file gives them; they may stand in its first line (`header`).
        header: the line with the names, "" if they come from elsewhere or there are none.
    """

    separator: str
    columns: int
    numbered: bool
    word: int
    tag: int | None
    tag_columns: tuple[int, ...] = ()
    key: str = ""
    language: str | None = None
    names: tuple[str, ...] = ()
    header: str = ""

    def fields(self, line: str) -> list[str]:
        """The columns of a line."""
        fields = _fields(line, self.separator)
        # A space at a line's beginning is a word only where a column would be missing without it.
        return fields[1:] if not fields[0] and len(fields) > self.columns and self.separator == " " else fields

    def row(self, line: str, number: int) -> Row | None:
        """The line's row; None if the line stands for several words or for none, as some lines of numbered files do.

        Raises:
            ValueError: the line does not fit the layout; the message says what was found.
        """
        fields = self.fields(line)
        numbered_wrongly = self.numbered and not fields[0].isdecimal()
        if numbered_wrongly and _RANGE.fullmatch(fields[0]):
            return None
        fits = len(fields) >= self.columns if self.numbered or self.tag is None else len(fields) == self.columns
        if not fits:
            raise ValueError(f"{len(fields)} column{'s' * (len(fields) != 1)}")
        if numbered_wrongly:
            raise ValueError(f"the number {fields[0]!r}")
        word = fields[self.word]
        if self.language:
            if not word.startswith(self.language + ":"):
                raise ValueError(f"the word {word!r}")
            word = word[len(self.language) + 1 :]
        if self.tag is None:
            return Row(word, "", number)
        tag = fields[self.tag]
        return Row(word, _pairs(tag).get(self.key, "O") if self.key else tag, number)

    def is_comment(self, line: str) -> bool:
        """Whether a line that begins with # is a comment. If words are not numbered, ask only before a sentence."""
        if self.numbered:
            return True
        if not line.startswith("# "):
            return False
        fields = self.fields(line)
        return len(fields) != self.columns or self.tag is None or not is_tag(fields[self.tag])

    def __str__(self) -> str:
        separator = {"\t": "tabs", " ": "single spaces", "": "spaces"}[self.separator]
        names = ["..."] * self.columns
        names[0] = "number" if self.numbered else names[0]
        names[self.word] = "word"
        if self.tag is not None:
            names[self.tag] = f"...|{self.key}=tag|..." if self.key else "tag"
        shown = [name for i, name in enumerate(names) if name != "..." or names[i - 1 : i] != ["..."]]
        shown += ["..."] * (self.numbered and shown[-1] != "...")
        columns = f"{self.columns} columns{' or more' if self.numbered else ''} ({', '.join(shown)})"
        prefix = f", the word marked {self.language}:" if self.language else ""
        tag = "" if self.tag is None else ", the tag being O or like B-PER"
        return f"{columns} separated by {separator}{prefix}{tag}"

    def oddities(self) -> list[str]:
        """What a reader of the corpus should know about the choice of the tag column, in words."""
        if len(self.tag_columns) < 2 or self.tag is None:
            return []
        columns = " and ".join(map(self._named, self.tag_columns))
        return [
            f"columns {columns} hold tags of entities: column {self._named(self.tag)} was read "
            f"(data.tag_column={self.tag_columns[1] + 1} reads another)"
        ]

    def _named(self, column: int) -> str:
        return f"{column + 1} ({self.names[column]})" if column < len(self.names) else str(column + 1)


def find_layout(
    lines: Sequence[str], *, path: str = "", tag_column: int | str | None = None, labelled: bool = True
) -> Layout | None:
    """Finds the layout that most lines follow; None if they have to have tags, but most have none in any column.

    Args:
        lines: the lines of a file, or enough of them, with empty ones between sentences.
        path: the file, for messages.
        tag_column: the column of the tags, counted from 1, or its name, or its key in CoNLL-U's MISC; None: the one
            that is most likely.
        labelled: whether there have to be tags.

    Raises:
        UserError: there is no such column.
    """
    names = _global_names(lines)
    blocks = _blocks(lines)
    separator = _separator(list(chain.from_iterable(blocks)))
    fields = [[_fields(line, separator) for line in block] for block in blocks]
    header = ""
    if not names and fields and _is_header(fields[0][0]):
        names, header = tuple(fields[0][0]), blocks[0][0]
        fields = [block for block in [fields[0][1:], *fields[1:]] if block]
    if not fields:
        return None
    numbered = _is_numbered(fields, separator, 3 if labelled else 2)
    if numbered:  # ranges and empty nodes say nothing about tags
        fields = [_without_ranges(block) for block in fields]
    flat = list(chain.from_iterable(fields))
    columns = Counter(map(len, flat)).most_common(1)[0][0]
    rows = [row for row in flat if len(row) == columns]
    word = next((names.index(name) for name in names if name.casefold() in _WORD_NAMES), int(numbered))
    found = Layout(separator, columns, numbered, min(word, columns - 1), None, names=names, header=header)
    found = _with_tags(found, rows) if tag_column is None else _with_column(found, rows, tag_column, path)
    if found.tag is None and labelled:
        return None
    if numbered and found.tag is not None:
        found = replace(found, columns=max(found.tag, found.word) + 1)
    return replace(found, language=_find_language(rows, found.word))


def is_document_start(line: str) -> bool:
    """Whether a line is CoNLL-2003's mark of a new document, which is no word."""
    return line.startswith("-DOCSTART-")


def is_blank(line: str) -> bool:
    """Whether nothing can be seen in a line."""
    return INVISIBLE.issuperset(line)


def is_border(line: str) -> bool:
    """Whether a line has no word, but ends the sentence before it."""
    # The first character settles it for nearly every line of a corpus.
    return not line or (line[0] in _BORDER_STARTS and (is_blank(line) or is_document_start(line)))


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """The lines with columns, sentence by sentence; comments are left out."""
    blocks = [list(block) for border, block in groupby(lines, is_border) if not border]
    # Comments say nothing about the layout, but a file may also consist of the word # alone.
    without_comments = [[line for line in block if line[0] != "#"] for block in blocks]
    return [block for block in without_comments if block] or blocks


def _separator(rows: Sequence[str]) -> str:
    if most("\t" in line for line in rows):
        return "\t"
    # A Chinese character that is a space leaves two spaces at a line's beginning; columns that are lined up leave more,
    # or begin most lines with spaces.
    return "" if most("  " in line.strip() or line.startswith(" ") for line in rows) else " "


def _fields(line: str, separator: str) -> list[str]:
    if separator == "\t":
        return line.rstrip(" ").split("\t")  # a space behind the last column, mostly a tag, is no part of it
    if not separator:
        return re.split("[ \t]+", line.strip(" \t"))
    # In Chinese corpora of one character per line, the character may be a space: that leaves an empty word.
    fields = line.strip(" ").split(" ")
    return ["", *fields] if line[:1] == " " else fields


def _global_names(lines: Iterable[str]) -> tuple[str, ...]:
    """The names of the columns by CoNLL-U Plus: a comment before everything else."""
    for line in lines:
        if line.startswith("# global.columns"):
            return tuple(line.partition("=")[2].split())
        if not line.startswith("#"):
            break
    return ()


def _is_header(fields: Sequence[str]) -> bool:
    """Whether a first line names the columns, as in HIPE: TOKEN, NE-COARSE-LIT, ..."""
    return fields[0].casefold() in _WORD_NAMES and len(fields) > 1 and not any(map(is_tag, fields[1:]))


def _is_numbered(blocks: Sequence[Sequence[list[str]]], separator: str, fewest: int) -> bool:
    """Whether the first column counts words.

    It counts if it does so from 0 or 1 in most sentences of several words. A sentence of one word proves nothing: the
    number 1 may be that word. With tabs, numbers before a word and a tag count too if they go on over sentences.

    Args:
        blocks: the fields of each line of each sentence.
        separator: what separates them.
        fewest: how many columns there have to be.
    """
    rows = list(chain.from_iterable(blocks))
    columns: Counter[int] = Counter()
    for length, count in Counter(map(len, rows)).items():
        columns[min(length, 3)] += count
    if columns.most_common(1)[0][0] < fewest:
        return False
    long = [block for block in blocks if len(block) > 1]
    # Compared as text: a number may have thousands of digits.
    numbers = [str(number) for number in range(max(map(len, long), default=0) + 1)]
    if long and most(_counts(block, numbers) for block in long):
        return True
    return separator == "\t" and most(len(row) > 2 and is_tag(row[2]) and row[0][:1].isdecimal() for row in rows)


def _counts(block: Sequence[list[str]], numbers: Sequence[str]) -> bool:
    """Whether the first column counts the rows of a sentence from 0 or 1, apart from ranges and empty nodes.

    Args:
        block: the fields of each line.
        numbers: the numbers from 0 to the length of the block, or more, as they are written.
    """
    if not block[0][0][:1].isdecimal():  # as in most files without numbers
        return False
    first_column = [row[0] for row in _without_ranges(block)]
    end = len(first_column)
    return end > 0 and first_column in (numbers[:end], numbers[1 : end + 1])


def _without_ranges(block: Iterable[list[str]]) -> list[list[str]]:
    return [row for row in block if row[0].isdecimal() or not _RANGE.fullmatch(row[0])]


def _with_tags(layout: Layout, rows: Sequence[Sequence[str]]) -> Layout:
    """The layout with the column that most likely holds the tags.

    That is the first one with entities: of nested annotations the outer one, and of gold and predicted tags the gold
    ones. Without any entity it is the first after numbered words, and the last elsewhere. Types without a letter, tags
    before the word, and syntactic chunks are read only if there is nothing else.
    """
    columns = {column: _values(rows, column) for column in range(layout.word + 1, layout.columns)}
    marked = {column: types for column, values in columns.items() if (types := _types(values, _ENTITY)) is not None}
    entities = [column for column, types in marked.items() if types and not types <= _CHUNKS]
    if entities:
        return replace(layout, tag=entities[0], tag_columns=tuple(entities) if len(entities) > 1 else ())
    if key := _misc_key(rows, layout):
        return replace(layout, tag=_MISC, key=key)
    chunks = [column for column, types in marked.items() if types]
    for column, values in columns.items():
        if column not in chunks and (_types(values, _LOOSE_ENTITY) or _has_bare_types(values)):
            return replace(layout, tag=column)
    if chunks:
        return replace(layout, tag=chunks[0])
    if marked:
        return replace(layout, tag=list(marked)[0 if layout.numbered else -1])
    if layout.columns == 2 and not layout.numbered and _types(_values(rows, 0), _ENTITY):
        return replace(layout, tag=0, word=1)
    return layout


def _with_column(layout: Layout, rows: Sequence[Sequence[str]], column: int | str, path: str) -> Layout:
    """The layout with the column that the user names."""
    if isinstance(column, str):
        if column in layout.names:
            return replace(layout, tag=layout.names.index(column))
        if any(column in _pairs(row[_MISC]) for row in rows if len(row) > _MISC):
            return replace(layout, tag=_MISC, key=column)
        known = f"its columns are {', '.join(layout.names)}" if layout.names else "its columns have no names"
        raise UserError(
            f"{path}: has no column {column} ({known}); give data.tag_column as a number, counted from 1, or as such a "
            "name."
        )
    if not 1 <= column <= layout.columns or column == layout.word + 1 or (layout.numbered and column == 1):
        raise UserError(
            f"{path}: data.tag_column is {column}, but a line has {layout.columns} columns, of which column "
            f"{layout.word + 1} holds the words; give the number of another one, counted from 1."
        )
    return replace(layout, tag=column - 1)


def _values(rows: Iterable[Sequence[str]], column: int) -> Counter[str]:
    """The values of a column, with their number."""
    return Counter(map(itemgetter(column), rows))


def _types(values: Counter[str], form: re.Pattern[str]) -> frozenset[str] | None:
    """The types of entities in a column; None if most of it is no tags. A column of - and _ alone says nothing."""
    types = frozenset(match[1] for value in values if (match := form.fullmatch(value)))
    tags = sum(count for value, count in values.items() if value in ("0", "") or is_tag(value) or form.fullmatch(value))
    if 2 * tags <= values.total() or not (types or "O" in values):
        return None
    return types


def _has_bare_types(values: Counter[str]) -> bool:
    """Whether a column has O, and few other values that may be types: O, PER, LOC. Parts of speech have no O."""
    outside = values["O"] + values["0"]
    others = [value for value in values if not is_tag(value) and value not in ("0", "")]
    return 10 * outside > values.total() and 0 < len(others) <= _MOST_TYPES and all(map(_TYPE.fullmatch, others))


def _misc_key(rows: Sequence[Sequence[str]], layout: Layout) -> str:
    """The key of the entities in CoNLL-U's last column, as it is written there; "" if it has none."""
    if layout.columns != _MISC + 1 or not layout.numbered:
        return ""
    values: dict[str, set[str]] = {}
    for misc in _values(rows, _MISC):
        for key, value in _pairs(misc).items():
            values.setdefault(key, set()).add(value)
    for wanted in _MISC_KEYS:
        for key, tags in values.items():
            if key.casefold() == wanted and (any(map(_ENTITY.fullmatch, tags)) or all(map(is_tag, tags))):
                return key
    return ""


def _pairs(value: str) -> dict[str, str]:
    """The pairs in a column such as name=B-PER|SpaceAfter=No."""
    return {key: text for key, equals, text in (pair.partition("=") for pair in value.split("|")) if equals}


def _find_language(rows: Sequence[Sequence[str]], word: int) -> str | None:
    prefixes: Counter[str] = Counter()
    for value, number in _values(rows, word).items():
        if match := _LANGUAGE.match(value):
            prefixes[match[1]] += number
    prefix, count = prefixes.most_common(1)[0] if prefixes else (None, 0)
    return prefix if 2 * count > len(rows) else None


def most(truths: Iterable[bool]) -> bool:
    """Whether more than half of these are true."""
    values = list(truths)
    return 2 * sum(values) > len(values)
