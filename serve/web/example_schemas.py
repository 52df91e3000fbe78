"""The bodies and queries of requests about examples and texts that are stored, checked as those of schemas.py are."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from serve.examples.filters import By, ExampleFilter
from serve.examples.texts import State
from serve.web.schemas import Language, LanguageIfKnown, NewEntity, Strict, Text

MOST = 1000  # examples in one request

_DATE = re.compile(r"\d{4}-\d\d-\d\d")

# As files that are text; see `metacross.corpora.formats.writing`.
ExportFormat = Literal[
    "jsonl",
    "conll",
    "conll-4",
    "conllu",
    "csv",
    "jsonl-spans",
    "prodigy",
    "label-studio",
    "label-studio-predictions",
]
Order = Annotated[Literal["oldest", "newest"], Field(description="Which come first.")]
Limit = Annotated[int, Field(ge=1, le=1000)]
After = Annotated[int | None, Field(ge=0, le=2**53, description="The id of the last one of the page before.")]


def _begins_with_a_date(value: Any) -> Any:
    # Pydantic would read a number as seconds since 1970.
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("expected a date or a time, such as 2026-11-24 or 2026-11-24T12:00:00Z")
    return value


def _in_utc(time: datetime) -> datetime:
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError("is no time of a year from 1 to 9999") from None


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("has U+0000 (NUL), which no example has")
    return text


Sought = Annotated[
    Text,
    AfterValidator(_no_nul),
    Field(min_length=1, max_length=1000, json_schema_extra={"pattern": r"^[^\u0000]*$"}),
]
Time = Annotated[
    datetime,
    BeforeValidator(_begins_with_a_date),
    AfterValidator(_in_utc),
    Field(strict=False, json_schema_extra={"format": "date-time"}),
]


class Conditions(BaseModel):
    """Which examples are meant: those that meet all conditions that are given."""

    model_config = ConfigDict(extra="forbid")

    language: Annotated[Language | None, Field(description="pt also finds pt-BR; und finds those without.")] = None
    label: Annotated[
        Sought | None,
        Field(description="That of one of its entities, in whatever case, or by another name (person for PER)."),
    ] = None
    text: Annotated[Sought | None, Field(description="Is in its text, in whatever case.")] = None
    by: Annotated[By | None, Field(description="Who labelled it.")] = None
    added_since: Annotated[Time | None, Field(description="UTC where no zone is given.")] = None
    added_before: Time | None = None
    from_text: Annotated[int | None, Field(ge=0, le=2**53, description="The text that it comes from.")] = None

    def filter(self) -> ExampleFilter:
        """The same for the store."""
        return ExampleFilter(**{name: getattr(self, name) for name in Conditions.model_fields})


class ExampleQuery(Conditions):
    """A page of examples."""

    after: After = None
    limit: Limit = 100
    order: Order = "oldest"


class ExportQuery(Conditions):
    """A file of examples."""

    by: Annotated[By, Field(description="Who labelled it. Most formats do not tell.")] = "people"
    format: ExportFormat = "jsonl"


class TextQuery(BaseModel):
    """A page of texts."""

    model_config = ConfigDict(extra="forbid")

    after: After = None
    limit: Limit = 100
    order: Order = "oldest"
    state: State | None = None
    language: Language | None = None


class StrictConditions(Conditions):
    """The same in a body; no condition is met by all."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ExamplesToDelete(Strict):
    """Examples by id, or by conditions: exactly one of both."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": [3, 5]}, {"matching": {"by": "machine"}}]})

    ids: Annotated[list[Annotated[int, Field(ge=0, le=2**53)]], Field(min_length=1, max_length=MOST)] | None = None
    matching: StrictConditions | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> ExamplesToDelete:
        if (self.ids is None) == (self.matching is None):
            raise ValueError("give exactly one of ids and matching")
        return self


class ExampleChange(Strict):
    """What is to be changed of an example. The text and its words stay; PUT replaces them."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"language": "pt-BR"}, {"entities": [{"start": 0, "end": 5, "label": "LOC"}]}]}
    )

    entities: list[NewEntity] | None = None
    tags: Annotated[list[Text] | None, Field(description="IOB2, one for each word.")] = None
    language: LanguageIfKnown | None = None

    @model_validator(mode="after")
    def _something(self) -> ExampleChange:
        if self.entities is not None and self.tags is not None:
            raise ValueError("give entities or tags, not both")
        if self.entities is None and self.tags is None and self.language is None:
            raise ValueError("give what is to be changed: entities or tags, or language")
        return self
