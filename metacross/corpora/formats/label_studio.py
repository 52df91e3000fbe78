r"""Label Studio: its JSON export, its JSON-MIN export, and tasks to import.

A task is {"data": {"text": ...}, "annotations": [{"result": [region, ...]}], "predictions": [...]}, and a region is
{"type": "labels", "from_name": "label", "to_name": "text", "value": {"start", "end", "text", "labels"}}. JSON-MIN has
one flat object for every annotation: the task's data, and its regions' values under the name of their control. The key
of the text is the labelling configuration's, which is not in the export.

Offsets are code points in Label Studio today; earlier versions wrote UTF-16 code units
(HumanSignal/label-studio, issues 1008 and 1347), and so do programs that write tasks. In HyperText, offsets are XPaths,
with "globalOffsets" in the visible text beside them.

Source: Label Studio's documentation, "Label Studio Task Format", "Export annotations" and "Import pre-annotated data".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any
from xml.sax.saxutils import quoteattr

from metacross.corpora.offset_units import CODE_POINTS, Stretch, locate
from metacross.corpora.raw import Document, Marked, Oddities, Problems, Reading, ReadOptions, shortened
from metacross.corpora.source import Source
from metacross.corpora.utf8 import json_bytes
from metacross.errors import UserError

_EXPECTED = (
    'expected Label Studio\'s tasks, such as [{"data": {"text": "Rome"}, "annotations": [{"result": [{"type": '
    '"labels", "value": {"start": 0, "end": 4, "text": "Rome", "labels": ["LOC"]}}]}]}]. Export the project again as '
    "JSON or JSON-MIN."
)
_SPACE = re.compile(r"[\s,]*")  # between tasks that are not in an array: one object, or one a line
# Every region that marks text is of one of these types; the value has its labels under the type's name.
_MARKING = ("labels", "hypertextlabels")
_OF_A_MIN_RECORD = frozenset({"annotation_id", "annotator", "lead_time", "created_at", "updated_at"})
_OF_NO_OTHER_TOOL = frozenset({"annotation_id", "annotator", "lead_time"})


def looks_like_label_studio(start: str) -> bool:
    """Whether a file's beginning is that of tasks of Label Studio.

    Args:
        start: the file's first characters, as many as were read; a task that is longer is known by its keys.
    """
    start = start.lstrip("\ufeff \t\r\n").removeprefix("[").lstrip()
    if not start.startswith("{"):
        return False
    try:
        task, _ = json.JSONDecoder().raw_decode(start)
    except (ValueError, RecursionError):
        keys = set(re.findall(r'"(data|annotations|completions|result|labels|start)"\s*:', start))
        return {"data", "result"} <= keys or {"labels", "start"} <= keys
    return _is_task(task) or _is_min_record(task)


def _is_task(task: Mapping[str, Any]) -> bool:
    data = task.get("data")
    return isinstance(data, dict) and any(isinstance(value, str) for value in data.values())


def _is_min_record(task: Mapping[str, Any]) -> bool:
    return len(_OF_NO_OTHER_TOOL & set(task)) >= 2 or any(map(_is_list_of_values, task.values()))


def _is_list_of_values(value: object) -> bool:
    """Whether this is a list of regions' values, as JSON-MIN has it."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(region, dict) and "start" in region and any(name in region for name in _MARKING)
            for region in value
        )
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def read_label_studio(source: Source, options: ReadOptions) -> Reading:
    """Reads tasks; every one becomes a document.

    The first annotation that was not cancelled is read, or the one that is marked as ground truth. A task that nobody
    has annotated has no entities (None), whatever a model predicted for it.

    Args:
        source: the file.
        options: `tag_column` is the name of the control ("from_name") whose labels are read; without it all are.

    Raises:
        UserError: the file is not JSON, or not tasks of texts.
    """
    if isinstance(options.tag_column, int):
        raise UserError(
            f"{source.path}: Label Studio's tasks have no column {options.tag_column}; give the name of the control "
            'whose labels are meant, such as "label".'
        )
    return Reading("label-studio", _documents(source, options.tag_column))


@dataclass
class _Task:
    """A task, and where what is odd about it is counted."""

    place: str
    record: Mapping[str, Any]
    data: Mapping[str, Any]
    oddities: Oddities
    problems: Problems
    regions: list[Mapping[str, Any]] | None = None  # None: nobody has annotated it
    stretches: list[Stretch] = field(default_factory=list)
    types: list[tuple[str, ...]] = field(default_factory=list)  # of each stretch

    def problem(self, text: str) -> None:
        """Adds what cannot be meant in this task."""
        self.problems.add(self.place, text)

    def count(self, what: str, number: int = 1) -> None:
        """Counts what is odd in this task; nothing if the number is 0."""
        if number:
            self.oddities.count(what, self.place, number)


