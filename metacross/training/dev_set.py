"""Development sentences, scored again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from metacross.algorithm import InnerLoop, adapt
from metacross.corpora.sentence import Sentence
from metacross.encoder.rows import pack, trunk_states
from metacross.encoder.windows import Window
from metacross.tagging.adaptation import Adaptation, tag_windows
from metacross.tagging.decoding import decode
from metacross.tagging.scoring import scores

if TYPE_CHECKING:
    from metacross.training.learner import Learner


class DevSet:
    """Development sentences, cut and looked up once, scored by every `evaluate`; shared out among the team."""

    def __init__(self, learner: Learner, sentences: Sequence[Sentence]) -> None:
        self.learner = learner
        self.gold = [list(s.tags or ()) for s in sentences]
        team, train = learner.team, learner.config.train
        every = learner.pieces.windows(sentences)
        self.windows: list[Window] = [w for w in every if w.sentence % team.size == team.rank]
        self.states, vectors = trunk_states(
            learner.model, self.windows, batch_pieces=train.batch_pieces, sentence_encoder=learner.sentence_encoder
        )
        self.neighbours: list[list[int]] = []
        if vectors is not None:
            _, found = learner.index.search(vectors.cpu().numpy(), learner.config.episodes.support_size)
            self.neighbours = [[i for i in row if i >= 0] for row in found.tolist()]  # an IVF index may find fewer

    def f1(self, inner: InnerLoop | None) -> float:
        """Micro F1 in percent over the whole set, by theta or by weights adapted with `inner`."""
        learner, source = self.learner, self.learner.source
        adaptation = None
        if inner is not None:
            adaptation = Adaptation(
                self.neighbours,
                [source.pieces(row) for row in self.neighbours],
                lambda rows: adapt(learner.model, pack(source.support(rows)), inner),
            )
        probabilities = tag_windows(
            learner.model,
            self.windows,
            self.states,
            batch_pieces=learner.config.train.batch_pieces,
            adaptation=adaptation,
        )
        mine: dict[int, list[str]] = {}
        for window, probabilities_WC in zip(self.windows, probabilities, strict=True):
            tags = decode(probabilities_WC, learner.tags, [False] * len(probabilities_WC)).tags
            mine.setdefault(window.sentence, []).extend(tags)
        found = {i: tags for part in learner.team.gather(mine) for i, tags in part.items()}
        return float(scores(self.gold, [found.get(i, []) for i in range(len(self.gold))])["f1"])
