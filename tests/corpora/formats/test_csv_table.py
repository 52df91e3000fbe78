"""Tables with a header: a row per word or per sentence, and the files that look like tables and are none."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.formats.csv_table import looks_like_csv_table, read_csv_table, write_csv_table
from metacross.corpora.raw import Document, Oddities, RawSentence, ReadOptions, Row
from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.corpora.source import Source
from metacross.errors import UserError
from tests.helpers.corpora import ANY_TEXT, CORPORA

GMB = "Sentence #,Word,POS,Tag\n"


def opened(content: str | bytes) -> Source:
    return Source("t.csv", io.BytesIO(content if isinstance(content, bytes) else content.encode()))


def read(content: str | bytes, **options: Any) -> list[list[tuple[str, str]]]:
    items = read_csv_table(opened(content), ReadOptions(**options)).items
    return [[(row.word, row.tag) for row in item.rows] for item in items if isinstance(item, RawSentence)]


def looks(content: str, **options: Any) -> bool:
    return looks_like_csv_table(content.split("\n"), ReadOptions(**options))


def test_the_table_of_the_groningen_meaning_bank() -> None:
    with Source(str(CORPORA / "gmb.csv")) as source:
        reading = read_csv_table(source, ReadOptions())
        first, second = (item for item in reading.items if isinstance(item, RawSentence))
        assert source.encoding == "latin-1"
    assert (reading.format, reading.breaks_given) == ("csv", True)
    assert [row.word for row in first.rows] == [
        "Le",
        "maire",
        "de",
        "Besançon",
        ",",
        "René",
        '"',
        "Le",
        '"',
        "Roy",
        ".",
    ]
    assert first.rows[3:6] == [Row("Besançon", "B-geo", 5), Row(",", "O", 6), Row("René", "B-per", 7)]
    assert second.rows == [Row("1", "O", 13), Row("000", "O", 14)]


def test_a_row_for_every_sentence() -> None:
    content = (CORPORA / "sentences.csv").read_bytes()
    assert looks(content.decode())
    assert read(content) == [
        [("아나", "B-per"), ("가", "O"), ("서울", "B-geo"), ("에", "O"), ("갔다", "O")],
        [("O’Neill’s", "B-org"), ('"bar"', "I-org"), ("🍺", "O")],
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,labels\nin New York,O B-geo I-geo\nhi,O\n", [["O", "B-geo", "I-geo"], ["O"]]),
        ('tokens,ner_tags\n"[\'it\', ""O\'N""]","[\'O\', \'B-per\']"\n', [["O", "B-per"]]),
        ("tokens\tner_tags\n['in' 'Rio']\t['O' 'B-geo']\n", [["O", "B-geo"]]),  # as numpy prints a list
        ('tokens\tner_tags\n["in", "R\\u00edo"]\t[O, B-geo]\n', [["O", "B-geo"]]),
        ("text,labels\n[ A ],\"['O', 'B-X', 'O']\"\n", [["O", "B-X", "O"]]),
        ("text,labels\n,\na b,O O\n", [["O", "O"]]),
    ],
)
def test_forms_of_the_tags_of_a_sentence(content: str, expected: list[list[str]]) -> None:
    assert looks(content)
    assert [[tag for _, tag in sentence] for sentence in read(content)] == expected


def test_escapes_in_lists() -> None:
    words = ["it's", '"', "a\\b", "\xa0", "\u200b", "x\ny", "\U000e0001"]
    content = f"tokens\tner_tags\n{words!r}\t{['O'] * len(words)!r}\n"
    assert [word for word, _ in read(content)[0]] == words
    assert read('tokens\tner_tags\n["\\ud83d\\ude80"]\t["O"]\n') == [[("🚀", "O")]]  # as JSON escapes it


@pytest.mark.parametrize(
    "content",
    [
        "Sentence #,Word,Tag\n1,a,O\n,b,O\n2,c,O\n",
        "sentence_id;token;NER Tag\n1;a;O\n1;b;O\n2;c;O\n",
        "Word\tlemma\tsentence\tner_tag\n\na\ta\t1\tO\nb\tb\t1\tO\nc\tc\t2\tO\n",
        ",Sentence,Word,POS,Tag\n0,1,a,X,O\n1,1,b,X,O\n2,2,c,X,O\n",  # with pandas' index
        "Sentence #,Word,Tag\n1,a,O\n,b,O\n1,c,O\n",  # counted anew: the number is in first rows only
        "\nword,tag\na,O\nb,O\n\nc,O\n",
        "word,tag\r\na,O\r\nb,O\r\n,\r\nc,O\r\n",
        "word,tag\na,O,\nb,O\n\nc,O\n",  # a separator at the end
        " \nword,tag\na,O\nb,O\n \nc,O\n \u3000\n",  # white space in blank lines
    ],
)
def test_where_sentences_end(content: str) -> None:
    assert looks(content)
    assert read(content) == [[("a", "O"), ("b", "O")], [("c", "O")]]


def test_without_sentences_there_is_one_stretch() -> None:
    reading = read_csv_table(opened("word,tag\na,O\nb,O\n"), ReadOptions())
    assert not reading.breaks_given
    assert len(list(reading.items)) == 1


@pytest.mark.parametrize("choice", ["coarse", 3])
def test_a_column_of_tags_is_chosen_by_name_or_number(choice: int | str) -> None:
    content = "word,tag,coarse\nRio,B-city,B-LOC\n"
    assert read(content) == [[("Rio", "B-city")]]
    assert read(content, tag_column=choice) == [[("Rio", "B-LOC")]]
    assert looks("word,x,coarse\nRio,B-city,B-LOC\n", tag_column=choice)


@pytest.mark.parametrize("choice", ["tags", 0, 4])
def test_a_column_that_is_not_there_is_refused(choice: int | str) -> None:
    with pytest.raises(UserError, match=rf"t.csv:1: found no column {choice!r}; the header has word, tag"):
        read("word,tag\nRio,B-city\n", tag_column=choice)


def test_words_that_are_quotation_marks_in_a_table_with_tabs() -> None:
    assert read('word\ttag\n"\tO\nRio\tB-LOC\n"\tO\n') == [[('"', "O"), ("Rio", "B-LOC"), ('"', "O")]]
    assert read("word\ttag\n" + "a\tO\n" * 500 + '"\tO\n' * 3)[0][-4:] == [("a", "O"), *[('"', "O")] * 3]
    assert read('word\ttag\n""""\tO\n"a ""b"" c"\tO\n') == [[('"', "O"), ('a "b" c', "O")]]


