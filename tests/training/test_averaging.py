"""The average of theta over the last steps: what is measured and left as the bundle, while theta goes its own way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from metacross.bundle import load_bundle
from metacross.errors import UserError
from metacross.training import checkpoint
from metacross.training.averaging import ThetaAverage
from metacross.training.learner import Learner
from metacross.training.loop import run
from metacross.training.team import Team
from tests.helpers.tiny_bundle import tiny_config, write_inputs

CPU = torch.device("cpu")
SETTINGS = ("train.steps=6", "train.plain_steps=0", "train.eval_every=3", "train.checkpoint_every=3")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("averaging"))


def learner(place: Path, *overrides: str, team: Team | None = None) -> Learner:
    return Learner.from_config(tiny_config(place, *SETTINGS, *overrides), device=CPU, team=team)


def theta(one: Learner) -> list[Tensor]:
    return [p.detach().clone() for p in one.model.theta()]


def equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_every_step_counts_the_same() -> None:
    p = nn.Parameter(torch.zeros(3))
    average = ThetaAverage([p], start=4)
    values = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    for step, value in enumerate(values, 1):
        p.data.copy_(value)
        average.update(step)
        assert bool(average.mean) == (step > 4)
    assert torch.allclose(average.mean[0], values[4:].double().mean(0).float(), atol=1e-6)


def test_training_goes_on_from_theta_and_the_average_is_measured_and_saved(place: Path, tmp_path: Path) -> None:
    """Against a run without the average, whose theta is kept after every step."""
    without, one = learner(place, "train.average=0"), learner(place, "train.average=0.5")
    kept = []
    for step in range(6):
        without.step()
        one.step()
        kept.append(theta(without))
        assert equal(theta(one), kept[-1])
        if step < 3:
            assert one.evaluate() == without.evaluate()
    expected = [torch.stack(values).double().mean(0).float() for values in zip(*kept[3:], strict=True)]

    measured = one.evaluate()
    one.save(tmp_path / "bundle", {})
    assert equal(theta(one), kept[-1]), "theta is its own again, to the bit"
    saved = load_bundle(tmp_path / "bundle").model.theta()
    assert not equal([p.detach() for p in saved], kept[-1])
    for p, value in zip(saved, expected, strict=True):
        assert torch.allclose(p, value, atol=1e-6)
    with torch.no_grad():
        for p, value in zip(without.model.theta(), saved, strict=True):
            p.copy_(value)
    assert without.evaluate() == measured
    assert without.fit_temperature() == one.fit_temperature()


def test_theta_comes_back_after_an_error(place: Path) -> None:
    one = learner(place, "train.average=1.0")
    one.step()
    one.step()
    before = theta(one)
    with pytest.raises(ZeroDivisionError), one.average.in_place_of_theta():
        assert not equal(theta(one), before)
        raise ZeroDivisionError
    assert equal(theta(one), before)


def test_all_workers_have_the_same_average(place: Path) -> None:
    """Each adds up for itself, from the same sums of gradients."""
    both, parts = threading.Barrier(2), [torch.empty(0), torch.empty(0)]

    def work(rank: int) -> Learner:
        def all_reduce(flat: Tensor) -> None:
            parts[rank] = flat.clone()
            both.wait(60)
            flat.copy_(parts[0] + parts[1])
            both.wait(60)

        one = learner(place, "train.average=0.5", team=Team(rank, 2, all_reduce=all_reduce))
        for _ in range(6):
            one.step()
        return one

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(work, (0, 1))
    assert first.average.mean
    assert equal(list(first.average.mean), list(second.average.mean))


def test_a_checkpoint_of_before_averaging_is_taken_up_and_one_that_lacks_the_average_is_refused(
    place: Path, tmp_path: Path
) -> None:
    """Checkpoints of earlier versions have no average: right up to where averaging begins, and wrong from there on."""
    run(learner(place, "train.average=0"), tmp_path)
    with pytest.raises(UserError, match=r"step-0000006: has no average of theta"):
        run(learner(place, "train.average=0.5"), tmp_path)
    checkpoint.drop_newer(tmp_path, 3)
    run(learner(place, "train.average=0.5"), tmp_path)
    run(learner(place, "train.average=0.5"), tmp_path / "whole")
    found, expected = (
        load_file(checkpoint.paths(folder)[-1] / "state.safetensors") for folder in (tmp_path, tmp_path / "whole")
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
