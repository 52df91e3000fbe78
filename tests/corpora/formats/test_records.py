"""One record as a sentence or a text, in all the shapes that tools write; and what is said of one that is neither."""

from __future__ import annotations

import re
from typing import Any

import pytest

from metacross.corpora.formats.records import RecordReader
from metacross.corpora.raw import Document, Oddities, RawSentence, ReadOptions
from metacross.errors import UserError

TO_BE_TAGGED = ReadOptions(labelled=False)


def read(
    *records: object, options: ReadOptions | None = None, **arguments: Any
) -> tuple[list[RawSentence | Document], list[str]]:
    """The items of records, and the oddities."""
    oddities = Oddities()
    reader = RecordReader("file", options or ReadOptions(), oddities, **arguments)
    return list(reader.items(enumerate(records, 1))), oddities.lines()


def words_of(item: RawSentence | Document) -> list[tuple[str, str]]:
    assert isinstance(item, RawSentence)
    return [(row.word, row.tag) for row in item.rows]


def marked_in(item: RawSentence | Document) -> list[tuple[str, str]] | None:
    """Type and text of each entity."""
    assert isinstance(item, Document)
    return None if item.marked is None else [(kind, item.text[start:end]) for start, end, kind in item.marked]


# --- words and tags --------------------------------------------------------------------------------------------------

TAGGED = [("Ana", "B-PER"), ("left", "O")]
NAMES = ["O", "B-PER"]


@pytest.mark.parametrize(
    "record",
    [
        {"tokens": ["Ana", "left"], "ner_tags": ["B-PER", "O"]},
        {"words": ["Ana", "left"], "tags": ["B-PER", "O"]},
        {"tokens": ["Ana", "left"], "labels": ["B-PER", "O"], "id": 7},
        {"tokens": ["Ana", "left"], "ner": ["B-PER", "O"], "words": 2},
        {"tokens": ["Ana", "left"], "ner_tags": [1, 0], "label_names": NAMES},
        {"tokens": [{"text": "Ana"}, {"text": "left"}], "ner_tags": ["B-PER", "O"]},
        # as `metacross tag` writes a sentence whose words were given
        {
            "tokens": ["Ana", "left"],
            "ner_tags": ["B-PER", "O"],
            "text": "Ana left",
            "entities": [{"entity_group": "PER", "score": 0.9, "word": "Ana", "start": 0, "end": 3}],
        },
    ],
)
def test_words_with_tags(record: dict[str, Any]) -> None:
    items, oddities = read(record)
    assert [words_of(item) for item in items] == [TAGGED]
    assert oddities == []
    assert items[0].record is record


def test_integers_have_the_names_of_their_key_or_those_of_the_file() -> None:
    record = {"tokens": ["Ana", "left"], "ner_tags": [1, 0]}
    items, _ = read(record, names={"ner_tags": NAMES})
    assert words_of(items[0]) == TAGGED
    items, _ = read({"label_names": NAMES}, record)
    assert [words_of(item) for item in items] == [TAGGED]
    assert isinstance(items[0], RawSentence) and items[0].rows[0].line == 2
    items, _ = read(record, default_names=NAMES)
    assert words_of(items[0]) == TAGGED


def test_of_several_tags_the_first_are_read_and_the_choice_is_told() -> None:
    record = {
        "tokens": ["Ana", "left"],
        "pos_tags": ["N", "V"],
        "fine_ner_tags": ["B-actor", "O"],
        "tags": ["x", "y"],
        "ner_tags": ["B-PER", "O"],
        "labels": ["news"],
    }
    items, oddities = read(record, record)
    assert [words_of(item) for item in items] == [TAGGED, TAGGED]
    assert oddities == ["the keys ner_tags, fine_ner_tags, tags hold tags: ner_tags was read"]


