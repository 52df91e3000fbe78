"""The answers of the service's HTTP interface, version 1: the service sends these types, and the clients read them.

Two rules let clients and services of different versions understand each other. A key that a type does not name is
passed over, so a service may send more. A field with a default may be missing, so a service may send less; this one
sends every field, except for those marked `OMITTED`, which it leaves out where they are None.

The docstrings of the types and of their fields are also the descriptions in the service's OpenAPI document. Requests
are not declared here: wire.py writes them, and serve/web/schemas.py checks them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field


def _as_sent(schema: dict[str, Any]) -> None:
    """Makes a JSON schema say what is sent: no defaults, and a field that may be missing is never null."""
    for name, field in schema["properties"].items():
        field.pop("default", None)
        if name not in schema["required"]:
            (field_type,) = (case for case in field.pop("anyOf") if case != {"type": "null"})
            field.update(field_type)


OMITTED = Field(exclude_if=lambda value: value is None)
_CONFIG = ConfigDict(
    use_attribute_docstrings=True,
    # Of a field with a default the document says that it is always sent; those marked OMITTED are exempt.
    json_schema_serialization_defaults_required=True,
    json_schema_extra=_as_sent,
)


# --- POST /v1/entities, and each line of POST /v1/entities:stream ----------------------------------------------------


@dataclass(frozen=True)
class Entity:
    """An entity of a text; offsets count code points."""

    __pydantic_config__ = _CONFIG

    start: int
    """Offset of its first code point in the text."""
    end: int
    """Offset behind its last code point."""
    text: str
    """The code points between these offsets."""
    label: str
    """Its type, such as PER."""
    score: Annotated[float | None, OMITTED] = None
    """How probable it is that exactly this entity is there, 0 to 1; missing where people gave the label."""


# An entity that was found; only the document needs to know that it always has a score.
FoundEntity = Annotated[Entity, Field(json_schema_extra={"required": ["score"]})]


@dataclass(frozen=True)
class Stretch:
    """A stretch of a text; offsets count code points."""

    __pydantic_config__ = _CONFIG

    start: int
    """Offset of its first code point."""
    end: int
    """Offset behind its last code point."""


@dataclass(frozen=True)
class WordInfluence(Stretch):
    """What a word of a support sentence changed in an entity; offsets count in the support sentence."""

    __pydantic_config__ = _CONFIG

    change: float
    """Its part of the sentence's change."""


@dataclass(frozen=True)
class Influence(Stretch):
    """What a support sentence changed in an entity, by the gradient step on it; offsets count in the tagged text."""

    __pydantic_config__ = _CONFIG

    change: float
    """Of the log-probability of the entity's tags, to first order; above 0 it became more probable."""
    words: tuple[WordInfluence, ...]
    """The words of the support sentence that changed most, the strongest first."""


@dataclass(frozen=True)
class Support:
    """A labelled sentence that shaped an answer, and the stretch of the tagged text that it shaped.

    That is a sentence whose weights were adapted to it, or an entity on whose tags its words voted.
    """

    __pydantic_config__ = _CONFIG

    similarity: float
    """Cosine of the vectors of the labelled sentence and of that stretch, or of the two most similar words."""
    text: str
    """The labelled sentence."""
    entities: tuple[Entity, ...]
    """Its labels; offsets count in the labelled sentence."""
    start: int
    """Offset of the stretch in the tagged text."""
    end: int
    """Offset behind the stretch."""
    place: str = ""
    """Where training read the labelled sentence: the file's name and the line."""
    example: int | None = None
    """The example's id; null for a sentence of the bundle."""
    confidence: Annotated[float | None, OMITTED] = None
    """How sure a machine was of the labels, 0 to 1; missing where people gave them."""
    language: Annotated[str | None, OMITTED] = None
    """Code of the language, such as de, of a machine-labelled sentence, or of an example that the bundle adopted."""
    uncertain: Annotated[tuple[Stretch, ...] | None, OMITTED] = None
    """Words of a machine-labelled sentence whose labels may be wrong; these had no influence."""
    voted: Annotated[bool | None, OMITTED] = None
    """True where its words voted on the stretch, an entity; missing where weights were adapted to it."""
    influences: Annotated[tuple[Influence, ...] | None, OMITTED] = None
    """What it changed in entities found with adaptation or without, of the first ones of each window; missing where
    its words voted."""