def _documents(source: Source, control: str | None) -> Iterator[Document]:
    problems = Problems(_EXPECTED)
    tasks = list(_tasks(source, problems))
    controls = {str(region.get("from_name")): None for task in tasks for region in task.regions or ()}
    if control is not None and controls and control not in controls:
        raise UserError(
            f"{source.path}: found no labels of the control {control!r}; expected one of {', '.join(controls)}."
        )
    for task in tasks:
        for region in task.regions or ():
            if control is None or region.get("from_name") == control:
                _add_stretches(region, task)
    # All tasks of a project have their text under one key. The first that quotes its text shows which.
    usual = next((_text_key(task, "text") for task in tasks if any(each.quoted for each in task.stretches)), "text")
    for task in tasks:
        document = _document(task, usual)
        if document is not None:
            yield document
    problems.refuse()


def _tasks(source: Source, problems: Problems) -> Iterator[_Task]:
    """The tasks, with the regions of the annotation that counts."""
    annotated: set[str] = set()  # numbers of tasks of JSON-MIN, where every annotation is a record
    for number, record in enumerate(_records(source), 1):
        place = f"{source.path}: task {number}"
        if not isinstance(record, dict):
            problems.add(place, f"found {shortened(record)}")
            continue
        task = _Task(place, record, record, source.oddities, problems)
        if isinstance(record.get("data"), dict):
            task.data = record["data"]
            task.regions = _chosen_regions(record, task)
        else:
            task.data = {key: value for key, value in record.items() if key not in _OF_A_MIN_RECORD}
            task.regions = _min_regions(record)
            if "id" in record and "annotation_id" in record:
                if str(record["id"]) in annotated:
                    task.count("annotations beside the first of a task left out")
                    continue
                annotated.add(str(record["id"]))
        yield task


def _records(source: Source) -> Iterator[object]:
    """The values of an array, or those that stand one after another."""
    text = source.text().lstrip("\ufeff")
    decoder = json.JSONDecoder()
    at = _SPACE.match(text).end()  # type: ignore[union-attr]  # it matches anywhere
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, getattr(error, "pos", at)) + 1
            raise UserError(f"{source.place(line)}: found what is not JSON ({error}); {_EXPECTED}") from None
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        yield from value if isinstance(value, list) else [value]


def _chosen_regions(record: Mapping[str, Any], task: _Task) -> list[Mapping[str, Any]] | None:
    """The regions of the annotation that counts; None if there is none."""
    given = record.get("annotations", record.get("completions")) or []
    if not isinstance(given, list) or not all(isinstance(annotation, dict) for annotation in given):
        task.problem(f"found the annotations {shortened(given)}")
        return None
    finished = [each for each in given if each.get("was_cancelled") is not True and each.get("skipped") is not True]
    task.count("cancelled annotations left out", len(given) - len(finished))
    if not finished:
        if record.get("predictions"):
            task.count("tasks with predictions of a model only, read as not annotated")
        return None
    task.count("annotations beside the first of a task left out", len(finished) - 1)
    chosen = next((each for each in finished if each.get("ground_truth") is True), finished[0])
    regions = chosen.get("result", [])
    if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
        task.problem(f"found the result {shortened(regions)}")
        return None
    return regions


