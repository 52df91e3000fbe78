"""Brat standoff: pairs of files, what is no entity in them, and offsets that other programs counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.formats.brat import is_brat, read_brat, write_brat
from metacross.corpora.raw import Document, Marked, Oddities, ReadOptions
from metacross.errors import UserError
from tests.helpers.corpora import ANY_TEXT, CORPORA, write

FOLDER = CORPORA / "brat"


def read(path: Path) -> tuple[list[Document], list[str]]:
    oddities = Oddities()
    items = read_brat(str(path), ReadOptions(), oddities).items
    return [item for item in items if isinstance(item, Document)], oddities.lines()


def entities(document: Document) -> list[tuple[str, str]]:
    return [(kind, document.text[start:end]) for start, end, kind in document.marked or ()]


def pair(folder: Path, text: str | bytes, annotations: str) -> Path:
    write(folder, text, "a.txt")
    return write(folder, annotations, "a.ann")


def test_a_directory_of_pairs() -> None:
    documents, oddities = read(FOLDER)
    assert [entities(document) for document in documents] == [
        [("LOC", "서울"), ("PER", "민수")],
        [("PER", "Ana Ruiz"), ("LOC", "Nueva York"), ("LOC", "Roma")],
    ]
    assert documents[1].place == f"{FOLDER}/viaje.txt"
    ann = f"{FOLDER}/viaje.ann"
    assert oddities == [
        f"1 event left out (first at {ann}:6)",
        f"2 relations left out (first at {ann}:7)",
        f"1 attribute left out (first at {ann}:8)",
        f"1 normalisation left out (first at {ann}:10)",
        f"1 note left out (first at {ann}:11)",
        f"1 trigger of events left out (first at {ann}:5)",
        f"1 entity left out whose parts have other words between them (first at {ann}:4)",
    ]


@pytest.mark.parametrize("name", ["viaje.txt", "viaje.ann"])
def test_one_pair_by_either_of_its_names(name: str) -> None:
    documents, _ = read(FOLDER / name)
    assert [len(entities(document)) for document in documents] == [3]


def test_what_is_brat_is_known_by_its_path(tmp_path: Path) -> None:
    for path in (FOLDER, FOLDER / "viaje.txt", FOLDER / "viaje.ann", tmp_path / "missing.ann"):
        assert is_brat(str(path))
    alone = write(tmp_path, "Rome\tB-LOC\n", "alone.txt")
    for name in (str(tmp_path), str(alone), str(CORPORA / "rows.jsonl"), "a\0.txt", "hf:ann"):
        assert not is_brat(name)


@pytest.mark.parametrize(
    ("text", "line", "expected", "oddity"),
    [
        ("Łódź\r\n🚆 Lima", "T1\tLOC 8 12\tLima", "Lima", ""),
        ("Łódź\r\n🚆 Lima", "T1\tLOC 9 13\tLima", "Lima", "1 entity moved, whose offsets count UTF-16 code units"),
        ("Łódź\r\n🚆 Lima", "T1\tLOC 14 18\tLima", "Lima", "1 entity moved, whose offsets count bytes of UTF-8"),
        ("Łódź\r\n🚆 Lima", "T1\tLOC 7 11\tLima", "Lima", r"count code points, with \r\n as one"),
        ("Łódź\r\n🚆 Lima", "T1\tLOC 0 4\tŁódź", "Łódź", ""),
        ("Łódź\nLima", "T1\tLOC 6 10\tLima", "Lima", r"count code points, with \r\n for \n"),
        ("\ufeffin Lima", "T1\tLOC 4 8\tLima", "Lima", "the byte-order mark included"),
        ("Lima", "T1\tLOC 0 4", "Lima", ""),
        ("Lima", "T1 LOC 0 4 Lima", "Lima", ""),
        ("New\nYork", "T1\tLOC 0 8\tNew York", "New\nYork", ""),
        ("New\nYork", "T1\tLOC 0 3;4 8", "New\nYork", ""),
        ("New or York", "T1\tLOC 0 3;7 11", None, "whose parts have other words between them"),
        ("Lima", "T1\tLOC 0 4\tRome", None, "1 entity left out whose text is not at the offsets"),
        ("Lima", "T1\tLOC 2 9\tma", "ma", "1 entity moved, whose offsets count code points, with another end"),
        ("Lima", "T1\tLOC 2 9", None, "1 entity left out for being empty or outside of the text"),
        ("Lima", "T1\tLOC 2 2\t", None, "1 entity left out for being empty or outside of the text"),
    ],
)
def test_offsets_are_checked_by_the_text_that_is_repeated(
    tmp_path: Path, text: str, line: str, expected: str | None, oddity: str
) -> None:
    documents, oddities = read(pair(tmp_path, text, f"{line}\n\n"))
    assert entities(documents[0]) == ([] if expected is None else [("LOC", expected)])
    assert [oddity in line for line in oddities] == [True] * bool(oddity)


def test_a_text_in_latin_1(tmp_path: Path) -> None:
    documents, oddities = read(pair(tmp_path, "é Köln".encode("latin-1"), "T1\tLOC 2 6\tKöln\n"))
    assert entities(documents[0]) == [("LOC", "Köln")]
    assert oddities == [f"1 text read as latin-1 (first at {tmp_path / 'a.txt'})"]


def test_a_text_without_annotations_beside_it_is_not_annotated(tmp_path: Path) -> None:
    pair(tmp_path, "Lima", "")
    other = write(tmp_path, "Quito", "b.txt")
    documents, oddities = read(tmp_path)
    assert [document.marked for document in documents] == [(), None]
    assert oddities == [f"1 text without an .ann file, read as not annotated (first at {other})"]


@pytest.mark.parametrize("line", ["T1\tPER x 3\tAna", "T1\tPER 0 3;\tAna", "Ana B-PER", "T1", "T1\tPER -1 3\tAna"])
def test_a_line_that_is_no_annotation_is_refused(tmp_path: Path, line: str) -> None:
    path = pair(tmp_path, "Ana", f"\n{line}\n")
    with pytest.raises(UserError, match=rf"a\.ann:2: found {re.escape(repr(line))}; expected an annotation such as"):
        read(path)


def test_files_that_lack_their_partner_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "", "b.ann")
    with pytest.raises(UserError, match=r"found no text beside it; expected b\.txt"):
        read(tmp_path / "b.ann")
    with pytest.raises(UserError, match=r"found 1 \.ann file without a \.txt file of the same name \(.*b\.ann\)"):
        read(tmp_path)
    with pytest.raises(UserError, match="have no columns"):
        read_brat(str(tmp_path), ReadOptions(tag_column=2), Oddities())


def written(folder: Path, *items: Document) -> list[str]:
    oddities = Oddities()
    write_brat(items, folder, oddities)
    return oddities.lines()


def test_pairs_are_written_with_a_configuration(tmp_path: Path) -> None:
    text = "Ana in New\r\nYork"
    assert written(tmp_path / "out", Document(text, (Marked(0, 3, "PER"), Marked(7, 16, "LOC"))), Document("🚆")) == []
    assert {path.name: path.read_bytes().decode() for path in (tmp_path / "out").iterdir()} == {
        "00001.txt": text,
        "00001.ann": "T1\tPER 0 3\tAna\nT2\tLOC 7 10;12 16\tNew York\n",
        "00002.txt": "🚆",
        "00002.ann": "",
        "annotation.conf": "[entities]\nPER\nLOC\n\n[relations]\n\n[events]\n\n[attributes]\n",
    }


def test_what_brat_cannot_hold_is_counted(tmp_path: Path) -> None:
    document = Document("Ana\ud800", (Marked(0, 3, "a b"), Marked(0, 3, "人物"), Marked(2, 9, "PER")), place="f:1")
    assert written(tmp_path / "out", document) == [
        "1 lone surrogate written as U+FFFD, since UTF-8 has none (first at f:1)",
        "1 entity whose type was written with _ for white space (first at f:1)",
        "1 entity whose type brat does not show (it takes ASCII letters, digits, - and _) (first at f:1)",
        "1 entity left out for being empty or outside of the text (first at f:1)",
    ]
    assert entities(read(tmp_path / "out")[0][0]) == [("a_b", "Ana"), ("人物", "Ana")]


def test_no_files_are_mixed_in(tmp_path: Path) -> None:
    write(tmp_path, "", "old.ann")
    with pytest.raises(UserError, match="has files already; name a new directory"):
        written(tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        written(tmp_path / "old.ann" / "folder")


@st.composite
def documents(draw: st.DrawFn) -> Document:
    # A file cannot hold lone surrogates; NULs and a byte-order mark at its beginning would be taken for its encoding.
    text = draw(ANY_TEXT.map(lambda text: re.sub("[\ud800-\udfff\0]", "", text).lstrip("\ufeff")))
    ends = st.lists(st.integers(0, len(text)), min_size=2, max_size=2).map(sorted)
    found = [(*draw(ends), draw(st.sampled_from(["PER", "a-b"]))) for _ in range(draw(st.integers(0, 3)))]
    # An entity begins and ends with a character that brat can show.
    shown = [each for each in found if _is_shown(text[each[0] : each[1]])]
    return Document(text, tuple(Marked(*each) for each in shown))


def _is_shown(quoted: str) -> bool:
    return bool(quoted.strip()) and quoted == quoted.strip("\r\n")


@given(st.lists(documents(), max_size=3))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, items: list[Document]) -> None:
    folder = tmp_path_factory.mktemp("brat") / "out"
    assert written(folder, *items) == []
    again, oddities = read(folder)
    assert [(document.text, document.marked) for document in again] == [(item.text, item.marked) for item in items]
    assert oddities == []
