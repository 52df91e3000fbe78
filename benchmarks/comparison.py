"""Implementations of a meta-step timed in turn on the same inputs, and their meta-gradients compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.baselines import (
    CopiedWeights,
    FuncVmap,
    Higher,
    Implementation,
    KeptTrunk,
    Metacross,
    TorchOpt,
    relative_difference,
)
from benchmarks.flops import Sizes, counted, exact_flops, gemm_rate
from benchmarks.inputs import MetaBatch
from benchmarks.released_loop import ReleasedLoop
from metacross.algorithm import InnerLoop

OURS = Metacross.name
SKIPPABLE: tuple[type[Implementation], ...] = (CopiedWeights, ReleasedLoop, FuncVmap, TorchOpt, Higher)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ALIKE = {"fp32": 1e-3, "bf16": 5e-2}  # meta-gradients that differ by more are not the same


@dataclass
class Timing:
    """What was measured of one implementation in one precision."""

    name: str
    precision: str
    seconds: list[float] = field(default_factory=list)  # one a repeat
    cpu_seconds: list[float] = field(default_factory=list)  # of this process, all threads: little moved by others' load
    ratios: list[float] = field(default_factory=list)  # of seconds, to ours in the same precision and repeat
    cpu_ratios: list[float] = field(default_factory=list)  # the same of cpu_seconds
    flops: float = 0.0  # of the first meta-batch
    difference: float | None = None  # of its meta-gradient from ours in the same precision; None: computes another
    error: str = ""

    @property
    def median(self) -> float:
        """Seconds; infinite where it did not run."""
        return median(self.seconds) if self.seconds else float("inf")


@dataclass(frozen=True)
class Floor:
    """The least time for the exact method on this machine, over all repeats."""

    precision: str
    trunk_kept: bool
    flops: float  # mean over the meta-batches
    gemm_rate: float  # FLOP/s, median over the repeats
    distance: float  # ours over the floor, median over the repeats

    @property
    def seconds(self) -> float:
        """FLOP over rate."""
        return self.flops / self.gemm_rate


@dataclass
class Comparison:
    """Everything that `compare` measured."""

    timings: list[Timing]
    floors: list[Floor]
    gemm_rates: dict[str, list[float]]
    batches: int  # repeat r ran meta-batch r modulo this
    effect: float  # of the inner steps: relative distance of the meta-gradient from the plain gradient


def compare(
    classifier: PreTrainedModel,
    batches: Sequence[MetaBatch],
    *,
    frozen_layers: int,
    inner: InnerLoop,
    precisions: Sequence[str],
    repeats: int,
    skip: Sequence[str] = (),
    keep_trunk: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Warms every implementation up, compares meta-gradients, then times the implementations in turn."""
    kinds: list[type[Implementation]] = [Metacross, *([KeptTrunk] if keep_trunk else [])]
    kinds += [kind for kind in SKIPPABLE if kind.name not in skip]
    timings = [Timing(kind.name, precision) for kind in kinds for precision in precisions]
    ready = _ready(kinds, timings, classifier, frozen_layers=frozen_layers, inner=inner)
    kept = ready.get(KeptTrunk.name)
    if isinstance(kept, KeptTrunk):
        for batch in batches:
            for precision in precisions:
                kept.keep(batch, precision)
    ours = _compare_gradients(ready, timings, batches, tell)
    still = Metacross(classifier, frozen_layers=frozen_layers, inner=InnerLoop(0, 0.0, False, inner.max_weight))
    effect = relative_difference(still.meta_gradient(batches[0], precisions[0]), ours[precisions[0]])
    del still, ours  # gradients of a whole encoder, which would be in memory while others are timed
    rates = _time(ready, [t for t in timings if not t.error], batches, precisions, repeats, tell)
    by_name = {(timing.name, timing.precision): timing for timing in timings}
    sizes = Sizes.of(classifier.config, frozen_layers)
    floors = [
        _floor(by_name[k.name, p], batches, sizes, inner.steps, rates[p], trunk_kept=k is KeptTrunk)
        for k in kinds
        if issubclass(k, Metacross)
        for p in precisions
    ]
    return Comparison(timings, floors, rates, len(batches), effect)


