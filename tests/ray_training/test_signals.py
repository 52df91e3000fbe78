"""What ends a run: Ctrl-C and SIGTERM, with everything as before after the block; nodes that Ray announces to go."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import typer
from ray.train import PreemptionInfo

from metacross import ray_internals
from metacross.cli.terminal import reporting
from metacross.events import Event, Note
from metacross.ray_training.signals import sigterm_as_sigint, stop_on_signal
from metacross.ray_training.worker import Announcements


def test_first_signal_asks_the_second_aborts(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal(tmp_path) as notes:
        os.kill(os.getpid(), signal.SIGINT)
        assert (tmp_path / "STOP").exists()
        assert len(notes) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("ignored", [False, True], ids=["in a terminal", "in the background of a shell"])
def test_sigterm_does_what_ctrl_c_does(ignored: bool, request: pytest.FixtureRequest) -> None:
    before = signal.getsignal(signal.SIGTERM)
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, kept))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as Ray leaves it in a job
    try:
        with pytest.raises(KeyboardInterrupt), sigterm_as_sigint():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)  # another thread may get it first, and this one only a moment later
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_interrupts_a_command_in_order(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """It clears away what it began, such as copies of what is at an address."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Ray that an earlier test started leaves its own handler
    request.addfinalizer(lambda: signal.signal(signal.SIGTERM, before))
    cleared = []
    with pytest.raises(typer.Exit) as ended, reporting():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleared.append(True)
    assert (ended.value.exit_code, cleared) == (130, [True])
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_announced_loss_asks_for_one_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    announced: list[PreemptionInfo | None] = [None]
    monkeypatch.setattr(ray_internals, "announced_preemption", lambda: announced[0])
    events: list[Event] = []
    losses = Announcements(events.append)
    assert [losses(), losses()] == [False, False]
    announced[0] = PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"a": [1]})
    assert [losses(), losses()] == [True, False]
    announced[0] = PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"a": [1], "b": [0]})
    assert [losses(), losses()] == [True, False]
    texts = [event.text for event in events if isinstance(event, Note)]
    assert [text.split(" with their nodes")[0] for text in texts] == [
        "1 of the workers will be lost",
        "2 of the workers will be lost",
    ]
