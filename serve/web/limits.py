"""The limits of one request, and the jobs that a request within them asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serve.jobs import Job
from serve.web import schemas
from serve.web.problems import ProblemError


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        body_bytes: size of its body.
        texts: how many texts it may hold.
        characters: code points of one text.
        seconds: how long its answer may take.
    """

    body_bytes: int
    texts: int
    characters: int
    seconds: float


def jobs_of(request: schemas.EntitiesRequest, limits: Limits) -> list[Job]:
    """A job for each text of a request. ProblemError 422 where it asks for more than the limits allow."""
    texts: Sequence[str | tuple[str, ...]]
    if request.words is not None:
        name, texts = "words", [tuple(words) for words in request.words]
    else:
        name, texts = ("texts", request.texts) if request.texts is not None else ("text", [request.text or ""])
    refuse_too_much(name, texts, limits, other_way=", or use /v1/entities:stream")
    return [job_of(text, request) for text in texts]


def refuse_too_much(name: str, texts: Sequence[str | tuple[str, ...]], limits: Limits, *, other_way: str = "") -> None:
    """Raises ProblemError 422 where a request has too many texts, or too long ones.

    Args:
        name: the request's field that has them.
        texts: raw texts, or the words of sentences.
        limits: what a request may ask for.
        other_way: how else many texts may be sent, for the message.
    """
    if len(texts) > limits.texts:
        raise ProblemError(
            422, f"{len(texts)} texts, at most {limits.texts} a call. Send several{other_way}.", field=name
        )
    for i, text in enumerate(texts):
        length = len(text) if isinstance(text, str) else sum(map(len, text)) + len(text)
        if length > limits.characters:
            field = name if name == "text" else f"{name}.{i}"
            raise ProblemError(422, f"{length} characters, at most {limits.characters}. Cut the text.", field=field)


def job_of(text: str | tuple[str, ...], options: schemas.RequestOptions) -> Job:
    """The job of tagging a text by a request's options."""
    labels = None if options.labels is None else tuple(options.labels)
    return Job(text, options.adapt, options.explain, labels, options.threshold, options.neighbours)
