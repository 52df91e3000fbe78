"""Training on more workers: two measured side by side on this machine, and a model of 1 to 256 GPUs.

    python -m benchmarks.train_scaling                                   # the samples, the embedded encoder
    python -m benchmarks.train_scaling data.source=train.conll data.source_dev=dev.conll --plot docs/scaling
    python -m benchmarks.train_scaling --rounds 0                        # only the model

Two processes, one thread each, hold a `Learner` each and do the same meta-steps by turns: the first alone, then both as
a team. Ray is left out on purpose: Ray Train starts such processes and waits for them, but takes no part in a step, and
starting it anew for every turn would put minutes between figures that are to be compared. What is timed is what a Ray
Train worker does: `Learner.step` with gloo's all-reduce.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
import torch.distributed as dist
import torch.multiprocessing
import typer
from torch import Tensor

from benchmarks.flops import Sizes, exact_flops
from benchmarks.inputs import RANDOM_TAGS, MetaBatch, example, make_classifier
from benchmarks.machine import machine
from benchmarks.scaling_model import LINKS, WORKERS, Gpu, imbalance
from benchmarks.scaling_report import FROZEN, LARGER, PAIR, Step, draw, measured_table, model_tables, tasks
from metacross.config import Config
from metacross.config_loading import load_config
from metacross.encoder.model import TagModel
from metacross.encoder.windows import Window
from metacross.errors import UserError
from metacross.training.episodes import Episode, EpisodeSource
from metacross.training.learner import Learner
from metacross.training.team import Team

BATCHES = 32  # meta-batches that the model's balance is taken from
FLOAT = 4  # bytes


class _Clock:
    """An all-reduce that remembers when it was entered and left; `alone` sums over nobody."""

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.entered = self.left = 0.0

    def __call__(self, flat: Tensor) -> None:
        self.entered = time.perf_counter()
        if not self.alone:
            dist.all_reduce(flat)
        self.left = time.perf_counter()


def _work(rank: int, config: Config, folder: Path, rounds: int, steps: int) -> None:
    """One process: the turns, then the all-reduce by itself; leaves its figures in `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=PAIR)
    learner = Learner.from_config(config, device=torch.device("cpu"))
    clocks = {1: _Clock(alone=True), PAIR: _Clock(alone=False)}
    teams = {1: Team(all_reduce=clocks[1]), PAIR: Team(rank, PAIR, all_reduce=clocks[PAIR], gather=_gather)}
    taken: list[Step] = []
    pieces: dict[int, int] = {}  # by the step's number
    for turn in range(-1 if rounds else 0, rounds):  # -1 is not counted: every shape is met for the first time
        for workers in (1, PAIR) if turn % 2 else (PAIR, 1):
            dist.barrier()
            if rank >= workers:
                continue
            learner.team, clock = teams[workers], clocks[workers]
            for number in range(steps):
                learner.progress.step = number
                began = time.perf_counter()
                pieces[number] = learner.step().pieces
                ended = time.perf_counter()
                times = clock.entered - began, clock.left - clock.entered, ended - clock.left
                taken.append(Step(turn, workers, rank, number, *times))
    dist.barrier()
    parameters = {frozen: bert_base_parameters(frozen) for frozen in FROZEN}
    found: dict[str, Any] = {
        "steps": [asdict(step) for step in taken if step.round >= 0],
        "gradient_bytes": FLOAT * (sum(p.numel() for p in learner.model.theta()) + 2),  # and the loss, and STOP
        "bert_base_bytes": {frozen: FLOAT * (count + 2) for frozen, count in parameters.items()},
        "bert_base_all_reduce": _all_reduces(parameters[FROZEN[0]] + 2, rounds),
    }
    if rank == 0:
        batches = [learner.episodes.meta_batch(number) for number in range(steps)]
        found["pieces"] = list(pieces.values())
        found["imbalance"] = imbalance(batches, learner.source.windows, PAIR)
        found["model"] = model_inputs(learner.episodes, config.inner.steps)
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _gather(part: Any) -> list[Any]:
    parts: list[Any] = [None] * PAIR
    dist.all_gather_object(parts, part)
    return parts


def _all_reduces(floats: int, repeats: int) -> list[float]:
    """Seconds of each, after one that is not counted."""
    flat, seconds = torch.zeros(floats), []
    for _ in range(repeats + 1 if repeats else 0):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(flat)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def bert_base_parameters(frozen_layers: int) -> int:
    """Adapted parameters of a tagger of BERT-base size."""
    with torch.device("meta"):  # counted, never filled
        classifier, _ = make_classifier("bert-base", RANDOM_TAGS, seed=0)
    return sum(p.numel() for p in TagModel(classifier, frozen_layers=frozen_layers).theta())


def model_inputs(episodes: EpisodeSource, inner_steps: int) -> dict[str, Any]:
    """What the model has to know of a run.

    Balance by meta-batch size and number of workers; FLOP of a meta-step at BERT-base size by frozen layers.
    """
    balance = {}
    for size in (episodes.meta_batch_size, *LARGER):
        batches = batches_of(episodes, size)
        balance[size] = {n: imbalance(batches, episodes.windows, n) for n in WORKERS}
    real = [as_meta_batch(batch, episodes.windows) for batch in batches_of(episodes, episodes.meta_batch_size)]
    flops = {}
    for frozen in FROZEN:
        sizes = Sizes(hidden=768, feed_forward=3072, layers=12, frozen=frozen, tags=len(RANDOM_TAGS))
        flops[frozen] = fmean(exact_flops(batch, sizes, steps=inner_steps, trunk_kept=True) for batch in real)
    return {"meta_batch_size": episodes.meta_batch_size, "imbalance": balance, "flops": flops}


def batches_of(episodes: EpisodeSource, size: int) -> list[list[Episode]]:
    """The first meta-batches of a run whose meta-batches have `size` episodes."""
    source = EpisodeSource(
        episodes.windows,
        episodes.sentences,
        episodes.neighbours_MK,
        seed=episodes.seed,
        meta_batch_size=size,
        mask_ratio=episodes.mask_ratio,
    )
    return [source.meta_batch(step) for step in range(BATCHES)]


def as_meta_batch(batch: Sequence[Episode], windows: Sequence[Window]) -> MetaBatch:
    """Episodes as `exact_flops` counts them: by their lengths alone."""

    def read(i: int) -> Any:
        return example(windows[i].piece_ids, torch.empty(0))

    return MetaBatch(tuple(tuple(read(i) for i in e.support) for e in batch), tuple(read(e.query) for e in batch))


def measure(config: Config, *, rounds: int, steps: int) -> list[dict[str, Any]]:
    """What both processes found, by rank; see `_work`."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
            _work, (config, Path(folder), rounds, steps), nprocs=PAIR
        )
        return [json.loads((Path(folder) / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(PAIR)]


def main(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="settings of the run")] = None,
    rounds: Annotated[int, typer.Option(min=0, help="turns of one worker and of two; 0: only the model")] = 6,
    steps: Annotated[int, typer.Option(min=1, help="meta-steps of a turn, the same ones in all")] = 8,
    gpu_tflops: Annotated[float, typer.Option(help="assumed: what a step reaches on one GPU, in TFLOP/s")] = 100.0,
    gpu_fixed_ms: Annotated[float, typer.Option(help="assumed: of every step, whatever its share, in ms")] = 10.0,
    json_path: Annotated[Path | None, typer.Option("--json", help="write all figures here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write PATH.png and PATH.svg")] = None,
) -> None:
    """Times one worker against two on this machine, and reckons how far more of them would get."""
    try:
        config = load_config(None, overrides or ())
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    gpu = Gpu(1e12 * gpu_tflops, 1e-3 * gpu_fixed_ms)
    about = machine(threads=1)
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    found = measure(config, rounds=rounds, steps=steps)
    every = tasks(found[0])
    if rounds:
        print(f"\n{measured_table(found)}")
    print(
        f"\nAssumed: {gpu_tflops:g} TFLOP/s and {gpu_fixed_ms:g} ms. A step of {every[0].episodes} episodes takes "
        f"{every[0].flops / 1e12:.2f} TFLOP and sums {every[0].gradient_bytes / 1e6:.1f} MB; ms a step:"
        f"\n\n{model_tables(every, gpu)}"
    )
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps({"machine": about, "found": found}, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        for path in draw(every, gpu, plot, link=LINKS[3]):
            print(f"wrote {path}")


if __name__ == "__main__":
    typer.run(main)
