"""The limits of one request, and the jobs that a request within them asks for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from metacross.corpora.types import named_type, unknown_type
from serve.jobs import Job
from serve.web import schemas
from serve.web.problems import ProblemError


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        body_bytes: size of its body.
        texts: how many texts it may hold.
        characters: code points of its texts together.
        neighbours: how many neighbours it may name.
        work: code points of its texts times the neighbours that it names.
        seconds: how long it may wait for its answer without any progress.
    """

    body_bytes: int
    texts: int
    characters: int
    neighbours: int
    work: int
    seconds: float


def jobs_of(request: schemas.EntitiesRequest, limits: Limits) -> list[Job]:
    """A job for each text of a request. ProblemError 422 where it asks for more than the limits allow."""
    texts: Sequence[str | tuple[str, ...]]
    if request.words is not None:
        name, texts = "words", [tuple(words) for words in request.words]
    else:
        name, texts = ("texts", request.texts) if request.texts is not None else ("text", [request.text or ""])
    refuse_too_much(name, texts, limits, other_way=", or use /v1/entities:stream")
    refuse_too_many_neighbours(request, sum(map(characters_of, texts)), limits)
    return [job_of(text, request) for text in texts]


def refuse_too_much(name: str, texts: Sequence[str | tuple[str, ...]], limits: Limits, *, other_way: str = "") -> None:
    """Raises ProblemError 422 where a request has too many texts, or too much text in them.

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
    lengths = [characters_of(text) for text in texts]
    for i, length in enumerate(lengths):
        if length > limits.characters:
            field = name if name == "text" else f"{name}.{i}"
            raise ProblemError(422, f"{length} characters, at most {limits.characters}. Cut the text.", field=field)
    if sum(lengths) > limits.characters:
        raise ProblemError(
            422,
            f"{sum(lengths)} characters together, at most {limits.characters} a call. Send fewer texts{other_way}.",
            field=name,
        )


def refuse_too_many_neighbours(options: schemas.RequestOptions, characters: int, limits: Limits) -> None:
    """Raises ProblemError 422 where a request names more neighbours than it may, or too many for so much text.

    The memory of an answer grows with the neighbours of a sentence, and its time with the product of both.
    """
    neighbours = options.neighbours or 0
    if neighbours > limits.neighbours:
        raise ProblemError(422, f"neighbours={neighbours}, at most {limits.neighbours}.", field="neighbours")
    if options.adapt and characters * neighbours > limits.work:
        raise ProblemError(
            422,
            f"{characters} characters times neighbours={neighbours} is {characters * neighbours}, at most "
            f"{limits.work}. Send less text, or name fewer neighbours.",
            field="neighbours",
        )


def refuse_unknown_labels(labels: Sequence[str], known: Collection[str]) -> None:
    """Raises ProblemError 422 where a label to keep stands for none that the bundle knows."""
    for label in labels:
        if named_type(label, known) is None:
            raise ProblemError(422, unknown_type(label, known), field="labels")


def characters_of(text: str | tuple[str, ...]) -> int:
    """Code points of a text, or of words with a space after each."""
    return len(text) if isinstance(text, str) else sum(map(len, text)) + len(text)


def job_of(text: str | tuple[str, ...], options: schemas.RequestOptions) -> Job:
    """The job of tagging a text by a request's options."""
    labels = None if options.labels is None else tuple(options.labels)
    return Job(text, options.adapt, options.explain, labels, options.threshold, options.neighbours)
