"""Whether our splitter ends sentences at the right line breaks: at those of lists, and not at those of wrapped prose.

    python -m benchmarks.line_breaks --data en=EWT/dev.iob2 --data zh=GSDSIMP/dev.iob2

Wrapped prose: paragraphs as `benchmarks.sentence_splitting` makes them, wrapped at 60, 72 and 80 columns, and ragged:
every line at a width of its own, 40 to 80 columns. Sentence breaks are scored as there; what matters most is the names
that a break cuts.

Lists: the names of the files, one a line, 2 to 20 in a list; addresses of three lines, 2 to 8 one below the other; and
addresses of one line each. The measure is the share of line breaks that end a sentence.

The splitter is compared with itself under two simple rules: every line break ends a sentence, and none does.
"""

from __future__ import annotations

import random
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.sentence_splitting import (
    OURS,
    WIDTH,
    Labelled,
    Paragraph,
    Score,
    Split,
    make_paragraphs,
    our_sentences,
    read_data,
    score,
    visible,
)
from metacross.errors import UserError

RULES: dict[str, Split] = {
    OURS: our_sentences,
    "every": lambda text: [sentence for line in text.split("\n") for sentence in our_sentences(line)],
    "none": lambda text: our_sentences(text.replace("\n", " ")),
}
SIZES = (2, 10)  # sentences of a paragraph
WRAPS = {"60 columns": (60, 60), "72 columns": (72, 72), "80 columns": (80, 80), "ragged": (40, 80)}
# A word with the space before it, or one Chinese or Japanese character: lines may be broken between these.
_UNIT = re.compile("\\s*(?:[\u2e80-\uffef]|[^\\s\u2e80-\uffef]+)")


def wrap(text: str, width: Callable[[], int]) -> str:
    """Fills line after line up to the columns that `width` gives for it."""
    lines, line, most = [], "", width()
    for unit in _UNIT.findall(text):
        if line and _columns(line + unit) > most:
            lines.append(line)
            line, most = unit.lstrip(), width()
        else:
            line += unit
    return "\n".join([*lines, line])


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def wrapped(paragraphs: Iterable[Paragraph], least: int, most: int) -> Iterator[Paragraph]:
    """The paragraphs wrapped at random widths between two."""
    chance = random.Random(0)
    for paragraph in paragraphs:
        text = wrap(paragraph.text, lambda: chance.randint(least, most))
        yield Paragraph(text, paragraph.breaks, paragraph.names)


def names(sentences: Iterable[Labelled]) -> Iterator[str]:
    """The names as they are written, in order."""
    for sentence in sentences:
        places = [place for place, character in enumerate(sentence.text) if not character.isspace()]
        for start, end in sentence.names:
            yield sentence.text[places[start] : places[end - 1] + 1]


def lists(sentences: Iterable[Labelled]) -> Iterator[Paragraph]:
    """Lists of names, one a line."""
    return _lists(names(sentences), lambda following: [next(following)], lengths=(2, 3, 4, 6, 10, 20))


def addresses(sentences: Iterable[Labelled], *, between: str) -> Iterator[Paragraph]:
    """Addresses below each other: a name, a street with its number, and a town with its code, joined by `between`."""
    chance = random.Random(0)

    def address(following: Iterator[str]) -> list[str]:
        name, street, town = next(following), next(following), next(following)
        parts = [name, f"{street} {chance.randint(1, 99)}", f"{chance.randint(1000, 99999)} {town}"]
        return between.join(parts).split("\n")

    return _lists(names(sentences), address, lengths=(2, 3, 5, 8))


def _lists(
    following: Iterator[str], item: Callable[[Iterator[str]], list[str]], *, lengths: Sequence[int]
) -> Iterator[Paragraph]:
    """Lists of random lengths, as long as there are names for a complete one; every line break in them is a break.

    Args:
        following: the names.
        item: takes the names of an item and returns its lines.
        lengths: the numbers of items to choose from.
    """
    chance = random.Random(0)
    while True:
        lines: list[str] = []
        try:
            for _ in range(chance.choice(lengths)):
                lines += item(following)
        except StopIteration:
            return
        ends = [len(visible("".join(lines[: number + 1]))) for number in range(len(lines) - 1)]
        yield Paragraph("\n".join(lines), frozenset(ends), ())


def measure(texts: dict[str, list[Paragraph]]) -> dict[str, dict[str, Score]]:
    """The score of every rule in every language."""
    return {
        rule: {
            language: sum((score(paragraph, split(paragraph.text)) for paragraph in paragraphs), Score())
            for language, paragraphs in texts.items()
        }
        for rule, split in RULES.items()
    }


def main(
    data: Annotated[list[str], typer.Option(help="LANGUAGE=FILE, IOB2 with its texts in comments")],
) -> None:
    """Measures our splitter and the two rules on wrapped prose and on lists."""
    try:
        labelled = read_data(data)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    prose = Table("wrapped prose", "names", *(f"{rule}: F1, names cut" for rule in RULES))
    for sentences in SIZES:
        paragraphs = {
            language: make_paragraphs(found, language=language, size=sentences) for language, found in labelled.items()
        }
        for label, (least, most) in WRAPS.items():
            found = measure({language: list(wrapped(group, least, most)) for language, group in paragraphs.items()})
            count = sum(len(paragraph.names) for group in paragraphs.values() for paragraph in group)
            prose.add_row(f"{sentences} sentences, {label}", str(count), *map(_prose_cell, found.values()))
    kinds: dict[str, Callable[[Iterable[Labelled]], Iterator[Paragraph]]] = {
        "names": lists,
        "addresses of three lines": lambda sentences: addresses(sentences, between="\n"),
        "addresses of one line": lambda sentences: addresses(sentences, between=", "),
    }
    separated = Table("lists", "line breaks", *(f"{rule}: separated" for rule in RULES))
    for label, make in kinds.items():
        texts = {language: list(make(sentences)) for language, sentences in labelled.items()}
        count = sum(len(paragraph.breaks) for group in texts.values() for paragraph in group)
        separated.add_row(label, str(count), *map(_list_cell, measure(texts).values()))
    console = Console(width=max(WIDTH, Console().width))
    console.print(prose)
    console.print(separated)


def _prose_cell(scores: dict[str, Score]) -> str:
    f1 = 100 * fmean(found.f1 for found in scores.values())
    return f"{f1:.1f}, {sum(found.names_cut for found in scores.values())}"


def _list_cell(scores: dict[str, Score]) -> str:
    return f"{100 * sum(scores.values(), Score()).recall:.1f} %"


if __name__ == "__main__":
    typer.run(main)
