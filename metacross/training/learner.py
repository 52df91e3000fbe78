"""Training without Ray: what every worker does in a meta-step and in a measurement, alone or in a team.

Everything a step needs is a function of the configuration and the step's number: the meta-batch and its masks
(episodes.py), the learning rate, each worker's share. So a run does not depend on the number of workers (up to the
order of float sums), and one that stopped goes on from its last checkpoint as if it had not.

Shapes: E episodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from metacross.algorithm import InnerLoop, query_losses
from metacross.bundle import save_bundle
from metacross.config import Config
from metacross.encoder.device import autocast
from metacross.encoder.model import Rows
from metacross.encoder.rows import budgeted, pack, trunk_states
from metacross.encoder.windows import IGNORED, Window
from metacross.errors import RunError
from metacross.events import Measurement, Show, ignore
from metacross.tagging.adaptation import inner_loop
from metacross.tagging.calibration import LabelledChains, fit_temperature
from metacross.tagging.scoring import scores
from metacross.training.averaging import ThetaAverage
from metacross.training.episodes import Episode, shares
from metacross.training.optimizer import FlatGradient, make_optimizer
from metacross.training.preparation import SOURCE_DEV, Parts, prepare
from metacross.training.progress import Progress
from metacross.training.schedule import Schedule
from metacross.training.team import Team


class StepResult(NamedTuple):
    """What came of a meta-step.

    Attributes:
        loss: mean query loss of the meta-batch, over all workers.
        pieces: word pieces that it took, of support and queries, over all workers.
        stop: whether any worker wants to stop.
    """

    loss: float
    pieces: int
    stop: bool


class Learner:
    """One worker of a run: takes meta-steps, measures, and writes the bundle. `Learner.from_config` makes one.

    Args:
        parts: what it works with.
        team: the workers of the run; the same that `parts` were prepared for.
        report: gets events. Only rank 0 should have one that does something, or each event comes once for every worker.

    Attributes:
        progress: how far the run has come; a checkpoint may move it.
        average: of theta over the last steps, which measurements and the bundle are of once there is one.
    """

    def __init__(self, parts: Parts, *, team: Team, report: Show) -> None:
        config = parts.config
        self.config = config
        self.device = parts.device
        self.team = team
        self.report = report
        self.tags = parts.tags
        self.model = parts.encoder.model
        self.sentence_encoder = parts.encoder.sentence_encoder
        self.source = parts.source
        self.index = parts.index
        self.episodes = parts.episodes
        self.progress = Progress()
        self.tokenizer = parts.encoder.tokenizer
        self._pieces = parts.encoder.pieces
        self._dev_sets = parts.dev_sets
        self._deciding: list[LabelledChains] = []  # by the last measurement, in the languages that decide
        self._plain = config.train.method == "base"
        self._max_weight = 0.0 if self._plain else config.loss.max_weight
        self._inner = inner_loop(config.inner, max_weight=self._max_weight, second_order=config.inner.second_order)
        self._schedule = Schedule.of(config.train)
        self.optimizer = make_optimizer(self.model.theta(), config.train.weight_decay)
        self.average = ThetaAverage(self.model.theta(), start=self._schedule.average_start)
        self._gradient = FlatGradient(self.model.theta(), extra=2)  # the loss, and how many workers want to stop

    @classmethod
    def from_config(
        cls, config: Config, *, device: torch.device, team: Team | None = None, report: Show = ignore
    ) -> Self:
        """Prepares the parts and makes a learner of them.

        Args:
            config: the run's configuration.
            device: where the model is to run.
            team: the workers of the run; by default this one is alone.
            report: gets events.

        Raises:
            UserError: corpora, encoder or settings do not go together; the message names which and the fix.
        """
        team = team or Team()
        return cls(prepare(config, device=device, team=team, report=report), team=team, report=report)

    def step(self, stop: bool = False) -> StepResult:
        """One meta-step of the complete team.

        Args:
            stop: this worker wants to stop; all workers learn of it in this step.

        Raises:
            RunError: the loss or its gradient is not finite; names the step and the sentences.
        """
        step, train = self.progress.step, self.config.train
        batch = self.episodes.meta_batch(step)
        without_support = self._plain or step < train.plain_steps
        loss, broken = self._accumulate(batch, without_support)

        # Gradient, loss and the wish to stop are summed over the workers in one call.
        flat = self._gradient.flat
        flat[-2:] = torch.tensor([loss, float(stop)])
        self.team.all_reduce(flat)
        loss, stops = float(flat[-2]), float(flat[-1])
        norm = float(flat[:-2].norm())
        if not (math.isfinite(loss) and math.isfinite(norm)):
            broken = sorted({place for part in self.team.gather(broken) for place in part})
            raise RunError(
                f"step {step + 1}: the loss or its gradient is not finite (loss {loss}, gradient length {norm}); "
                f"sentences: {', '.join(broken[:5]) or 'none by itself'}. Nothing of this step was kept; "
                "earlier checkpoints are. Start anew with a lower train.lr or inner.lr, or with train.precision=fp32."
            )
        if norm > train.clip_norm:
            flat *= train.clip_norm / norm
        for group in self.optimizer.param_groups:
            group["lr"] = self._schedule.rate(step)
        self.optimizer.step()
        self.progress.step += 1
        self.average.update(self.progress.step)
        return StepResult(loss, sum(self._lengths(batch, without_support)), stops > 0)

    def evaluate(self) -> Measurement:
        """Scores the development sets by the average of theta, or theta as it is now, and keeps the measurement."""
        adapted = target_adapted = None
        with self.average.in_place_of_theta():
            plain, target_plain = self._tag_dev(None)
            if not self._plain:
                config = self.config.inner
                adapted, target_adapted = self._tag_dev(inner_loop(config, max_weight=config.adapt_max_weight))
        measured = Measurement(
            step=self.progress.step,
            plain=plain,
            target_plain=target_plain,
            adapted=adapted,
            target_adapted=target_adapted,
        )
        self.progress.history.append(measured)
        return measured

    def fit_temperature(self) -> float:
        """The temperature for the scores of entities, by the part of the last measurement that its score is of."""
        return fit_temperature(self._deciding)

    def save(self, path: Path, metrics: Mapping[str, Any]) -> None:
        """Writes the bundle of the average of theta, or of theta as it is now."""
        with self.average.in_place_of_theta():
            save_bundle(
                path,
                config=self.config,
                tags=self.tags,
                model=self.model,
                sentence_encoder=self.sentence_encoder,
                tokenizer=self.tokenizer,
                sentences=self.source.sentences,
                index=self.index,
                metrics=metrics,
                score_temperature=self.progress.score_temperature,
            )

    def _tag_dev(self, inner: InnerLoop | None) -> tuple[float, float | None]:
        """F1 in percent of the source language, and the mean of the target languages (None where there are none)."""
        with autocast(self.config.train.precision, self.device):
            tagged = {language: dev_set.tag(inner) for language, dev_set in self._dev_sets.items()}
        f1 = {language: float(scores(gold, chains.best_tags())["f1"]) for language, (chains, gold) in tagged.items()}
        source, source_f1 = tagged.pop(SOURCE_DEV), f1.pop(SOURCE_DEV)
        self._deciding = list(tagged.values()) or [source]
        return source_f1, sum(f1.values()) / len(f1) if f1 else None

    def _accumulate(self, batch: Sequence[Episode], without_support: bool) -> tuple[float, list[str]]:
        """Fills the gradient buffer with the gradient of this worker's share of the meta-batch.

        Returns the share's part of the mean loss, and where the sentences stand whose loss is not finite.
        """
        share = [batch[i] for i in shares(batch, self.source.windows, self.team.size)[self.team.rank]]
        self._gradient.clear()
        parts: list[Tensor] = []
        finite: list[Tensor] = []
        episodes: list[Episode] = []
        with autocast(self.config.train.precision, self.device):
            for chunk in self._chunks(share, without_support):
                losses_E = self._query_losses(chunk, without_support)
                weights_E = self._weights(chunk, batch).to(self.device)
                torch.autograd.backward((losses_E * weights_E).sum())
                parts.append((losses_E.detach() * weights_E).sum())
                finite.append(torch.isfinite(losses_E.detach()))
                episodes += chunk
        # Read once for all chunks: to read a figure is to wait until a GPU has done everything before it.
        loss = sum(torch.stack(parts).tolist()) if parts else 0.0
        sound = torch.cat(finite).tolist() if finite else []
        return loss, [self._place(episode) for episode, fine in zip(episodes, sound, strict=True) if not fine]

    def _query_losses(self, chunk: Sequence[Episode], without_support: bool) -> Tensor:
        """Each episode's query loss (E,)."""
        windows = [self.source.windows[e.query] for e in chunk]
        masked = [self._pieces.masked(w, e.masked) if e.masked else None for w, e in zip(windows, chunk, strict=True)]
        # Masked queries are new to the trunk; the states of all others are kept.
        fresh, _ = trunk_states(self.model, [m for m in masked if m], batch_pieces=self.config.train.batch_pieces)
        kept = self.source.states.states([e.query for e, m in zip(chunk, masked, strict=True) if m is None])
        new = iter(fresh)
        states = [kept[e.query] if m is None else next(new) for e, m in zip(chunk, masked, strict=True)]
        query = pack([[(s, self.source.tag_ids(e.query))] for s, e in zip(states, chunk, strict=True)])
        support = None if without_support else pack(self.source.support([e.support for e in chunk]))
        weight = self.config.loss.later_weight
        return query_losses(
            self.model,
            support,
            query,
            self._inner,
            max_weight=self._max_weight,
            later_tag_ids_ET=self._later_tag_ids(windows, query) if weight else None,
            later_weight=weight,
        )

    def _later_tag_ids(self, windows: Sequence[Window], query: Rows) -> Tensor:
        """The tag ids (E, T) of the pieces after a word's first one; a row has one window."""
        ids_ET = torch.full_like(query.tag_ids_BT, IGNORED)
        for row, window in enumerate(windows):
            sentence = self.source.sentences[window.sentence]
            ids_T = self._pieces.later_tag_ids(window, sentence, self.source.tag_index)
            ids_ET[row, : len(ids_T)] = ids_T
        return ids_ET

    def _chunks(self, share: Sequence[Episode], without_support: bool) -> list[list[Episode]]:
        """The share in parts that fit into memory: at most train.batch_pieces at a time, of like length."""
        lengths = self._lengths(share, without_support)
        order = sorted(range(len(share)), key=lambda i: (lengths[i], i))
        return [[share[i] for i in run] for run in budgeted(lengths, order, self.config.train.batch_pieces)]

    def _lengths(self, episodes: Sequence[Episode], without_support: bool) -> list[int]:
        """The word pieces that each episode runs on, of support and query."""
        return [
            len(self.source.windows[e.query]) + (0 if without_support else self.source.pieces(e.support))
            for e in episodes
        ]

    def _weights(self, chunk: Sequence[Episode], batch: Sequence[Episode]) -> Tensor:
        """What each episode's mean counts: 1/E, or for method base its words, so that all words count the same."""
        if not self._plain:
            return torch.full((len(chunk),), 1 / len(batch))
        words = [len(self.source.windows[e.query].scored_pieces()) for e in chunk]
        return torch.tensor(words) / sum(len(self.source.windows[e.query].scored_pieces()) for e in batch)

    def _place(self, episode: Episode) -> str:
        """Where the query sentence stands, for people."""
        sentence = self.source.sentences[self.source.windows[episode.query].sentence]
        return sentence.place or f"source sentence {episode.query}"
