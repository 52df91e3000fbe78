"""How users may write entity types, and which names of them mean the same."""

from __future__ import annotations

import pytest

from metacross.corpora.types import named_type, same_type, unknown_type

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


@pytest.mark.parametrize("name", ["PER", "per", "Person", "PERSON", "persons", "pers"])
def test_a_type_may_be_written_in_several_ways(name: str) -> None:
    assert named_type(name, KNOWN) == "PER"
    assert named_type(name, ["person", "place"]) == "person"


@pytest.mark.parametrize("name", ["GPE", "city", "misc", "xyz", ""])
def test_what_is_only_similar_is_proposed_and_not_taken(name: str) -> None:
    assert named_type(name, KNOWN) is None
    assert unknown_type(name, KNOWN).startswith(f"the label {name!r}; expected one of LOC, ORG, PER.")


def test_the_same_letters_come_before_other_spellings() -> None:
    assert named_type("Person", ["PER", "PERSON", "Person"]) == "Person"
    assert named_type("person", ["PER", "PERSON"]) == "PERSON"
