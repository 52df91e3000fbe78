"""The bodies and queries of requests, checked strictly: an unknown key is an error, and so is a number as text.

Those that ask for stored examples are in example_schemas.py. What the service answers is declared in
metacross/client/contract.py.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from metacross.corpora import languages
from metacross.errors import UserError


def _no_half_pair(text: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("has half of a surrogate pair (\\ud800 to \\udfff), which is no character")
    return text


def _language_tag(text: str) -> str:
    try:
        return languages.language_tag(text)
    except UserError as error:
        raise ValueError(str(error)) from None


def _language_tag_if_any(text: str) -> str:
    return _language_tag(text) if text else ""


Text = Annotated[str, AfterValidator(_no_half_pair)]


def _documented(pattern: str) -> Any:
    """What the document says of a tag of a language; here the validator says the same in words."""
    return Field(description="BCP 47 tag, such as pt or pt-BR.", json_schema_extra={"pattern": pattern})


Language = Annotated[str, AfterValidator(_language_tag), _documented(languages.PATTERN)]
LanguageIfKnown = Annotated[str, AfterValidator(_language_tag_if_any), _documented(f"^$|{languages.PATTERN}")]


def _either(*groups: tuple[str, ...], example: dict[str, Any]) -> dict[str, JsonValue]:
    """JSON schema for "exactly one of these groups of fields is given", where null is as good as nothing."""
    names = [name for group in groups for name in group]
    cases: list[JsonValue] = []
    for group in groups:
        fields: dict[str, JsonValue] = {n: {"not": {"type": "null"}} if n in group else {"type": "null"} for n in names}
        cases.append({"required": list(group), "properties": fields})
    return {"oneOf": cases, "examples": [example]}


class Strict(BaseModel):
    """A part of a body."""

    model_config = ConfigDict(extra="forbid", strict=True)


_LABELS = "Keep entities of these types only, written in whatever case, or by another name (person for PER)."


class RequestOptions(BaseModel):
    """How texts are to be tagged. Not strict: in a query everything is text, so "true" is true there."""

    model_config = ConfigDict(extra="forbid")

    adapt: Annotated[bool, Field(description="Tag every sentence by weights adapted to it.")] = True
    explain: Annotated[bool, Field(description="Also give the sentences adapted to, and the plain answer.")] = False
    labels: Annotated[list[Text] | None, Field(description=_LABELS)] = None
    threshold: Annotated[float, Field(ge=0, le=1, description="Drop entities with a lower score.")] = 0.0
    neighbours: Annotated[int | None, Field(ge=1, description="Sentences to adapt to; null: as in training.")] = None


class EntitiesRequest(RequestOptions):
    """One of text, texts and words."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra=_either(
            ("text",), ("texts",), ("words",), example={"text": "Otto moved from Bern to Quito."}
        ),
    )

    # A list in a query is never empty; one in a body may be, and would keep nothing.
    labels: Annotated[list[Text] | None, Field(min_length=1, description=_LABELS)] = None
    text: Text | None = None
    texts: list[Text] | None = None
    words: list[Annotated[list[Annotated[Text, Field(min_length=1)]], Field(min_length=1)]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _other_interfaces(cls, value: Any) -> Any:
        if isinstance(value, dict) and "inputs" in value:
            raise ValueError(
                "inputs is what Hugging Face's interface takes; here send text (one), texts (several) or words, and "
                "options such as threshold beside them, not in parameters"
            )
        return value

    @model_validator(mode="after")
    def _one_of_three(self) -> EntitiesRequest:
        given = [name for name in ("text", "texts", "words") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"give exactly one of text, texts and words; found {found}")
        return self


OTHER_NAMES = {"entity_group": "label", "word": "text"}  # of an entity's keys, in what Hugging Face's pipelines give
# What an answer or `metacross tag` says besides of a text and its entities. People who post it say the rest of it anew.
NOT_OF_LABELS = {
    *("support", "plain", "windows", "adapted", "missing_shards"),  # a result; the first two also of `metacross tag`
    *("id", "created", "changed", "uses", "last_used", "outcome", "before"),  # an example
    *("confidence", "uncertain", "labelled_by", "from_text"),  # a machine-labelled example
}


class NewEntity(Strict):
    """An entity of an example; offsets count code points, and fall on the borders of words.

    An entity of an answer, of an example or of `metacross tag` is one as it is, and so is one as a pipeline of Hugging
    Face gives it, with entity_group and word.
    """

    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]
    label: Text
    text: Annotated[Text | None, Field(description="If given, it has to be the text between the offsets.")] = None
    score: Annotated[float | None, Field(description="Has no meaning here.")] = None

    @model_validator(mode="before")
    @classmethod
    def _as_answered(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "entity_group" not in value or "label" in value:
            return value
        return {OTHER_NAMES.get(key, key): value[key] for key in value}


class NewExample(Strict):
    """A labelled sentence: a text with its entities, or words with their tags (IOB2).

    A result of /v1/entities is one too, and an example as it was answered: what they say besides is left out. So is a
    line that `metacross tag` has written: `tokens` and `ner_tags` are words and tags.
    """

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
    language: LanguageIfKnown = ""

    @model_validator(mode="before")
    @classmethod
    def _as_answered(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = {key: value[key] for key in value if key not in NOT_OF_LABELS}
        if "tokens" in value and "ner_tags" in value and not {"words", "tags"} & value.keys():
            said_twice = ("tokens", "ner_tags", "text", "entities")
            rest = {key: value[key] for key in value if key not in said_twice}
            return {**rest, "words": value["tokens"], "tags": value["ner_tags"]}
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> NewExample:
        raw = self.text is not None and self.entities is not None and self.words is None and self.tags is None
        split = self.words is not None and self.tags is not None and self.text is None and self.entities is None
        if not raw and not split:
            raise ValueError("give text and entities, or words and tags")
        return self


class NewExamples(Strict):
    """Examples that are stored all together, or not at all."""

    examples: Annotated[list[NewExample], Field(min_length=1, max_length=1000)]


class NewTexts(Strict):
    """Texts that nobody labelled, all in one language."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"texts": ["Der Zug nach Bern fiel aus."], "language": "de"}]}
    )

    texts: Annotated[list[Text], Field(min_length=1)]
    language: Language
