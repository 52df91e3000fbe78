"""Ctrl-C and SIGTERM: what they do inside the block, and that everything is as before after it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

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
