"""Ctrl-C and SIGTERM: what they do inside the block, and that everything is as before after it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import typer

from metacross.cli.terminal import reporting
from metacross.ray_training.signals import sigterm_as_sigint, stop_on_signal


def test_first_signal_asks_the_second_aborts(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal(tmp_path) as notes:
        os.kill(os.getpid(), signal.SIGINT)
        assert (tmp_path / "STOP").exists()
        assert len(notes) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_does_what_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as Ray leaves it in a job
    try:
        with pytest.raises(KeyboardInterrupt), sigterm_as_sigint():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_interrupts_a_command_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """It clears away what it began, such as copies of what is at an address."""
    cleared = []
    with pytest.raises(typer.Exit) as ended, reporting():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleared.append(True)
    assert (ended.value.exit_code, cleared) == (130, [True])
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
