"""Training without Ray: what every worker does, alone or in a team.

Everything a step needs is a function of the configuration and the step's number: the meta-batch and its masks
(episodes.py), the learning rate, each worker's share. So a run does not depend on the number of workers (up to the
order of float sums), and one that stopped goes on from its last checkpoint as if it had not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metacross.algorithm import InnerLoop, query_losses
from metacross.bundle import save_bundle
from metacross.config import Config
from metacross.corpora.from_config import read_dev, read_source
from metacross.encoder.device import autocast
from metacross.encoder.loading import load_encoder
from metacross.encoder.rows import budgeted, pack, trunk_states
from metacross.errors import RunError, UserError
from metacross.retrieval.index import VectorIndex, factory_string
from metacross.retrieval.prepared import SourceDigest, encoder_digest, made_from, open_prepared
from metacross.retrieval.source import Source, neighbours_of_itself, tag_set
from metacross.tagging.adaptation import inner_loop
from metacross.training.dev_set import DevSet
from metacross.training.episodes import Episode, EpisodeSource, shares
from metacross.training.optimizer import FlatGradient, learning_rate, make_optimizer
from metacross.training.progress import Progress
from metacross.training.team import Team

Report = Callable[[dict[str, Any]], None]


class Learner:
    """One worker of a run: the corpora, the model, the optimizer.

    Args:
        config: of the run.
        device: where the model runs.
        team: the other workers.
        report: takes events such as {"event": "step", "step": 3, "loss": 0.4}; called on rank 0 only.

    Raises:
        UserError: corpora, encoder or settings do not go together; the message names which and the fix.
    """

    def __init__(
        self, config: Config, *, device: torch.device, team: Team | None = None, report: Report | None = None
    ) -> None:
        self.config = config
        self.device = device
        self.team = team or Team()
        self.report: Report = report if report is not None and self.team.rank == 0 else lambda event: None
        self.progress = Progress()

        # Whoever gets these reports may raise: that is how a run is stopped before its first step.
        self.report({"event": "prepare", "what": "reading corpora", "done": 0, "total": 1})
        sentences = read_source(config)
        self.tags = tag_set(sentences)
        dev = read_dev(config, config.data.source_dev, config.data.source_language, self.tags)
        targets = {k: read_dev(config, file, k, self.tags) for k, file in config.data.target_dev.items()}
        self.report({"event": "prepare", "what": "reading corpora", "done": 1, "total": 1})

        encoder = load_encoder(config, self.tags, device=device)
        self.tokenizer, self.model = encoder.tokenizer, encoder.model
        self.sentence_encoder, pieces = encoder.sentence_encoder, encoder.pieces
        if config.train.method == "metacross" and config.loss.mask_ratio > 0 and pieces.mask is None:
            raise UserError("this encoder's tokenizer has no mask piece: set loss.mask_ratio=0")
        self.pieces = pieces

        with autocast(config.train.precision, device):
            self.source = Source(
                sentences,
                self.tags,
                pieces=pieces,
                model=self.model,
                budget_mb=config.train.trunk_cache_mb,
                batch_pieces=config.train.batch_pieces,
            )
            self.index, neighbours_MK = self._prepared() if config.retrieval.prepared else self._encode_source()
            every = {"": dev, **targets}
            tick = self._ticker("encoding dev", sum(map(len, every.values())))
            tick(0)
            self.dev: dict[str, DevSet] = {}
            for language, to_score in every.items():
                self.dev[language] = DevSet(self, to_score)
                tick(len(to_score))

        self.plain = config.train.method == "base"
        self.episodes = EpisodeSource(
            self.source.windows,
            sentences,
            neighbours_MK,
            seed=config.train.seed,
            meta_batch_size=config.episodes.meta_batch_size,
            mask_ratio=0.0 if self.plain else config.loss.mask_ratio,
        )
        self.max_weight = 0.0 if self.plain else config.loss.max_weight
        self.inner = inner_loop(config.inner, max_weight=self.max_weight, second_order=config.inner.second_order)
        self.optimizer = make_optimizer(self.model.theta(), config.train.weight_decay)
        self._gradient = FlatGradient(self.model.theta(), extra=2)  # the loss, and whether somebody wants to stop

    def _encode_source(self) -> tuple[VectorIndex, NDArray[np.int64]]:
        """The index over the source windows, and each window's neighbours (M, K)."""
        retrieval = self.config.retrieval
        vectors_MH = self.source.vectors(
            self.sentence_encoder, tick=self._ticker("encoding source", len(self.source.windows))
        )
        candidates = self.source.candidates(retrieval.candidates)
        index = VectorIndex(
            vectors_MH[candidates],
            candidates,
            use_gpu=False if self.device.type == "cpu" else "auto",
            factory=factory_string(retrieval.index, len(candidates), vectors_MH.shape[1]),
            lists_searched=retrieval.lists_searched,
        )
        return index, neighbours_of_itself(self.source, index, vectors_MH, self.config.episodes.support_size)

    def _prepared(self) -> tuple[VectorIndex, NDArray[np.int64]]:
        """The same, as `metacross index` left it."""
        prepared = open_prepared(
            Path(self.config.retrieval.prepared),
            made_from(
                self.config,
                source=SourceDigest(self.source.sentences),
                encoder=encoder_digest(self.model, self.tokenizer),
            ),
        )
        neighbours_MK = prepared.neighbours(self.config.episodes.support_size)
        return prepared.index(use_gpu=False if self.device.type == "cpu" else "auto"), neighbours_MK

    def step(self, stop: bool = False) -> tuple[float, bool]:
        """One meta-step of the whole team: the loss, and whether any worker wants to stop.

        Raises:
            RunError: the loss is not finite; names the step and the sentences.
        """
        step, train = self.progress.step, self.config.train
        batch = self.episodes.meta_batch(step)
        mine = [batch[i] for i in shares(batch, self.source.windows, self.team.size)[self.team.rank]]
        without_support = self.plain or step < train.plain_steps
        self._gradient.clear()
        loss = 0.0
        broken: list[str] = []
        with autocast(train.precision, self.device):
            for chunk in self._chunks(mine, without_support):
                losses_E = self._query_losses(chunk, without_support)
                weights_E = self._weights(chunk, batch).to(self.device)
                torch.autograd.backward((losses_E * weights_E).sum())
                loss += float((losses_E.detach() * weights_E).sum())
                bad = (~torch.isfinite(losses_E.detach())).tolist()
                broken += [self._place(e) for e, is_bad in zip(chunk, bad, strict=True) if is_bad]

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
            group["lr"] = learning_rate(step, train.lr, train.steps, train.warmup)
        self.optimizer.step()
        self.progress.step += 1
        return loss, stops > 0

    def evaluate(self) -> dict[str, float]:
        """Dev F1 in percent, `plain` and (but for method base) `adapted`; kept in the history.

        With data.target_dev also its languages' means, `target_plain` and `target_adapted`.
        """
        ways: dict[str, InnerLoop | None] = {"plain": None}
        if not self.plain:
            ways["adapted"] = inner_loop(self.config.inner, max_weight=self.config.inner.adapt_max_weight)
        found: dict[str, float] = {"step": self.progress.step}
        with autocast(self.config.train.precision, self.device):
            for how, inner in ways.items():
                f1 = {language: dev.f1(inner) for language, dev in self.dev.items()}
                found[how] = f1.pop("")
                if f1:
                    found[f"target_{how}"] = sum(f1.values()) / len(f1)
        self.progress.history.append(found)
        return found

    def save(self, path: Path, metrics: dict[str, Any]) -> None:
        """Writes the bundle of theta as it is now."""
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
        )

    def pieces_of(self, batch: Sequence[Episode]) -> int:
        """Word pieces that the step to come runs on, support and query."""
        plain = self.plain or self.progress.step < self.config.train.plain_steps
        support = 0 if plain else sum(self.source.pieces(e.support) for e in batch)
        return support + sum(len(self.source.windows[e.query]) for e in batch)

    def _query_losses(self, chunk: Sequence[Episode], without_support: bool) -> Tensor:
        windows = [self.source.windows[e.query] for e in chunk]
        masked = [self.pieces.masked(w, e.masked) if e.masked else None for w, e in zip(windows, chunk, strict=True)]
        fresh, _ = trunk_states(self.model, [m for m in masked if m], batch_pieces=self.config.train.batch_pieces)
        kept = self.source.states.states([e.query for e, m in zip(chunk, masked, strict=True) if m is None])
        new = iter(fresh)
        states = [kept[e.query] if m is None else next(new) for e, m in zip(chunk, masked, strict=True)]
        query = pack([[(s, self.source.tag_ids(e.query))] for s, e in zip(states, chunk, strict=True)])
        support = None if without_support else pack(self.source.support([e.support for e in chunk]))
        return query_losses(self.model, support, query, self.inner, max_weight=self.max_weight)

    def _chunks(self, mine: Sequence[Episode], without_support: bool) -> list[list[Episode]]:
        lengths = [
            len(self.source.windows[e.query]) + (0 if without_support else self.source.pieces(e.support)) for e in mine
        ]
        order = sorted(range(len(mine)), key=lambda i: (lengths[i], i))
        return [[mine[i] for i in run] for run in budgeted(lengths, order, self.config.train.batch_pieces)]

    def _weights(self, chunk: Sequence[Episode], batch: Sequence[Episode]) -> Tensor:
        """What each episode's mean counts: 1/E, or for method base its words, so that all words count the same."""
        if not self.plain:
            return torch.full((len(chunk),), 1 / len(batch))
        words = [len(self.source.windows[e.query].scored_pieces()) for e in chunk]
        return torch.tensor(words) / sum(len(self.source.windows[e.query].scored_pieces()) for e in batch)

    def _place(self, episode: Episode) -> str:
        return (
            self.source.sentences[self.source.windows[episode.query].sentence].place
            or f"source sentence {episode.query}"
        )

    def _ticker(self, what: str, total: int) -> Callable[[int], None]:
        done = 0

        def tick(n: int) -> None:
            nonlocal done
            done += n
            self.report({"event": "prepare", "what": what, "done": done, "total": total})

        return tick