def _compare_gradients(
    ready: Mapping[str, Implementation],
    timings: Sequence[Timing],
    batches: Sequence[MetaBatch],
    tell: Callable[[str], None],
) -> dict[str, list[Tensor]]:
    """Warms implementations up and notes how far their first meta-gradient is from ours, which is returned."""
    ours: dict[str, list[Tensor]] = {}
    for timing in timings:
        if timing.error:
            continue
        tell(f"warming up {timing.name}, {timing.precision}")
        gradient = _warm_up(ready[timing.name], timing, batches)
        if timing.name == OURS and gradient is not None:
            ours[timing.precision] = gradient
        if gradient is not None and ready[timing.name].comparable:
            timing.difference = relative_difference(gradient, ours[timing.precision])
        del gradient
    return ours


def _time(
    ready: Mapping[str, Implementation],
    timings: Sequence[Timing],
    batches: Sequence[MetaBatch],
    precisions: Sequence[str],
    repeats: int,
    tell: Callable[[str], None],
) -> dict[str, list[float]]:
    """Fills in the timings; returns the rates of plain matrix products, FLOP/s, measured between them."""
    rates: dict[str, list[float]] = {p: [] for p in precisions}
    for repeat in range(repeats):
        tell(f"repeat {repeat + 1} of {repeats}")
        for precision in precisions:
            rates[precision].append(gemm_rate(DTYPES[precision]))
        first = repeat % len(timings)  # another one begins in every repeat, so that none always follows the same
        for timing in (*timings[first:], *timings[:first]):
            start, cpu_start = time.perf_counter(), time.process_time()
            ready[timing.name].meta_gradient(batches[repeat % len(batches)], timing.precision)
            timing.seconds.append(time.perf_counter() - start)
            timing.cpu_seconds.append(time.process_time() - cpu_start)
    ours = {timing.precision: timing for timing in timings if timing.name == OURS}
    for timing in timings:
        own = ours[timing.precision]
        timing.ratios = [a / b for a, b in zip(timing.seconds, own.seconds, strict=True)]
        timing.cpu_ratios = [a / b for a, b in zip(timing.cpu_seconds, own.cpu_seconds, strict=True)]
    return rates


def _ready(
    kinds: Sequence[type[Implementation]],
    timings: Sequence[Timing],
    classifier: PreTrainedModel,
    *,
    frozen_layers: int,
    inner: InnerLoop,
) -> dict[str, Implementation]:
    ready = {}
    for kind in kinds:
        try:
            ready[kind.name] = kind(classifier, frozen_layers=frozen_layers, inner=inner)
        except ImportError as error:
            for timing in timings:
                if timing.name == kind.name:
                    timing.error = f'not installed ({error}): pip install -e ".[bench]"'
    return ready


def _warm_up(implementation: Implementation, timing: Timing, batches: Sequence[MetaBatch]) -> list[Tensor] | None:
    """The first meta-batch's gradient. Every shape is met once: compiling its products is no part of a step's time."""
    try:
        gradient, timing.flops = counted(lambda: implementation.meta_gradient(batches[0], timing.precision))
        gradient = [g.clone() for g in gradient]
        for batch in () if implementation.one_shape else batches[1:]:
            implementation.meta_gradient(batch, timing.precision)
    except Exception as error:
        if timing.name == OURS:
            raise
        # Others' code on a torch they may not know: that it cannot run is a result, and is printed as one.
        timing.error = f"did not run: {type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
        return None
    return gradient


def _floor(
    timing: Timing, batches: Sequence[MetaBatch], sizes: Sizes, steps: int, rates: Sequence[float], *, trunk_kept: bool
) -> Floor:
    flops = [exact_flops(b, sizes, steps=steps, trunk_kept=trunk_kept) for b in batches]
    rate = median(rates)
    distance = median(s * rate / flops[i % len(flops)] for i, s in enumerate(timing.seconds))
    return Floor(timing.precision, trunk_kept, sum(flops) / len(flops), rate, distance)
