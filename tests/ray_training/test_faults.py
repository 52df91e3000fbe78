"""Training on several nodes, of which workers and nodes are lost: it ends as an undisturbed run does.

The long forms, and drivers and disks, are in test_chaos.py (`make chaos`). Runs killed at any step, damaged checkpoints
and full disks without Ray: test_checkpoint.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metacross.config import Config
from metacross.events import Event, Measurement, Note, Start
from metacross.ray_training import attempts, driver
from metacross.training import checkpoint
from tests.helpers.local_ray import one_thread
from tests.helpers.machines import Machines, at_steps, machines, wait_for
from tests.helpers.ray_inputs import assert_same, config, state, write_inputs

pytestmark = pytest.mark.cluster
STEPS = 200


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module", autouse=True)
def here(place: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(attempts, "POLL_SECONDS", 0.01)
        patch.setattr(attempts, "RESIZE_SECONDS", 1.0)
        with one_thread():
            yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    with machines(nodes=2, announced=True) as found:
        yield found


def settings(name: str, **changes: Any) -> Config:
    few = {"train__steps": STEPS, "train__eval_every": 10, "train__checkpoint_every": 10}
    return config(name, **{**few, **changes})


def sizes(events: list[Event]) -> list[int]:
    return [event.workers for event in events if isinstance(event, Start)]


def test_a_killed_worker(cluster: Machines) -> None:
    """As many workers after it as before, so the same bits as without it."""
    undisturbed = driver.train(settings("undisturbed", train__workers=2))
    events: list[Event] = []
    show = at_steps((20, lambda: cluster.kill_worker(0)), events=events)
    result = driver.train(settings("disturbed", train__workers=2), show=show)

    assert (result.step, result.stopped) == (STEPS, False)
    assert sizes(events) == [2, 2]
    starts = [event.step for event in events if isinstance(event, Start)]
    assert starts[0] == 0 < starts[1] < STEPS
    assert sum(isinstance(event, Note) and event.text.startswith("lost workers") for event in events) == 1
    assert_same(state(Path(result.run_dir)), state(Path(undisturbed.run_dir)))


def test_a_run_that_is_told_of_a_loss_goes_on_from_where_it_was(cluster: Machines) -> None:
    """It would write no checkpoint of itself; before the node goes it writes one."""
    run_dir = Path("runs/announced")
    events: list[Event] = []

    def newest() -> int:
        progress = checkpoint.latest_progress(run_dir)
        return progress.step if progress else 0

    def show(event: Event) -> None:
        before(event)
        if isinstance(event, Note) and event.text.startswith("1 of the workers will be lost"):
            seen = max(event.step for event in events if isinstance(event, Measurement))
            wait_for(lambda: newest() >= seen)  # it is written while the run goes on
            cluster.lose(1)
            cluster.join()
        if isinstance(event, Start) and event.step:
            assert event.step == newest() >= 10
            (run_dir / "STOP").touch()

    before = at_steps((10, lambda: cluster.drain(1)), events=events)
    never = {"train__steps": 100_000, "train__checkpoint_every": 100_000}
    assert driver.train(settings("announced", train__workers=2, **never), show=show).stopped
    assert sizes(events) == [2, 2]
