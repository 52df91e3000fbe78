"""Requests and answers of the HTTP interface, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator


def _whole(text: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("has half of a surrogate pair (\\ud800 to \\udfff), which is no character")
    return text


Text = Annotated[str, AfterValidator(_whole)]


def _either(*groups: tuple[str, ...], example: dict[str, Any]) -> dict[str, JsonValue]:
    """What the document says where one group of fields is given, null being as good as nothing; and an example."""
    names = [name for group in groups for name in group]
    cases: list[JsonValue] = []
    for group in groups:
        fields: dict[str, JsonValue] = {n: {"not": {"type": "null"}} if n in group else {"type": "null"} for n in names}
        cases.append({"required": list(group), "properties": fields})
    return {"oneOf": cases, "examples": [example]}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Options(BaseModel):
    """How texts are to be tagged; in a query, where everything is text, "true" is true."""

    model_config = ConfigDict(extra="forbid")

    adapt: Annotated[bool, Field(description="tag every sentence by weights adapted to it")] = True
    explain: Annotated[bool, Field(description="also the sentences adapted to, and the answer before")] = False
    labels: Annotated[list[Text] | None, Field(min_length=1, description="keep these types of entities only")] = None
    threshold: Annotated[float, Field(ge=0, le=1, description="drop entities with a lower score")] = 0.0
    neighbours: Annotated[int | None, Field(ge=1, description="sentences to adapt to; the bundle's own number")] = None


class EntitiesRequest(Options):
    """One of text, texts and words."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra=_either(
            ("text",), ("texts",), ("words",), example={"text": "Otto moved from Bern to Quito."}
        ),
    )

    text: Text | None = None
    texts: list[Text] | None = None
    words: list[Annotated[list[Annotated[Text, Field(min_length=1)]], Field(min_length=1)]] | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> EntitiesRequest:
        given = [name for name in ("text", "texts", "words") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"give exactly one of text, texts and words; found {found}")
        return self


class Labelled(BaseModel):
    """An entity of a labelled sentence; offsets count code points."""

    start: int
    end: int
    text: str
    label: str


class FoundEntity(Labelled):
    """An entity that was found; score is the mean probability of its words' tags."""

    score: float


class SupportSentence(BaseModel):
    """A labelled sentence that the weights were adapted to, and the stretch of the text that it shaped."""

    similarity: float
    text: str
    entities: list[Labelled]
    start: int
    end: int
    place: str
    example: int | None


class Result(BaseModel):
    """A text's entities; `support` and `plain` (the answer before adaptation) where they were asked for."""

    text: str
    entities: list[FoundEntity]
    windows: int
    adapted: bool
    support: list[SupportSentence] | None = None
    plain: list[FoundEntity] | None = None


class ModelName(BaseModel):
    """The checkpoint that an answer comes from."""

    bundle: str
    method: str


class EntitiesAnswer(BaseModel):
    """One result for each text, in their order."""

    results: list[Result]
    model: ModelName


class NewEntity(_Strict):
    """An entity of an example; offsets count code points, and fall on the borders of words."""

    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]
    label: Text


class NewExample(_Strict):
    """A labelled sentence: a text with its entities, or words with their tags (IOB2)."""

    model_config = ConfigDict(
        json_schema_extra=_either(
            ("text", "entities"),
            ("words", "tags"),
            example={"words": ["Quito", "espera"], "tags": ["B-LOC", "O"], "language": "es"},
        )
    )

    text: Text | None = None
    entities: list[NewEntity] | None = None
    words: list[Text] | None = None
    tags: list[Text] | None = None
    language: Annotated[str, Field(pattern="^([a-z]{2,3})?$", description="ISO 639 code")] = ""

    @model_validator(mode="after")
    def _one_of_two(self) -> NewExample:
        raw = self.text is not None and self.entities is not None and self.words is None and self.tags is None
        split = self.words is not None and self.tags is not None and self.text is None and self.entities is None
        if not raw and not split:
            raise ValueError("give text and entities, or words and tags")
        return self


class NewExamples(_Strict):
    """Examples that are stored all together, or not at all."""

    examples: Annotated[list[NewExample], Field(min_length=1, max_length=1000)]


class StoredExample(BaseModel):
    """A labelled sentence that may shape answers."""

    id: int
    text: str
    entities: list[Labelled]
    language: str
    created: str


class StoredExamples(BaseModel):
    """Examples that were stored."""

    examples: list[StoredExample]


class ExamplePage(StoredExamples):
    """Examples by ascending id; `next` is what `after` has to be for those behind them, null at the end."""

    next: int | None


class ModelInfo(ModelName):
    """What answers come from."""

    encoder: str
    source_language: str
    labels: list[str]
    dev_f1: float | None
    source_sentences: Annotated[int, Field(description="that may be support; long ones count for each window")]
    neighbours: int
    inner_lr: float
    examples: int


class FieldError(BaseModel):
    """What is wrong with one field, such as texts.3."""

    field: str
    detail: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    request_id: str
