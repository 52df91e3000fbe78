"""What of a file has to be in the corpus that is read from it: a second, literal reading of the file's text.

Nothing is invented: every word is in the file. Nothing is lost without a report: every line, row or record of the file
has given its words, or the format says that it has none.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from metacross.corpora.characters import INVISIBLE, visible
from metacross.corpora.raw import Row
from metacross.corpora.reader import Corpus

_WORD_NAMES = ("token", "tokens", "word", "words", "form", "text")
_NO_WORD = re.compile(r"#|-DOCSTART-|\d+[-.]\d+(\s|$)")  # comments, beginnings of documents, ranges of words


def check_found(corpus: Corpus, text: str) -> None:
    """Every word is in the text of the file, apart from the characters that quote and escape others."""
    if corpus.format in ("json", "jsonl", "label-studio"):
        quoting, text = "", "\0".join(_json_strings(text))
    else:
        quoting = "\"'\\" if corpus.format == "csv" else ""
    without = str.maketrans("", "", quoting)
    text = text.translate(without)
    for word in words_of(corpus):
        assert word.translate(without) in text, f"the word {word!r} is not in the file"


def words_of(corpus: Corpus) -> list[str]:
    return [word for sentence in corpus.sentences for word in sentence.words]


def is_explained(oddities: Iterable[str]) -> bool:
    """Whether the report says of something that it was left out, or that something else was read."""
    return any(re.search("left out|left without|was read|found anew", line) for line in oddities)


# --- columns and tables ----------------------------------------------------------------------------------------------


def check_columns(rows: Sequence[Row], text: str) -> None:
    """Every line of a file with columns is a row, if it is no comment or the like."""
    lines = _lines(text)
    rest = _without_rows(rows, lines)
    numbers = {row.line for row in rows}
    for number, line in rest.items():
        line = line.lstrip("\ufeff")
        # Behind a word, # is another word, unless words are numbered.
        is_word = line.startswith("#") and number - 1 in numbers and not re.match(r"\d+\s", lines[number - 2])
        if _NO_WORD.match(line) and not is_word:
            continue
        is_header = re.split(r"[\t ]+", line.strip())[0].casefold() in _WORD_NAMES
        assert is_header and number <= min(numbers, default=number), f"line {number} was lost: {line!r}"


def check_table(rows: Sequence[Row], text: str, oddities: Iterable[str]) -> None:
    """Every row of a table but the header has given words."""
    if '"' in text:
        number = len({row.line for row in rows})
        assert number in _table_lengths(_lines(text)) or is_explained(oddities), "rows of a table were lost"
    elif len({row.line for row in rows}) == len(rows):
        rest = list(_without_rows(rows, _lines(text)).items())
        assert len(rest) <= 1 or is_explained(oddities), f"lines were lost: {rest[1:]}"


def _lines(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.split("\n" if "\n" in text else "\r")]


def _without_rows(rows: Sequence[Row], lines: Sequence[str]) -> dict[int, str]:
    """The visible lines that are no rows, by their numbers; checks that all rows are where they say they are."""
    numbers = [row.line for row in rows]
    assert numbers == sorted(set(numbers)), "lines out of order, or read twice"
    fields = Counter(len(lines[row.line - 1].strip(" ").split(" ")) for row in rows).most_common(1)
    usual = max(fields[0][0] if fields else 0, 2)
    for row in rows:
        line = lines[row.line - 1]
        assert row.word in line, f"the word {row.word!r} is not in line {row.line}"
        # A space at the beginning of a line is a word only where there is no other.
        is_lost = (
            not row.word and line.startswith(" ") and "\t" not in line and len(line.strip(" ").split(" ")) >= usual
        )
        assert not is_lost, f"the word of line {row.line} was lost: {line!r}"
    rest = dict(enumerate(lines, 1))
    for number in numbers:
        del rest[number]
    return {number: line for number, line in rest.items() if visible(line.strip("\t ,;"))}


def _table_lengths(lines: Sequence[str]) -> set[int]:
    """The number of rows below the header, for each possible separator."""
    lengths = set()
    for separator in ",;\t":
        with suppress(csv.Error):
            fields = csv.reader((f"{line}\n" for line in lines), delimiter=separator)
            lengths.add(sum(any(map(str.strip, row)) for row in fields) - 1)
    return lengths


# --- JSON ------------------------------------------------------------------------------------------------------------


def check_records(corpus: Corpus, text: str) -> None:
    """Every record's words, or its text if it has no words, are in the corpus."""
    if is_explained(corpus.oddities):
        return
    have = _squeezed(words_of(corpus))
    for part in _record_texts(text, is_task=corpus.format == "label-studio"):
        for word in part.split():
            assert _squeezed([word]) in have, f"{word!r} was lost"


def _squeezed(words: Iterable[str]) -> str:
    return "".join(character for word in words for character in word if character not in INVISIBLE)


def _json_strings(text: str) -> Iterator[str]:
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL):
        with suppress(ValueError):
            yield json.loads(match[0], strict=False)


def _record_texts(text: str, *, is_task: bool) -> Iterator[str]:
    for record in _json_records(text):
        texts = [value for key in ("text", "data") if isinstance(value := record.get(key), str)]
        words = [value for key in ("tokens", "words") if isinstance(value := record.get(key), list)]
        if is_task:
            data = record.get("data")
            texts = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
            yield from texts if len(texts) == 1 else ()
        elif words and words[0] and isinstance(words[0][0], str):
            yield from words[0]
        elif words and words[0] and isinstance(words[0][0], dict):
            yield from (token if isinstance(token, str) else token["text"] for token in words[0])
            yield from texts[:1]
        else:
            yield from texts[:1]


def _json_records(text: str) -> Iterator[dict[str, object]]:
    """The objects of JSON documents that follow one another; those in lists, and in lists that an object holds."""
    decoder = json.JSONDecoder()
    at = 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        values = value if isinstance(value, list) else [value]
        if isinstance(value, dict) and not value.keys() & {"tokens", "words", "text"}:
            values = next((value[key] for key in ("data", "annotations") if isinstance(value.get(key), list)), values)
        for item in values:
            if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], dict):
                item = {**item[1], "text": item[0]}
            if isinstance(item, dict):
                yield item
