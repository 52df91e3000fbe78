"""Tagging schemes against a literal inverse of what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.schemes import to_iob2
from metacross.corpora.sentence import EntitySpan, entities, tags_of
from tests.helpers.corpora import tagged, written


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "IOBES", "BILOU", "BMES"])
@given(st.lists(tagged(), min_size=1, max_size=3))
def test_every_scheme_becomes_iob2(scheme: str, drawn: list[tuple[list[EntitySpan], int]]) -> None:
    converted = to_iob2([written(found, n_words, scheme) for found, n_words in drawn], lambda s, w: f"f:{s}")
    assert converted.tags == [tags_of(found, n_words) for found, n_words in drawn]
    assert (converted.repaired, converted.first_repair, converted.read_as) == (0, "", {})
    names = {scheme.replace("BMES", "IOBES")}
    if not any(found for found, _ in drawn):
        names = {"none"}
    elif scheme == "IOB1":
        names |= {"IO"}  # no neighbours of one type: nothing tells them apart
    assert converted.scheme in names


@given(tagged())
def test_io_joins_neighbours_of_one_type(drawn: tuple[list[EntitySpan], int]) -> None:
    found, n_words = drawn
    converted = to_iob2([written(found, n_words, "IO")], lambda s, w: "f")
    joined: list[EntitySpan] = []
    for entity in found:
        if joined and (joined[-1].type, joined[-1].end) == (entity.type, entity.start):
            joined[-1] = joined[-1]._replace(end=entity.end)
        else:
            joined.append(entity)
    assert converted.tags == [tags_of(joined, n_words)]
    assert converted.scheme == ("IO" if found else "none")


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=8))
def test_entities_of_any_tags_are_those_of_their_repair(tags: list[str]) -> None:
    repaired = to_iob2([tags], lambda s, w: "f").tags[0]
    assert entities(tags) == entities(repaired)
    assert tags_of(entities(tags), len(tags)) == repaired


@pytest.mark.parametrize(
    ("tags", "scheme", "repaired", "first"),
    [
        ("B-A I-A O B-A O I-A", "IOB2", 1, "5"),
        ("B-A O I-B", "IOB2", 1, "2"),
        ("B-A I-B O B-A", "IOB2", 1, "1"),
        ("I-A B-A O I-A", "IOB1", 0, ""),
        ("I-A O I-A O B-A", "IOB1", 1, "4"),
        ("I-A I-B O", "IO", 0, ""),
        ("O O", "none", 0, ""),
    ],
)
def test_scheme_names_and_repairs(tags: str, scheme: str, repaired: int, first: str) -> None:
    converted = to_iob2([tags.split()], lambda s, w: str(w))
    assert (converted.scheme, converted.repaired, converted.first_repair) == (scheme, repaired, first)


def test_stray_tags_end_entities() -> None:
    converted = to_iob2([["B-A", "-", "I-A", "_", "B-O", "I--"]], lambda s, w: "f")
    assert converted.tags == [["B-A", "O", "B-A", "O", "O", "O"]]
    assert converted.read_as == {
        "tags - read as O": 1,
        "tags _ read as O": 1,
        "tags B-O read as O; data.tag_map={O: NAME} makes it a type": 1,
        "tags I-- read as O": 1,
    }


@pytest.mark.parametrize(
    ("tags", "iob2", "repaired", "first"),
    [
        ("S-LOC O I-PER E-PER", "B-LOC O B-PER I-PER", 1, "2"),  # no beginning
        ("B-PER O S-LOC", "B-PER O B-LOC", 1, "0"),  # no end before O
        ("S-PER B-PER", "B-PER B-PER", 1, "1"),  # no end before the sentence's
        ("B-PER E-LOC", "B-PER B-LOC", 1, "0"),  # two types
        ("B-PER B-PER E-PER", "B-PER B-PER I-PER", 1, "0"),  # no end before the next beginning
        ("E-PER E-PER", "B-PER B-PER", 2, "0"),
        ("U-LOC I-PER L-PER I-LOC", "B-LOC B-PER I-PER B-LOC", 2, "1"),
    ],
)
def test_broken_entities_are_mended_and_counted(tags: str, iob2: str, repaired: int, first: str) -> None:
    """One broken entity must not refuse a file of thousands; nor may it be mended without a word."""
    converted = to_iob2([tags.split()], lambda s, w: str(w))
    assert converted.tags == [iob2.split()]
    assert (converted.repaired, converted.first_repair) == (repaired, first)
    assert converted.scheme in ("IOBES", "BILOU")


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B", "E-B", "S-B"]), max_size=8))
def test_every_word_of_a_broken_entity_stays_in_one(tags: list[str]) -> None:
    converted = to_iob2([tags, ["S-A"]], lambda s, w: "f").tags[0]
    assert [tag[1:] for tag in converted] == [tag[1:] for tag in tags]  # types, and O
    assert tags_of(entities(converted), len(tags)) == converted