@dataclass(frozen=True)
class Result:
    """What was found in a text."""

    __pydantic_config__ = _CONFIG

    text: str
    """The text as it was sent; where words were sent, the text that they make."""
    entities: tuple[FoundEntity, ...]
    """The entities in their order."""
    windows: int = 0
    """How many windows the text was tagged in."""
    adapted: bool = False
    """Whether it was tagged by weights adapted to it."""
    support: Annotated[tuple[Support, ...] | None, OMITTED] = None
    """What the weights were adapted to; missing unless the request asks for an explanation."""
    plain: Annotated[tuple[FoundEntity, ...] | None, OMITTED] = None
    """The entities found without adaptation; missing unless the request asks for an explanation."""
    missing_shards: Annotated[tuple[int, ...] | None, OMITTED] = None
    """A partial answer: numbers of the source index's shards that did not answer; missing where all of them did."""


@dataclass(frozen=True)
class ModelName:
    """The checkpoint that an answer comes from."""

    __pydantic_config__ = _CONFIG

    bundle: str
    """Digest of the bundle."""
    method: str
    """How it was trained: metacross or base."""


@dataclass(frozen=True)
class EntitiesAnswer:
    """One result for each text in their order, all by one checkpoint."""

    __pydantic_config__ = _CONFIG

    results: tuple[Result, ...]
    model: ModelName


# --- /v1/model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adopted:
    """A language that the bundle adopted, by examples that people labelled, or by text that taggers labelled."""

    __pydantic_config__ = _CONFIG

    language: str
    """Its code, such as de."""
    file: str
    """Name of the file of text that nobody labelled; empty where only examples were given."""
    sentences: int = 0
    """How many sentences it had."""
    kept: int = 0
    """How many of them may be support."""
    distilled: int = 0
    """How many others the weights were trained on."""
    teachers: tuple[str, ...] = ()
    """Digests of the bundles that labelled them."""
    examples: int = 0
    """How many sentences of the language people labelled."""


@dataclass(frozen=True)
class Model(ModelName):
    """What answers come from; the bundle's model card says more."""

    __pydantic_config__ = _CONFIG

    encoder: str = ""
    """Name of the pre-trained encoder."""
    source_language: str = ""
    """ISO 639-1 code of the language that it learnt from."""
    labels: tuple[str, ...] = ()
    """The types of entities that it knows."""
    dev_f1: float | None = None
    """Entity F1 on the development sentences, in per cent; null where none was measured."""
    source_sentences: int = 0
    """The source sentences that may be support; a long one counts once for each of its windows."""
    neighbours: int = 0
    """K, the number of sentences that weights are adapted to."""
    inner_lr: float = 0.0
    """Alpha, the rate of the adaptation."""
    examples: int = 0
    """How many examples are stored that people labelled."""
    machine_examples: int = 0
    """How many examples are stored that a machine labelled."""
    adopted: tuple[Adopted, ...] = ()
    """The languages that were adopted."""


# --- GET /readyz -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Readiness:
    """That all Taggers answer requests, by which bundle, and how long they wait."""

    __pydantic_config__ = _CONFIG

    status: str
    """Always "ready"; a service that is not answers with a problem."""
    bundle: str
    """Digest of the bundle that answers; while Taggers go over to another one, of one of them."""
    queue_age_s: float = 0.0
    """Seconds since the request moved that has waited for longest, at any Tagger; 0 where none waits."""
    taggers: int = 1
    """How many Taggers there are."""


# --- /v1/examples ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """A labelled sentence that was added to the service and may shape answers; there is one for a sentence."""

    __pydantic_config__ = _CONFIG

    id: int
    """Its number; later examples have higher ones."""
    text: str
    """The sentence."""
    entities: tuple[Entity, ...]
    """Its labels."""
    language: str = ""
    """Code of its language, such as pt; empty where none was given."""
    created: str = ""
    """When it was added, in UTC, such as 2026-11-24T12:00:00Z."""
    changed: Annotated[str | None, OMITTED] = None
    """When it was corrected, in UTC; missing where it never was."""
    uses: int = 0
    """How many sentences it shaped that were tagged, a long one counted for each of its windows; some seconds old."""
    last_used: Annotated[str | None, OMITTED] = None
    """When it last shaped one, in UTC; missing where it never did."""
    confidence: Annotated[float | None, OMITTED] = None
    """How sure a machine was of the labels, 0 to 1; missing where people gave them."""
    uncertain: Annotated[tuple[Stretch, ...] | None, OMITTED] = None
    """Words of a machine-labelled sentence whose labels may be wrong; these have no influence."""
    labelled_by: Annotated[str | None, OMITTED] = None
    """Digest of the bundle that labelled it; missing where people did."""
    from_text: Annotated[int | None, OMITTED] = None
    """The id of the text that a machine-labelled sentence comes from; that may be deleted since."""


