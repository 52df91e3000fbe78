"""Sentences written as columns and as CoNLL-U: what the lines look like, and what they cannot hold."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import IO

import pytest

from metacross.corpora.formats.conll_writer import write_conll, write_conll_2003, write_conllu
from metacross.corpora.raw import Document, Marked, Oddities
from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.corpora.spans import sentences_of
from metacross.errors import UserError

Write = Callable[[Iterable[Sentence], IO[bytes], Oddities], None]
ALL = (write_conll, write_conll_2003, write_conllu)


def written(write: Write, *sentences: Sentence) -> tuple[str, list[str]]:
    file, oddities = io.BytesIO(), Oddities()
    write(sentences, file, oddities)
    return file.getvalue().decode(), oddities.lines()


def words(*given: str, tag: str = "O") -> Sentence:
    return sentence_from_words(given, [tag] * len(given), place="old:3")


def test_columns() -> None:
    one = sentence_from_words(["Ana", "Gil"], ["B-PER", "I-PER"])
    assert written(write_conll, one, words("#")) == ("Ana\tB-PER\nGil\tI-PER\n\n#\tO\n\n", [])
    assert written(write_conll_2003, one) == ("Ana -X- -X- B-PER\nGil -X- -X- I-PER\n\n", [])
    assert written(write_conll, words("New York")) == ("New York\tO\n\n", [])
    assert written(write_conll) == ("", [])


def test_conllu_keeps_the_text_between_words() -> None:
    text = "Lima, 12\u202fkm\tfern |\\ 北京。"
    (sentence,) = sentences_of(Document(text, (Marked(0, 4, "LOC"),), place="old:1"), oddities=Oddities())
    lines, odd = written(write_conllu, sentence)
    assert odd == []
    rows = [line.split("\t") for line in lines.splitlines()[2:-1]]
    assert lines.startswith("# sent_id = 1\n# text = Lima, 12")
    assert [row[0] for row in rows] == [str(i) for i in range(1, len(rows) + 1)]
    assert [row[1] for row in rows] == list(sentence.words)
    assert {len(row) for row in rows} == {10}
    assert [row[9] for row in rows[:5]] == [
        "name=B-LOC|SpaceAfter=No",
        "name=O",
        "name=O|SpacesAfter=\u202f",
        "name=O|SpacesAfter=\\t",
        "name=O",
    ]


def test_conllu_counts_text_that_is_in_no_word() -> None:
    sentence = Sentence("Ana (sic) left", ("Ana", "left"), ((0, 3), (10, 14)), ("O", "O"), place="old:3")
    lines, odd = written(write_conllu, sentence)
    assert "# text = Ana (sic) left\n1\tAna\t_" in lines
    assert odd == ["1 part of texts between words, which CoNLL-U has in a comment only (first at old:3)"]


@pytest.mark.parametrize("write", ALL)
@pytest.mark.parametrize("word", ["a\tb", "a\nb", "a\rb", "\ud800", "\ufeff", "a\u200b"])
def test_words_that_would_read_back_as_something_else_are_refused(write: Write, word: str) -> None:
    with pytest.raises(UserError, match=r"^old:3: "):
        written(write, words("Ana", word))


def test_what_only_some_columns_can_hold() -> None:
    with pytest.raises(UserError, match=r"begins a new document in columns.*--to conllu"):
        written(write_conll, words("-DOCSTART-"))
    assert "\t-DOCSTART-\t" in written(write_conllu, words("-DOCSTART-"))[0]
    with pytest.raises(UserError, match=r"' ' in it.*--to jsonl"):
        written(write_conll_2003, words("New York"))
    with pytest.raises(UserError, match=r"'\|' in it"):
        written(write_conllu, words("Ana", tag="B-a|b"))
    assert written(write_conll, words("a\xa0b"))[1] == [
        "1 word with white space inside, at which some programs may cut (first at old:3)"
    ]


@pytest.mark.parametrize("write", ALL)
def test_sentences_without_tags_are_refused(write: Write) -> None:
    with pytest.raises(UserError, match=r"^old:3: found no tags"):
        written(write, sentence_from_words(["Ana"], place="old:3"))
