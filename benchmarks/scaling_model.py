"""How long a meta-step takes on n workers, by arithmetic alone: nothing is timed here.

    T(n) = compute * imbalance(n) / n + all_reduce(bytes, n, link) + fixed

`imbalance` comes from the meta-batches of a real run and the function that shares them out, bytes from the model, link
speeds from their standards and data sheets (see LINKS). How fast a GPU computes is an assumption: see `Gpu`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metacross.encoder.windows import Window
from metacross.training.episodes import Episode, cost, shares

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
HALF = 0.5  # below this share of an ideal speed-up, more workers are mostly waste


@dataclass(frozen=True)
class Link:
    """What joins the workers.

    Attributes:
        name: for people.
        bytes_per_second: in one direction, as published.
        hop_seconds: from one worker to the next, whatever the size; an assumption.
        most: workers that it can join.
        source: of bytes_per_second.
    """

    name: str
    bytes_per_second: float
    hop_seconds: float
    most: int
    source: str


LINKS = (
    Link("NVLink 4", 450e9, 5e-6, 8, "NVIDIA H100 Tensor Core GPU data sheet: 900 GB/s, half of it each way"),
    Link("PCIe 4.0 x16", 31.5e9, 10e-6, 8, "PCI Express 4.0: 16 GT/s a lane, 16 lanes, 128b/130b"),
    Link("100 GbE", 12.5e9, 30e-6, 256, "IEEE 802.3ba"),
    Link("25 GbE", 3.125e9, 30e-6, 256, "IEEE 802.3by"),
    Link("10 GbE", 1.25e9, 30e-6, 256, "IEEE 802.3ae"),
)


@dataclass(frozen=True)
class Gpu:
    """Assumptions about one worker's GPU.

    Attributes:
        flops_per_second: what a step reaches of the matrix units' peak.
        fixed_seconds: of every step, however small the share: kernel launches, clipping, AdamW.
    """

    flops_per_second: float
    fixed_seconds: float


@dataclass(frozen=True)
class Task:
    """What a meta-step has to do.

    Attributes:
        name: for people.
        episodes: E, the meta-batch over all workers.
        flops: of the whole meta-batch.
        gradient_bytes: that are summed over the workers.
        imbalance: the heaviest worker's load over the mean, by number of workers.
        overlapped: the all-reduce goes on during the backward, at best for free.
    """

    name: str
    episodes: int
    flops: float
    gradient_bytes: float
    imbalance: Mapping[int, float]
    overlapped: bool = False


def imbalance(batches: Sequence[Sequence[Episode]], windows: Sequence[Window], workers: int) -> float:
    """The heaviest worker's load over the mean load, over all meta-batches together; 1 is even.

    With more workers than episodes some have nothing to do, and this grows as workers / episodes.
    """
    heaviest = whole = 0
    for batch in batches:
        loads = [sum(cost(batch[i], windows) for i in part) for part in shares(batch, windows, workers)]
        heaviest += max(loads)
        whole += sum(loads)
    return heaviest * workers / whole


def all_reduce_seconds(size: float, workers: int, link: Link) -> float:
    """A ring's time: every worker sends and receives 2 (n-1)/n of the bytes, in 2 (n-1) hops.

    Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009.
    """
    return 2 * (workers - 1) / workers * size / link.bytes_per_second + 2 * (workers - 1) * link.hop_seconds


def step_seconds(task: Task, gpu: Gpu, workers: int, link: Link) -> float:
    """T(n)."""
    compute = task.flops / gpu.flops_per_second * task.imbalance[workers] / workers
    reduce = all_reduce_seconds(task.gradient_bytes, workers, link)
    return (max(compute, reduce) if task.overlapped else compute + reduce) + gpu.fixed_seconds


def speed_up(task: Task, gpu: Gpu, workers: int, link: Link) -> float:
    """Episodes a second over one worker's."""
    return step_seconds(task, gpu, 1, link) / step_seconds(task, gpu, workers, link)


def fastest(task: Task, gpu: Gpu, link: Link) -> int:
    """The number of workers, of WORKERS, with the shortest step; the smallest where some are alike."""
    return min((n for n in WORKERS if n <= link.most), key=lambda n: step_seconds(task, gpu, n, link))


def worthwhile(task: Task, gpu: Gpu, link: Link) -> int:
    """The most workers, of WORKERS, that still give HALF of the ideal speed-up."""
    return max(n for n in WORKERS if n <= link.most and speed_up(task, gpu, n, link) >= HALF * n)
