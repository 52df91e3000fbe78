"""What one request may ask for, and the jobs that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serve.engine import Job
from serve.web import schemas
from serve.web.problems import ProblemError


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    body_bytes: int
    texts: int
    characters: int  # of one text
    seconds: float


def jobs_of(request: schemas.EntitiesRequest, limits: Limits) -> list[Job]:
    """The texts of a request. ProblemError 422 where it asks for more than it may."""
    texts: Sequence[str | tuple[str, ...]]
    if request.words is not None:
        name, texts = "words", [tuple(words) for words in request.words]
    else:
        name, texts = ("texts", request.texts) if request.texts is not None else ("text", [request.text or ""])
    if len(texts) > limits.texts:
        raise ProblemError(
            422,
            f"{len(texts)} texts, at most {limits.texts} a call. Send several, or use /v1/entities:stream.",
            field=name,
        )
    for i, text in enumerate(texts):
        length = len(text) if isinstance(text, str) else sum(map(len, text)) + len(text)
        if length > limits.characters:
            field = name if name == "text" else f"{name}.{i}"
            raise ProblemError(422, f"{length} characters, at most {limits.characters}. Cut the text.", field=field)
    return [job_of(text, request) for text in texts]


def job_of(text: str | tuple[str, ...], options: schemas.Options) -> Job:
    """A text, as the request's options want it tagged."""
    labels = None if options.labels is None else tuple(options.labels)
    return Job(text, options.adapt, options.explain, labels, options.threshold, options.neighbours)
