"""Joint training: theta goes on training on sentences of target languages and, in every step, on source sentences too.

The sentences of target languages are those that teachers labelled, learnt from by their tag probabilities
(distillation), or a few that people labelled (examples). The source sentences keep theta from forgetting what it knows,
and from learning by heart what is few; to train on both at once is better than on one after the other (Schmidt, Vulić
and Glavaš, EMNLP 2022, "Don't Stop Fine-Tuning").

A step is a function of the seed and its number, so an interrupted run goes on to the same weights, to the bit.

Shapes: N word pieces that count, C tags, B windows, T word pieces.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metacross.adoption.teacher import LabelledSentence
from metacross.config import Config, TrainConfig
from metacross.corpora.sentence import Sentence
from metacross.encoder.device import autocast
from metacross.encoder.model import TagModel
from metacross.encoder.rows import budgeted, pack, trunk_states
from metacross.encoder.windows import IGNORED, PieceEncoder, Window, tag_ids
from metacross.errors import RunError
from metacross.events import Show, StepsDone
from metacross.signals import first_signal
from metacross.time_left import TimeLeft
from metacross.training import checkpoint
from metacross.training.averaging import ThetaAverage
from metacross.training.episodes import EpisodeSource
from metacross.training.optimizer import FlatGradient, make_optimizer
from metacross.training.progress import Progress
from metacross.training.schedule import Schedule


def soft_label_losses(logits_NC: Tensor, probabilities_NC: Tensor) -> Tensor:
    """The loss (N,) of each piece: cross-entropy against the teachers' probabilities, or against a tag's 0 and 1."""
    wide = torch.promote_types(logits_NC.dtype, torch.float32)
    return functional.cross_entropy(logits_NC.to(wide), probabilities_NC.to(wide), reduction="none")


@dataclass(frozen=True)
class Target:
    """What a window's pieces are trained towards.

    Attributes:
        window: the window.
        probabilities_TC: tag probabilities of the pieces.
        weights_T: what each piece counts; 0 for those without a tag.
    """

    window: Window
    probabilities_TC: Tensor
    weights_T: Tensor


class SoftSentences:
    """Machine-labelled sentences to train on: a word's first piece is trained towards its tags' probabilities."""

    def __init__(self, labelled: Sequence[LabelledSentence], pieces: PieceEncoder) -> None:
        self.sentences = [one.sentence for one in labelled]
        self.windows = pieces.windows(self.sentences)
        self._probabilities = [one.probabilities_WC for one in labelled]

    def target(self, number: int) -> Target:
        """The target of a window."""
        window = self.windows[number]
        scored = list(window.scored_pieces())
        probabilities_WC = self._probabilities[window.sentence][slice(*window.scored)]
        weights_T = torch.zeros(len(window))
        weights_T[scored] = 1.0
        probabilities_TC = torch.zeros(len(window), probabilities_WC.shape[1])
        probabilities_TC[scored] = probabilities_WC
        return Target(window, probabilities_TC, weights_T)


class GoldSentences:
    """Sentences that people labelled to train on; the pieces after a word's first one count `loss.later_weight`."""

    def __init__(
        self, sentences: Sequence[Sentence], pieces: PieceEncoder, tags: Sequence[str], later_weight: float
    ) -> None:
        self.sentences = sentences
        self.windows = pieces.windows(sentences)
        self._pieces, self._later_weight = pieces, later_weight
        self._tag_index = {tag: i for i, tag in enumerate(tags)}

    def target(self, number: int) -> Target:
        """The target of a window."""
        window = self.windows[number]
        sentence = self.sentences[window.sentence]
        first_T = tag_ids(window, sentence, self._tag_index)
        later_T = self._pieces.later_tag_ids(window, sentence, self._tag_index)
        ids_T = torch.where(first_T != IGNORED, first_T, later_T)
        weights_T = (first_T != IGNORED).float() + self._later_weight * ((first_T == IGNORED) & (later_T != IGNORED))
        return Target(window, functional.one_hot(ids_T.clamp_min(0), len(self._tag_index)).float(), weights_T)


Sentences = SoftSentences | GoldSentences