def _min_regions(record: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The regions of a record of JSON-MIN, in the form of the full export."""
    regions: list[Mapping[str, Any]] = [
        {"type": name, "from_name": key, "value": value}
        for key, values in record.items()
        if _is_list_of_values(values)
        for value in values
        for name in _MARKING
        if name in value
    ]
    # Without regions it is a text without entities if somebody has annotated it, else a task to be annotated.
    return regions or ([] if "annotation_id" in record else None)


def _add_stretches(region: Mapping[str, Any], task: _Task) -> None:
    """Takes the offsets and labels of one region."""
    kind, value = region.get("type"), region.get("value")
    if kind not in _MARKING:
        task.count(f"results of the type {shortened(kind)} left out")
        return
    if not isinstance(value, dict):
        task.problem(f"found a region with the value {shortened(value)}")
        return
    labels = value.get(kind)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        task.problem(f"found a region with the {kind} {shortened(labels)}")
        return
    if not labels or not all(labels):
        task.count("regions without a label left out")
        return
    offsets = value
    if isinstance(value.get("globalOffsets"), dict):  # HyperText: start and end are XPaths
        offsets = value["globalOffsets"]
    start, end = _offset(offsets.get("start")), _offset(offsets.get("end"))
    if start is None or end is None:
        task.problem(
            f"found a region from {shortened(offsets.get('start'))} to {shortened(offsets.get('end'))}, which are no "
            "offsets in a text (HyperText has places in HTML, audio has seconds)"
        )
        return
    quoted = value.get("text")
    task.stretches.append(Stretch(start, end, quoted if isinstance(quoted, str) else ""))
    task.types.append(tuple(labels))


def _offset(value: object) -> int | None:
    """An offset; some versions wrote strings of digits."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        return int(value)
    return value if type(value) is int else None


def _document(task: _Task, usual: str | None) -> Document | None:
    key = _text_key(task, usual)
    if key is None:
        texts = [name for name, value in task.data.items() if isinstance(value, str)]
        task.problem(f"found {f'the strings {texts}, and which is the text is not known' if texts else 'no text'}")
        return None
    text = task.data[key]
    if task.regions is None:
        return Document(text, None, place=task.place, record=task.record)
    marked = []
    for stretch, types, located in zip(task.stretches, task.types, locate(text, task.stretches), strict=True):
        if located is None:
            inside = 0 <= stretch.start < stretch.end <= len(text)
            task.count(
                "regions left out whose text is not at the offsets"
                if inside
                else "regions left out for being empty or outside of the text"
            )
            continue
        if located.unit != CODE_POINTS:
            task.count(f"regions moved, whose offsets count {located.unit}")
        marked += [Marked(located.start, located.end, kind) for kind in types]
    return Document(text, tuple(marked), place=task.place, record=task.record)


def _text_key(task: _Task, usual: str | None) -> str | None:
    """The key of the text: the one that the regions fit best, else the usual one; None if it is not known."""
    texts = [key for key, value in task.data.items() if isinstance(value, str)]
    if len(texts) < 2:
        return texts[0] if texts else None
    likely = [usual, *(region.get("to_name") for region in task.regions or ()), "text"]
    texts.sort(key=lambda key: likely.index(key) if key in likely else len(likely))
    quoting = [stretch for stretch in task.stretches if stretch.quoted]
    if quoting:
        return max(texts, key=lambda key: len(quoting) - locate(task.data[key], quoting).count(None))
    return texts[0] if texts[0] in likely else None


# --- writing ---------------------------------------------------------------------------------------------------------


def write_label_studio(
    items: Iterable[Document],
    file: IO[bytes],
    oddities: Oddities,
    *,
    predictions: bool,
    model_version: str = "metacross",
) -> None:
    """Writes tasks to import. The labelling configuration that fits them is added to the oddities as a note.

    Args:
        items: the texts; one whose entities are None is written without. A document that was read from a task keeps
            all of its data.
        file: where the tasks go, one a line within an array.
        oddities: what is counted while writing.
        predictions: whether the entities are a model's, shown to annotators as suggestions, or annotations.
        model_version: the name that predictions are shown under. Their score is the document's `record["score"]`.
    """
    types: dict[str, None] = {}  # in the order in which they come
    keys: dict[str, None] = {}
    file.write(b"[")
    for number, document in enumerate(items, 1):
        data, key = _data(document)
        task: dict[str, Any] = {"data": data}
        if document.marked is not None:
            regions = list(_regions(document, oddities))
            # Regions need an id that no other region of the project has.
            result = [{"id": f"{number}-{n}", **region} for n, region in enumerate(regions, 1)]
            if predictions:
                score = document.record.get("score")
                scored = {"score": score} if isinstance(score, int | float) and 0 <= score <= 1 else {}
                task["predictions"] = [{"model_version": model_version, **scored, "result": result}]
            else:
                task["annotations"] = [{"result": result}]
            types |= dict.fromkeys(kind for region in regions for kind in region["value"]["labels"])
        keys[key] = None
        file.write((b",\n" if number > 1 else b"\n") + json_bytes(task))
    file.write(b"\n]\n")
    for key in keys:
        oddities.note(f"Label Studio's labelling configuration for these tasks: {_configuration(types, key)}")


def _data(document: Document) -> tuple[dict[str, Any], str]:
    """A task's data, and the key of the text in it."""
    before = document.record.get("data")
    if isinstance(before, dict):
        for key, value in before.items():
            if value == document.text:
                return before, key
    return {"text": document.text}, "text"


def _regions(document: Document, oddities: Oddities) -> Iterator[dict[str, Any]]:
    for start, end, kind in document.marked or ():
        if not 0 <= start < end <= len(document.text):
            oddities.count("entities left out for being empty or outside of the text", document.place)
            continue
        value = {"start": start, "end": end, "text": document.text[start:end], "labels": [kind]}
        yield {"from_name": "label", "to_name": "text", "type": "labels", "value": value}


def _configuration(types: Iterable[str], key: str) -> str:
    labels = "".join(f"<Label value={quoteattr(kind)}/>" for kind in types)
    return (
        f'<View><Labels name="label" toName="text">{labels}</Labels>'
        f'<Text name="text" value={quoteattr("$" + key)}/></View>'
    )
