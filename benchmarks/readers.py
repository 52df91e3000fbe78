"""One reader of corpora reads one file, in a process of its own: what `benchmarks.reading` starts for every figure.

    python -m benchmarks.readers READER FILE

prints a line of JSON: the processor time of reading in seconds, that of one pass over all words afterwards, the peak
memory after the imports and at the end in bytes, and the numbers of sentences and words. Only the standard library is
imported at the top, because flair runs in an environment of its own, without metacross.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

DOCUMENT = "-DOCSTART-"
Words = Iterable[Sequence[str]]
"""The words of every sentence."""


def floor() -> Callable[[str], Words]:
    """Decodes and splits every line, and keeps nothing."""

    def read(path: str) -> Words:
        with open(path, encoding="utf-8") as file:
            for line in file:
                line.split()
        return ()

    return read


def metacross() -> Callable[[str], Words]:
    """Our reader, as training calls it; it reads columns and JSON lines."""
    from metacross.corpora.reader import read_corpus

    return lambda path: (sentence.words for sentence in read_corpus(path).sentences)


def datasets_generator() -> Callable[[str], Words]:
    """Hugging Face's `datasets` with a generator over a file with columns, since it has no reader for them."""
    from datasets import Dataset

    def read(path: str) -> Words:
        with tempfile.TemporaryDirectory() as cache:  # it stays open until the process ends: Arrow maps the file
            dataset = Dataset.from_generator(rows, gen_kwargs={"path": path}, cache_dir=cache)
        return (row["tokens"] for row in dataset)

    return read


def rows(path: str) -> Iterator[dict[str, list[str]]]:
    """The sentences of a file with columns, by the shortest code that reads it: no checks, no conversion of tags."""
    words: list[str] = []
    tags: list[str] = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            if fields and fields[0] != DOCUMENT:
                words.append(fields[0])
                tags.append(fields[-1])
            elif words:
                yield {"tokens": words, "ner_tags": tags}
                words, tags = [], []
    if words:
        yield {"tokens": words, "ner_tags": tags}


def datasets_json() -> Callable[[str], Words]:
    """Hugging Face's `datasets` with JSON lines."""
    from datasets import load_dataset

    def read(path: str) -> Words:
        with tempfile.TemporaryDirectory() as cache:
            dataset = load_dataset("json", data_files=path, split="train", cache_dir=cache)
        return (row["tokens"] for row in dataset)

    return read


def flair() -> Callable[[str], Words]:
    """Flair's reader of files with columns, which `ColumnCorpus` uses for each of its files."""
    from flair.datasets.sequence_labeling import ColumnDataset

    def read(path: str) -> Words:
        with open(path, encoding="utf-8") as file:
            columns = next(len(line.split()) for line in file if line.strip())
        dataset = ColumnDataset(path, {0: "text", columns - 1: "ner"}, document_separator_token=DOCUMENT)
        sentences = (sentence for sentence in dataset.sentences if sentence[0].text != DOCUMENT)
        return ([token.text for token in sentence] for sentence in sentences)

    return read


READERS = {maker.__name__: maker for maker in (floor, metacross, datasets_generator, datasets_json, flair)}


def peak_memory() -> int:
    """The most memory that this process has had so far, in bytes.

    It is not `getrusage`'s, which on Linux begins with the memory of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    match = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if match is None:
        raise OSError("/proc/self/status has no VmHWM; the benchmark needs Linux")
    return 1024 * int(match[1])


def measure(make: Callable[[], Callable[[str], Words]], path: str) -> dict[str, Any]:
    """Reads a file and passes over its words; see the module's docstring for the result."""
    read = make()
    imported = peak_memory()
    began = time.process_time()
    sentences = read(path)
    ended = time.process_time()
    lengths = [len(words) for words in sentences]
    return {
        "seconds": ended - began,
        "pass_seconds": time.process_time() - ended,
        "imported_bytes": imported,
        "peak_bytes": peak_memory(),
        "sentences": len(lengths),
        "words": sum(lengths),
    }


if __name__ == "__main__":
    try:
        print(json.dumps(measure(READERS[sys.argv[1]], sys.argv[2])))
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}))