class JointTraining:
    """Trains a model on both kinds of sentences.

    A step takes `episodes.meta_batch_size` sentences, `adopt.source_share` of them from the source. Where there are
    fewer sentences than a step takes, it takes some of them more than once.

    Args:
        model: its theta is trained.
        target: sentences of target languages, at least one.
        source: labelled source sentences.
        config: the section `adopt`, and from `train` and `episodes` what all trainings share.
        steps: how many.
        name: of the training, for messages.
    """

    def __init__(
        self, model: TagModel, target: Sentences, source: GoldSentences, config: Config, *, steps: int, name: str
    ) -> None:
        self.model, self._config, self._name = model, config, name
        size = config.episodes.meta_batch_size
        from_source = min(round(config.adopt.source_share * size), size - 1)
        self._parts: list[tuple[Sentences, EpisodeSource]] = [(target, self._batches(target, size - from_source))]
        if from_source and source.windows:
            self._parts.append((source, self._batches(source, from_source)))
        adopt, shared = config.adopt, config.train
        self.schedule = Schedule(steps, adopt.lr, _warmup_share(shared), shared.decay, adopt.average)
        self.optimizer = make_optimizer(model.theta(), config.train.weight_decay)
        self.average = ThetaAverage(model.theta(), start=self.schedule.average_start)
        self._gradient = FlatGradient(model.theta(), extra=0)

    def step(self, step: int) -> tuple[float, int]:
        """A step (0, 1, ...); returns the mean loss and the word pieces that it took.

        Raises:
            RunError: the loss or its gradient is not finite.
        """
        config = self._config
        targets = [s.target(episode.query) for s, batches in self._parts for episode in batches.meta_batch(step)]
        total = float(sum(target.weights_T.sum() for target in targets))
        lengths = [len(target.window) for target in targets]
        order = sorted(range(len(targets)), key=lambda i: (lengths[i], i))
        self._gradient.clear()
        loss = 0.0
        with autocast(config.train.precision, self.model.device):
            for run in budgeted(lengths, order, config.train.batch_pieces):
                part = self._loss([targets[i] for i in run]) / total
                torch.autograd.backward(part)
                loss += float(part.detach())
        norm = float(self._gradient.flat.norm())
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise RunError(
                f"{self._name}, step {step + 1}: the loss or its gradient is not finite (loss {loss}, gradient length "
                f"{norm}). No bundle was written. Start anew with a lower adopt.lr."
            )
        if norm > config.train.clip_norm:
            self._gradient.flat *= config.train.clip_norm / norm
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(step)
        self.optimizer.step()
        self.average.update(step + 1)
        return loss, sum(lengths)

    def _loss(self, targets: Sequence[Target]) -> Tensor:
        """The sum of the pieces' losses, each times its weight."""
        batch_pieces = self._config.train.batch_pieces
        states, _ = trunk_states(self.model, [target.window for target in targets], batch_pieces=batch_pieces)
        no_tags = [torch.full((len(target.window),), IGNORED) for target in targets]
        logits_BTC = self.model.logits(pack([[pair] for pair in zip(states, no_tags, strict=True)]))
        # Only pieces that count.
        counted = [target.weights_T > 0 for target in targets]
        logits_NC = torch.cat([logits_BTC[row, : len(flags)][flags] for row, flags in enumerate(counted)])
        probabilities_NC = torch.cat([t.probabilities_TC[flags] for t, flags in zip(targets, counted, strict=True)])
        weights_N = torch.cat([t.weights_T[flags] for t, flags in zip(targets, counted, strict=True)])
        losses_N = soft_label_losses(logits_NC, probabilities_NC.to(logits_NC.device))
        return (losses_N * weights_N.to(losses_N.device)).sum()

    def _batches(self, data: Sentences, size: int) -> EpisodeSource:
        """Batches of windows in an order of their own: episodes without support."""
        return EpisodeSource(
            data.windows,
            data.sentences,
            np.empty((len(data.windows), 0), dtype=np.int64),
            seed=self._config.train.seed,
            meta_batch_size=size,
            mask_ratio=0.0,
        )


def _warmup_share(train: TrainConfig) -> float:
    """The warm-up as a share of the steps: a number of steps was meant for the run's, which are many more."""
    return train.warmup if train.warmup <= 1 else min(1.0, train.warmup / train.steps)


def train(training: JointTraining, run_dir: Path, *, tags: Sequence[str], every: int, show: Show) -> None:
    """Takes all steps, from the newest checkpoint in `run_dir` on if there is one; theta is then their average's.

    The first Ctrl-C or SIGTERM ends it after the step under way, with a checkpoint; the second ends it at once.

    Args:
        training: what is to be done.
        run_dir: gets the checkpoints.
        tags: the tag set, IOB2.
        every: steps between two checkpoints.
        show: gets a `StepsDone` event after every step.

    Raises:
        UserError: a checkpoint cannot be written.
        RunError: the loss is not finite.
        KeyboardInterrupt: it was interrupted.
    """
    progress, steps = Progress(), training.schedule.steps
    interrupted = threading.Event()
    writer = checkpoint.RunWriter(run_dir, tags=tags, needed=lambda history: ())
    try:
        checkpoint.restore(run_dir, training.model, training.optimizer, progress, training.average, tags=tags)
        began, first, pieces = time.monotonic(), progress.step, 0
        time_left = TimeLeft(steps, done=first)
        with first_signal(interrupted.set):
            while progress.step < steps and not interrupted.is_set():
                loss, taken = training.step(progress.step)
                progress.step += 1
                pieces += taken
                seconds = time.monotonic() - began
                show(
                    StepsDone(
                        step=progress.step,
                        steps=steps,
                        loss=loss,
                        learning_rate=training.schedule.rate(progress.step - 1),
                        pieces_per_second=pieces / seconds,
                        steps_per_second=(progress.step - first) / seconds,
                        seconds_left=time_left.seconds(progress.step),
                    )
                )
                if progress.step % every == 0 or progress.step == steps or interrupted.is_set():
                    writer.checkpoint(training.model, training.optimizer, progress, training.average)
        writer.wait()
        if interrupted.is_set():
            raise KeyboardInterrupt
        training.average.replace_theta()
    finally:
        writer.close()
