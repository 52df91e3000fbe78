"""How fast corpora are read: our reader, Hugging Face's `datasets`, flair, and the floor below all of them.

    python -m venv /tmp/flair && /tmp/flair/bin/pip install flair==0.15.1
    python -m benchmarks.reading --flair /tmp/flair/bin/python

flair has an environment of its own, since it requires a release of transformers before 5; `datasets` comes with
`pip install metacross[hub]`. A reader that is not installed is named and left out.

The files have the sentences of a sample over and over, until they are large enough. In every round some long words get
their letters in another order, so that the number of different words grows as in a real corpus. Parts of speech and
chunks, which the sample lacks, are filled in; no reader looks at them.

    four columns    word, part of speech, chunk, tag, with spaces between them and -DOCSTART- lines: CoNLL-2003
    two columns     word and tag, with a tab between them
    JSON lines      {"tokens": [...], "ner_tags": [...]}, the sentences of the first file

Every reading is a process of its own (`benchmarks.readers`), all readers by turns; the tables show medians over the
repeats. Time is the processor's, without imports; ratios are taken within a repeat. The floor opens the file, decodes
it and splits its lines at white space: `for line in file: line.split()`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from metacross.corpora.reader import read_corpus
from metacross.errors import UserError

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "en" / "train.conll"
OURS = "metacross"
FLOOR = "floor"
FLAIR = "flair"
DOCUMENT = 20  # sentences of a document
CHANGED = 0.05  # share of the long words that are changed in a round
LONG = 5  # letters
MB = 1_000_000
WIDTH = 120

Sentence = tuple[Sequence[str], Sequence[str]]
"""Words and tags."""
Figures = dict[str, Any]
"""What `benchmarks.readers` prints."""


def four_columns(number: int, words: Sequence[str], tags: Sequence[str]) -> str:
    """A sentence in the layout of CoNLL-2003."""
    start = "" if number % DOCUMENT else "-DOCSTART- -X- -X- O\n\n"
    lines = (
        f"{word} {'NNP' if word[0].isupper() else 'NN'} I-NP {tag}\n" for word, tag in zip(words, tags, strict=True)
    )
    return f"{start}{''.join(lines)}\n"


def two_columns(_: int, words: Sequence[str], tags: Sequence[str]) -> str:
    """A sentence as words and tags with a tab between them."""
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"


def json_line(_: int, words: Sequence[str], tags: Sequence[str]) -> str:
    """A sentence as an object."""
    return json.dumps({"tokens": words, "ner_tags": tags}, ensure_ascii=False) + "\n"


def varied(sample: Sequence[Sentence]) -> Iterator[Sentence]:
    """The sentences of a sample without end; from the second round on, some long words are changed."""
    chance = random.Random(0)

    def changed(word: str) -> str:
        if len(word) < LONG or not word.isalpha() or chance.random() > CHANGED:
            return word
        return "".join(chance.sample(word, len(word)))

    yield from sample
    while True:
        for words, tags in sample:
            yield [changed(word) for word in words], tags


FILES: dict[str, tuple[Callable[[int, Sequence[str], Sequence[str]], str], tuple[str, ...]]] = {
    "four columns": (four_columns, (FLOOR, OURS, "datasets_generator", FLAIR)),
    "two columns": (two_columns, (FLOOR, OURS, "datasets_generator", FLAIR)),
    "JSON lines": (json_line, (OURS, "datasets_json")),
}
"""The files: how a sentence is written, and who reads the file."""


def write_files(folder: Path, sample: Sequence[Sentence], size: int) -> dict[str, Path]:
    """Writes the same sentences in every form, as many as make the first file at least `size` bytes large."""
    paths = {name: folder / name.replace(" ", "_") for name in FILES}
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(path.open("w", encoding="utf-8")) for name, path in paths.items()}
        first = next(iter(files.values()))
        for number, (words, tags) in enumerate(varied(sample)):
            if first.tell() >= size:
                break
            for name, file in files.items():
                write_sentence, _ = FILES[name]
                file.write(write_sentence(number, words, tags))
    return paths


def run(reader: str, path: Path, python: str) -> Figures:
    """The figures of one reading.

    Raises:
        UserError: the reader failed.
    """
    command = [python, "-m", "benchmarks.readers", reader, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{reader} cannot read {path}:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(paths: Mapping[str, Path], *, repeats: int, flair: str) -> dict[str, dict[str, list[Figures]]]:
    """The figures of every repeat, by file and reader; of a reader that is not installed there are none.

    Raises:
        UserError: a reader failed, or did not find the words that ours finds.
    """
    found: dict[str, dict[str, list[Figures]]] = {name: {} for name in paths}
    missing: set[str] = set()
    for _ in range(repeats):
        for name, path in paths.items():
            for reader in FILES[name][1]:
                if reader in missing:
                    continue
                figures = run(reader, path, flair if reader == FLAIR else sys.executable)
                if "missing" in figures:
                    print(f"{reader}: not installed ({figures['missing']})")
                    missing.add(reader)
                    continue
                found[name].setdefault(reader, []).append(figures)
    for name, readers in found.items():
        for reader, all_figures in readers.items():
            words, ours = all_figures[0]["words"], readers[OURS][0]["words"]
            if reader != FLOOR and words != ours:
                raise UserError(f"{reader} finds {words} words in the file of {name}, ours {ours}.")
    return found


def table(name: str, size: int, readers: Mapping[str, Sequence[Figures]]) -> Table:
    """One row a reader: medians over the repeats."""
    ours = readers[OURS]
    result = Table(
        "reader",
        "seconds",
        "MB/s",
        "times ours",
        "pass over the words, seconds",
        "peak memory, MB",
        "after imports, MB",
        title=f"{name}: {size / MB:.1f} MB, {ours[0]['sentences']} sentences, {ours[0]['words']} words",
    )
    for reader, all_figures in readers.items():
        seconds = median(figures["seconds"] for figures in all_figures)
        ratios = [figures["seconds"] / other["seconds"] for figures, other in zip(all_figures, ours, strict=True)]
        result.add_row(
            reader,
            f"{seconds:.2f}",
            f"{size / MB / seconds:.1f}",
            f"{median(ratios):.2f}",
            f"{median(figures['pass_seconds'] for figures in all_figures):.2f}",
            f"{median(figures['peak_bytes'] for figures in all_figures) / MB:.0f}",
            f"{median(figures['imported_bytes'] for figures in all_figures) / MB:.0f}",
        )
    return result


def main(
    data: Annotated[Path, typer.Option(help="corpus whose sentences are repeated")] = SAMPLE,
    size: Annotated[float, typer.Option(min=0.001, help="MB of the file with four columns")] = 50.0,
    repeats: Annotated[int, typer.Option(min=1, help="readings of every file by every reader")] = 3,
    flair: Annotated[str, typer.Option(help="Python of an environment with flair")] = sys.executable,
    json_path: Annotated[Path | None, typer.Option("--json", help="write all figures here")] = None,
) -> None:
    """Measures all readers on the same sentences in three forms."""
    try:
        sample = [(sentence.words, sentence.tags or ()) for sentence in read_corpus(data).sentences]
        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(Path(folder), sample, int(size * MB))
            sizes = {name: path.stat().st_size for name, path in paths.items()}
            found = measure(paths, repeats=repeats, flair=flair)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    console = Console(width=max(WIDTH, Console().width))
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores")
    for name, readers in found.items():
        console.print(table(name, sizes[name], readers))
    if json_path is not None:
        json_path.write_text(json.dumps({"bytes": sizes, "found": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
