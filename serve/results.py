"""Results as the HTTP interface has them: what a tagger found in a text, and of it what the request asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from metacross.client.contract import Entity, Influence, Result, Stretch, Support, WordInfluence
from metacross.tagging import answers as tagging
from metacross.tagging.answers import DIGITS, SupportSentence, TaggedEntity, TaggedText
from serve.jobs import Job
from serve.places import shown_place


def result(job: Job, tagged: TaggedText, *, corpora: Sequence[str], example: Callable[[int], int | None]) -> Result:
    """What the job asks for, of what was found in its text.

    Args:
        job: a text, and how it is to be tagged.
        tagged: the same text when it is tagged; or only some of its sentences, see `joined`.
        corpora: files that training read.
        example: gives the id of the service's example whose window has a number; None for other windows.
    """
    support, plain = None, None
    if job.explain:
        support = tuple(_support(one, corpora, example) for one in tagged.support())
        # Without adaptation the answer itself is the plain one.
        plain = _wanted(job, tagged.plain() if job.adapt else tagged.entities())
    return Result(
        text=tagged.text,
        entities=_wanted(job, tagged.entities()),
        windows=sum(sentence.windows for sentence in tagged.sentences),
        adapted=any(sentence.adapted for sentence in tagged.sentences),
        support=support,
        plain=plain,
        missing_shards=_together(sentence.missing_shards for sentence in tagged.sentences),
    )


def joined(parts: Sequence[Result]) -> Result:
    """The result of a text, from those of some of its sentences each, in order; at least one."""
    if len(parts) == 1:
        return parts[0]
    explained = parts[0].support is not None
    return Result(
        text=parts[0].text,
        entities=tuple(entity for part in parts for entity in part.entities),
        windows=sum(part.windows for part in parts),
        adapted=any(part.adapted for part in parts),
        support=tuple(support for part in parts for support in part.support or ()) if explained else None,
        plain=tuple(entity for part in parts for entity in part.plain or ()) if explained else None,
        missing_shards=_together(part.missing_shards or () for part in parts),
    )


def _together(shards: Iterable[Sequence[int]]) -> tuple[int, ...] | None:
    return tuple(sorted({shard for some in shards for shard in some})) or None


def _support(support: SupportSentence, corpora: Sequence[str], example: Callable[[int], int | None]) -> Support:
    return Support(
        similarity=round(support.similarity, DIGITS),
        text=support.text,
        entities=tuple(map(_entity, support.entities)),
        start=support.start,
        end=support.end,
        place=shown_place(support.place, corpora),
        example=None if support.number is None else example(support.number),
        confidence=_shown(support.confidence),
        language=support.language or None,
        uncertain=None if support.confidence is None else tuple(Stretch(*span) for span in support.uncertain),
        voted=support.voted or None,
        influences=None if support.voted else tuple(map(_influence, support.influences)),
    )


def _wanted(job: Job, entities: Sequence[TaggedEntity]) -> tuple[Entity, ...]:
    """The entities that the job's threshold and labels let through."""
    return tuple(
        entity
        for entity in map(_entity, entities)  # a score as it is shown is compared, so it may come back as a threshold
        if (entity.score or 0.0) >= job.threshold and (job.labels is None or entity.label in job.labels)
    )


def _influence(influence: tagging.Influence) -> Influence:
    words = tuple(WordInfluence(start, end, round(change, DIGITS)) for start, end, change in influence.words)
    return Influence(influence.start, influence.end, round(influence.change, DIGITS), words)


def _entity(entity: TaggedEntity) -> Entity:
    return Entity(entity.start, entity.end, entity.text, entity.label, _shown(entity.score))


def _shown(number: float | None) -> float | None:
    """A score as answers have it."""
    return None if number is None else round(number, DIGITS)
