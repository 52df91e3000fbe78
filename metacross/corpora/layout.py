"""How the lines of a file with columns are laid out, found by their content: separator, word column, tag column.

Two columns can be mistaken for what they are not. A first column that counts the words of each sentence looks like
words; a column of `_` or `-`, or of syntactic chunks, looks like tags. So the evidence of all lines decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metacross.corpora.schemes import is_tag

_LANGUAGE = re.compile(r"([a-z]{2,12}(?:-[a-z]{2,12})*):")  # WikiANN's en: or zh-min-nan: in front of each word
_NUMBER = re.compile(r"\d+")
_RANGE = re.compile(r"\d+[-.]\d+")  # CoNLL-U's 3-4 and 8.1: not words of the tagged sentence
_ENTITY = re.compile(r"[BIMELSUW]-(\S+)")
# Types of syntactic chunks: CoNLL-2000 and CoNLL-2003 English, and NC, PC, VC of CoNLL-2003 German.
_CHUNKS = frozenset(["NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "PC", "VC"])


class Row(NamedTuple):
    """A word, its tag as the file has it, and its line (for Hugging Face datasets: its row)."""

    word: str
    tag: str
    line: int


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are laid out. Columns are counted from 0.

    Attributes:
        separator: a tab or a space.
        columns: how many columns a line has; at least so many if words are numbered.
        numbered: whether the first column counts the words of each sentence, as in Universal NER and GermEval.
        word: the column of the words.
        tag: the column of the tags.
        tag_columns: all columns that hold tags of entities; `tag` is one of them.
        language: the prefix of every word in WikiANN.
    """

    separator: str
    columns: int
    numbered: bool
    word: int
    tag: int
    tag_columns: tuple[int, ...] = ()
    language: str | None = None

    def fields(self, line: str) -> list[str]:
        """The columns of a line."""
        return _fields(line, self.separator)

    def is_range(self, line: str) -> bool:
        """Whether a line of a numbered file stands for several words, or for none: it is no word."""
        return self.numbered and _RANGE.fullmatch(self.fields(line)[0]) is not None

    def row(self, line: str, number: int) -> Row:
        """The line's row; raises ValueError that says what was found instead."""
        fields = self.fields(line)
        fits = len(fields) >= self.columns if self.numbered else len(fields) == self.columns
        if not fits:
            raise ValueError(f"{len(fields)} columns")
        word, tag = fields[self.word], fields[self.tag]
        if self.numbered and not _NUMBER.fullmatch(fields[0]):
            raise ValueError(f"the number {fields[0]!r}")
        if not is_tag(tag):
            raise ValueError(f"the tag {tag!r}")
        if self.language:
            if not word.startswith(self.language + ":"):
                raise ValueError(f"the word {word!r}")
            word = word[len(self.language) + 1 :]
        return Row(word, tag, number)

    def __str__(self) -> str:
        separator = "tabs" if self.separator == "\t" else "single spaces"
        names = ["number", "word"] if self.numbered else ["word"]
        names += ["..."] * (self.tag > self.word + 1) + ["tag"]
        names += ["..."] * (self.numbered or self.columns > self.tag + 1)
        columns = f"{self.columns} columns{' or more' if self.numbered else ''} ({', '.join(names)})"
        prefix = f", the word marked {self.language}:" if self.language else ""
        return f"{columns} separated by {separator}{prefix}, the tag being O or like B-PER"

    def oddities(self) -> list[str]:
        """What a reader of the corpus should know about the choice of the tag column, in words."""
        if len(self.tag_columns) < 2:
            return []
        columns = " and ".join(str(column + 1) for column in self.tag_columns)
        return [f"columns {columns} hold tags of entities: column {self.tag + 1} was read"]


