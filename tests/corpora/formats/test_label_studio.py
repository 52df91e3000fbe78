"""Label Studio: its exports, with every oddity of an annotation, and tasks written for it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.formats.label_studio import looks_like_label_studio, read_label_studio, write_label_studio
from metacross.corpora.raw import Document, Marked, Oddities, ReadOptions
from metacross.corpora.source import Source
from metacross.errors import UserError
from tests.helpers.corpora import ANY_TEXT, CORPORA, write


def read(content: object, **options: Any) -> tuple[list[Document], list[str]]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    source = Source("tasks.json", io.BytesIO(data))
    documents = [item for item in read_label_studio(source, ReadOptions(**options)).items if isinstance(item, Document)]
    return documents, source.oddities.lines()


def entities(document: Document) -> list[tuple[str, str]]:
    return [(kind, document.text[start:end]) for start, end, kind in document.marked or ()]


def region(start: object, end: object, text: str | None = None, label: str = "LOC", **more: Any) -> dict[str, Any]:
    value = {"start": start, "end": end, "labels": [label]} | ({} if text is None else {"text": text})
    return {"type": "labels", "from_name": "label", "to_name": "text", "value": value | more}


def task(text: str, *regions: object) -> dict[str, Any]:
    return {"data": {"text": text}, "annotations": [{"result": list(regions)}]}


def test_an_export_with_cancelled_repeated_and_predicted_annotations() -> None:
    path = CORPORA / "label_studio.json"
    with Source(str(path)) as source:
        reading = read_label_studio(source, ReadOptions())
        assert reading.format == "label-studio"
        documents = [item for item in reading.items if isinstance(item, Document)]
        oddities = source.oddities.lines()
    assert [entities(document) for document in documents] == [
        [("LOC", "Bern")],
        [("LOC", "पुणे"), ("PER", "अनु")],
        [],
        [],
    ]
    assert [document.marked is None for document in documents] == [False, False, False, True]
    assert documents[0].place == f"{path}: task 1"
    assert documents[0].record["id"] == 11
    assert sorted(oddities) == [
        f"1 annotation beside the first of a task left out (first at {path}: task 1)",
        f"1 cancelled annotation left out (first at {path}: task 1)",
        f"1 result of the type 'choices' left out (first at {path}: task 1)",
        f"1 task with predictions of a model only, read as not annotated (first at {path}: task 4)",
        f"2 regions moved, whose offsets count UTF-16 code units (first at {path}: task 2)",
    ]


def test_json_min_has_a_record_for_every_annotation() -> None:
    values = [{"start": 4, "end": 8, "text": "Oslo", "labels": ["LOC"]}]
    more = {"annotator": 1, "lead_time": 2.5, "created_at": "2024-01-01"}
    documents, oddities = read(
        [
            {"id": 1, "body": "Til Oslo", "ner": values, "annotation_id": 7, **more},
            {"id": 1, "body": "Til Oslo", "ner": [], "annotation_id": 8, **more},
            {"id": 2, "body": "Til by", "annotation_id": 9, **more},
        ]
    )
    assert [(document.text, document.marked) for document in documents] == [
        ("Til Oslo", (Marked(4, 8, "LOC"),)),
        ("Til by", ()),
    ]
    assert oddities == ["1 annotation beside the first of a task left out (first at tasks.json: task 2)"]


def test_old_completions_and_one_task_a_line() -> None:
    old = {"data": {"text": "Lima"}, "completions": [{"skipped": True, "result": []}, {"result": [region("0", "4")]}]}
    lines = "\n".join(json.dumps(each) for each in (old, task("Rio", region(0, 3))))
    documents, _ = read(lines.encode())
    assert [entities(document) for document in documents] == [[("LOC", "Lima")], [("LOC", "Rio")]]


def test_tasks_to_be_annotated() -> None:
    documents, oddities = read([{"data": {"text": "Lima"}}], labelled=False)
    assert [(document.text, document.marked, oddities) for document in documents] == [("Lima", None, [])]


def test_ground_truth_comes_before_other_annotations() -> None:
    first, second = {"result": []}, {"ground_truth": True, "result": [region(0, 4)]}
    documents, _ = read([{"data": {"text": "Lima"}, "annotations": [first, second]}])
    assert entities(documents[0]) == [("LOC", "Lima")]


@pytest.mark.parametrize(
    ("regions", "expected", "oddity"),
    [
        ([region(2, 6, "Lima")], ["Lima"], ""),
        ([region(3, 7, "Lima")], ["Lima"], "count UTF-16 code units"),
        ([region(5, 9, "Lima")], ["Lima"], "count bytes of UTF-8"),
        ([region(2, 5, "Lima")], ["Lima"], "with another end than the text they mark"),
        ([region(3, 7, "Lima"), region(12, 15)], ["Lima", "Ana"], "2 regions moved"),  # the second quotes nothing
        ([region(2, 6, "Quito")], [], "1 region left out whose text is not at the offsets"),
        ([region(2, 99)], [], "1 region left out for being empty or outside of the text"),
        ([region(2, 2)], [], "1 region left out for being empty or outside of the text"),
        ([region(0, 6, "🌞\\nLima")], ["🌞\nLima"], ""),  # as some versions write a line break
        ([region(2, 6, label="")], [], "1 region without a label left out"),
    ],
)
def test_offsets_are_checked_by_the_text_that_is_repeated(
    regions: list[dict[str, Any]], expected: list[str], oddity: str
) -> None:
    documents, oddities = read([task("🌞\nLima met Ana", *regions)])
    assert [text for _, text in entities(documents[0])] == expected
    assert [oddity in line for line in oddities] == [True] * bool(oddity)


def test_hypertext_is_read_where_its_global_offsets_fit() -> None:
    html = region("/p[1]/text()[1]", "/p[1]/text()[1]", "Lima", globalOffsets={"start": 0, "end": 4})
    documents, _ = read([task("Lima", html)])
    assert entities(documents[0]) == [("LOC", "Lima")]
    with pytest.raises(UserError, match=r"task 1: found a region from '/p' to '/p', which are no offsets in a text"):
        read([task("<p>Lima</p>", region("/p", "/p", "Lima"))])


def test_one_control_of_several_is_chosen_by_its_name() -> None:
    other = region(0, 4, label="SUBJECT") | {"from_name": "role"}
    tasks = [task("Lima", region(0, 4), other)]
    assert entities(read(tasks)[0][0]) == [("LOC", "Lima"), ("SUBJECT", "Lima")]
    assert entities(read(tasks, tag_column="role")[0][0]) == [("SUBJECT", "Lima")]
    with pytest.raises(UserError, match="found no labels of the control 'x'; expected one of label, role"):
        read(tasks, tag_column="x")
    with pytest.raises(UserError, match="no column 2"):
        read(tasks, tag_column=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"data": {"text": "a"}},\n{"data"', r"tasks.json:2: found what is not JSON"),
        (b"[" * 100_000, "found what is not JSON"),
        (b'[{"data": {"text": ' + b"1" * 5000 + b"}}]", "found what is not JSON"),
        ([3], "task 1: found 3; expected Label Studio's tasks"),
        ([{"data": {"image": 3}}], "task 1: found no text"),
        ([{"data": {"a": "x", "b": "y"}}], r"task 1: found the strings \['a', 'b'\], and which is the text"),
        ([{"data": {"text": "a"}, "annotations": 3}], "task 1: found the annotations 3"),
        ([{"data": {"text": "a"}, "annotations": [{"result": None}]}], "task 1: found the result None"),
        ([task("a", {"type": "labels", "value": 3})], "task 1: found a region with the value 3"),
        ([task("a", {"type": "labels", "value": {"labels": "X"}})], "task 1: found a region with the labels 'X'"),
        ([task("a", region(0.5, 1)), task("b", region(None, 1))], "2 places cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(content: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(content)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ((CORPORA / "label_studio.json").read_text(encoding="utf-8"), True),
        ('[{"data": {"text": "Lima"}}]', True),
        ('[{"id": 1, "text": "a", "label": [{"start": 0, "end": 1, "text": "a", "labels": ["X"]}]}]', True),
        ('{"text": "a", "annotator": 1, "annotation_id": 2}', True),
        ('[{"data": {"text": "a long one"}, "annotations": [{"result": [', True),  # longer than what was read
        ('{"text": "Lima", "label": [[0, 4, "LOC"]]}', False),
        ('{"tokens": ["Rome"], "ner_tags": ["B-LOC"]}', False),
        ('[{"text": "Lima", "entities": [{"start": 0, "end": 4, "label": "LOC"}]}]', False),
        ('{"data": [{"paragraphs": []}]}', False),
        ("{ O\n", False),
        ("[ O\n{ O\n", False),
        ("Rome B-LOC\n", False),
        ("", False),
    ],
)
def test_it_is_recognised_by_its_content(start: str, expected: bool) -> None:
    assert looks_like_label_studio(start) is expected


@pytest.mark.parametrize("path", [*CORPORA.glob("*.*")], ids=str)
def test_no_file_of_another_format_is_taken_for_tasks(path: Path) -> None:
    with Source(str(path)) as source:
        assert looks_like_label_studio(source.text()) is (path.name == "label_studio.json")


def written(documents: list[Document], *, predictions: bool) -> tuple[bytes, list[str]]:
    file, oddities = io.BytesIO(), Oddities()
    write_label_studio(documents, file, oddities, predictions=predictions)
    return file.getvalue(), oddities.lines()


def test_predictions_pre_annotate_and_are_no_annotations() -> None:
    document = Document("🌞 Lima", (Marked(2, 6, "L&C"),), record={"score": 0.75})
    data, notes = written([document, Document("Rio")], predictions=True)
    assert json.loads(data) == [
        {
            "data": {"text": "🌞 Lima"},
            "predictions": [
                {"model_version": "metacross", "score": 0.75, "result": [{"id": "1-1", **region(2, 6, "Lima", "L&C")}]}
            ],
        },
        {"data": {"text": "Rio"}},
    ]
    assert notes == [
        "Label Studio's labelling configuration for these tasks: <View>"
        '<Labels name="label" toName="text"><Label value="L&amp;C"/></Labels><Text name="text" value="$text"/></View>'
    ]
    assert [document.marked for document in read(data)[0]] == [None, None]


def test_a_task_keeps_its_data_and_the_key_of_its_text() -> None:
    documents, _ = read([{"data": {"source": 3, "review": "Lima"}, "annotations": [{"result": [region(0, 4)]}]}])
    data, notes = written(documents, predictions=False)
    assert json.loads(data)[0]["data"] == {"source": 3, "review": "Lima"}
    assert 'value="$review"' in notes[0]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    # Two lone surrogates side by side are one character to JSON.
    text = draw(ANY_TEXT.map(lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")))
    if not text or draw(st.booleans()):
        return Document(text, draw(st.sampled_from([None, ()])))
    ends = st.lists(st.integers(0, len(text)), min_size=2, max_size=2, unique=True).map(sorted)
    marked = [Marked(*draw(ends), draw(st.text(min_size=1))) for _ in range(draw(st.integers(0, 3)))]
    return Document(text, tuple(marked))


@given(st.lists(documents(), max_size=3))
def test_what_is_written_is_read_again(items: list[Document]) -> None:
    again, oddities = read(written(items, predictions=False)[0])
    assert [(document.text, document.marked) for document in again] == [(item.text, item.marked) for item in items]
    assert oddities == []


def test_an_entity_that_is_not_in_its_text_is_not_written(tmp_path: Path) -> None:
    data, oddities = written([Document("a", (Marked(0, 5, "X"),), place="f:1")], predictions=False)
    assert oddities[-1] == "1 entity left out for being empty or outside of the text (first at f:1)"
    assert read(write(tmp_path, data).read_bytes())[0][0].marked == ()
