"""What is counted is told in the singular after 1, in every message that is made by `Oddities`."""

import pytest

from metacross.corpora.raw import Oddities
from metacross.wording import counted


@pytest.mark.parametrize(
    ("what", "one"),
    [
        ("sentences", "1 sentence"),
        ("entities that nobody has marked", "1 entity that nobody has marked"),
        (".ann files without texts", "1 .ann file without texts"),
        ("line breaks within words", "1 line break within words"),
        ("tags B-US read as B-LOC", "1 tag B-US read as B-LOC"),
    ],
)
def test_one_of_them_is_in_the_singular(what: str, one: str) -> None:
    assert (counted(1, what), counted(1.0, what)) == (one, one)
    assert counted(0, what) == f"0 {what}"
    assert counted(1_000_000, what) == f"1000000 {what}"
    assert counted(2.5, what) == f"2.5 {what}"


def test_oddities_are_counted_so() -> None:
    oddities = Oddities()
    oddities.count("tags repaired that broke IOB2", "a.conll:3")
    assert oddities.lines() == ["1 tag repaired that broke IOB2 (first at a.conll:3)"]
    oddities.count("tags repaired that broke IOB2", "a.conll:9")
    assert oddities.lines() == ["2 tags repaired that broke IOB2 (first at a.conll:3)"]