def find_layout(lines: Sequence[str]) -> Layout | None:
    """Finds the layout that most lines follow; None if most lines have no tag in any column.

    Args:
        lines: the lines of a file, with empty ones between sentences.
    """
    blocks = _blocks(lines)
    rows = [line for block in blocks for line in block]
    separator = "\t" if most("\t" in line for line in rows) else " "
    fields = [[_fields(line, separator) for line in block] for block in blocks]
    numbered = _is_numbered(fields, separator)
    if numbered:  # ranges and empty nodes say nothing about tags
        fields = [[row for row in block if not _RANGE.fullmatch(row[0])] for block in fields]
    flat = [row for block in fields for row in block]
    columns = Counter(map(len, flat)).most_common(1)[0][0]
    word = int(numbered)
    tag_columns, tag = _tag_columns([row for row in flat if len(row) == columns], word + 1, numbered=numbered)
    if tag is None:
        return None
    language = None if numbered else _find_language(flat)
    return Layout(separator, tag + 1 if numbered else columns, numbered, word, tag, tag_columns, language)


def is_document_start(line: str) -> bool:
    """Whether a line is CoNLL-2003's mark of a new document, which is no word."""
    return line.startswith("-DOCSTART-")


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """The lines with columns, sentence by sentence; comments are left out."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if not line.strip(" \t") or is_document_start(line):
            blocks.append([])
        else:
            blocks[-1].append(line)
    # Comments say nothing about the layout, but a file may also consist of the word # alone.
    without_comments = [[line for line in block if not line.startswith("#")] for block in blocks]
    return [block for block in without_comments if block] or [block for block in blocks if block]


def _fields(line: str, separator: str) -> list[str]:
    if separator == "\t":
        return line.split("\t")
    # In Chinese corpora of one character per line, the character may be a space: that leaves an empty word.
    fields = line.strip(" ").split(" ")
    return ["", *fields] if line.startswith(" ") else fields


def _is_numbered(blocks: Sequence[Sequence[Sequence[str]]], separator: str) -> bool:
    """Whether the first column counts words.

    It counts if it does so from 0 or 1 in most sentences of several words. A sentence of one word proves nothing: the
    number 1 may be that word. With tabs, numbers before a word and a tag count too if they go on over sentences.
    """
    rows = [row for block in blocks for row in block]
    if Counter(min(len(row), 3) for row in rows).most_common(1)[0][0] < 3:
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
    first = int(numbers[0])
    return first in (0, 1) and all(int(number) == first + i for i, number in enumerate(numbers))


def _tag_columns(rows: Sequence[Sequence[str]], first: int, *, numbered: bool) -> tuple[tuple[int, ...], int | None]:
    """The columns from `first` on that hold tags of entities, and the one to be read.

    That is the first one with entities: of nested annotations the outer one, and of gold and predicted tags the gold
    ones. Without any entity it is the first after numbered words, and the last elsewhere. Syntactic chunks are read
    only if there is nothing else.
    """
    candidates: dict[int, Counter[str]] = {}  # column -> types of its tags
    for column in range(first, len(rows[0])):
        values = [row[column] for row in rows]
        # A column of - and _ alone says nothing.
        if most(map(is_tag, values)) and any(value == "O" or _ENTITY.fullmatch(value) for value in values):
            candidates[column] = Counter(match[1] for value in values if (match := _ENTITY.fullmatch(value)))
    if not candidates:
        return (), None
    with_entities = [column for column, types in candidates.items() if types]
    without_chunks = [column for column in with_entities if not candidates[column].keys() <= _CHUNKS]
    with_entities = without_chunks or with_entities
    if with_entities:
        return tuple(with_entities), with_entities[0]
    return (), list(candidates)[0 if numbered else -1]


def _find_language(fields: Sequence[Sequence[str]]) -> str | None:
    prefixes = Counter(match[1] for row in fields if (match := _LANGUAGE.match(row[0])))
    prefix, count = prefixes.most_common(1)[0] if prefixes else (None, 0)
    return prefix if 2 * count > len(fields) else None


def most(truths: Iterable[bool]) -> bool:
    """Whether more than half of these are true."""
    values = list(truths)
    return 2 * sum(values) > len(values)