def test_the_user_names_the_key_of_tags() -> None:
    options = ReadOptions(tag_column="fine")
    items, oddities = read({"tokens": ["Ana"], "fine": ["B-actor"], "ner_tags": ["B-PER"]}, options=options)
    assert (words_of(items[0]), oddities) == ([("Ana", "B-actor")], [])
    items, _ = read({"text": "Ana", "fine": [[0, 3, "actor"]], "spans": []}, options=options)
    assert marked_in(items[0]) == [("actor", "Ana")]
    with pytest.raises(UserError, match=r"file:1: found the keys .* expected the key 'fine' in every record"):
        read({"tokens": ["Ana"], "ner_tags": ["B-PER"]}, options=options)
    with pytest.raises(UserError, match=r"expected the key 'fine' in every record"):
        read({"text": "Ana", "entities": [], "answer": "accept"}, options=options)


def test_records_without_words_are_left_out_unless_they_are_to_be_tagged() -> None:
    records = [{"tokens": [], "ner_tags": []}, {"text": "", "entities": []}]
    assert read(*records) == ([], [])
    items, _ = read(*records, options=TO_BE_TAGGED)
    assert [item.text for item in items if isinstance(item, Document)] == ["", ""]
    assert [item.record for item in items] == records


# --- text and entities -----------------------------------------------------------------------------------------------

TEXT = "Ana saw 東京."
MARKED = [("PER", "Ana"), ("LOC", "東京")]


@pytest.mark.parametrize(
    "annotation",
    [
        {"entities": [[0, 3, "PER"], [8, 10, "LOC"]]},
        {"label": [[0, 3, "PER"], [8, 10, "LOC"]], "Comments": ["sure?"]},
        {"labels": [(0, 3, "PER"), (8.0, 10.0, "LOC", "kb7")]},
        {"spans": [{"start": 0, "end": 3, "label": "PER"}, {"start": 8, "end": 10, "label": "LOC"}], "meta": {}},
        {
            "entities": [
                {"id": 1, "label": "PER", "start_offset": 0, "end_offset": 3},
                {"id": 2, "label": "LOC", "start_offset": 8, "end_offset": 10},
            ],
            "relations": [{"id": 1, "from_id": 1, "to_id": 2, "type": "saw"}],
        },
        {
            "entities": [
                {"entity_group": "PER", "score": 0.99, "word": "ana", "start": 0, "end": 3},
                {"entity_group": "LOC", "score": 0.9, "word": "東 京", "start": 8, "end": 10},
            ]
        },
        {
            "entities": [
                {"entity": "B-PER", "index": 1, "word": "An", "start": 0, "end": 2},
                {"entity": "I-PER", "index": 2, "word": "##a", "start": 2, "end": 3},
                {"entity": "I-LOC", "index": 4, "word": "東", "start": 8, "end": 9},
                {"entity": "I-LOC", "index": 5, "word": "京", "start": 9, "end": 10},
            ]
        },
        {"entities": {"start": [0, 8], "end": [3, 10], "label": ["PER", "LOC"]}},
        {"label": [{"start": 0, "end": 3, "labels": ["PER"]}, {"start": 8, "end": 10, "labels": ["LOC"]}]},
    ],
)
@pytest.mark.parametrize("key", ["text", "data"])
def test_texts_with_entities(annotation: dict[str, Any], key: str) -> None:
    record = {key: TEXT, **annotation}
    items, oddities = read(record)
    assert [marked_in(item) for item in items] == [MARKED]
    assert oddities == []
    assert isinstance(items[0], Document)
    assert (items[0].words, items[0].place, items[0].record) == (None, "file:1", record)


def test_pieces_of_two_entities_are_not_joined() -> None:
    pieces = [(0, 1, "B-PER"), (1, 2, "B-PER"), (2, 3, "I-LOC"), (4, 5, "I-LOC"), (6, 7, "I-LOC")]
    items, _ = read({"text": "abc d.e", "entities": pieces})
    assert marked_in(items[0]) == [("PER", "a"), ("PER", "b"), ("LOC", "c d"), ("LOC", "e")]


