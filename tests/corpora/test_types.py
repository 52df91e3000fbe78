"""Which names of entity types mean the same."""

from __future__ import annotations

import pytest

from metacross.corpora.types import same_type

KNOWN = ["LOC", "ORG", "PER"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("person", "PER"),
        ("PERSON", "PER"),
        ("pers", "PER"),
        ("Persoon", "PER"),
        ("location", "LOC"),
        ("GPE", "LOC"),
        ("geo", "LOC"),
        ("geo-loc", "LOC"),
        ("FAC", "LOC"),
        ("Ort", "LOC"),
        ("corporation", "ORG"),
        ("ORGANIZATION", "ORG"),
        ("organisatie", "ORG"),
        ("per", "PER"),
        ("DATE", None),
        ("WORK_OF_ART", None),
        ("creative-work", None),
        ("CARDINAL", None),
        ("NORP", None),
        ("xyz", None),
    ],
)
def test_a_type_finds_the_one_that_means_the_same(kind: str, expected: str | None) -> None:
    assert same_type(kind, KNOWN) == expected


def test_only_known_types_are_proposed() -> None:
    assert same_type("person", ["LOC"]) is None
    assert same_type("PER", ["person", "place"]) == "person"
    assert same_type("GPE", ["person", "place"]) == "place"
    assert same_type("NORP", ["MISC", "PER"]) == "MISC"