def test_fields_with_line_breaks() -> None:
    content = 'word,comment,tag\nRio,"one\ntwo, three",B-LOC\n"a\nb",,O\n'
    items = list(read_csv_table(opened(content), ReadOptions()).items)
    assert [item.rows for item in items if isinstance(item, RawSentence)] == [
        [Row("Rio", "B-LOC", 2), Row("a\nb", "O", 4)]
    ]


def test_what_is_to_be_tagged_needs_no_tags() -> None:
    assert looks("Sentence #,Word\n1,Rio\n", labelled=False)
    assert read("Sentence #,Word\n1,Rio\n", labelled=False) == [[("Rio", "")]]
    assert read("text,labels\nin Rio,\na b,O O\n", labelled=False) == [
        [("in", ""), ("Rio", "")],
        [("a", "O"), ("b", "O")],
    ]
    assert not looks("Sentence #,Word\n1,Rio\n")
    assert not looks("sentence_id,text\n1,a complete text\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            f"{GMB}1,a,X\n",
            r"t.csv:2: found 3 fields in a row; the header has 4 \(Sentence #, Word, POS, Tag\); expected",
        ),
        (f"{GMB}1,,,X,O\n", r"t.csv:2: found 5 fields"),
        (f'{GMB}1,",X,O\n,b,X,O\n,",X,O\n', r"t.csv:2: found ',X,O.n,b,X,O.n,' as a word, which begins at a quotation"),
        (f"{GMB}1,a,X,O\n1,b\n1\n", r"2 places cannot be read"),
        (f'{GMB}1,"{"a" * 200_000}",X,O\n', r"t.csv:2: found what is no row \(field larger than field limit"),
        ("text,labels\na b,O O\na b,O\n", r"t.csv:3: found 'a b' and 'O', which are not as many words as tags"),
        ("text,labels\na,\"['O'\"\n", r"t.csv:2: found 'a' and ..'O'., which are not as many"),
        ("Word Tag\na O\n", r"t.csv:1: found no header"),
        ("", r"t.csv:1: found no header"),
    ],
)
def test_what_cannot_be_meant_is_refused(content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        ",\tO\nRio\tB-LOC\n",
        ",\tO\n;\tO\n",
        ", , O\n",
        "Rio,B-LOC\nin,O\n",
        "word\na\n",
        "Word\tO\nTag\tO\n",
        "id,tag\n1,O\n",
        "word,pos\na,X\n",
        "Word and tag, label\n",
        '{"word": "a", "tag": "O"}\n',
        "",
    ],
)
def test_what_is_no_table(content: str) -> None:
    assert not looks(content)