PRODIGY = {
    "text": "Ana saw 東京.",
    "tokens": [
        {"text": "Ana", "start": 0, "end": 3, "id": 0, "ws": True},
        {"text": "saw", "start": 4, "end": 7, "id": 1, "ws": True},
        {"text": "東京", "start": 8, "end": 10, "id": 2, "ws": False},
        {"text": ".", "start": 10, "end": 11, "id": 3, "ws": False},
    ],
    "spans": [
        {"start": 0, "end": 3, "token_start": 0, "token_end": 0, "label": "PER"},
        {"token_start": 2, "token_end": 2, "label": "LOC"},
    ],
    "answer": "accept",
    "_input_hash": -17,
}


def test_prodigy() -> None:
    unmarked = {key: value for key, value in PRODIGY.items() if key != "spans"}
    rejected = {**PRODIGY, "answer": "reject"}
    ignored = {**PRODIGY, "answer": "ignore"}
    items, oddities = read(rejected, PRODIGY, ignored, unmarked, rejected)
    assert [marked_in(item) for item in items] == [MARKED, []]
    assert isinstance(items[0], Document) and items[0].words == ((0, 3), (4, 7), (8, 10), (10, 11))
    assert oddities == [
        '2 records with "answer": "reject" left out (first at file:1)',
        '1 record with "answer": "ignore" left out (first at file:3)',
    ]
    # To be tagged, what was thought of an annotation does not matter.
    assert len(read(rejected, ignored, unmarked, options=TO_BE_TAGGED)[0]) == 3


def test_words_beside_a_text_are_looked_for_in_it() -> None:
    record = {"text": "Ana, Ana", "tokens": ["Ana", ",", "Ana"], "entities": [[5, 8, "PER"]]}
    items, _ = read(record)
    assert isinstance(items[0], Document) and items[0].words == ((0, 3), (3, 4), (5, 8))
    assert marked_in(items[0]) == [("PER", "Ana")]
    items, _ = read(record, options=TO_BE_TAGGED)
    assert words_of(items[0]) == [("Ana", ""), (",", ""), ("Ana", "")]
    shifted = {**PRODIGY, "text": "A" + TEXT, "spans": []}
    items, oddities = read({**record, "tokens": ["Ana", "``"]}, shifted)
    assert [item.words for item in items if isinstance(item, Document)] == [None, None]
    assert oddities == ["2 records with words that do not stand in the text; words are found anew (first at file:1)"]


def test_empty_annotation_and_none() -> None:
    assert marked_in(read({"text": "x", "label": []})[0][0]) == []
    assert marked_in(read({"text": "x"}, options=TO_BE_TAGGED)[0][0]) is None
    assert marked_in(read({"text": "x", "entities": None, "label": "news"}, options=TO_BE_TAGGED)[0][0]) is None
    with pytest.raises(UserError, match=r"file:1: found the keys \['entities', 'text'\]; expected words with tags"):
        read({"text": "x", "entities": None})


def test_labels_of_a_text_as_such_are_no_tags() -> None:
    record = {"text": "Ana left", "tokens": ["Ana", "left"], "labels": ["news"], "spans": [[0, 3, "PER"]]}
    items, oddities = read(record, {**record, "tokens": [101, 7]}, {**record, "tokens": []})
    assert [marked_in(item) for item in items] == [[("PER", "Ana")]] * 3
    assert [item.words for item in items if isinstance(item, Document)] == [((0, 3), (4, 8)), None, None]
    assert oddities == []
    items, _ = read({"text": "Ana", "tokens": []}, options=TO_BE_TAGGED)
    assert isinstance(items[0], Document) and items[0].text == "Ana"


def test_of_several_entity_keys_the_first_is_read() -> None:
    items, oddities = read({"text": "Ana", "label": [[0, 1, "X"]], "entities": [[0, 3, "PER"]]})
    assert marked_in(items[0]) == [("PER", "Ana")]
    assert oddities == ["the keys entities, label hold entities: entities was read"]


