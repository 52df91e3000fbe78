"""What workers get of a cluster: CPUs, a GPU or a share of one, or a message that says what does not fit."""

from __future__ import annotations

import pytest

from metacross.errors import UserError
from metacross.ray_training.resources import worker_resources
from tests.helpers.ray_inputs import config


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "use_gpu", "ours", "expected"),
    [
        (8, 0, 1, "auto", True, (False, 8)),
        (8, 0, 3, "auto", True, (False, 2)),
        (2, 0, 3, "auto", True, (False, 0.66)),
        (64, 0, 3, "auto", False, (False, 1)),
        (64, 4, 3, "auto", False, (True, 1)),
        (64, 4, 3, "false", False, (False, 1)),
        (64, 0, 3, "true", False, (True, 1)),  # a cluster may grow
    ],
)
def test_resources_of_workers(
    cpus: int, gpus: int, workers: int, use_gpu: str, ours: bool, expected: tuple[bool, float]
) -> None:
    settings = config("any", train__workers=workers, train__use_gpu=use_gpu).train
    found = worker_resources(settings, {"CPU": cpus, "GPU": gpus}, ours=ours)
    assert found == (expected[0], {"CPU": expected[1], "GPU": 1.0} if expected[0] else {"CPU": expected[1]})


def test_resources_of_a_changing_number_of_workers() -> None:
    settings = config("any", train__workers="[2, 4]", train__use_gpu="auto").train
    assert worker_resources(settings, {"CPU": 8, "GPU": 0}, ours=True) == (False, {"CPU": 2})
    assert worker_resources(settings, {"CPU": 8, "GPU": 2}, ours=False) == (True, {"CPU": 1.0, "GPU": 1.0})
    with pytest.raises(UserError, match=r"Set train\.workers=1"):
        worker_resources(settings, {"CPU": 8, "GPU": 1}, ours=False)


def test_workers_that_share_a_gpu() -> None:
    settings = config("any", train__workers=3, train__use_gpu="auto").train
    found = worker_resources(settings, {"CPU": 8, "GPU": 1}, ours=False, gpus_per_worker=0.25)
    assert found == (True, {"CPU": 1.0, "GPU": 0.25})
    none = worker_resources(settings, {"CPU": 8, "GPU": 4}, ours=False, gpus_per_worker=0)
    assert none == (False, {"CPU": 1.0})
    with pytest.raises(UserError, match=r"every worker needs 0\.5\. Set train\.workers=2"):
        worker_resources(settings, {"CPU": 8, "GPU": 1}, ours=False, gpus_per_worker=0.5)
    with pytest.raises(UserError, match="0 GPUs"):
        given = config("any", train__use_gpu="true").train
        worker_resources(given, {"CPU": 8, "GPU": 1}, ours=False, gpus_per_worker=0)


@pytest.mark.parametrize(
    ("gpus", "use_gpu", "ours", "fix"),
    [
        (0, "true", True, "Set train.use_gpu=false"),
        (2, "true", True, "Set train.workers=2 or train.use_gpu=false"),
        (2, "auto", False, "Set train.workers=2 or train.use_gpu=false"),
    ],
)
def test_too_few_gpus(gpus: int, use_gpu: str, ours: bool, fix: str) -> None:
    settings = config("any", train__workers=3, train__use_gpu=use_gpu).train
    with pytest.raises(UserError, match=fix):
        worker_resources(settings, {"CPU": 8, "GPU": gpus}, ours=ours)
