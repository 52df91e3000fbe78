"""Reading a corpus: what is repaired, renamed, dropped, broken up and counted on the way."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.reader import read_corpus, summarise
from metacross.corpora.refusals import require_entities
from metacross.corpora.sentence import entities, tags_of
from metacross.errors import UserError
from tests.helpers.corpora import CORPORA, entity_texts, write


def test_language_is_noticed() -> None:
    corpus = read_corpus(CORPORA / "wikiann.txt")
    assert corpus.language == "de"
    corpus = read_corpus(CORPORA / "wikiann.txt", language="fr")
    assert corpus.language == "fr"
    assert corpus.oddities == ["words are marked de:, but the language was given as fr"]
    assert read_corpus(CORPORA / "conll2003.txt").language is None


def test_duplicates_and_empty_words(tmp_path: Path) -> None:
    content = "a\tO\n\t B-LOC".replace(" ", "") + "\nRome\tI-LOC\n\u3000\tI-LOC\nEast\tI-LOC\n\na\tO\n\na\tO\n\na\tO\n"
    corpus = read_corpus(write(tmp_path, content))
    assert corpus.sentences[0].tags == ("O", "B-LOC", "I-LOC")
    assert corpus.oddities == [
        "2 empty words (nothing that can be seen) left out",
        "2 duplicate sentences (the words of an earlier one)",
    ]
    assert summarise(corpus).duplicates == 2


def test_an_empty_word_between_entities_does_not_join_them(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "Rome\tB-LOC\n\tB-LOC\nOslo\tI-LOC\n\tB-PER\nso\tO\n"))
    assert entity_texts(corpus.sentences[0]) == [("LOC", "Rome"), ("LOC", "Oslo")]


PIECES = [
    "\t",
    " ",
    "\n",
    "\r\n",
    "O",
    "B-X",
    "I-X",
    "S-X",
    "E-Y",
    "1",
    "2",
    "a",
    "en:",
    "#",
    "-",
    "\x00",
    '{"',
    "é",
    "。",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.sampled_from(["utf-8", "latin-1", "utf-16"]))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: str, encoding: str) -> None:
    path = write(tmp_path_factory.getbasetemp(), content.encode(encoding, "replace"))
    try:
        corpus = read_corpus(path, max_words=3)
    except UserError as error:
        assert str(error).startswith(str(path))
    else:
        assert all(sentence.words and all(sentence.words) for sentence in corpus.sentences)
        for sentence in corpus.sentences:
            assert list(sentence.tags or ()) == tags_of(entities(sentence.tags or ()), len(sentence.words))


def test_require_entities(tmp_path: Path) -> None:
    require_entities(read_corpus(CORPORA / "conll2002.txt"))
    plain = read_corpus(write(tmp_path, "a O\nb O\n"))
    assert plain.scheme == "none"
    with pytest.raises(UserError, match="corpus: found 1 sentence, but no entities: every tag is O"):
        require_entities(plain)
    dropped = read_corpus(CORPORA / "conll2002.txt", tag_map={"PER": "", "LOC": "O"})
    with pytest.raises(UserError, match=r"but those that the tag map drops \(LOC, PER\)"):
        require_entities(dropped)


def test_max_words_must_be_positive() -> None:
    with pytest.raises(UserError, match="max_words=0"):
        read_corpus(CORPORA / "europeana.txt", max_words=0)


# --- tag map, summary ------------------------------------------------------------------------------------------------


def test_tag_map_renames_and_drops(tmp_path: Path) -> None:
    path = write(tmp_path, "a B-LOC\nb I-LOC\nc B-GPE\nd B-OTH\ne I-OTH\nf B-X\ng B-PER\n")
    corpus = read_corpus(path, tag_map={"GPE": "LOC", "OTH": "", "X": "O", "absent": "O"})
    assert corpus.sentences[0].tags == ("B-LOC", "I-LOC", "B-LOC", "O", "O", "O", "B-PER")
    assert (corpus.counts, corpus.dropped) == ({"LOC": 2, "PER": 1}, {"OTH": 1, "X": 1})


def test_tag_map_comes_after_the_scheme(tmp_path: Path) -> None:
    # Dropping X from the raw IOB1 tags, or joining A and B first, would give other entities.
    path = write(tmp_path, "a I-A\nb I-B\nc B-B\nd I-X\ne I-A\n")
    corpus = read_corpus(path, tag_map={"B": "A", "X": "O"})
    assert corpus.scheme == "IOB1"
    assert corpus.sentences[0].tags == ("B-A", "B-A", "B-A", "O", "B-A")


@pytest.mark.parametrize("tag_map", [{"B-PER": "PER"}, {"PER": "I-HUM"}, {"PER": "a b"}])
def test_tag_map_wants_types(tag_map: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"tag_map: found '.*'; expected an entity type"):
        read_corpus(CORPORA / "conll2002.txt", tag_map=tag_map)


def test_summary() -> None:
    summary = summarise(read_corpus(CORPORA / "conll2003.txt", language="en"))
    assert (summary.format, summary.scheme, summary.encoding, summary.language) == ("conll-2003", "IOB1", "utf-8", "en")
    assert (summary.sentences, summary.words, summary.longest, summary.duplicates) == (2, 9, 7, 0)
    assert (summary.entities, summary.untagged, summary.oddities) == ({"LOC": 2, "PER": 1}, 0.5, [])


def test_files_with_sentence_breaks_keep_them(tmp_path: Path) -> None:
    long = "a O\n. O\n" * 50
    assert len(read_corpus(write(tmp_path, f"b O\n\n{long}\nc O\n"), max_words=60).sentences) == 3
    assert len(read_corpus(write(tmp_path, f"{long}\n{long}"), max_words=60).sentences) == 4  # documents
    rows = json.dumps({"tokens": ["A", ".", "B"] * 9, "tags": ["O"] * 27})
    assert len(read_corpus(write(tmp_path, rows), max_words=5).sentences) == 1


def test_cut_entities_stay_tagged(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "a B-X\n" + "b I-X\n" * 4), max_words=2)
    assert [sentence.tags for sentence in corpus.sentences] == [("B-X", "I-X"), ("B-X", "I-X"), ("B-X",)]
    assert "2 cuts through entities of more than 2 words" in corpus.oddities


def test_equal_words_are_one_string(tmp_path: Path) -> None:
    first, second = read_corpus(write(tmp_path, "Rome\tB-LOC\nis\tO\n\nin\tO\nRome\tB-LOC\n")).sentences
    assert first.words[0] is second.words[1]


def test_the_collector_of_garbage_runs_again_after_reading(tmp_path: Path) -> None:
    path = write(tmp_path, "a\tO\nb\tB-X\n")
    read_corpus(path)
    assert gc.isenabled()
    with pytest.raises(UserError):
        read_corpus(tmp_path / "absent")
    assert gc.isenabled()
    gc.disable()
    try:
        read_corpus(path)
        assert not gc.isenabled()
    finally:
        gc.enable()
