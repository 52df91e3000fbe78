"""Taggers in processes of their own, one for each core, for more sentences than one process is for.

Processes and not threads alone: between the products of a batch stands Python, which runs on one core of a process at a
time, and two threads gave 1.2 times the rate of one (docs/benchmarks.md, "Many sentences").
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain, islice
from typing import TypeVar

import torch

from metacross.corpora.sentence import Sentence
from metacross.errors import RunError
from metacross.tagging.tagger import AdaptiveTagger

T = TypeVar("T")
R = TypeVar("R")

# Groups of 128 sentences before further processes are started: for fewer, loading the bundle costs more than they save.
ALONE = 64
AT_MOST = 8  # processes, unless more are asked for: each needs the memory of a tagger


class Taggers:
    """A tagger here and, as soon as there is much to do, equal ones in processes of their own.

    Args:
        tagger: the one here.
        bundle: what it was loaded from.
        overrides: the settings it was loaded with.
        examples: what was added to it.
        processes: how many processes tag when there is much to do; None for one for each core, `AT_MOST` at most. With
            a GPU it is one, which keeps the GPU busy.
    """

    def __init__(
        self,
        tagger: AdaptiveTagger,
        bundle: str,
        *,
        overrides: Sequence[str] = (),
        examples: Sequence[Sentence] = (),
        processes: int | None = None,
    ) -> None:
        self._tagger = tagger
        self._load = partial(load_tagger, bundle, tuple(overrides), tuple(examples), str(tagger.device))
        self._processes = processes or (1 if tagger.device.type == "cuda" else min(cores(), AT_MOST))

    def map(self, function: Callable[[AdaptiveTagger, T], R], groups: Iterable[T]) -> Iterator[R]:
        """Calls a function for every group, in any of the processes; gives the results in the order of the groups.

        Groups are taken as they are needed, so their source may be endless. If taking one fails, the results of those
        before it come first.

        Args:
            function: of a tagger and a group; like groups and results it has to survive pickling.
            groups: about 128 sentences each.

        Raises:
            RunError: a process died.
        """
        groups = iter(groups)
        for group in groups if self._processes == 1 else islice(groups, ALONE):
            yield function(self._tagger, group)
        for group in groups:  # there are more: now it is worth the time that loading takes
            yield from self._in_processes(function, chain([group], groups))

    def _in_processes(self, function: Callable[[AdaptiveTagger, T], R], groups: Iterable[T]) -> Iterator[R]:
        threads = max(1, torch.get_num_threads() // self._processes)
        executor = ProcessPoolExecutor(
            self._processes,
            multiprocessing.get_context("spawn"),  # a fork would inherit torch's threads in the middle of their work
            initializer=_begin,
            initargs=(self._load, threads),
        )
        try:
            yield from _in_order(
                lambda group: executor.submit(_call, function, group), groups, waiting=2 * self._processes
            )
        except BrokenProcessPool as error:
            raise RunError(
                "a process that tags died, as it does where memory runs out. Try fewer: --processes 1"
            ) from error
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_tagger(bundle: str, overrides: Sequence[str], examples: Sequence[Sentence], device: str) -> AdaptiveTagger:
    """Loads a tagger that is equal to one in another process."""
    tagger = AdaptiveTagger.from_pretrained(bundle, overrides=overrides, device=device)
    if examples:
        tagger.add_examples(examples)
    return tagger


def _in_order(submit: Callable[[T], Future[R]], groups: Iterable[T], *, waiting: int) -> Iterator[R]:
    """Submits groups, at most `waiting` of them before the first has its result; gives the results in order."""
    running: deque[Future[R]] = deque()
    groups = iter(groups)
    failure: Exception | None = None
    while failure is None:
        try:
            running.append(submit(next(groups)))
        except StopIteration:
            break
        except BrokenProcessPool:
            raise
        except Exception as error:
            failure = error
        while len(running) >= waiting or (running and running[0].done()):
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
    if failure is not None:
        raise failure


_tagger: AdaptiveTagger | None = None  # of a process that was started to tag


def _begin(load: Callable[[], AdaptiveTagger], threads: int) -> None:
    """Loads the tagger of a process that was started to tag."""
    global _tagger  # executors have no other place for what a process keeps
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that started this one decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _tagger = load()


def _end_with_parent() -> None:
    """Ends this process when the one that started it has died, however that happened."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(function: Callable[[AdaptiveTagger, T], R], group: T) -> R:
    assert _tagger is not None
    return function(_tagger, group)
