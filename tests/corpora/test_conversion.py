"""What is written in another format reads back the same, or is refused, whatever the words are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metacross.corpora.characters import visible
from metacross.corpora.conversion import Written, write_corpus
from metacross.corpora.formats.writing import FolderFormat, FormatName, WordFormat, formats
from metacross.corpora.raw import Marked
from metacross.corpora.reader import Corpus, read_corpus
from metacross.corpora.scheme_writer import Scheme
from metacross.corpora.sentence import entities, tags_of
from metacross.errors import UserError
from tests.helpers.corpora import ANY_TEXT, entity_texts, tagged, write

FORMATS = formats()
WORD_FORMATS = [name for name, form in FORMATS.items() if isinstance(form, WordFormat)]
# Of predictions a reader gives nothing back.
TEXT_FORMATS = [name for name in FORMATS if name not in (*WORD_FORMATS, "label-studio-predictions")]

# Words of one letter, numbers and signs can make columns ambiguous; these cannot.
PLAIN = st.text(st.sampled_from("abcxyzéßЖдעשعم北京東กखが"), min_size=2, max_size=6)
ODD_WORDS = st.one_of(
    ANY_TEXT.map(visible).filter(bool),
    st.sampled_from(
        ["#", "# ", "-DOCSTART-", "1", "2", "3", "en:a", "O", "B-PER", "_", "-X-", "{", '"', "token", "a b"]
    ),
).map(visible)


@st.composite
def corpora(draw: st.DrawFn, words: st.SearchStrategy[str]) -> list[tuple[list[str], list[str]]]:
    """Sentences as words and IOB2 tags."""
    sentences = []
    for _ in range(draw(st.integers(1, 4))):
        spans, n_words = draw(tagged())
        n_words = max(n_words, 1)
        sentences.append((draw(st.lists(words, min_size=n_words, max_size=n_words)), tags_of(spans, n_words)))
    return sentences


def corpus_of(folder: Path, sentences: Sequence[tuple[list[str], list[str]]]) -> Corpus:
    lines = [json.dumps({"tokens": words, "ner_tags": tags}) for words, tags in sentences]
    return read_corpus(write(folder, "\n".join(lines), "old.jsonl"))


def rows(corpus: Corpus) -> list[tuple[str, str]]:
    return [row for s in corpus.sentences for row in zip(s.words, s.tags or (), strict=True)]


def new_path(folder: Path, name: FormatName) -> Path:
    path = folder / "new"
    if isinstance(FORMATS[name], FolderFormat):
        path.mkdir()
    return path


def test_names_are_those_of_the_table() -> None:
    assert get_args(FormatName) == tuple(FORMATS)


@pytest.mark.parametrize("name", WORD_FORMATS)
@settings(max_examples=25)
@given(sentences=corpora(PLAIN), scheme=st.sampled_from(["iob2", "iobes", "bilou"]))
def test_plain_words_read_back_the_same(
    name: FormatName, sentences: list[tuple[list[str], list[str]]], scheme: Scheme
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = corpus_of(folder, sentences)
        written = write_corpus(corpus, folder / "new", FORMATS[name], scheme=scheme)
        again = read_corpus(folder / "new", max_words=1000)
        assert rows(again) == rows(corpus)
        assert len(again.sentences) == len(corpus.sentences) or len(corpus.sentences) == 1
        assert written.items == len(corpus.sentences)
        assert written.entities == sum(corpus.counts.values())
        lengths = {end - start for s in corpus.sentences for _, start, end in entities(s.tags or ())}
        if lengths - {1} or (lengths and scheme != "iob2"):
            assert again.scheme == scheme.upper()


@pytest.mark.parametrize("name", WORD_FORMATS)
@settings(max_examples=40)
@given(sentences=corpora(ODD_WORDS))
def test_odd_words_read_back_the_same_or_are_refused(
    name: FormatName, sentences: list[tuple[list[str], list[str]]]
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = corpus_of(folder, sentences)
        try:
            write_corpus(corpus, folder / "new", FORMATS[name])
        except UserError as error:
            assert str(error).startswith(str(folder / "old.jsonl"))
            assert name != "jsonl"
        else:
            assert rows(read_corpus(folder / "new", max_words=1000)) == rows(corpus)


@pytest.mark.parametrize("name", TEXT_FORMATS)
@settings(max_examples=15)
@given(sentences=corpora(PLAIN))
def test_entities_of_words_come_back_from_texts(name: FormatName, sentences: list[tuple[list[str], list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = corpus_of(folder, sentences)
        path = new_path(folder, name)
        write_corpus(corpus, path, FORMATS[name])
        again = read_corpus(path)
        found, expected = (
            [entity for sentence in one.sentences for entity in entity_texts(sentence)] for one in (again, corpus)
        )
        assert found == expected


@st.composite
def annotated_texts(draw: st.DrawFn) -> list[tuple[str, list[Marked]]]:
    """Texts with entities that may overlap."""
    texts = []
    for text in draw(st.lists(ANY_TEXT.filter(visible), min_size=1, max_size=3)):
        marked = []
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(text) - 1))
            end = draw(st.integers(start + 1, len(text)))
            marked.append(Marked(start, end, draw(st.sampled_from(["PER", "LOC", "a b"]))))
        texts.append((text, marked))
    return texts


@pytest.mark.parametrize("name", TEXT_FORMATS)
@settings(max_examples=40)
@given(texts=annotated_texts())
def test_texts_stay_complete_between_formats_of_texts(name: FormatName, texts: list[tuple[str, list[Marked]]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        old = write(folder, "\n".join(json.dumps({"text": text, "label": marked}) for text, marked in texts))
        corpus = read_corpus(old)
        path = new_path(folder, name)
        try:
            written = write_corpus(corpus, path, FORMATS[name])
        except UserError as error:
            # Offsets that may count UTF-16 code units cannot be told from ours where an entity cuts a word.
            assert "or with other entities" in str(error) and max("".join(text for text, _ in texts)) > "\uffff"
            return
        again = read_corpus(path).documents or []
        assert written.items == len(again) == len(texts)
        assert [d.text for d in corpus.documents or []] == [text for text, _ in texts]
        changed = [
            (one.text, sorted(one.marked or ())) != (other.text, sorted(other.marked or ()))
            for one, other in zip(again, corpus.documents or [], strict=True)
        ]
        assert not any(changed) or any("read back with another text" in line for line in written.oddities)


def test_entities_that_overlap_and_the_tag_map(tmp_path: Path) -> None:
    record = {"text": "Bank of Peru. Ana", "label": [[0, 12, "Public body"], [8, 12, "LOC"], [14, 17, "PER"]]}
    corpus = read_corpus(write(tmp_path, json.dumps(record)), tag_map={"Public_body": "ORG", "PER": "O"})
    written = write_corpus(corpus, tmp_path / "new", FORMATS["jsonl-spans"])
    assert json.loads((tmp_path / "new").read_text()) == {
        "text": "Bank of Peru. Ana",
        "label": [[0, 12, "ORG"], [8, 12, "LOC"]],
    }
    assert written == Written(1, "documents", 2, [])
    assert corpus.dropped == {"PER": 1}


def test_predictions_are_written_to_be_corrected_and_are_not_read_as_gold(tmp_path: Path) -> None:
    tagged = {
        "text": "😀 Ana left",
        "entities": [{"entity_group": "PER", "score": 0.9, "word": "Ana", "start": 2, "end": 5}],
    }
    corpus = read_corpus(write(tmp_path, json.dumps(tagged)))
    written = write_corpus(corpus, tmp_path / "new", FORMATS["label-studio-predictions"])
    assert (written.items, written.entities) == (1, 1)
    (task,) = json.loads((tmp_path / "new").read_text())
    (region,) = task["predictions"][0]["result"]
    assert region["value"]["text"] == "Ana"
    assert not task.get("annotations")
    assert read_corpus(tmp_path / "new").counts == {}


def test_words_beside_texts_are_converted_with_them(tmp_path: Path) -> None:
    lines = ['{"text": "Ana left", "label": [[0, 3, "PER"]]}', '{"tokens": ["in", "Lima"], "ner_tags": ["O", "B-LOC"]}']
    corpus = read_corpus(write(tmp_path, "\n".join(lines)))
    written = write_corpus(corpus, tmp_path / "new", FORMATS["jsonl-spans"])
    assert (written.items, written.entities) == (2, sum(corpus.counts.values()))
    assert [json.loads(line) for line in (tmp_path / "new").read_text().splitlines()] == [
        {"text": "Ana left", "label": [[0, 3, "PER"]]},
        {"text": "in Lima", "label": [[3, 7, "LOC"]]},
    ]


def test_texts_become_sentences_for_formats_of_words(tmp_path: Path) -> None:
    record = {"text": "Das Berlinbuch. Ana las es.", "label": [[4, 10, "LOC"], [16, 19, "PER"]]}
    corpus = read_corpus(write(tmp_path, json.dumps(record)))
    write_corpus(corpus, tmp_path / "new", FORMATS["conll"])
    assert (tmp_path / "new").read_text() == (
        "Das\tO\nBerlin\tB-LOC\nbuch\tO\n.\tO\n\nAna\tB-PER\nlas\tO\nes\tO\n.\tO\n\n"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conll-4", [["1", "2"], ["1", "2", "3"]]),  # a first column that counts
        ("conll", [["en:Rome", "en:is"], ["en:old", "en:."]]),  # WikiANN's marks of a language
    ],
)
def test_a_file_that_would_be_taken_for_something_else_is_refused(
    name: FormatName, words: list[list[str]], tmp_path: Path
) -> None:
    corpus = corpus_of(tmp_path, [(sentence, ["B-LOC", *["O"] * (len(sentence) - 1)]) for sentence in words])
    with pytest.raises(UserError, match=r"old.jsonl:1: what was written in this format (would|cannot) be read"):
        write_corpus(corpus, tmp_path / "new", FORMATS[name])
