r"""Brat standoff: a text in NAME.txt, and its annotations in NAME.ann beside it; a corpus is a directory of such pairs.

A line of an entity is "T1<tab>PER 0 3<tab>Ana": an id, its type, where it begins and ends in code points, and the text
there, with line breaks as spaces. Brat writes an entity that crosses a line break in parts ("PER 0 3;4 8"), and so it
does one that other words interrupt. Relations, events, attributes, normalisations and notes are lines of other letters.

Source: brat's documentation, "brat standoff format" and "annotation configuration"; nlplab/brat, issue 1042
(parts of an entity that crosses line breaks).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from metacross.corpora.offset_units import CODE_POINTS, Stretch, locate
from metacross.corpora.raw import Document, Marked, Oddities, Problems, Reading, ReadOptions, shortened
from metacross.corpora.source import Source
from metacross.corpora.spans import type_name
from metacross.corpora.utf8 import without_surrogates
from metacross.errors import UserError
from metacross.storage.files import write_file
from metacross.wording import counted

_ENTITY = re.compile(
    r"(?P<id>T\S*)[ \t]+(?P<type>\S+)[ \t]+(?P<parts>[0-9]{1,15} [0-9]{1,15}(;[0-9]{1,15} [0-9]{1,15})*)"
    r"(?:[ \t](?P<quoted>.*))?",
    re.DOTALL,
)
_EVENT = re.compile(r"E\S*\s+[^\s:]+:(T\S+)")  # its type and its trigger
_OTHER = re.compile(r"(?:[REAMN#][0-9]\S*|\*)[ \t]")
_OTHERS = {
    "R": "relations",
    "*": "relations",
    "E": "events",
    "A": "attributes",
    "M": "attributes",
    "N": "normalisations",
    "#": "notes",
}
_LINE = re.compile(r"[^\r\n]+")


def is_brat(path: str) -> bool:
    """Whether a path names brat's files: a directory with .ann files, an .ann file, or the .txt file beside one."""
    file = Path(path)
    try:
        if file.is_dir():
            return next(file.rglob("*.ann"), None) is not None
        return file.suffix == ".ann" or (file.suffix == ".txt" and file.with_suffix(".ann").is_file())
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return False


# --- reading ---------------------------------------------------------------------------------------------------------


def read_brat(path: str, options: ReadOptions, oddities: Oddities) -> Reading:
    """Reads a pair of files, or all pairs in a directory and those below it, in the order of their names.

    Args:
        path: a path for which `is_brat` is true.
        options: has nothing that this format needs; a text without .ann file has entities None in any case.
        oddities: what is counted while reading.

    Raises:
        UserError: a file that is missing or cannot be read, or lines that are no annotations.
    """
    if options.tag_column is not None:
        raise UserError(f"{path}: brat's files have no columns; leave out the choice of {options.tag_column!r}.")
    return Reading("brat", _documents(path, oddities))


def _documents(path: str, oddities: Oddities) -> Iterator[Document]:
    problems = Problems("expected an annotation such as T1<tab>PER 0 3<tab>Ana. Correct the line.")
    for text_file, annotation_file in _pairs(Path(path)):
        with Source(str(text_file)) as source:
            text = source.text()
            if source.encoding not in ("utf-8", "utf-8-sig"):
                oddities.count(f"texts read as {source.encoding}", source.path)
        if not annotation_file.exists():
            oddities.count("texts without an .ann file, read as not annotated", str(text_file))
            yield Document(text, place=str(text_file))
            continue
        with Source(str(annotation_file)) as source:
            marked = tuple(_marked(source, text, oddities, problems))
        yield Document(text, marked, place=str(text_file))
    problems.refuse()


def _pairs(path: Path) -> list[tuple[Path, Path]]:
    """The .txt files, each with the .ann file that belongs to it, whether it exists or not."""
    if not path.is_dir():
        if path.suffix == ".ann" and not path.with_suffix(".txt").is_file():
            raise UserError(f"{path}: found no text beside it; expected {path.with_suffix('.txt').name}.")
        return [(path.with_suffix(".txt"), path.with_suffix(".ann"))]
    texts = sorted(file for file in path.rglob("*.txt") if file.is_file())
    alone = sorted({*path.rglob("*.ann")} - {file.with_suffix(".ann") for file in texts})
    if alone:
        names = ", ".join(str(file) for file in alone[:5]) + (", ..." if len(alone) > 5 else "")
        raise UserError(
            f"{path}: found {counted(len(alone), '.ann files')} without a .txt file of the same name ({names}); add "
            "each text, or remove its .ann file."
        )
    return [(file, file.with_suffix(".ann")) for file in texts]


