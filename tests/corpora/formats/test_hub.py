"""Datasets of the hub, through a stand-in for the package `datasets`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from metacross.corpora.formats.hub import read_hub
from metacross.corpora.raw import Document, Oddities, RawSentence, ReadOptions
from metacross.corpora.reader import read_corpus
from metacross.errors import UserError

NAMES = ["O", "B-PER"]
LABEL = SimpleNamespace(names=NAMES)
ROWS: list[dict[str, Any]] = [{"tokens": ["Ana", "left"], "ner_tags": [1, 0]}, {"tokens": [], "ner_tags": []}]


class FakeHub:
    """Stands for the package `datasets`; knows one dataset by its exact arguments."""

    def __init__(self, known: tuple[str, ...], rows: list[dict[str, Any]], features: dict[str, Any]) -> None:
        self.known = known
        self.rows = rows
        self.features = features

    def load_dataset(self, *arguments: str, split: str) -> FakeHub:
        if (*arguments, split) != self.known:
            raise FileNotFoundError(f"no dataset {arguments} {split}\nand a long explanation")
        return self

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


def read(path: str, options: ReadOptions | None = None) -> list[RawSentence | Document]:
    reading = read_hub(path, options or ReadOptions(), Oddities())
    assert reading.format == "huggingface"
    return list(reading.items)


def install(monkeypatch: pytest.MonkeyPatch, hub: FakeHub | None) -> None:
    monkeypatch.setitem(sys.modules, "datasets", hub)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("hf:corpus", ("corpus", "train")),
        ("hf:owner/corpus:test", ("owner/corpus", "test")),
        ("hf:corpus/en:validation", ("corpus", "en", "validation")),
        ("hf:owner/corpus/en", ("owner/corpus", "en", "train")),
        ("hf:corpus:train[:10%]", ("corpus", "train[:10%]")),
    ],
)
@pytest.mark.parametrize("feature", [SimpleNamespace(feature=LABEL), [LABEL]])
def test_names_and_class_labels(
    path: str, known: tuple[str, ...], feature: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeHub(known, ROWS, {"tokens": object(), "ner_tags": feature}))
    items = read(path)
    assert [item.rows for item in items if isinstance(item, RawSentence)] == [[("Ana", "B-PER", 1), ("left", "O", 1)]]


def test_a_corpus_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeHub(("corpus", "train"), ROWS, {"ner_tags": SimpleNamespace(feature=LABEL)}))
    corpus = read_corpus("hf:corpus")
    assert (corpus.format, corpus.path, corpus.counts) == ("huggingface", "hf:corpus", {"PER": 1})
    assert corpus.sentences[0].place == "hf:corpus:1"


def test_other_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"words": ["Ana"], "labels": ["B-PER"], "fine": [1]}]
    install(monkeypatch, FakeHub(("corpus", "train"), rows, {"fine": SimpleNamespace(feature=LABEL)}))
    assert [row.tag for item in read("hf:corpus") if isinstance(item, RawSentence) for row in item.rows] == ["B-PER"]
    items = read("hf:corpus", ReadOptions(tag_column="fine"))
    assert [row.tag for item in items if isinstance(item, RawSentence) for row in item.rows] == ["B-PER"]


def test_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "Ana left", "spans": {"start": [0], "end": [3], "label": ["PER"]}}]
    install(monkeypatch, FakeHub(("corpus", "train"), rows, {}))
    assert [item.marked for item in read("hf:corpus") if isinstance(item, Document)] == [((0, 3, "PER"),)]


@pytest.mark.parametrize("path", ["hf:", "hf:/", "hf:a//b", "hf:/a", "hf:a/", "hf:a/b/c/d", "hf::train"])
def test_names_of_no_known_form(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeHub((), [], {}))
    with pytest.raises(UserError, match="expected hf:NAME, "):
        read(path)


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeHub(("corpus", "train"), ROWS, {"ner_tags": SimpleNamespace(feature=None)}))
    with pytest.raises(UserError, match="hf:corpus:1: found integers in ner_tags"):
        read("hf:corpus")
    with pytest.raises(UserError, match=r"^hf:a/b: .* \(as a/b: no .* train; as a with configuration b: no .* train\)"):
        read("hf:a/b")
    install(monkeypatch, FakeHub(("corpus", "train"), ROWS[1:], {}))
    with pytest.raises(UserError, match=r"the split train has no words; .* hf:corpus:validation"):
        read("hf:corpus")
    install(monkeypatch, None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[hub\]"'):
        read("hf:corpus")
