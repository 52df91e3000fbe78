"""The HTTP interface without a connection: requests are written, answers are read, and refusals become errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, TypedDict, TypeVar

import httpx
from pydantic import TypeAdapter
from pydantic_core import from_json

from metacross.client.contract import (
    AddedExamples,
    AddedTexts,
    EntitiesAnswer,
    Entity,
    Example,
    ExamplePage,
    FieldError,
    Model,
    Problem,
    Result,
)
from metacross.corpora.sentence import Sentence
from metacross.errors import RunError, UserError

T = TypeVar("T")

PAGE = 100  # examples asked for at a time


class Options(TypedDict, total=False):
    """How texts are to be tagged.

    Attributes:
        adapt: tag every sentence by weights adapted to it, which is the default; otherwise all by the same weights.
        explain: also give the support, and the entities found without adaptation.
        labels: keep entities of these types only; None keeps all.
        threshold: drop entities with a lower score, 0 to 1.
        neighbours: K, the number of sentences to adapt to; None takes the service's.
    """

    adapt: bool
    explain: bool
    labels: Iterable[str] | None
    threshold: float
    neighbours: int | None


class RequestRefused(UserError):
    """The service refuses a request, and would refuse it again.

    Attributes:
        status: HTTP status, 300 to 499.
        detail: what the service said is wrong.
        errors: the same by field, where fields of the request are wrong.
        request_id: finds the request in the service's log; None where the answer had none.
    """

    def __init__(
        self, message: str, *, status: int, detail: str, errors: Sequence[FieldError] = (), request_id: str | None
    ) -> None:
        super().__init__(message)
        self.status, self.detail, self.errors, self.request_id = status, detail, tuple(errors), request_id


class ServiceUnavailable(RunError):
    """No usable answer came, in any attempt.

    Attributes:
        status: HTTP status; None where no answer came at all.
        request_id: finds the request in the service's log; None where the answer had none.
    """

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status, self.request_id = status, request_id


# --- requests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read.

    Attributes:
        method: HTTP method.
        path: below the service's address.
        read: makes what the caller gets from the answer's JSON; raises ValueError where it is something else.
        body: what is sent as JSON.
        query: parameters of the address.
        repeatable: whether sending it twice does no more than sending it once.
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


_ENTITIES, _MODEL = TypeAdapter(EntitiesAnswer), TypeAdapter(Model)
_TEXTS = TypeAdapter(AddedTexts)
_ADDED, _PAGE = TypeAdapter(AddedExamples), TypeAdapter(ExamplePage)


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
    types = [labels] if isinstance(labels, str) else labels if labels is None else list(labels)
    options = {"adapt": adapt, "explain": explain, "labels": types, "threshold": threshold, "neighbours": neighbours}

    def read(answer: Any) -> list[Result]:
        results = _ENTITIES.validate_python(answer).results
        if len(results) != len(items):
            raise ValueError(f"{len(results)} results for {len(items)} {key}")
        return list(results)

    return Call("POST", "v1/entities", read, {key: items, **options})


def add_call(examples: Iterable[Mapping[str, Any] | Sentence | Result | Example], language: str) -> Call[list[Example]]:
    """POST /v1/examples. Sending it twice would store the examples twice."""

    def read(answer: Any) -> list[Example]:
        return list(_ADDED.validate_python(answer).examples)

    body = {"examples": [_example(example, language) for example in examples]}
    return Call("POST", "v1/examples", read, body, repeatable=False)


def texts_call(texts: str | Iterable[str], language: str) -> Call[AddedTexts]:
    """POST /v1/texts. Sending it twice stores nothing twice, but the second answer has no ids of what is stored."""
    body = {"texts": [texts] if isinstance(texts, str) else list(texts), "language": language}
    return Call("POST", "v1/texts", _TEXTS.validate_python, body, repeatable=False)


def page_call(after: int | None) -> Call[tuple[tuple[Example, ...], int | None]]:
    """GET /v1/examples: those with ids above `after`, and the id that the next page is after; None on the last page."""

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


def _example(example: Mapping[str, Any] | Sentence | Result | Example, language: str) -> dict[str, Any]:
    if isinstance(example, Sentence):
        fields = {"words": example.words, "tags": example.tags}
    elif isinstance(example, Mapping):
        fields = dict(example)
    else:
        own = {"language": example.language} if isinstance(example, Example) and example.language else {}
        fields = {"text": example.text, "entities": example.entities, **own}
    if "entities" in fields:
        fields["entities"] = [asdict(e) if isinstance(e, Entity) else e for e in fields["entities"]]
    return {"language": language, **fields} if language else fields


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON has an escape for it, and the service refuses it
        return json.dumps(body).encode()


# --- answers ---------------------------------------------------------------------------------------------------------


_PROBLEM = TypeAdapter(Problem)
_SHOWN = ("title", "detail", "errors", "request_id")  # of a problem, in messages
_FIXES = {
    401: "Give a token: token=... in Python, METACROSS_TOKEN in the environment of the command line.",
    403: "Give a token that may do this.",
    404: "If the whole path is unknown there, check the address: it is what comes before /v1.",
    413: "Send less at once.",
    429: "Send less in the same time, or allow more attempts (retries=..., max_wait=...).",
}


def answered(call: Call[T], response: httpx.Response, *, url: str, attempts: int) -> T:
    """What a call's last answer holds.

    Args:
        call: the call.
        response: its last answer.
        url: the address without credentials, for messages.
        attempts: the number of attempts made, for messages.

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
    message = f"{url}: {status} {_with_fields(detail, problem.errors).rstrip('.')}{_named(number)}. {fix}".strip()
    return RequestRefused(message, status=status, detail=detail, errors=problem.errors, request_id=number)


def _problem(response: httpx.Response) -> tuple[Problem, str | None]:
    """The problem that an answer describes, as far as it does, and the request's id.

    The answer may be another program's, a proxy's for instance. So only what is shown has to be as in the contract.
    """
    try:
        fields = from_json(response.content)
        problem = _PROBLEM.validate_python({key: fields[key] for key in _SHOWN if fields.get(key) is not None})
    except (ValueError, AttributeError):  # not JSON, something else, or not an object
        problem = Problem()
    return problem, problem.request_id or response.headers.get("x-request-id")


def _said(problem: Problem, response: httpx.Response) -> str:
    return _line(problem.detail or problem.title or response.reason_phrase)


def _with_fields(detail: str, errors: Sequence[FieldError]) -> str:
    """What is wrong, and in which fields; what both say is said once."""
    fields = [(_line(error.field), _line(error.detail)) for error in errors]
    if len(fields) == 1 and fields[0][1] == detail:
        return f"{fields[0][0]}: {detail}"
    new = [f"{field}: {said}" for field, said in fields if f"{field}: {said}" not in detail]
    return "; ".join([detail.rstrip(".") if new else detail, *new])


def _named(request_id: str | None) -> str:
    return f" (request {_line(request_id)})" if request_id else ""


def _line(text: str) -> str:
    """A server's text as one short line without control characters: it is printed to a terminal."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())[:500]


def _first_line(error: Exception) -> str:
    return _line(", ".join(str(error).splitlines()[:3])) or type(error).__name__


def without_credentials(url: str) -> str:
    """A URL as it may be shown: without a name and password.

    >>> without_credentials("https://me:secret@example.org/ner")
    'https://example.org/ner'
    """
    try:
        return str(httpx.URL(url).copy_with(userinfo=b""))
    except (httpx.InvalidURL, ValueError):
        return url.rpartition("@")[2]
