"""Changes to a file that change none of its words: the reader gives the same words, or says what it took for what."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

import pytest

from metacross.corpora.reader import Corpus, read_corpus
from metacross.errors import UserError
from tests.helpers import mutations
from tests.helpers.corpora import write
from tests.helpers.corpus_fuzz import COMPRESSIONS, ENCODINGS, Seed, seeds
from tests.helpers.corpus_oracle import words_of

TEXTS = [seed for seed in seeds() if seed.is_text and not seed.is_folder and seed.name != "plain.txt"]
COLUMNS = [seed for seed in TEXTS if seed.name.startswith("conll") or seed.name.endswith((".txt", ".iob2"))]


def encodable(text: str, encoding: str) -> bool:
    try:
        return bool(text.encode(encoding))
    except UnicodeEncodeError:
        return False


SURE: dict[str, Callable[[str], bytes]] = {
    **{name: lambda text, compress=compress: compress(text.encode()) for name, compress in COMPRESSIONS.items()},
    "a byte-order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "no last line end": lambda text: text.rstrip("\n").encode(),
    "blank lines around it": lambda text: f"\n\n{text}\n \n\n".encode(),
    "white space at line ends": lambda text: re.sub("(?<=.)\n", " \n", text).encode(),
}


def tags_of(corpus: Corpus) -> list[tuple[str, ...] | None]:
    return [sentence.tags for sentence in corpus.sentences]


@pytest.mark.parametrize("change", SURE)
@pytest.mark.parametrize("seed", TEXTS, ids=lambda seed: seed.name)
def test_nothing_changes(seed: Seed, change: str, tmp_path: Path) -> None:
    before = read_corpus(write(tmp_path, seed.text))
    after = read_corpus(write(tmp_path, SURE[change](seed.text)))
    assert (words_of(after), tags_of(after)) == (words_of(before), tags_of(before))


# --- reported or refused ---------------------------------------------------------------------------------------------


def each_line(text: str, change: Callable[[str], str]) -> str:
    """Changes the lines that have a word."""
    return re.sub(r"(?m)^(?!\s|# \w+.*=|-DOCSTART-).+$", lambda line: change(line[0]), text)


def with_index(text: str, separator: str, first: int) -> str:
    """Numbers the words of each sentence."""
    blocks = text.split("\n\n")
    for i, block in enumerate(blocks):
        numbers = count(first)
        blocks[i] = each_line(block, lambda line, numbers=numbers: f"{next(numbers)}{separator}{line}")
    return "\n\n".join(blocks)


def invisible_edges(text: str, rng: Random) -> str:
    """Adds characters that nobody sees, but no separators of lines or fields, at the edges of words."""
    odd = re.sub("[ \x85\u2028\x1c]", "", mutations.INVISIBLE)

    def changed(line: str) -> str:
        index, word, rest = re.fullmatch(r"(\d+\t|\w+:|)(\S*)(.*)", line).groups()
        before, after = (rng.choice(odd) if rng.random() < 0.2 else "" for _ in range(2))
        return f"{index}{before}{word}{after}{rest}"

    return each_line(text, changed)


def tags_replaced(text: str, tag: str, rng: Random, share: float) -> str:
    return re.sub(r"(?m)(?<=[\t ])([BIESLU]-\w+|O)$", lambda old: tag if rng.random() < share else old[0], text)


def columns_changed(text: str, rng: Random) -> dict[str, str]:
    """The text in many disguises."""
    return {
        "tabs for spaces": text.replace(" ", "\t"),
        "spaces for tabs": text.replace("\t", " "),
        "two spaces": re.sub("[\t ]", "  ", text),
        "tab and space": text.replace("\t", "\t "),
        "tab at line ends": each_line(text, lambda line: line + "\t"),
        "spaces at line starts": each_line(text, lambda line: "  " + line),
        "byte-order marks": each_line(text, lambda line: "\ufeff" + line),
        "an index from 0": with_index(text, "\t" if "\t" in text else " ", 0),
        "an index from 1": with_index(text, "\t" if "\t" in text else " ", 1),
        "twice": text.rstrip("\n") + "\n\n" + text,
        "no sentence breaks": re.sub("\n\n+", "\n", text),
        "a sentence break after each word": text.replace("\n", "\n\n"),
        "only words": each_line(text, lambda line: re.split("[\t ]", line)[0]),
        "a column more": each_line(text, lambda line: line + ("\t_" if "\t" in text else " _")),
        "a column of tags more": each_line(text, lambda line: line + ("\tO" if "\t" in text else " O")),
        "lines with vertical tabs": each_line(text, lambda line: line + "\x0b"),
        **{f"invisible {n}": invisible_edges(text, rng) for n in range(20)},
        **{
            f"{share} tags {tag!r}": tags_replaced(text, tag, rng, share)
            for tag in mutations.ODD_TAGS
            for share in (0.1, 0.5, 1.0)
        },
    }


@pytest.mark.parametrize("seed", COLUMNS, ids=lambda seed: seed.name)
def test_columns_lose_no_word_without_a_report(seed: Seed, tmp_path: Path) -> None:
    original = seed.text.replace("\n# # ", "\n+ # ")  # with another tag it would be a comment
    before = read_corpus(write(tmp_path, original))
    for name, text in columns_changed(original, Random(0)).items():
        expected = words_of(before) * (2 if name == "twice" else 1)
        lost = unreported(before, expected, write(tmp_path, text.encode("utf-8", "surrogatepass")))
        assert not lost, f"{name}: {lost}"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings(encoding: str, tmp_path: Path) -> None:
    for seed in TEXTS:
        if encodable(seed.text, encoding):
            before = read_corpus(write(tmp_path, seed.text))
            lost = unreported(before, words_of(before), write(tmp_path, seed.text.encode(encoding)))
            assert not lost, f"{seed.name}: {lost}"


def unreported(before: Corpus, expected: list[str], path: Path) -> str:
    """What was read in place of the expected words without a report; "" if nothing."""
    try:
        after = read_corpus(path)
    except UserError as error:
        assert str(path) in str(error)
        return ""
    if words_of(after) == expected or set(after.oddities) - set(before.oddities):
        return ""
    return f"{words_of(after)} for {expected}"
