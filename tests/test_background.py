"""What is repeated in a thread: again and again, once more at the end, then the thread is gone."""

from __future__ import annotations

import threading

import pytest

from metacross.background import repeated


def test_it_is_called_again_and_again() -> None:
    calls: list[str] = []
    thrice = threading.Event()

    def look() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            thrice.set()

    with repeated(look, seconds=0.001, name="looking"):
        assert thrice.wait(60)
    assert set(calls) == {"looking"}
    assert not [thread for thread in threading.enumerate() if thread.name == "looking"]


def test_it_is_called_once_more_at_the_end_however_that_comes() -> None:
    calls: list[int] = []
    with pytest.raises(ZeroDivisionError), repeated(lambda: calls.append(1), seconds=3600, name="looking"):
        assert calls == []
        raise ZeroDivisionError
    assert calls == [1]
