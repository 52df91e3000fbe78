"""How much memory the service takes, process by process, from its start on.

    python -m benchmarks.serving_memory BUNDLE --data pt=UNER/pt_bosque/dev.iob2 --data zh=UNER/zh_gsdsimp/dev.iob2

`metacross serve` runs with the settings that are given (KEY=VALUE), and clients send real texts, each of them once.
All processes of the service are counted, Ray's own included. What is counted is PSS: a page that several processes
share counts in each of them by its share, so that the figures of all processes add up. The highest sum is what the
machine must have, apart from its system.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.http_client import HOST, entities_request, send
from metacross.bundle import check_bundle
from metacross.corpora.reader import read_corpus
from metacross.errors import UserError

SAMPLE_S = 1.0  # between two readings of all processes
READY = "ready:"  # how the line begins that `metacross serve` prints when it answers
SUM = "all"
PARTS = 10  # of the requests; memory is read after each
SHOWN = (1, 5, 10)  # parts whose readings are in the table


class Memory:
    """MB of the processes below one process, by name, read again and again in a thread.

    Args:
        root: id of the process; it is counted too.

    Attributes:
        highest: each name's highest figure so far; `SUM` stands for all processes together.
    """

    def __init__(self, root: int) -> None:
        self._root, self._end = root, threading.Event()
        self.highest: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the readings."""
        self._end.set()
        self._thread.join()

    def now(self) -> dict[str, float]:
        """The figures now."""
        figures: dict[str, float] = defaultdict(float)
        for pid in family(self._root):
            megabytes = pss_mb(pid)
            figures[process_name(pid)] += megabytes
            figures[SUM] += megabytes
        return figures

    def _run(self) -> None:
        while not self._end.wait(SAMPLE_S):
            for name, megabytes in self.now().items():
                self.highest[name] = max(megabytes, self.highest.get(name, 0.0))


def family(root: int) -> list[int]:
    """A process and all that it or its children started, by id."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children[int(fields[1])].append(int(stat.parent.name))
    found = [root]
    for pid in found:  # grows meanwhile
        found += children[pid]
    return found


def pss_mb(pid: int) -> float:
    """A process's memory in MB, shared pages by their share; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def process_name(pid: int) -> str:
    """What a process is called in the table: Ray's name of it, a deployment's, or its program's."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").split()
    except OSError:
        words = []
    if not words:
        return "(ended)"
    if words[0].startswith("ray::"):
        return words[0].rpartition(":")[2].partition(".")[0]  # ray::ServeReplica:default:Tagger.METHOD
    program = Path(words[0]).name
    if program.startswith("python"):
        return next((Path(word).name for word in words if word.endswith(".py") or word == "serve.run"), program)
    return program


@contextmanager
def service(bundle: Path, settings: Sequence[str], port: int) -> Iterator[int]:
    """Runs `metacross serve` for the length of the block; yields its process id when it answers.

    Raises:
        RuntimeError: it did not start.
    """
    command = [sys.executable, "-m", "serve.run", str(bundle), *settings, "--host", HOST, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if not any(line.startswith(READY) for line in process.stdout):
            raise RuntimeError(f"the service ended with status {process.wait()} before it was ready")
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def texts_of(files: Sequence[str], count: int) -> list[str]:
    """So many texts of all files, mixed.

    Raises:
        UserError: there are fewer, or a file cannot be read.
    """
    texts: list[str] = []
    for file in files:
        language, _, path = file.partition("=")
        if not path:
            raise UserError(f"--data {file}: expected LANGUAGE=FILE, such as pt=dev.iob2.")
        texts += [sentence.text for sentence in read_corpus(path, language=language).sentences]
    if len(texts) < count:
        raise UserError(f"--requests {count}: the files have {len(texts)} sentences only. Give more --data.")
    return random.Random(0).sample(texts, count)


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    data: Annotated[list[str], typer.Option(help="LANGUAGE=FILE, a corpus whose sentences are tagged")],
    settings: Annotated[list[str] | None, typer.Argument(help="KEY=VALUE, of the service")] = None,
    requests: Annotated[int, typer.Option(min=10, help="of one text each")] = 1000,
    clients: Annotated[int, typer.Option(min=1, help="that send requests at the same time")] = 4,
    port: Annotated[int, typer.Option(help="of the service")] = 8126,
) -> None:
    """Prints the memory of every process of the service: when it is ready, while it answers, and at most."""
    try:
        check_bundle(bundle)
        bodies = [entities_request(text, adapt=True) for text in texts_of(data, requests)]
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    errors: Counter[str] = Counter()
    with service(bundle.absolute(), settings or [], port) as pid:
        memory = Memory(pid)
        readings = {"ready": memory.now()}
        began, progress = time.monotonic(), Console(stderr=True)
        for part in range(PARTS):
            errors.update(send(port, bodies[part::PARTS], clients, b'"adapted":true').errors)
            sent = sum(len(bodies[done::PARTS]) for done in range(part + 1))
            figures = memory.now()
            progress.print(f"{sent} of {requests} requests: {figures[SUM]:.0f} MB")
            if part + 1 in SHOWN:
                readings[f"after {sent}"] = figures
        seconds = time.monotonic() - began
        memory.stop()
    readings["highest"] = memory.highest
    table = Table("process, MB", *readings)
    for name in sorted(memory.highest, key=lambda name: -memory.highest[name]):
        table.add_row(name, *(f"{figures.get(name, 0):.0f}" for figures in readings.values()))
    Console(width=120).print(table)
    print(f"{requests} requests in {seconds:.0f} s; errors: {dict(errors)}; settings: {settings or []}")
    if errors:
        raise typer.Exit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    typer.run(main)
