"""Offsets in every unit that a tool may have counted, found out by the text that is repeated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.offset_units import BY_START, CODE_POINTS, Stretch, locate
from tests.helpers.corpora import ANY_TEXT

TEXT = "Zoë 🚆\r\nLima, Łódź\nRio"


def counted(text: str, unit: str) -> int:
    """How long a text is in a unit: the slow, literal definition."""
    if unit == "UTF-16 code units":
        return len(text.encode("utf-16-le", "surrogatepass")) // 2
    if unit == "bytes of UTF-8":
        return len(text.encode("utf-8", "surrogatepass"))
    if unit == r"code points, with \r\n as one":
        return len(text.replace("\r\n", "\n"))
    if unit == r"code points, with \r\n for \n":
        return len(text.replace("\r\n", "\n").replace("\n", "\r\n"))
    return len(text)


def test_every_unit_is_found() -> None:
    for unit in (CODE_POINTS, "UTF-16 code units", "bytes of UTF-8", r"code points, with \r\n as one"):
        stretches = [
            Stretch(counted(TEXT[:start], unit), counted(TEXT[:end], unit), TEXT[start:end])
            for start, end in ((0, 3), (7, 11), (13, 17), (18, 21))
        ]
        found = locate(TEXT, stretches)
        assert [located and TEXT[located.start : located.end] for located in found] == ["Zoë", "Lima", "Łódź", "Rio"]


def test_offsets_in_code_points_are_never_moved() -> None:
    assert locate("🚆 a a", [Stretch(2, 3, "a"), Stretch(4, 5, "a")]) == [(2, 3, CODE_POINTS), (4, 5, CODE_POINTS)]


def test_without_a_quotation_nothing_is_guessed() -> None:
    assert locate("Zoë", [Stretch(0, 4)]) == [None]  # it would fit as bytes
    assert locate("Zoë Rio", [Stretch(0, 4), Stretch(5, 8, "Rio")])[0] == (0, 3, "bytes of UTF-8")


def test_an_end_that_includes_its_last_character() -> None:
    assert locate("in Rio", [Stretch(3, 5, "Rio")]) == [(3, 6, BY_START)]


def test_what_is_nowhere() -> None:
    assert (
        locate("Rio", [Stretch(2, 1), Stretch(-1, 2, "Rio"), Stretch(0, 3, "Ria"), Stretch(10**30, 10**31)])
        == [None] * 4
    )
    assert locate("Rio", []) == []


@given(ANY_TEXT, st.sampled_from(["UTF-16 code units", "bytes of UTF-8"]), st.data())
def test_a_quotation_is_always_found(text: str, unit: str, data: st.DataObject) -> None:
    start, end = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    quoted = text[start:end]
    if quoted.strip() and quoted.replace("\\n", ""):
        (found,) = locate(text, [Stretch(counted(text[:start], unit), counted(text[:end], unit), quoted)])
        assert found is not None
        assert text[found.start : found.end].split() == quoted.split()
