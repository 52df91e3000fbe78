"""Which line breaks end a sentence, and which only wrap one."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.lines import unwrap
from metacross.corpora.words import split_sentences

PROSE = (
    "On Monday the chancellor received the foreign ministers of all member states in Berlin , among them Jean Martin "
    "and the new minister from Helsinki , and spoke with them about the treaty that Maria Lopez had brought from New "
    "York and about what would have to follow it in the course of the coming year"
)
CHINESE = "星期一联邦总理在柏林会见了所有成员国的外交部长其中包括让马丁和来自赫尔辛基的新部长并与他们讨论了条约" * 3
ROWS = [
    "Ministry of Finance, Wilhelmstrasse 97, Berlin",
    "Ministry of Foreign Affairs, Werderscher Markt 1, Berlin",
    "Office of the President, Spreeweg 1, Berlin",
    "Museum of Natural History, Invalidenstrasse 43, Berlin",
    "Staatsoper, Unter den Linden 7, Berlin Mitte",
]


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text)]


@pytest.mark.parametrize("width", [45, 60, 72, 80, 100])
@pytest.mark.parametrize("prefix", ["", "> ", "    "])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\u2028"])
def test_wrapped_prose_is_one_sentence(width: int, prefix: str, line_end: str) -> None:
    lines = textwrap.wrap(PROSE, width, initial_indent=prefix, subsequent_indent=prefix)
    assert len(lines) > 2
    assert unwrap(line_end.join(lines))[1] == []


def test_scripts_without_spaces_are_wrapped_anywhere() -> None:
    text = "\n".join(textwrap.wrap(CHINESE, 36))
    assert sentences(text) == [text]
    assert sentences("安格拉·默克尔\n贝拉克·奥巴马\n北京") == ["安格拉·默克尔", "贝拉克·奥巴马", "北京"]


@pytest.mark.parametrize(
    "lines",
    [
        ["Angela Merkel", "Barack Obama", "Xi Jinping"],
        [
            "Angela Merkel",
            "United States Department of Housing and Urban Development",
            "Ana",
            "Max",
            "Otto",
            "Eva Roth",
        ],
        ROWS,
        ["Otto Klein", "Hauptstrasse 5", "10115 Berlin"],
        ["Name\tBorn in\tOffice, and the years it was held", "Otto Klein\tBerlin\tminister of the interior, 2003"],
        ["Otto Klein     Berlin     minister of the interior", "Maria Lopez    Madrid     minister of finance"],
        ["أنغيلا ميركل", "باراك أوباما"],
        ["Anna Berg", "jan smit", "Otto Klein", "Eva Roth"],  # one small letter among capitals
        [" ".join([PROSE, PROSE[:20]]), "Another paragraph on a line of its own, without a full stop"],
    ],
)
def test_lines_of_lists_and_tables_are_sentences(lines: list[str]) -> None:
    assert sentences("\n".join(lines)) == lines


def test_a_headline_is_a_sentence() -> None:
    prose = "\n".join(textwrap.wrap(PROSE, 72))
    assert sentences(f"Merkel in Berlin\n{prose}") == ["Merkel in Berlin", prose]


def test_a_list_behind_wrapped_prose() -> None:
    names = ["Anna Berg", "Otto Klein", "Maria Lopez", "Jan Smit", "Eva Roth"]
    prose = "\n".join(textwrap.wrap(PROSE, 72))
    assert sentences("\n".join([prose, *names]))[-4:] == names[1:]
    assert sentences("\n".join([*names, prose])) == [*names, prose]


@pytest.mark.parametrize("text", ["one\ntwo", "Washington,\nD.C.", "Rhein-\nMain", "Anna Berg\nchancellor"])
def test_short_lines_that_go_on(text: str) -> None:
    assert sentences(text) == [text]


def test_a_long_list_of_names_that_are_filled_alike_is_prose() -> None:
    names = " ".join(["Anna Berg Otto Klein Maria Lopez Jan Smit Eva Roth Paul Weber Ines Vidal Tom Hale"] * 4)
    text = "\n".join(textwrap.wrap(names, 60))
    assert sentences(text) == [text]


@given(st.text(st.sampled_from("Aa.,北 \n\r\u2028\t-)") | st.characters()))
def test_text_keeps_its_length_and_its_visible_characters(text: str) -> None:
    unwrapped, borders = unwrap(text)
    assert len(unwrapped) == len(text)
    assert unwrapped.split() == text.split()
    assert borders == sorted(set(borders))
    assert all(text[place] in "\n\r\x85\u2028\u2029" for place in borders)
