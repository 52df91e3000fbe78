"""The calls about examples and texts that a service stores: requests written, answers read."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from pydantic import TypeAdapter

from metacross.client.contract import (
    AddedExample,
    AddedExamples,
    AddedTexts,
    DeletedExamples,
    Entity,
    Example,
    ExamplePage,
    ImportedExamples,
    Result,
    TextPage,
)
from metacross.client.wire import Call, QueryParameters, T
from metacross.corpora.arguments import refuse_no_texts
from metacross.corpora.sentence import Sentence

PAGE = 100  # examples asked for at a time

NewExample = Mapping[str, Any] | Sentence | Example | Result
Pages = tuple[tuple[T, ...], int | None]  # what a page has, and the id that the next one is after; None on the last one


class ExampleFilters(TypedDict, total=False):
    """Which examples are meant: those that meet all conditions that are given.

    Attributes:
        language: BCP 47 tag such as pt, which also finds pt-BR; und finds those without.
        label: of one of its entities, in whatever case, or by another name (person for PER).
        text: is in its text, in whatever case.
        by: who labelled it.
        added_since: when it was added, at the earliest: a date or time, in UTC where no zone is given.
        added_before: when it was added, at the latest just before this.
        from_text: id of the text that it comes from.
    """

    language: str
    label: str
    text: str
    by: Literal["people", "machine"]
    added_since: str | datetime
    added_before: str | datetime
    from_text: int


_ADDED, _IMPORTED, _DELETED = TypeAdapter(AddedExamples), TypeAdapter(ImportedExamples), TypeAdapter(DeletedExamples)
_EXAMPLE, _PAGE = TypeAdapter(Example), TypeAdapter(ExamplePage)
_TEXTS, _TEXT_PAGE = TypeAdapter(AddedTexts), TypeAdapter(TextPage)


def add_call(examples: Iterable[NewExample], language: str) -> Call[list[AddedExample]]:
    """POST /v1/examples."""

    def read(answer: Any) -> list[AddedExample]:
        return list(_ADDED.validate_python(answer).examples)

    if isinstance(examples, (str, bytes, Mapping)):
        raise TypeError(f"expected an iterable of examples, found one ({type(examples).__name__}); put it into a list")
    body = {"examples": [_fields(example, language) for example in examples]}
    return Call("POST", "v1/examples", read, body, headers=_once())


def import_call(file: bytes, language: str) -> Call[ImportedExamples]:
    """POST /v1/examples:import."""
    if not isinstance(file, bytes):
        raise TypeError(f"expected the content of a file (bytes), found {type(file).__name__}")
    query = {"language": language} if language else {}
    return Call("POST", "v1/examples:import", _IMPORTED.validate_python, file, query, _once())


def export_call(form: str, filters: ExampleFilters) -> Call[bytes]:
    """GET /v1/examples:export; the answer is the file."""
    return Call("GET", "v1/examples:export", bytes, query={"format": form, **_query(filters)}, is_json=False)


def page_call(after: int | None, newest: bool, filters: ExampleFilters) -> Call[Pages[Example]]:
    """GET /v1/examples: those behind the one with the id `after`."""
    return Call("GET", "v1/examples", _pages(after, newest, _examples), query=_paged(after, newest, _query(filters)))


def example_call(number: int) -> Call[Example]:
    """GET /v1/examples/ID."""
    return Call("GET", f"v1/examples/{int(number)}", _EXAMPLE.validate_python)


def replace_call(number: int, example: NewExample, language: str) -> Call[Example]:
    """PUT /v1/examples/ID."""
    return Call("PUT", f"v1/examples/{int(number)}", _EXAMPLE.validate_python, _fields(example, language))


def change_call(number: int, changes: Mapping[str, Any]) -> Call[Example]:
    """PATCH /v1/examples/ID: None changes nothing."""
    body = {name: value for name, value in changes.items() if value is not None}
    if "entities" in body:
        body["entities"] = _as_dictionaries(body["entities"])
    return Call("PATCH", f"v1/examples/{int(number)}", _EXAMPLE.validate_python, body)


def delete_call(number: int) -> Call[None]:
    """DELETE /v1/examples/ID."""
    return Call("DELETE", f"v1/examples/{int(number)}", lambda _: None)


def delete_several_call(ids: Iterable[int] | None, filters: ExampleFilters) -> Call[DeletedExamples]:
    """POST /v1/examples:delete, by ids or, where there are none, by filters."""
    if isinstance(ids, (str, bytes)):
        raise TypeError(f"expected an iterable of ids (int), found {type(ids).__name__}")
    which = {"matching": _query(filters)} if ids is None else {"ids": list(ids)}
    return Call("POST", "v1/examples:delete", _DELETED.validate_python, which)


def add_texts_call(texts: str | Iterable[str], language: str, *, wait: bool) -> Call[AddedTexts]:
    """POST /v1/texts."""
    given = texts if isinstance(texts, (str, bytes)) else list(texts)
    refuse_no_texts(given, or_one=True)
    body = {"texts": [given] if isinstance(given, str) else given, "language": language}
    headers = _once() if wait else {**_once(), "prefer": "respond-async"}
    return Call("POST", "v1/texts", _TEXTS.validate_python, body, headers=headers)


def text_page_call(after: int | None, newest: bool, filters: Mapping[str, str | None]) -> Call[Pages[AddedTexts]]:
    """GET /v1/texts: those behind the one with the id `after`; filters that are None are left out."""
    given = {name: value for name, value in filters.items() if value is not None}
    return Call("GET", "v1/texts", _pages(after, newest, _texts), query=_paged(after, newest, given))


def text_call(number: int) -> Call[AddedTexts]:
    """GET /v1/texts/ID."""
    return Call("GET", f"v1/texts/{int(number)}", _TEXTS.validate_python)


def delete_text_call(number: int, *, examples: bool) -> Call[None]:
    """DELETE /v1/texts/ID."""
    return Call("DELETE", f"v1/texts/{int(number)}", lambda _: None, query={"examples": str(examples).lower()})


def _once() -> dict[str, str]:
    """A header by which the service knows a call that it has done already."""
    return {"idempotency-key": uuid.uuid4().hex}


def _fields(example: NewExample, language: str) -> dict[str, Any]:
    if isinstance(example, Sentence):
        fields: dict[str, Any] = {"words": example.words, "tags": example.tags}
    elif is_dataclass(example):
        fields = TypeAdapter(type(example)).dump_python(example, mode="json")
    elif not isinstance(example, Mapping):
        raise TypeError(f"expected an example (dict, Sentence, Example or Result), found {type(example).__name__}")
    else:
        fields = dict(example)
        if "entities" in fields:
            fields["entities"] = _as_dictionaries(fields["entities"])
    return {**fields, "language": fields.get("language") or language} if language else fields


def _as_dictionaries(entities: Iterable[Mapping[str, Any] | Entity]) -> list[Mapping[str, Any]]:
    return [asdict(entity) if isinstance(entity, Entity) else entity for entity in entities]


def _query(filters: ExampleFilters) -> dict[str, Any]:
    return {n: v.isoformat() if isinstance(v, datetime) else v for n, v in filters.items() if v is not None}


def _paged(after: int | None, newest: bool, filters: Mapping[str, Any]) -> QueryParameters:
    at = {} if after is None else {"after": after}
    return {"limit": PAGE, **({"order": "newest"} if newest else {}), **at, **filters}


def _pages(
    after: int | None, newest: bool, read: Callable[[Any], tuple[Sequence[T], int | None]]
) -> Callable[[Any], Pages[T]]:
    """Reads a page that must lead on."""

    def read_page(answer: Any) -> Pages[T]:
        found, following = read(answer)
        if following is not None and after is not None and (following >= after if newest else following <= after):
            raise ValueError(f"the page after {after} leads to {following}")
        return tuple(found), following

    return read_page


def _examples(answer: Any) -> tuple[Sequence[Example], int | None]:
    page = _PAGE.validate_python(answer)
    return page.examples, page.next


def _texts(answer: Any) -> tuple[Sequence[AddedTexts], int | None]:
    page = _TEXT_PAGE.validate_python(answer)
    return page.texts, page.next