@dataclass(frozen=True)
class AddedExample(Example):
    """The example of a sentence that a request brought."""

    outcome: str = "added"
    """added; or replaced: the sentence was there with other labels; or unchanged: it was there with these labels."""
    before: Annotated[Example | None, OMITTED] = None
    """What was replaced; missing where nothing was, and where the request came again (Idempotency-Key)."""


@dataclass(frozen=True)
class AddedExamples:
    """The examples of the sentences that a request brought, in its order."""

    __pydantic_config__ = _CONFIG

    examples: tuple[AddedExample, ...]
    added: int = 0
    """How many are new."""
    replaced: int = 0
    """How many replaced other labels of the same sentence."""
    unchanged: int = 0
    """How many were there with the same labels."""


@dataclass(frozen=True)
class ImportedExamples(AddedExamples):
    """The examples of the sentences that a file brought."""

    oddities: tuple[str, ...] = ()
    """What was unusual in the file, or mended while it was read, a line each."""


@dataclass(frozen=True)
class ExamplePage:
    """Some of the examples that match, by id."""

    __pydantic_config__ = _CONFIG

    examples: tuple[Example, ...]
    next: int | None = None
    """What `after` has to be for the next page; null on the last one."""
    total: int = 0
    """How many match, on all pages."""


@dataclass(frozen=True)
class DeletedExamples:
    """What became of examples that were to be deleted."""

    __pydantic_config__ = _CONFIG

    deleted: int
    """How many were deleted."""
    missing: tuple[int, ...] = ()
    """The ids among those named that no example had."""


# --- /v1/texts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeftOut:
    """How many sentences of texts were not stored, and why."""

    __pydantic_config__ = _CONFIG

    repeated: int = 0
    """Those that repeat an earlier sentence of the request."""
    uncertain: int = 0
    """Those in which nothing is certain that an answer could be shaped by."""
    by_people: int = 0
    """Those that are stored with labels by people."""
    stored: int = 0
    """Those that are stored with labels by this bundle."""


@dataclass(frozen=True)
class AddedTexts:
    """What a request brought that nobody labelled, and what became of its sentences."""

    __pydantic_config__ = _CONFIG

    found: int
    """How many sentences the texts have."""
    kept: int
    """How many of them were stored as machine-labelled examples; 0 before they are labelled."""
    left_out: LeftOut
    """How many of them were not, by reason."""
    examples: tuple[int, ...] = ()
    """The ids of those stored, in the order of the sentences."""
    replaced: int = 0
    """How many machine-labelled examples were deleted: the same sentences, labelled by other bundles."""
    labelled_by: str = ""
    """Digest of the bundle that labelled them; empty before."""
    id: int = 0
    """The number of these texts; later ones have higher numbers."""
    state: str = "labelled"
    """queued: they are labelled later; labelled; or failed: they cannot be."""
    language: str = ""
    """Code of their language, such as de."""
    created: str = ""
    """When they came, in UTC, such as 2026-11-24T12:00:00Z."""
    labelled: Annotated[str | None, OMITTED] = None
    """When they were labelled, in UTC; missing before."""
    reason: Annotated[str | None, OMITTED] = None
    """Why they cannot be labelled; missing where they can."""


@dataclass(frozen=True)
class TextPage:
    """Some of the texts that match, by id."""

    __pydantic_config__ = _CONFIG

    texts: tuple[AddedTexts, ...]
    next: int | None = None
    """What `after` has to be for the next page; null on the last one."""
    total: int = 0
    """How many match, on all pages."""


# --- answers with a status of 400 or more ----------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a request."""

    __pydantic_config__ = _CONFIG

    field: str
    """The field by its dotted name, such as texts.3."""
    detail: str
    """What is wrong, and the fix."""


@dataclass(frozen=True)
class Problem:
    """Problem details (RFC 9457)."""

    __pydantic_config__ = _CONFIG

    type: str = "about:blank"
    """Always about:blank: the status says which kind of problem it is."""
    title: str = ""
    """The status in words."""
    status: int = 0
    """The HTTP status."""
    detail: str = ""
    """What is wrong, and the fix."""
    errors: tuple[FieldError, ...] = ()
    """The same by field, where fields of the request are wrong."""
    request_id: str = ""
    """Finds the request in the service's log."""
