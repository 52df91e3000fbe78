"""Joint training: its loss against a literal version, what it learns, and going on after an interruption to the bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metacross.adoption.joint_training import GoldSentences, JointTraining, SoftSentences, soft_label_losses, train
from metacross.adoption.teacher import LabelledSentence, Teachers, label_text
from metacross.bundle import Bundle, load_bundle
from metacross.config_loading import load_config
from metacross.corpora.sentence import sentence_from_text
from metacross.corpora.words import split_sentences
from metacross.encoder.windows import PieceEncoder
from metacross.errors import RunError
from metacross.events import Event, StepsDone, ignore
from tests.helpers.adoption import TEXT, other_theta


@pytest.fixture(scope="module")
def other_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle whose theta is trained; the tiny bundle teaches it."""
    return other_theta(tiny_bundle, tmp_path_factory.mktemp("other") / "bundle")


@pytest.fixture(scope="module")
def labelled(tiny_bundle: Path) -> list[LabelledSentence]:
    sentences = [sentence_from_text(TEXT[start:end]) for start, end in split_sentences(TEXT)]
    return label_text(Teachers.open([tiny_bundle], device="cpu"), sentences)


def distillation_of(bundle: Bundle, labelled: list[LabelledSentence], *overrides: str) -> JointTraining:
    settings = ["adopt.steps=6", "adopt.lr=1e-2", "train.warmup=0", *overrides]
    config = load_config(None, settings, base=bundle.config)
    pieces = PieceEncoder(bundle.tokenizer, max_pieces=config.model.max_pieces)
    gold = GoldSentences(bundle.sentences, pieces, bundle.tags, config.loss.later_weight)
    soft = SoftSentences(labelled, pieces)
    return JointTraining(bundle.model, soft, gold, config, steps=config.adopt.steps, name="distillation")


def theta(bundle: Bundle) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in bundle.model.theta()])


