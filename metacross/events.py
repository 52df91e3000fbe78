"""What happens in a run, a sweep or an index build, as events.

Whoever does the work calls a `Show` with each event. Runs keep theirs in progress.jsonl and sweeps in trials.jsonl, one
JSON object a line: `to_json` writes such an object and `from_json` reads it. Files outlive versions, so names and
meanings of fields stay as they are; new kinds and new fields may be added, and are passed over by older versions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar


@dataclass(frozen=True)
class Preparation:
    """Work that has to be done before the first step, or for an index, has come so far.

    Attributes:
        what: the work, in words for people, such as "encoding source"; the same in all events about it.
        done: how much of it is done, in its own units (files, windows, sentences).
        total: how much there is to do, in the same units.
        left: seconds until it is done; None where that is not estimated.
    """

    kind: ClassVar[str] = "prepare"

    what: str
    done: int
    total: int
    left: float | None = None


@dataclass(frozen=True)
class Start:
    """Training begins, or goes on from a checkpoint.

    Attributes:
        step: meta-steps done before; 0 for a new run.
        steps: meta-steps of the complete run.
        workers: how many train together.
    """

    kind: ClassVar[str] = "start"

    step: int
    steps: int
    workers: int


@dataclass(frozen=True)
class StepsDone:
    """Meta-steps were done. Comes about once a second and after the last step, and is about those since the last event.

    Attributes:
        step: meta-steps done.
        steps: meta-steps of the complete run.
        loss: mean loss of the meta-steps.
        learning_rate: of the last meta-step.
        pieces_per_second: word pieces trained on, of support and queries, by all workers together.
        steps_per_second: meta-steps taken.
        seconds_left: estimated time to the end of the run.
    """

    kind: ClassVar[str] = "step"

    step: int
    steps: int
    loss: float
    learning_rate: float
    pieces_per_second: float
    steps_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Measurement:
    """Development data was scored: micro F1 over entities, in percent.

    Attributes:
        step: meta-steps done.
        plain: F1 in the source language, tagged by theta.
        target_plain: mean F1 of the target languages, tagged by theta; None without data.target_dev.
        adapted: F1 in the source language, tagged by adapted weights; None for train.method=base.
        target_adapted: mean F1 of the target languages, tagged by adapted weights; None where one of the two is.
    """

    kind: ClassVar[str] = "eval"

    step: int
    plain: float
    target_plain: float | None = None
    adapted: float | None = None
    target_adapted: float | None = None

    @property
    def score(self) -> float:
        """The F1 by which bundles and trials are chosen: the target languages' if there are any, adapted if it can be.

        >>> Measurement(step=300, plain=81.0, adapted=82.0, target_plain=70.0, target_adapted=71.0).score
        71.0
        >>> Measurement(step=300, plain=81.0, target_plain=70.0).score
        70.0
        """
        by_preference = (self.target_adapted, self.target_plain, self.adapted, self.plain)
        return next(f1 for f1 in by_preference if f1 is not None)


@dataclass(frozen=True)
class Note:
    """Something that people should read.

    Attributes:
        text: a sentence.
    """

    kind: ClassVar[str] = "note"

    text: str


@dataclass(frozen=True)
class TrialStart:
    """A trial of a sweep begins, or goes on.

    Attributes:
        id: the trial's id, which Ray Tune gave it.
        chosen: the settings that are searched, by dotted name, with the values of this trial.
    """

    kind: ClassVar[str] = "trial"

    id: str
    chosen: dict[str, Any]


@dataclass(frozen=True)
class TrialMeasurement:
    """A trial's development data was scored: see `Measurement`.

    Attributes:
        id: the trial's id.
        step: meta-steps done.
        score: the F1 that trials are compared by.
        plain: as in `Measurement`, like the following ones.
        adapted: see there.
        target_plain: see there.
        target_adapted: see there.
    """

    kind: ClassVar[str] = "measured"

    id: str
    step: int
    score: float
    plain: float | None = None
    adapted: float | None = None
    target_plain: float | None = None
    target_adapted: float | None = None


@dataclass(frozen=True)
class TrialEnd:
    """A trial is over.

    Attributes:
        id: the trial's id.
        state: "ended" (it did all its steps, or the scheduler stopped it) or "failed".
        error: what went wrong; "" where nothing did.
    """

    kind: ClassVar[str] = "ended"

    id: str
    state: str
    error: str


Event = Preparation | Start | StepsDone | Measurement | Note | TrialStart | TrialMeasurement | TrialEnd
Show = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A `Show` that does nothing."""


E = TypeVar("E", bound=Event)

KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    for kind in (Preparation, Start, StepsDone, Measurement, Note, TrialStart, TrialMeasurement, TrialEnd)
}


def to_fields(event: Event) -> dict[str, Any]:
    """An event's fields by name, without those that are None.

    >>> to_fields(Measurement(step=300, plain=81.25, adapted=83.5))
    {'step': 300, 'plain': 81.25, 'adapted': 83.5}
    """
    values = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return {name: value for name, value in values.items() if value is not None}


def from_fields(kind: type[E], fields: Mapping[str, Any]) -> E:
    """The event of this kind with these fields; names that the kind does not have are passed over.

    Raises:
        TypeError: a field without a default is missing; names it.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in fields.items() if name in known})


def to_json(event: Event) -> dict[str, Any]:
    """An event as the JSON object that files hold.

    >>> to_json(Note("no trace"))
    {'event': 'note', 'text': 'no trace'}
    """
    return {"event": event.kind, **to_fields(event)}


def from_json(content: Mapping[str, Any]) -> Event | None:
    """The event that a JSON object holds; None for a kind that this version does not know.

    Raises:
        TypeError: a field is missing; names it.

    >>> from_json({"event": "note", "text": "no trace", "colour": "red"})
    Note(text='no trace')
    """
    kind = KINDS.get(content["event"])
    return None if kind is None else from_fields(kind, content)


FIGURES: dict[type[Event], dict[str, tuple[str, ...]]] = {
    StepsDone: {
        "train": ("loss", "learning_rate"),
        "speed": ("pieces_per_second", "steps_per_second", "seconds_left"),
    },
    Measurement: {"dev_f1": ("plain", "adapted", "target_plain", "target_adapted")},
}


def metrics(event: StepsDone | Measurement) -> dict[str, float]:
    """The figures of an event by their names in TensorBoard and MLflow.

    >>> metrics(Measurement(step=300, plain=81.25, adapted=83.5))
    {'dev_f1/plain': 81.25, 'dev_f1/adapted': 83.5}
    """
    figures = to_fields(event)
    names = [(group, name) for group, members in FIGURES[type(event)].items() for name in members]
    return {f"{group}/{name}": float(figures[name]) for group, name in names if name in figures}
