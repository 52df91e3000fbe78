"""Training without Ray: what every worker does, alone or in a team.

Everything a step needs is a function of the configuration and the step's number: the meta-batch and its masks
(episodes.py), the learning rate, each worker's share. So a run does not depend on the number of workers (up to the
order of float sums), and one that stopped goes on from its last checkpoint as if it had not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoTokenizer

from metacross.algorithm import InnerLoop, adapt, query_losses
from metacross.bundle import save_bundle
from metacross.config import Config, InnerConfig
from metacross.data import Sentence
from metacross.device import autocast
from metacross.embedded import embedded_encoder
from metacross.encoding import PieceEncoder, Window, decode
from metacross.episodes import Episode, EpisodeSource, shares
from metacross.errors import RunError, UserError
from metacross.evaluation import scores
from metacross.hub import only_local
from metacross.model import SentenceEncoder, TagModel, load_classifier
from metacross.prepared import SourceDigest, encoder_digest, made_from, open_prepared
from metacross.reading import read_dev, read_source
from metacross.retrieval import SourceIndex, factory_string
from metacross.rows import budgeted, pack, trunk_states
from metacross.source import Source, neighbours_of_itself, tag_set
from metacross.tagging import Adaptation, tag_windows

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Team:
    """The workers of a run. Alone by default."""

    rank: int = 0
    size: int = 1
    all_reduce: Callable[[Tensor], None] = lambda flat: None  # sums in place over all workers
    gather: Callable[[Any], list[Any]] = lambda part: [part]  # every worker's part, by rank


@dataclass
class Progress:
    """Where a run stands; with theta and the optimizer, all a checkpoint holds."""

    step: int = 0
    best: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)


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

        encoder_path = embedded_encoder() if config.model.encoder == "embedded" else config.model.encoder
        classifier = load_classifier(encoder_path, self.tags, seed=config.train.seed)
        self.tokenizer = load_tokenizer(encoder_path)
        self.model = TagModel(classifier, frozen_layers=config.model.frozen_layers).to(device)
        self.sentence_encoder = SentenceEncoder(
            self.model, layer=config.pooled_layer, pooling=config.retrieval.pooling
        ).to(device)
        pieces = PieceEncoder(self.tokenizer, max_pieces=config.model.max_pieces)
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

    def _encode_source(self) -> tuple[SourceIndex, NDArray[np.int64]]:
        """The index over the source windows, and each window's neighbours (M, K)."""
        retrieval = self.config.retrieval
        vectors_MH = self.source.vectors(
            self.sentence_encoder, tick=self._ticker("encoding source", len(self.source.windows))
        )
        candidates = self.source.candidates(retrieval.candidates)
        index = SourceIndex(
            vectors_MH[candidates],
            candidates,
            use_gpu=False if self.device.type == "cpu" else "auto",
            factory=factory_string(retrieval.index, len(candidates), vectors_MH.shape[1]),
            lists_searched=retrieval.lists_searched,
        )
        return index, neighbours_of_itself(self.source, index, vectors_MH, self.config.episodes.support_size)

    def _prepared(self) -> tuple[SourceIndex, NDArray[np.int64]]:
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


class FlatGradient:
    """The gradient of all of theta in one buffer, of which every parameter's `.grad` is a part: nothing is copied.

    Args:
        theta: parameters, in fp32.
        extra: numbers behind the gradient, which are summed over the workers with it.

    Attributes:
        flat: the buffer.
    """

    def __init__(self, theta: Sequence[nn.Parameter], *, extra: int) -> None:
        self.flat = theta[0].new_zeros(sum(p.numel() for p in theta) + extra).requires_grad_(False)
        at = 0
        for p in theta:
            p.grad = self.flat[at : (at := at + p.numel())].view_as(p)

    def clear(self) -> None:
        """Sets it to zero, for backwards to add to."""
        self.flat.zero_()


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
            tags, _ = decode(probabilities_WC, learner.tags, [False] * len(probabilities_WC))
            mine.setdefault(window.sentence, []).extend(tags)
        found = {i: tags for part in learner.team.gather(mine) for i, tags in part.items()}
        return float(scores(self.gold, [found.get(i, []) for i in range(len(self.gold))])["f1"])


def load_tokenizer(path: str | Path) -> Any:
    """The encoder's tokenizer."""
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=only_local(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no tokenizer found ({str(error).splitlines()[0]})") from error


def inner_loop(config: InnerConfig, *, max_weight: float, second_order: bool = False) -> InnerLoop:
    """The inner loop of a configuration."""
    return InnerLoop(
        steps=config.steps,
        lr=config.lr,
        normalized=config.step == "normalized",
        max_weight=max_weight,
        second_order=second_order,
    )


def learning_rate(step: int, peak: float, steps: int, warmup: float) -> float:
    """Linear rise over the first `warmup` share of the steps, then linear fall to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * (steps - step) / max(1, steps - rise)


def make_optimizer(theta: Sequence[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW; biases and LayerNorm are not decayed."""
    groups = [
        {"params": [p for p in theta if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in theta if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)