def test_the_loss_is_the_cross_entropy_against_probabilities() -> None:
    logits_NC = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]])
    soft_NC = torch.tensor([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    expected = [
        -sum(p * q for p, q in zip(soft, row.log_softmax(0), strict=True))
        for soft, row in zip(soft_NC, logits_NC, strict=True)
    ]
    torch.testing.assert_close(soft_label_losses(logits_NC, soft_NC), torch.stack(expected))


def test_only_first_pieces_of_soft_and_later_pieces_of_gold_sentences_count(
    other_bundle: Path, labelled: list[LabelledSentence]
) -> None:
    bundle = load_bundle(other_bundle)
    distillation = distillation_of(bundle, labelled, "loss.later_weight=0.5")
    (soft, _), (gold, _) = distillation._parts
    target = soft.target(0)
    scored = list(target.window.scored_pieces())
    assert target.weights_T.nonzero()[:, 0].tolist() == scored
    torch.testing.assert_close(target.probabilities_TC[scored], labelled[0].probabilities_WC)
    target = gold.target(0)
    sentence = bundle.sentences[target.window.sentence]
    scored = list(target.window.scored_pieces())
    tags = [bundle.tags[i] for i in target.probabilities_TC[scored].argmax(1).tolist()]
    assert tags == list(sentence.tags or ())
    assert set(target.weights_T.tolist()) <= {0.0, 0.5, 1.0}
    assert target.weights_T[scored].tolist() == [1.0] * len(scored)


def test_theta_comes_nearer_to_the_teacher(
    tiny_bundle: Path, other_bundle: Path, labelled: list[LabelledSentence], tmp_path: Path
) -> None:
    bundle = load_bundle(other_bundle)
    events: list[Event] = []
    distillation = distillation_of(bundle, labelled, "adopt.source_share=0")
    train(distillation, tmp_path, tags=bundle.tags, every=100, show=events.append)
    losses = [event.loss for event in events if isinstance(event, StepsDone)]
    assert len(losses) == 6
    taught_NC = torch.cat([one.probabilities_WC for one in labelled])
    least = float(soft_label_losses(taught_NC.log(), taught_NC).mean())  # of a theta that is just as the teacher's
    assert losses[-1] - least < 0.7 * (losses[0] - least)


@pytest.mark.parametrize(("signal_number", "taken_again"), [(signal.SIGTERM, [6]), (None, [5, 6])])
def test_an_interrupted_distillation_ends_with_the_same_theta(
    other_bundle: Path,
    labelled: list[LabelledSentence],
    tmp_path: Path,
    signal_number: int | None,
    taken_again: list[int],
) -> None:
    """A signal loses no step; what ends it otherwise, those since the last checkpoint."""
    undisturbed, disturbed = load_bundle(other_bundle), load_bundle(other_bundle)
    train(distillation_of(undisturbed, labelled), tmp_path / "a", tags=undisturbed.tags, every=2, show=ignore)

    def interrupt(event: Event) -> None:
        if isinstance(event, StepsDone) and event.step == 5:
            if signal_number is None:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal_number)

    with pytest.raises(KeyboardInterrupt):
        train(distillation_of(disturbed, labelled), tmp_path / "b", tags=disturbed.tags, every=2, show=interrupt)
    again = load_bundle(other_bundle)
    steps: list[Event] = []
    train(distillation_of(again, labelled), tmp_path / "b", tags=again.tags, every=2, show=steps.append)
    assert [event.step for event in steps if isinstance(event, StepsDone)] == taken_again
    assert torch.equal(theta(again), theta(undisturbed))
    assert not torch.equal(theta(again), theta(load_bundle(other_bundle)))


def test_theta_becomes_the_average_of_the_last_steps(
    other_bundle: Path, labelled: list[LabelledSentence], tmp_path: Path
) -> None:
    last, averaged = load_bundle(other_bundle), load_bundle(other_bundle)
    training = distillation_of(last, labelled, "adopt.average=0")
    seen = []
    for step in range(6):
        training.step(step)
        seen.append(theta(last))
    train(distillation_of(averaged, labelled), tmp_path, tags=averaged.tags, every=100, show=ignore)  # of 6 steps, 3
    torch.testing.assert_close(theta(averaged), torch.stack(seen[3:]).mean(0))


def test_a_loss_that_is_not_finite_ends_it(other_bundle: Path, labelled: list[LabelledSentence]) -> None:
    bundle = load_bundle(other_bundle)
    with torch.no_grad():
        bundle.model.theta()[0].fill_(torch.inf)
    with pytest.raises(RunError, match=r"distillation, step 1: .* lower adopt\.lr"):
        distillation_of(bundle, labelled).step(0)


def test_a_step_takes_as_many_sentences_as_asked_even_of_a_single_example(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    config = load_config(None, ["episodes.meta_batch_size=8", "adopt.source_share=0.5"], base=bundle.config)
    pieces = PieceEncoder(bundle.tokenizer, max_pieces=config.model.max_pieces)
    example, source = (GoldSentences(s, pieces, bundle.tags, 0.5) for s in (bundle.sentences[:1], bundle.sentences[1:]))
    training = JointTraining(bundle.model, example, source, config, steps=2, name="training on examples")
    for step in (0, 20):
        of_target, of_source = ([e.query for e in batches.meta_batch(step)] for _, batches in training._parts)
        assert of_target == [0] * 4
        assert len(of_source) == 4


@pytest.mark.parametrize(("warmup", "expected"), [(0.1, 3), (6, 3), (60, 30), (100, 30)])
def test_a_warm_up_in_steps_is_a_share_of_the_steps_here(
    tiny_bundle: Path, labelled: list[LabelledSentence], warmup: float, expected: int
) -> None:
    bundle = load_bundle(tiny_bundle)
    training = distillation_of(bundle, labelled, f"train.warmup={warmup}", "train.steps=60", "adopt.steps=30")
    assert training.schedule.warmup_steps == expected
    assert max(map(training.schedule.rate, range(30))) == pytest.approx(training.schedule.peak)
