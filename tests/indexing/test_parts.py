"""Sentences that Parquet files cannot hold as they are."""

from __future__ import annotations

from metacross.corpora.sentence import sentence_from_text
from metacross.indexing.parts import sentence_table


def test_text_that_parquet_cannot_hold() -> None:
    table = sentence_table([sentence_from_text("a\ud800 b"), sentence_from_text("a\ufffd b")], first=5)
    assert table["text"].to_pylist() == ["a\ufffd b"] * 2
    assert table["sentence"].to_pylist() == [5, 6]
    first, second = table["owner"].to_pylist()
    assert first != second
