"""The service's HTTP contract without a connection: requests are built, answers are read, refusals become errors.

Answers are frozen dataclasses. Keys that they do not name are passed over, so a newer service may send more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypedDict, TypeVar

import httpx
from pydantic import TypeAdapter

from metacross.corpora.sentence import Sentence
from metacross.errors import RunError, UserError

T = TypeVar("T")

PAGE = 100  # examples asked for at a time


@dataclass(frozen=True)
class Entity:
    """An entity of a text.

    Attributes:
        start: offset of its first code point in the text.
        end: offset behind its last one.
        text: the code points between them.
        label: its type, such as PER.
        score: 0 to 1; None for what people labelled.
    """

    start: int
    end: int
    text: str
    label: str
    score: float | None = None


@dataclass(frozen=True)
class Support:
    """A labelled sentence that weights were adapted to.

    Attributes:
        similarity: cosine, with the stretch of the tagged text whose weights it shaped.
        text: of the labelled sentence.
        entities: its labels.
        start: where that stretch begins, in code points of the tagged text.
        end: where it ends.
        place: "file:line" where training read the sentence.
        example: its number, where it was added as an example.
    """

    similarity: float
    text: str
    entities: tuple[Entity, ...]
    start: int
    end: int
    place: str = ""
    example: int | None = None


@dataclass(frozen=True)
class Result:
    """What was found in a text.

    Attributes:
        text: as sent; of words, as the service joined them.
        entities: in order; offsets count code points of `text`.
        windows: how many windows it was tagged in.
        adapted: whether the weights were adapted to it.
        support: what they were adapted to; None where it was not asked for.
        plain: the entities found without adaptation; None where they were not asked for.
    """

    text: str
    entities: tuple[Entity, ...]
    windows: int = 0
    adapted: bool = False
    support: tuple[Support, ...] | None = None
    plain: tuple[Entity, ...] | None = None


@dataclass(frozen=True)
class Example:
    """A labelled sentence that the service keeps; `created` is a time in UTC, such as 2026-11-24T12:00:00Z."""

    id: int
    text: str
    entities: tuple[Entity, ...]
    language: str = ""
    created: str = ""


@dataclass(frozen=True)
class Model:
    """What the service tags with: see the bundle's model card. `inner_lr` is alpha, `neighbours` K."""

    bundle: str
    method: str
    encoder: str = ""
    source_language: str = ""
    labels: tuple[str, ...] = ()
    dev_f1: float | None = None
    source_sentences: int = 0
    examples: int = 0
    neighbours: int | None = None
    inner_lr: float | None = None


class Options(TypedDict, total=False):
    """How to tag.

    Attributes:
        adapt: by weights adapted to every sentence (the default); otherwise all by the same.
        explain: tell the support and what is found without adaptation as well.
        labels: keep these types only.
        threshold: drop entities with a lower score, 0 to 1.
        neighbours: K, in place of the service's.
    """

    adapt: bool
    explain: bool
    labels: Iterable[str] | None
    threshold: float
    neighbours: int | None


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a request, such as texts.3."""

    field: str
    detail: str


class RequestRefused(UserError):
    """The service refuses a request: another try would end alike.

    Attributes:
        status: of HTTP, 300 to 499.
        detail: what the service said is wrong.
        errors: and of which fields.
        request_id: to find it in the service's log; None where the answer had none.
    """

    def __init__(
        self, message: str, *, status: int, detail: str, errors: Sequence[FieldError] = (), request_id: str | None
    ) -> None:
        super().__init__(message)
        self.status, self.detail, self.errors, self.request_id = status, detail, tuple(errors), request_id


class ServiceUnavailable(RunError):
    """No answer of use came, however often it was tried.

    Attributes:
        status: of HTTP; None where no answer came at all.
        request_id: None where the answer had none.
    """

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status, self.request_id = status, request_id


# --- requests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read.

    Attributes:
        method: of HTTP.
        path: below the service's address.
        read: the answer's JSON to what the caller gets; raises ValueError where it is something else.
        body: to be sent as JSON.
        query: parameters.
        repeatable: whether doing it twice is as good as once.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, int] | None = None
    repeatable: bool = True

    def http(self) -> dict[str, Any]:
        """Keyword arguments of httpx's `request`."""
        sent = {"method": self.method, "url": self.path, "params": self.query}
        if self.body is None:
            return sent
        return {**sent, "content": _encoded(self.body), "headers": {"content-type": "application/json"}}


@dataclass(frozen=True)
class _Page:
    examples: tuple[Example, ...]
    next: int | None = None


@dataclass(frozen=True)
class _Results:
    results: tuple[Result, ...]


_RESULTS, _PAGE, _MODEL = TypeAdapter(_Results), TypeAdapter(_Page), TypeAdapter(Model)


def tag_call(
    key: Literal["texts", "words"],
    items: Sequence[str] | Sequence[Sequence[str]],
    *,
    adapt: bool = True,
    explain: bool = False,
    labels: Iterable[str] | None = None,
    threshold: float = 0.0,
    neighbours: int | None = None,
) -> Call[list[Result]]:
    """POST /v1/entities: tags texts, or sentences whose words are given; see `Options`."""
    chosen = [labels] if isinstance(labels, str) else labels if labels is None else list(labels)
    options = {"adapt": adapt, "explain": explain, "labels": chosen, "threshold": threshold, "neighbours": neighbours}

    def read(answer: Any) -> list[Result]:
        results = _RESULTS.validate_python(answer).results
        if len(results) != len(items):
            raise ValueError(f"{len(results)} results for {len(items)} {key}")
        return list(results)

    return Call("POST", "v1/entities", read, {key: items, **options})


