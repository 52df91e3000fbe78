"""Text without labels, from files of several kinds, and every file that has none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from metacross.adoption.text import files_by_language, read_texts
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError
from metacross.events import Event, Note


def read(path: Path, *, max_words: int = 120) -> tuple[list[Sentence], list[str]]:
    notes: list[Event] = []
    (text,) = read_texts({"de": str(path)}, max_words=max_words, show=notes.append)
    return list(text.sentences), [note.text for note in notes if isinstance(note, Note)]


def test_raw_text_is_cut_into_sentences_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "de.txt"
    path.write_text("Anna Berg lebt in Oslo. Sie kam 1999.\n\nAnna Berg lebt in Oslo.\nNoch ein Satz.\n")
    sentences, notes = read(path)
    assert [(s.text, s.place) for s in sentences] == [
        ("Anna Berg lebt in Oslo.", f"{path}:1"),
        ("Sie kam 1999.", f"{path}:1"),
        ("Noch ein Satz.", f"{path}:4"),
    ]
    assert all(s.tags is None for s in sentences)
    assert notes == [f"{path}: 1 sentence left out for repeating an earlier one"]


def test_a_corpus_is_read_for_its_words(tmp_path: Path) -> None:
    path = tmp_path / "de.conll"
    path.write_text("Anna B-PER\nBerg I-PER\n\nOslo B-LOC\n")
    sentences, notes = read(path)
    assert [s.words for s in sentences] == [("Anna", "Berg"), ("Oslo",)]
    assert all(s.tags is None for s in sentences)
    assert notes == [f"{path}: read for its words; tags, if it has any, are ignored"]


def test_words_with_tags_are_told_from_raw_text_by_content(tmp_path: Path) -> None:
    path = tmp_path / "de.txt"
    path.write_text("Anna\tB-PER\nBerg\tI-PER\n\nOslo\tB-LOC\n")
    sentences, notes = read(path)
    assert [s.words for s in sentences] == [("Anna", "Berg"), ("Oslo",)]
    assert notes == [f"{path}: read for its words; tags, if it has any, are ignored"]
    path.write_text("O\nKarin O kam\nDie Buchstaben B und O\nEin Satz.\nNoch einer.\n")
    assert "Die Buchstaben B und O" in [s.text for s in read(path)[0]]


def test_records_may_hold_words_or_texts(tmp_path: Path) -> None:
    path = tmp_path / "de.jsonl"
    records = [{"tokens": ["Anna", "Berg"]}, {"text": "Oslo ist weit. Bern auch."}]
    path.write_text("\n".join(map(json.dumps, records)))
    assert sorted(s.text for s in read(path)[0]) == ["Anna Berg", "Bern auch.", "Oslo ist weit."]


def test_a_file_without_sentence_breaks_is_broken_up(tmp_path: Path) -> None:
    path = tmp_path / "de.conll"
    path.write_text("".join(f"{word} O\n" for word in ["Er", "kam", ".", "Sie", "ging", "."] * 3))
    assert [s.text for s in read(path, max_words=4)[0]] == ["Er kam .", "Sie ging ."]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "found no sentence to adopt de from"),
        ("blank.txt", " \n\u200b\n", "found no sentence to adopt de from"),
        ("empty.conll", "", "the file is empty"),
        ("nobody.jsonl", '{"tokens": []}\n', "found no sentence to adopt de from"),
    ],
)
def test_a_file_without_words_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(message)):
        read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.txt"):
        read(tmp_path / "nowhere.txt")


def test_the_files_of_languages() -> None:
    assert files_by_language(["de=a=b.txt", "es=c.txt"], "--text") == {"de": "a=b.txt", "es": "c.txt"}
    for wrong in ("de", "=a.txt", "de=", "German=a.txt"):
        with pytest.raises(UserError, match="expected a language code and a file"):
            files_by_language([wrong], "--text")
    with pytest.raises(UserError, match=r"de was given before, as a\.txt"):
        files_by_language(["de=a.txt", "de=b.txt"], "--text")