class _Entity(NamedTuple):
    """A line of an entity: its id, its type, where it is, in how many parts, and the line's place."""

    id: str
    type: str
    stretch: Stretch
    parts: int
    place: str


def _marked(source: Source, text: str, oddities: Oddities, problems: Problems) -> Iterator[Marked]:
    """The entities of one .ann file that are in its text."""
    entities = list(_entities(source, text, oddities, problems))
    for entity, located in zip(entities, locate(text, [entity.stretch for entity in entities]), strict=True):
        if located is None:
            oddities.count(f"entities left out {_reason(entity, text)}", entity.place)
            continue
        if located.unit != CODE_POINTS:
            oddities.count(f"entities moved, whose offsets count {located.unit}", entity.place)
        yield Marked(located.start, located.end, entity.type)


def _entities(source: Source, text: str, oddities: Oddities, problems: Problems) -> Iterator[_Entity]:
    """The lines of entities; those that are triggers of events mark no entity, and are counted."""
    entities: list[_Entity] = []
    triggers: set[str] = set()
    for number, line in enumerate(source.lines(), 1):
        place = source.place(number)
        if not line.strip():
            continue
        if _OTHER.match(line):
            oddities.count(f"{_OTHERS[line[0]]} left out", place)
            triggers |= {match[1] for match in [_EVENT.match(line)] if match}
            continue
        match = _ENTITY.fullmatch(line)
        if match is None:
            problems.add(place, f"found {shortened(line)}")
            continue
        parts = [tuple(map(int, part.split())) for part in match["parts"].split(";")]
        # The quotation consists of the parts. It fits the stretch that they span if only white space is between them.
        quoted = match["quoted"] or (" ".join(text[start:end] for start, end in parts) if len(parts) > 1 else "")
        stretch = Stretch(parts[0][0], parts[-1][1], quoted)
        entities.append(_Entity(match["id"], match["type"], stretch, len(parts), place))
    for entity in entities:
        if entity.id in triggers:
            oddities.count("triggers of events left out", entity.place)
        else:
            yield entity


def _reason(entity: _Entity, text: str) -> str:
    if not 0 <= entity.stretch.start < entity.stretch.end <= len(text):
        return "for being empty or outside of the text"
    if entity.parts > 1:
        return "whose parts have other words between them"
    return "whose text is not at the offsets"


# --- writing ---------------------------------------------------------------------------------------------------------


def write_brat(items: Iterable[Document], folder: Path, oddities: Oddities) -> None:
    """Writes a pair of files for every text, and the annotation.conf that names the types of their entities.

    Args:
        items: the texts, named 00001, 00002 and so on; one whose entities are None gets an empty .ann file, as brat
            needs it for a text that is to be annotated.
        folder: where the files go; made if it does not exist.
        oddities: what is counted while writing.

    Raises:
        UserError: the folder has files already, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{folder}: has files already; name a new directory, so that none of them is mixed in.")
        types: dict[str, None] = {}  # in the order in which they come
        for number, document in enumerate(items, 1):
            text = without_surrogates(document.text, document.place, oddities)
            lines: list[str] = []
            for start, end, kind in document.marked or ():
                if not _LINE.search(text[start:end]) or not 0 <= start < end <= len(text):
                    oddities.count("entities left out for being empty or outside of the text", document.place)
                    continue
                name = _brat_type(kind, oddities, document.place)
                types[name] = None
                lines.append(f"T{len(lines) + 1}\t{name} {_parts(text, start, end)}\n")
            write_file(folder / f"{number:05}.txt", text)
            write_file(folder / f"{number:05}.ann", "".join(lines))
        sections = "\n\n[relations]\n\n[events]\n\n[attributes]\n"
        write_file(folder / "annotation.conf", "[entities]\n" + "\n".join(types) + sections)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error}") from error


def _brat_type(kind: str, oddities: Oddities, place: str) -> str:
    """A type as it can stand in an .ann file: white space would end it."""
    name = type_name(kind)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        oddities.count("entities whose type brat does not show (it takes ASCII letters, digits, - and _)", place)
    elif name != kind:
        oddities.count("entities whose type was written with _ for white space", place)
    return name


def _parts(text: str, start: int, end: int) -> str:
    """The offsets of an entity, a part for each of its lines, and the text of them."""
    parts = [match.span() for match in _LINE.finditer(text, start, end)]
    offsets = ";".join(f"{first} {last}" for first, last in parts)
    quoted = " ".join(text[first:last] for first, last in parts).replace("\t", " ")
    return f"{offsets}\t{quoted}"
