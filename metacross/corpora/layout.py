"""How the lines of a file with columns are laid out, found by their content: separator, word column, tag column.

Two columns can be mistaken for what they are not. A first column that counts the words of each sentence looks like
words; a column of `_` or `-`, or of syntactic chunks, looks like tags. So the evidence of many lines decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from metacross.corpora.characters import visible
from metacross.corpora.raw import Row
from metacross.corpora.schemes import is_tag
from metacross.errors import UserError

_LANGUAGE = re.compile(r"([a-z]{2,12}(?:-[a-z]{2,12})*):")  # WikiANN's en: or zh-min-nan: in front of each word
_NUMBER = re.compile(r"\d+")
_RANGE = re.compile(r"\d+[-.]\d+")  # CoNLL-U's 3-4 and 8.1: not words of the tagged sentence
_ENTITY = re.compile(r"[BIMELSUW]-(\S+)")
_LOOSE_ENTITY = re.compile(r"[BIMELSUW][-_](\S+)", re.IGNORECASE)  # b-per, B_PER
_TYPE = re.compile(r"[^\W\d_][\w./&|-]*")  # PER, on every word of an entity
_MOST_TYPES = 40
# Types of syntactic chunks: CoNLL-2000 and CoNLL-2003 English, and NC, PC, VC of CoNLL-2003 German.
_CHUNKS = frozenset(["NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "PC", "VC"])
_WORD_NAMES = frozenset({"token", "tokens", "word", "words", "form", "text"})  # of the word column in a header
_MISC = 9  # CoNLL-U's last column
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

    def is_range(self, line: str) -> bool:
        """Whether a line of a numbered file stands for several words, or for none: it is no word."""
        return self.numbered and _RANGE.fullmatch(self.fields(line)[0]) is not None

    def row(self, line: str, number: int) -> Row:
        """The line's row; raises ValueError that says what was found instead."""
        fields = self.fields(line)
        fits = len(fields) >= self.columns if self.numbered or self.tag is None else len(fields) == self.columns
        if not fits:
            raise ValueError(f"{len(fields)} column{'s' * (len(fields) != 1)}")
        if self.numbered and not _NUMBER.fullmatch(fields[0]):
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
        """Whether a line before a sentence is a comment; elsewhere # is a word."""
        if not line.startswith("#"):
            return False
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
    separator = _separator([line for block in blocks for line in block])
    fields = [[_fields(line, separator) for line in block] for block in blocks]
    header = ""
    if not names and fields and _is_header(fields[0][0]):
        names, header = tuple(fields[0][0]), blocks[0][0]
        fields = [block for block in [fields[0][1:], *fields[1:]] if block]
    if not fields:
        return None
    numbered = _is_numbered(fields, separator, 3 if labelled else 2)
    if numbered:  # ranges and empty nodes say nothing about tags
        fields = [[row for row in block if not _RANGE.fullmatch(row[0])] for block in fields]
    flat = [row for block in fields for row in block]
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
    """Whether nothing can be seen in a line: it ends a sentence."""
    return not line or line.isspace() or not visible(line)


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """The lines with columns, sentence by sentence; comments are left out."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if is_blank(line) or is_document_start(line):
            blocks.append([])
        else:
            blocks[-1].append(line)
    # Comments say nothing about the layout, but a file may also consist of the word # alone.
    without_comments = [[line for line in block if not line.startswith("#")] for block in blocks]
    return [block for block in without_comments if block] or [block for block in blocks if block]


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
    return ["", *fields] if line.startswith(" ") else fields


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


def _is_numbered(blocks: Sequence[Sequence[Sequence[str]]], separator: str, fewest: int) -> bool:
    """Whether the first column counts words.

    It counts if it does so from 0 or 1 in most sentences of several words. A sentence of one word proves nothing: the
    number 1 may be that word. With tabs, numbers before a word and a tag count too if they go on over sentences.

    Args:
        blocks: the fields of each line of each sentence.
        separator: what separates them.
        fewest: how many columns there have to be.
    """
    rows = [row for block in blocks for row in block]
    if Counter(min(len(row), 3) for row in rows).most_common(1)[0][0] < fewest:
        return False
    long = [block for block in blocks if len(block) > 1]
    if long and most(map(_counts, long)):
        return True
    return separator == "\t" and most(
        len(row) > 2 and is_tag(row[2]) and _NUMBER.match(row[0]) is not None for row in rows
    )


def _counts(block: Sequence[Sequence[str]]) -> bool:
    numbers = [row[0] for row in block if not _RANGE.fullmatch(row[0])]
    if not all(map(_NUMBER.fullmatch, numbers)) or not numbers:
        return False
    # Compared as text: a number may have thousands of digits.
    return any(numbers == [str(first + i) for i in range(len(numbers))] for first in (0, 1))


def _with_tags(layout: Layout, rows: Sequence[Sequence[str]]) -> Layout:
    """The layout with the column that most likely holds the tags.

    That is the first one with entities: of nested annotations the outer one, and of gold and predicted tags the gold
    ones. Without any entity it is the first after numbered words, and the last elsewhere. Types without a letter, tags
    before the word, and syntactic chunks are read only if there is nothing else.
    """
    columns = [column for column in range(layout.columns) if column > layout.word]
    marked = {column: found for column in columns if (found := _types(rows, column, _ENTITY)) is not None}
    entities = [column for column, types in marked.items() if types and not types <= _CHUNKS]
    if entities:
        return replace(layout, tag=entities[0], tag_columns=tuple(entities) if len(entities) > 1 else ())
    if key := _misc_key(rows, layout):
        return replace(layout, tag=_MISC, key=key)
    chunks = [column for column, types in marked.items() if types]
    for column in columns:
        if column not in chunks and (_types(rows, column, _LOOSE_ENTITY) or _has_bare_types(rows, column)):
            return replace(layout, tag=column)
    if chunks:
        return replace(layout, tag=chunks[0])
    if marked:
        return replace(layout, tag=list(marked)[0 if layout.numbered else -1])
    if layout.columns == 2 and not layout.numbered and _types(rows, 0, _ENTITY):
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


def _types(rows: Sequence[Sequence[str]], column: int, form: re.Pattern[str]) -> frozenset[str] | None:
    """The types of entities in a column; None if most of it is no tags. A column of - and _ alone says nothing."""
    number = Counter(row[column] for row in rows)
    types = frozenset(match[1] for value in number if (match := form.fullmatch(value)))
    tags = sum(count for value, count in number.items() if value in ("0", "") or is_tag(value) or form.fullmatch(value))
    if 2 * tags <= len(rows) or not (types or "O" in number):
        return None
    return types


def _has_bare_types(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column has O, and few other values that may be types: O, PER, LOC. Parts of speech have no O."""
    number = Counter(row[column] for row in rows)
    outside = number["O"] + number["0"]
    others = [value for value in number if not is_tag(value) and value not in ("0", "")]
    return 10 * outside > len(rows) and 0 < len(others) <= _MOST_TYPES and all(map(_TYPE.fullmatch, others))


def _misc_key(rows: Sequence[Sequence[str]], layout: Layout) -> str:
    """The key of the entities in CoNLL-U's last column, as it is written there; "" if it has none."""
    if layout.columns != _MISC + 1 or not layout.numbered:
        return ""
    values: dict[str, set[str]] = {}
    for row in rows:
        for key, value in _pairs(row[_MISC]).items():
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
    prefixes = Counter(match[1] for row in rows if (match := _LANGUAGE.match(row[word])))
    prefix, count = prefixes.most_common(1)[0] if prefixes else (None, 0)
    return prefix if 2 * count > len(rows) else None


def most(truths: Iterable[bool]) -> bool:
    """Whether more than half of these are true."""
    values = list(truths)
    return 2 * sum(values) > len(values)