def add_call(examples: Iterable[Mapping[str, Any] | Sentence], language: str) -> Call[list[Example]]:
    """POST /v1/examples. Twice would store them twice."""
    body = {"examples": [_example(example, language) for example in examples]}
    return Call("POST", "v1/examples", lambda answer: list(_stored(answer)), body, repeatable=False)


def page_call(after: int | None) -> Call[tuple[tuple[Example, ...], int | None]]:
    """GET /v1/examples: those with ids above `after`, and the id to ask on with; None on the last page."""

    def read(answer: Any) -> tuple[tuple[Example, ...], int | None]:
        page = _PAGE.validate_python(answer)
        if page.next is not None and page.next <= (after or 0):
            raise ValueError(f"the page after {after} leads to {page.next}")
        return page.examples, page.next

    query = {"limit": PAGE} if after is None else {"limit": PAGE, "after": after}
    return Call("GET", "v1/examples", read, query=query)


def delete_call(number: int) -> Call[None]:
    """DELETE /v1/examples/ID."""
    return Call("DELETE", f"v1/examples/{int(number)}", lambda _: None)


def model_call() -> Call[Model]:
    """GET /v1/model."""
    return Call("GET", "v1/model", _MODEL.validate_python)


def ready_call() -> Call[None]:
    """GET /readyz."""
    return Call("GET", "readyz", lambda _: None)


def _stored(answer: Any) -> tuple[Example, ...]:
    return _PAGE.validate_python(answer).examples


def _example(example: Mapping[str, Any] | Sentence, language: str) -> dict[str, Any]:
    fields = {"words": example.words, "tags": example.tags} if isinstance(example, Sentence) else dict(example)
    return {"language": language, **fields} if language else fields


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate: JSON has an escape for it, and the service may judge
        return json.dumps(body).encode()


# --- answers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    """RFC 9457, as far as it is shown."""

    title: str = ""
    detail: str = ""
    errors: tuple[FieldError, ...] = ()
    request_id: str | None = None


_PROBLEM = TypeAdapter(_Problem)
_FIXES = {
    401: "Give a token: token=... in Python, METACROSS_TOKEN in the environment of the command line.",
    403: "Give a token that may do this.",
    404: "If the whole path is unknown there, check the address: it is what comes before /v1.",
    413: "Send less at once.",
}


def answered(call: Call[T], response: httpx.Response, *, url: str, attempts: int) -> T:
    """What a final answer holds.

    Args:
        call: what was asked.
        response: its answer.
        url: where, for messages: without credentials.
        attempts: how often it was tried.

    Raises:
        RequestRefused: status 300 to 499.
        ServiceUnavailable: status 500 or more, or an answer that breaks the contract.
    """
    status = response.status_code
    if status >= 500:
        problem, number = _problem(response)
        tries = f" after {attempts} attempts" if attempts > 1 else ""
        raise ServiceUnavailable(
            f"{url}: {status} {_said(problem, response)}{tries}{_named(number)}. Try again later.",
            status=status,
            request_id=number,
        )
    if status >= 300:
        raise _refusal(response, url)
    try:
        return call.read(json.loads(response.content) if response.content else None)
    except (ValueError, RecursionError) as error:
        number = response.headers.get("x-request-id")
        raise ServiceUnavailable(
            f"{url}: {status}, but the answer is none of this service's ({_first_line(error)}){_named(number)}. "
            "Check that the address is a metacross service's, of this version.",
            status=status,
            request_id=number,
        ) from error


def is_problem(response: httpx.Response) -> bool:
    """Whether an answer is a problem that the service described itself."""
    return str(response.headers.get("content-type", "")).partition(";")[0].strip() == "application/problem+json"


def _refusal(response: httpx.Response, url: str) -> RequestRefused:
    problem, number = _problem(response)
    status, detail = response.status_code, _said(problem, response)
    fix = _FIXES.get(status, "")
    if status < 400:
        fix = f"Give the address that it leads to: {without_credentials(response.headers.get('location', 'unknown'))}"
    fields = "".join(f"; {_line(error.field)}: {_line(error.detail)}" for error in problem.errors)
    message = f"{url}: {status} {detail.rstrip('.')}{fields}{_named(number)}. {fix}".strip()
    return RequestRefused(message, status=status, detail=detail, errors=problem.errors, request_id=number)


def _problem(response: httpx.Response) -> tuple[_Problem, str | None]:
    """The problem that an answer tells, as far as it does, and the request's id."""
    try:
        problem = _PROBLEM.validate_json(response.content)
    except ValueError:
        problem = _Problem()
    return problem, problem.request_id or response.headers.get("x-request-id")


def _said(problem: _Problem, response: httpx.Response) -> str:
    return _line(problem.detail or problem.title or response.reason_phrase)


def _named(request_id: str | None) -> str:
    return f" (request {_line(request_id)})" if request_id else ""


def _line(text: str) -> str:
    """One line of bounded length that moves no cursor: what a server says goes to a terminal."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())[:500]


def _first_line(error: Exception) -> str:
    return _line(", ".join(str(error).splitlines()[:3])) or type(error).__name__


def without_credentials(url: str) -> str:
    """A URL as it may be shown.

    >>> without_credentials("https://me:secret@example.org/ner")
    'https://example.org/ner'
    """
    try:
        return str(httpx.URL(url).copy_with(userinfo=b""))
    except (httpx.InvalidURL, ValueError):
        return url.rpartition("@")[2]
