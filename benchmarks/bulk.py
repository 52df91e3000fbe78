"""Many sentences on all cores: `metacross tag` of a file by one process, by one on one core, and by one for each core.

    python -m benchmarks.bulk BUNDLE FILE --sentences 20000 --rounds 3

FILE's sentences are repeated until there are enough. Every way is the command that a user types, from its start to its
end, so loading the bundle counts; all write the same lines. With --ray, `metacross tag --ray` comes last, which also
starts Ray. The memory is the largest that the command and its processes had together.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.ratios import ratio
from metacross.bulk.processes import cores
from metacross.corpora.reader import read_corpus
from metacross.corpora.utf8 import json_bytes

ONE = "one process, one core"
WATCH_SECONDS = 0.5


def timed(command: list[str], output: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds that a command takes, and the most gigabytes that it and its processes had."""
    began, most = time.perf_counter(), 0.0
    with output.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=os.environ | environment)
        while process.poll() is None:
            most = max(most, _gigabytes(process.pid))
            time.sleep(WATCH_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - began, most


def _gigabytes(process: int) -> float:
    """What a process and those that it started have; what several share counts once. 0 for one that has ended."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
    except OSError:
        return 0.0
    kilobytes = next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return kilobytes / 2**20 + sum(_gigabytes(int(child)) for child in children)


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    file: Annotated[Path, typer.Argument(help="a corpus whose sentences are tagged")],
    sentences: Annotated[int, typer.Option(min=2000)] = 20_000,
    rounds: Annotated[int, typer.Option(min=2, help="of each way")] = 3,
    adapt: Annotated[bool, typer.Option(help="Tag with adaptation, too.")] = True,
    on_ray: Annotated[bool, typer.Option("--ray", help="Tag on Ray, too.")] = False,
) -> None:
    """Times `metacross tag` on one core and on all."""
    texts = [sentence.text for sentence in read_corpus(file).sentences]
    console = Console(width=160)
    print("; ".join(f"{key} {value}" for key, value in machine(threads=cores()).items()), file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "in.jsonl")
        lines.write_bytes(b"".join(json_bytes({"text": texts[i % len(texts)]}) + b"\n" for i in range(sentences)))
        for options in [["--no-adapt"], []] if adapt else [["--no-adapt"]]:
            command = [sys.executable, "-m", "metacross", "tag", str(bundle), str(lines), *options]
            ways = {
                ONE: ([*command, "--processes", "1"], {"OMP_NUM_THREADS": "1"}),
                f"one process, {cores()} threads": ([*command, "--processes", "1"], {}),
                f"{cores()} processes": ([*command, "--processes", str(cores())], {}),
            }
            if on_ray:
                ways["--ray"] = ([*command, "--ray", "--out", str(Path(folder, "parts"))], {})
            console.print(_compare(ways, Path(folder), sentences, rounds, " ".join(options) or "adapted"))


def _compare(
    ways: dict[str, tuple[list[str], dict[str, str]]], folder: Path, sentences: int, rounds: int, title: str
) -> Table:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (command, environment) in ways.items():
            for part in folder.glob("parts/*"):
                part.unlink()
            found[name].append(timed(command, folder / "out", environment))
    table = Table("", "sentences/s", "times as fast as one core", "GB", title=title)
    for name, results in found.items():
        rate = sentences / median(seconds for seconds, _ in results)
        faster = ratio([seconds for seconds, _ in found[ONE]], [seconds for seconds, _ in results])
        table.add_row(name, f"{rate:.0f}", faster, f"{max(memory for _, memory in results):.1f}")
    return table


if __name__ == "__main__":
    typer.run(main)
