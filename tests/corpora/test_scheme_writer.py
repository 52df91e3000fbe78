"""Tags are written in every scheme as the slow inverse of the reader writes them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.scheme_writer import Scheme, in_scheme
from metacross.corpora.sentence import EntitySpan, tags_of
from tests.helpers.corpora import tagged, written


@given(tagged(), st.sampled_from(["iob2", "iobes", "bilou"]))
def test_schemes_are_written_as_they_are_read(example: tuple[list[EntitySpan], int], scheme: Scheme) -> None:
    spans, n_words = example
    assert list(in_scheme(tags_of(spans, n_words), scheme)) == written(spans, n_words, scheme.upper())