def test_entities_that_are_not_in_the_text_are_counted() -> None:
    spans = [[0, 3, "PER"], [2, 2, "A"], [-1, 2, "B"], [1, 4, "C"], [2, 1, "D"], [10**30, 10**31, "E"]]
    items, oddities = read({"text": "", "entities": spans[3:], "tokens": []}, {"text": "Ana", "entities": spans})
    assert [marked_in(item) for item in items] == [[("PER", "Ana")]]
    assert oddities == [
        "1 empty entity left out (first at file:2)",
        "4 entities outside of the text left out (first at file:2)",
    ]
    _, oddities = read({"text": "Ana left", "entities": [{"start": 4, "end": 8, "label": "PER", "text": "Ana"}]})
    assert oddities == ["1 entity whose repeated text is not the one at the offsets, which were read (first at file:1)"]


# --- UTF-16 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{}, {"text": "Ana"}])
def test_offsets_in_utf_16_are_recognised(said: dict[str, str]) -> None:
    text = "👋🏽 Ana met 🙂Ana"
    marked = [("PER", "Ana"), ("PER", "Ana")]
    in_points = [{"start": 3, "end": 6, "label": "PER", **said}, {"start": 12, "end": 15, "label": "PER", **said}]
    in_units = [{"start": 5, "end": 8, "label": "PER", **said}, {"start": 15, "end": 18, "label": "PER", **said}]
    items, oddities = read({"text": text, "entities": in_points})
    assert (marked_in(items[0]), oddities) == (marked, [])
    items, oddities = read({"text": text, "entities": in_units})
    assert marked_in(items[0]) == marked
    assert oddities == [
        "2 entities with offsets in UTF-16 code units, which were converted to characters (first at file:1)"
    ]


def test_offsets_stay_where_neither_way_of_counting_fits() -> None:
    items, oddities = read({"text": "🙂 Anabel", "entities": [[3, 5, "PER"], [1, 2, "X"]]})
    assert (marked_in(items[0]), oddities) == ([("PER", "na"), ("X", " ")], [])


