"""What an Ingress sends to a Tagger, and what comes back. No torch: an Ingress needs none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metacross.corpora.sentence import Sentence


@dataclass(frozen=True)
class Job:
    """One text of a request, and how it is to be tagged.

    Attributes:
        text: raw text, or the words of one sentence.
        adapt: tag every sentence of it by weights adapted to that sentence.
        explain: also give the support sentences, and the answer before adaptation.
        labels: keep entities of these types only; None keeps all.
        threshold: drop entities with a lower score.
        neighbours: K; None takes the bundle's.
    """

    text: str | tuple[str, ...]
    adapt: bool = True
    explain: bool = False
    labels: tuple[str, ...] | None = None
    threshold: float = 0.0
    neighbours: int | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a request cannot be answered: which field, and the fix."""

    field: str
    detail: str


@dataclass(frozen=True)
class Progress:
    """How far a long request has come.

    Attributes:
        done: how many of its parts are done.
    """

    done: int


@dataclass(frozen=True)
class Labelled:
    """Sentences that a Tagger labelled.

    Attributes:
        bundle: digest of the bundle that labelled them.
        sentences: those of the sentences asked about that may shape answers, with `machine` set.
    """

    bundle: str
    sentences: Sequence[Sentence]
