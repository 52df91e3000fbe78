"""The HTTP interface without a connection: requests are written, answers are read, and refusals become errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar

import httpx
from pydantic import TypeAdapter
from pydantic_core import from_json

from metacross.client.contract import EntitiesAnswer, FieldError, Model, Problem, Result
from metacross.errors import RunError, UserError
from metacross.wording import counted

T = TypeVar("T")
QueryParameters = Mapping[str, int | float | str | list[str]]

PROBLEM = "application/problem+json"  # the media type of problems


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
        body: what is sent: JSON, or a file's content.
        query: parameters of the address.
        headers: sent with it, besides those of every call.
        is_json: whether the answer is JSON; otherwise `read` gets it as bytes.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | bytes | None = None
    query: QueryParameters | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_json: bool = True

    def http(self) -> dict[str, Any]:
        """Keyword arguments of httpx's `request`."""
        headers = dict(self.headers)
        sent = {"method": self.method, "url": self.path, "params": self.query, "headers": headers}
        if isinstance(self.body, Mapping):
            headers["content-type"] = "application/json"
            return {**sent, "content": encoded(self.body)}
        return {**sent, "content": self.body}


_ENTITIES, _MODEL = TypeAdapter(EntitiesAnswer), TypeAdapter(Model)


def tag_options(
    *,
    adapt: bool = True,
    explain: bool = False,
    labels: Iterable[str] | None = None,
    threshold: float = 0.0,
    neighbours: int | None = None,
) -> dict[str, Any]:
    """Options as requests have them, see `Options`. UserError where none of the labels is to be kept."""
    types = [labels] if isinstance(labels, str) else labels if labels is None else list(labels)
    if types == []:
        raise UserError("labels: [] keeps no entity; leave it out, or name the types to keep")
    return {"adapt": adapt, "explain": explain, "labels": types, "threshold": threshold, "neighbours": neighbours}


def tag_call(items: Sequence[str] | Sequence[Sequence[str]], options: Mapping[str, Any]) -> Call[list[Result]]:
    """POST /v1/entities: tags texts, or sentences whose words are given.

    Args:
        items: at least one of them.
        options: as `tag_options` gives them.
    """
    key = "texts" if isinstance(items[0], str) else "words"

    def read(answer: Any) -> list[Result]:
        results = _ENTITIES.validate_python(answer).results
        if len(results) != len(items):
            raise ValueError(f"{counted(len(results), 'results')} for {counted(len(items), key)}")
        return list(results)

    return Call("POST", "v1/entities", read, {key: items, **options})


def model_call() -> Call[Model]:
    """GET /v1/model."""
    return Call("GET", "v1/model", _MODEL.validate_python)


def ready_call() -> Call[None]:
    """GET /readyz."""
    return Call("GET", "readyz", lambda _: None)


def encoded(body: Mapping[str, Any]) -> bytes:
    """An object as JSON in UTF-8."""
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
        if not call.is_json:
            return call.read(response.content)
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
    return str(response.headers.get("content-type", "")).partition(";")[0].strip() == PROBLEM


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