@pytest.mark.parametrize("path", [*CORPORA.glob("*.*"), *(CORPORA.parents[2] / "samples").glob("*/*.conll")], ids=str)
def test_no_file_of_another_format_is_taken_for_a_table(path: Path) -> None:
    with Source(str(path)) as source:
        assert looks(source.text()) is (path.suffix == ".csv")


def test_memory_is_flat() -> None:
    content = GMB.encode() + b"Sentence: 1,Rio,NNP,B-geo\n,is,VB,O\n" * 100_000
    items = read_csv_table(opened(content), ReadOptions()).items
    next(items)
    tracemalloc.start()
    assert sum(1 for _ in items) == 99_999
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def written(*sentences: Sentence) -> tuple[bytes, list[str]]:
    file, oddities = io.BytesIO(), Oddities()
    write_csv_table(sentences, file, oddities)
    return file.getvalue(), oddities.lines()


def test_sentences_are_written_as_a_table() -> None:
    tagged = sentence_from_words(["In", ",", '"', "Río"], ["O", "O", "O", "B-LOC"])
    odd = Sentence("a\nb\ud800", ("a\nb\ud800",), ((0, 4),), None, place="f:1")
    data, oddities = written(tagged, odd)
    assert (
        data.decode() == 'Sentence #,Word,Tag\nSentence: 1,In,O\n,",",O\n,"""",O\n,Río,B-LOC\nSentence: 2,a b\ufffd,\n'
    )
    assert oddities == [
        "1 sentence without annotation, written with empty tags (first at f:1)",
        "1 lone surrogate written as U+FFFD, since UTF-8 has none (first at f:1)",
        "1 line break within words turned into white space (first at f:1)",
    ]


# A file cannot hold lone surrogates, and many NULs would be taken for UTF-16.
WORD = ANY_TEXT.map(lambda text: "".join(c for c in text if c not in "\0\r\n" and not "\ud800" <= c <= "\udfff"))


@given(st.lists(st.lists(st.tuples(WORD.filter(bool), st.sampled_from(["O", "B-a,b", 'I-"'])), min_size=1), max_size=4))
def test_what_is_written_is_read_again(sentences: list[list[tuple[str, str]]]) -> None:
    items = [sentence_from_words(*zip(*sentence, strict=True)) for sentence in sentences]
    data, oddities = written(*items)
    assert read(data) == sentences
    assert oddities == []
    assert next(csv.reader([data.decode().partition("\n")[0]])) == ["Sentence #", "Word", "Tag"]


@pytest.mark.parametrize(
    "content",
    [
        'id,text\n7,"Ana, from Lima"\n8,"two\nlines"\n',
        'id;text\n7;Ana, from Lima\n8;"two\nlines"\n',
        'text,label,id\n"Ana, from Lima",positive,7\n"two\nlines",negative,8\n',  # labels of texts are no tags
    ],
)
def test_raw_texts_to_be_tagged_keep_their_rows(content: str) -> None:
    assert looks(content, labelled=False)
    items = list(read_csv_table(opened(content), ReadOptions(labelled=False)).items)
    assert all(isinstance(item, Document) and item.marked is None for item in items)
    assert [(item.text, item.record["id"]) for item in items if isinstance(item, Document)] == [
        ("Ana, from Lima", "7"),
        ("two\nlines", "8"),
    ]


@pytest.mark.parametrize(
    ("content", "is_table"),
    [
        ("id,text\n1,我在北京。\n", True),
        ("id\ttext\n1\tin Lima\n", True),
        ("id\ttext\n1\tLima\n2\tnow\n", False),  # columns without tags
        ("text\nin Lima\n", False),
        ("name,place\nAna,Lima\n", False),
    ],
)
def test_which_tables_have_raw_texts(content: str, is_table: bool) -> None:
    assert looks(content, labelled=False) == is_table
    assert not looks(content)


def test_words_of_a_column_called_text_stay_words_to_be_tagged() -> None:
    assert read("text,label\nAna,B-PER\nleft,O\n", labelled=False) == [[("Ana", "B-PER"), ("left", "O")]]