# --- what cannot be read ---------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[object, str]] = {
    "no object": (3, "found 3; expected a JSON object"),
    "null": (None, "found None; expected a JSON object"),
    "a list": ([["Ana", "O"]], "expected a JSON object"),
    "keys": ({"a": 1}, r"found the keys \['a'\]; expected words with tags"),
    "words as text": ({"tokens": "Ana left"}, r"found the keys \['tokens'\]"),
    "no tags": ({"tokens": ["a"]}, r"found the keys \['tokens'\]; expected words with tags"),
    "lengths": ({"tokens": ["a"], "tags": ["O", "O"]}, "found 1 in tokens and 2 in tags; expected as many of both"),
    "word": ({"words": ["a", 3], "tags": ["O", "O"]}, r"found \['a', 3\] in words; expected a list of strings"),
    "null word": ({"tokens": [None], "tags": ["O"]}, r"found \[None\] in tokens"),
    "mixed words": ({"tokens": [{"text": "a"}, 1], "tags": ["O", "O"]}, "in tokens; expected a list of strings"),
    "words without text": ({"tokens": [{"start": 0}], "tags": ["O"]}, "in tokens; expected a list of strings"),
    "mixed tags": ({"tokens": ["a", "b"], "tags": ["O", 1]}, r"found \['O', 1\] in tags"),
    "true": ({"tokens": ["a"], "tags": [True]}, r"found \[True\] in tags"),
    "no names": ({"tokens": ["a"], "tags": [1]}, "found integers in tags, but not what they mean; .*label_names"),
    "wrong name": ({"tokens": ["a"], "tags": [1], "label_names": ["O"]}, "found 1 in tags; expected 0 to 0"),
    "negative": ({"tokens": ["a", "b"], "tags": [-100, 0], "label_names": ["O"]}, "found -100 in tags"),
    "names": ({"tokens": ["a"], "tags": [1], "label_names": 3}, "found 3 in label_names"),
    "another task": ({"text": "a", "label": ["news"]}, r"found the keys \['label', 'text'\]; expected words with tags"),
    "classified": ({"text": "a", "label": "news", "answer": "accept"}, "found the keys"),
    "entity as text": (
        {"text": "a", "label": [[0, 1, "X"], "Y"]},
        r"found the entity 'Y'; expected \[start, end, type\]",
    ),
    "entities of words": ({"tokens": ["a"], "ner": [[0, 0, "X"]]}, r"found \[\[0, 0, 'X'\]\] in ner"),
    "short entity": ({"text": "a", "label": [[0, 1]]}, r"found the entity \[0, 1\]"),
    "no type": ({"text": "a", "spans": [{"start": 0, "end": 1}]}, "found the entity .*start"),
    "blank type": ({"text": "a", "spans": [[0, 1, " "]]}, "found the entity"),
    "text as offset": ({"text": "a", "spans": [["0", 1, "X"]]}, "found the entity"),
    "infinite": ({"text": "a", "spans": [[0, float("inf"), "X"]]}, "found the entity"),
    "not a number": ({"text": "a", "spans": [[float("nan"), 1, "X"]]}, "found the entity"),
    "words out of range": (
        {**PRODIGY, "spans": [{"token_start": 1, "token_end": 4, "label": "X"}]},
        "found the entity .*token_start",
    ),
    "uneven columns": ({"text": "a", "spans": {"start": [0], "end": []}}, "for the entities; expected a list"),
    "no list": ({"text": "a", "entities": {"start": 0}}, "for the entities; expected a list"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read(name: str) -> None:
    record, message = BROKEN[name]
    with pytest.raises(UserError) as error:
        read({"text": "", "spans": []}, record)
    assert re.match("file:2: .*" + message, str(error.value)), str(error.value)


def test_all_that_cannot_be_read_is_said_at_once() -> None:
    good = {"tokens": ["a"], "tags": ["O"]}
    with pytest.raises(UserError) as error:
        read(good, {"tokens": ["a"], "tags": []}, good, 3)
    assert str(error.value).splitlines() == [
        "file: 2 places cannot be read; correct the file there.",
        "file:2: found 1 in tokens and 0 in tags; expected as many of both",
        "file:4: found 3; expected a JSON object, in braces",
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"tokens": ["a", "b"], "tags": ["politics"]},
        {"tokens": ["a", "b"], "tags": [0, 7]},
        {"tokens": ["a", "b"], "labels": "news"},
        {"tokens": ["a", "b"]},
    ],
)
def test_words_to_be_tagged_need_no_tags(record: dict[str, Any]) -> None:
    items, _ = read(record, options=TO_BE_TAGGED)
    assert words_of(items[0]) == [("a", ""), ("b", "")]


def test_texts_to_be_tagged_need_no_entities_but_a_wrong_record_is_refused_at_once() -> None:
    oddities = Oddities()
    items = RecordReader("file", TO_BE_TAGGED, oddities).items(enumerate([{"text": "a", "label": [3]}, 3, 4], 1))
    assert marked_in(next(items)) is None
    with pytest.raises(UserError, match="file:2: found 3; expected a JSON object"):
        next(items)


# --- GLiNER ----------------------------------------------------------------------------------------------------------


def test_words_with_entities_by_first_and_last_word() -> None:
    record = {
        "tokenized_text": ["Bank", "of", "Peru", "🏦", "Ana"],
        "ner": [[0, 2, "org"], [2, 2, "loc"], [4, 4, "per"]],
    }
    items, oddities = read(record, {"tokenized_text": ["no"], "ner": []})
    assert [marked_in(item) for item in items] == [[("org", "Bank of Peru"), ("loc", "Peru"), ("per", "Ana")], []]
    assert oddities == []
    (to_tag,), _ = read(record, options=TO_BE_TAGGED)
    assert isinstance(to_tag, RawSentence) and to_tag.words_key == "tokenized_text"
    assert words_of(to_tag) == [(word, "") for word in record["tokenized_text"]]


@pytest.mark.parametrize(
    "ner", [None, "x", [[0, 1]], [[0, 7, "X"]], [[1, 0, "X"]], [["0", 0, "X"]], [{}], [[0, 0, ""]]]
)
def test_entities_of_words_that_cannot_be_meant(ner: object) -> None:
    with pytest.raises(UserError, match="file:1: found"):
        read({"tokenized_text": ["a", "b"], "ner": ner})
