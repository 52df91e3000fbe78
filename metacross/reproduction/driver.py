"""A comparison on Ray: `reproduce`. Every cell is a Ray task; run_cell.py does its work.

A comparison is a directory that the driver and every node see:

    suite.yaml, ray_config.yaml    the suite and the configuration that it is put over, as they were given last
    plan.json                      the inputs of all cells, to tell what a changed setting makes anew
    cells/KIND-DIGEST/             a cell: cell.json (its inputs), progress.jsonl, its bundle or its result.json, and
                                   done.json, written last
    STOP                           whoever creates this file stops the comparison
    report.md, report.json, sentences.html, plots/     see report.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from metacross.adoption.text import read_texts
from metacross.config import Config
from metacross.config_loading import FILE_NAME, load_config
from metacross.corpora.from_config import read_configured, read_source
from metacross.corpora.refusals import refuse_unknown_types, require_entities
from metacross.encoder.device import pick_device
from metacross.errors import RunError, UserError, first_line
from metacross.events import Note, Preparation, Show
from metacross.ray_session import cluster_resources, ray_session, refuse_unpacked
from metacross.ray_training.resources import worker_threads
from metacross.ray_training.signals import stop_on_signal
from metacross.reproduction.cells import Cell, Evaluation, Sample, is_done
from metacross.reproduction.few_shot import drawn
from metacross.reproduction.plan import Comparison, Plan, changes, labelled_inputs
from metacross.reproduction.planning import make_plan
from metacross.reproduction.run_cell import STOP_FILE, run_cell
from metacross.reproduction.scheduling import Ended, run_cells
from metacross.reproduction.suite import Suite, load_suite, method_config
from metacross.retrieval.source import tag_set
from metacross.storage.addresses import is_address
from metacross.storage.files import write_file, write_json
from metacross.wording import counted
from metacross.yaml_nodes import read_yaml, write_yaml

SUITE_FILE = "suite.yaml"
PLAN_FILE = "plan.json"
CELL_CPUS = 4  # threads of a cell, if there are that many CPUs; more would hardly make it faster


@dataclass(frozen=True)
class Room:
    """How many cells run side by side, and what each of them gets.

    Attributes:
        parallel: how many.
        cpus: that Ray reserves for each.
        gpus: that Ray reserves for each; 0 without GPUs.
        threads: torch's in each.
    """

    parallel: int
    cpus: float
    gpus: float
    threads: int


def room(use_gpu: bool | str, cluster: Mapping[str, float], *, ours: bool, parallel: int | None = None) -> Room:
    """Chooses what cells get: a GPU each where there are some, else up to four CPUs.

    Args:
        use_gpu: true, false, or `auto`: if there are any.
        cluster: what Ray has of each resource.
        ours: Ray was started for this comparison alone, on this machine.
        parallel: how many cells are to run side by side, if the caller chooses it.

    Raises:
        UserError: GPUs are demanded, and there are none; or more cells than CPUs.

    >>> room("auto", {"CPU": 16.0}, ours=False)
    Room(parallel=4, cpus=4, gpus=0.0, threads=4)
    >>> room("auto", {"CPU": 16.0, "GPU": 2.0}, ours=False)
    Room(parallel=2, cpus=8, gpus=1.0, threads=8)
    """
    cpus, gpus = max(1, int(cluster.get("CPU", 1))), 0 if use_gpu is False else int(cluster.get("GPU", 0))
    if use_gpu is True and not gpus:
        raise UserError("train.use_gpu=true but Ray sees no GPU. Set it to auto.")
    if parallel is not None and parallel > cpus:
        raise UserError(f"--parallel {parallel}: Ray has {cpus} CPUs. Ask for at most {cpus}.")
    each = min(worker_threads(CELL_CPUS, ours=ours), cpus)
    count = parallel or min(gpus, cpus) or cpus // each
    share = min(each, cpus // count) if parallel is None and not gpus else cpus // count
    return Room(count, share, round(min(1.0, gpus / count), 2), worker_threads(share, ours=ours))


def reproduce(suite: Suite, base: Config, out: Path, *, parallel: int | None = None, show: Show) -> Comparison:
    """Runs all cells of a suite that are not done, to the end or until it is interrupted (Ctrl-C or SIGTERM).

    Uses the Ray that is initialised; else the cluster at RAY_ADDRESS; else starts Ray on this machine. The first Ctrl-C
    lets trainings complete their step and write a checkpoint; the second ends everything at once.

    Args:
        suite: as `load_suite` returns it.
        base: the configuration that the suite's settings are put over.
        out: where to write; cells that it holds are taken over.
        parallel: cells that run side by side; as many as there is room for by default.
        show: called, in the caller's thread, with notes and with the number of cells done.

    Raises:
        UserError: corpora do not go together, `out` cannot be written, or there is no room for a cell.
        KeyboardInterrupt: the second Ctrl-C; cells that are done are kept.
    """
    out = out.absolute()
    plan = make_plan(suite, base)
    open_cells = [cell for name, cell in plan.cells.items() if not is_done(out, name)]
    if open_cells:
        check_corpora(suite, base, show)
    _open(out, suite, base, plan, show)
    failed: dict[str, str] = {}
    if open_cells:
        show(Note(f"{counted(len(plan.cells), 'cells')}, {len(plan.cells) - len(open_cells)} of them done before"))
        with ray_session() as ours, stop_on_signal(out) as notes:
            given = room(base.train.use_gpu, _cluster(ours), ours=ours, parallel=parallel)
            failed = run_cells(
                plan,
                out,
                RayExecutor(out, given),
                parallel=given.parallel,
                max_losses=base.train.max_failures,
                stopped=(out / STOP_FILE).exists,
                show=_with_notes(show, notes),
            )
    interrupted = (out / STOP_FILE).exists()
    (out / STOP_FILE).unlink(missing_ok=True)
    return Comparison(out, suite, plan, failed, interrupted)


def saved_suite(out: Path) -> tuple[Suite, Config]:
    """The suite of the comparison in a directory, and the configuration that it is put over.

    Raises:
        UserError: no comparison is there.
    """
    if not (out / SUITE_FILE).is_file():
        raise UserError(f"{out}: no comparison to go on with ({SUITE_FILE} is missing). Name its directory: --out DIR")
    base = load_config([out / FILE_NAME], alone=True)
    return load_suite(out / SUITE_FILE, base), base


def comparison_directory(suite: Suite, base: Config) -> Path:
    """Where a suite's comparison is written if nobody says where: below train.storage_path, under its name.

    Raises:
        UserError: that is an address, or where a Ray job deletes it again.
    """
    place = method_config(suite, suite.main, base).train.storage_path
    if is_address(place):
        raise UserError(f"train.storage_path={place} is an address. Give a directory that all nodes see: --out DIR")
    refuse_unpacked(place)
    return Path(place).expanduser() / suite.name


def check_corpora(suite: Suite, base: Config, show: Show) -> None:
    """Reads all files once, so that a mistake in the last one shows before hours of training.

    Raises:
        UserError: a file cannot be read, has no entities, has types that the source has not, or is too small to draw
            from; or a text has no words.
    """
    config = method_config(suite, suite.main, base)
    data = config.data.model_copy(update={"source": suite.source_files, "source_language": suite.source.language})
    config = config.model_copy(update={"data": data})
    tags = tag_set(read_source(config, lambda oddity: show(Note(oddity))))
    files = [(suite.source.language, suite.source.dev)]
    files += [(language, target.test) for language, target in suite.targets.items()]
    files += [(language, target.shots) for language, target in suite.targets.items() if target.shots]
    for done, (language, file) in enumerate(files, 1):
        corpus = read_configured(file, data, language=language)
        require_entities(corpus)
        refuse_unknown_types(corpus, tags, tag_map=data.tag_map)
        if suite.shots and file == getattr(suite.targets.get(language), "shots", None):
            drawn(corpus.sentences, Sample(language, file, max(suite.shots.sizes), 0, "all"))
        for oddity in corpus.oddities:
            show(Note(f"{file}: {oddity}"))
        show(Preparation("reading corpora", done, len(files)))
    if suite.adopting:
        read_texts(suite.texts, max_words=data.max_words, show=show)


class RayExecutor:
    """Runs cells as Ray tasks.

    Args:
        out: the comparison's directory.
        given: what each cell gets.
    """

    def __init__(self, out: Path, given: Room) -> None:
        self._out, self._given = out, given
        self._running: dict[ray.ObjectRef, Cell] = {}  # type: ignore[type-arg]

    def start(self, cell: Cell) -> None:
        """See `Executor`."""
        task = (_in_any_process if isinstance(cell.job, Evaluation) else _in_own_process).options(
            num_cpus=self._given.cpus, num_gpus=self._given.gpus
        )
        reference = task.remote(cell, self._out, Path.cwd(), self._given.threads, self._given.gpus > 0)
        self._running[reference] = cell

    def ended(self, seconds: float) -> list[Ended]:
        """See `Executor`."""
        ready, _ = ray.wait(list(self._running), timeout=seconds)
        return [self._outcome(reference, self._running.pop(reference)) for reference in ready]

    @staticmethod
    def _outcome(reference: ray.ObjectRef, cell: Cell) -> Ended:  # type: ignore[type-arg]
        try:
            return Ended(cell, done=ray.get(reference))
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            kind = "" if isinstance(cause, (UserError, RunError)) else f"{type(cause).__name__}: "
            return Ended(cell, done=False, error=kind + first_line(cause))
        except ray.exceptions.RayError as error:
            return Ended(cell, done=False, error=first_line(error), lost=True)


def _task(cell: Cell, out: Path, working_directory: Path, threads: int, use_gpu: bool) -> bool:
    """A cell, in one of Ray's processes."""
    if working_directory.is_dir():
        os.chdir(working_directory)  # relative names of encoders start at the driver's
    torch.set_num_threads(threads)
    return run_cell(cell, out, device=pick_device("auto" if use_gpu else False))


# A process keeps the memory of a training, so it ends with it; loading the libraries again takes short beside it.
_in_own_process = ray.remote(max_retries=0, max_calls=1)(_task)
_in_any_process = ray.remote(max_retries=0)(_task)


def _cluster(ours: bool) -> dict[str, float]:
    cluster = cluster_resources()
    if ours:  # Ray may see more GPUs than this build of torch can use
        cluster["GPU"] = min(cluster.get("GPU", 0), torch.cuda.device_count())
    return cluster


def _open(out: Path, suite: Suite, base: Config, plan: Plan, show: Show) -> None:
    """Makes the directory, and says what is made anew because something was changed since the last time."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / SUITE_FILE).is_file() and (before := read_yaml(out / SUITE_FILE)["name"]) != suite.name:
            raise UserError(f"{out} holds the comparison {before}. Choose another --out.")
        if (out / PLAN_FILE).is_file():
            for line in changes(json.loads((out / PLAN_FILE).read_text(encoding="utf-8")), plan):
                show(Note(line))
        (out / STOP_FILE).unlink(missing_ok=True)
        write_file(out / SUITE_FILE, write_yaml(suite.model_dump()))
        write_file(out / FILE_NAME, base.to_yaml())
        write_json(out / PLAN_FILE, labelled_inputs(plan))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}). Choose another --out.") from error


def _with_notes(show: Show, notes: list[str]) -> Show:
    """Shows what the signal handler has to say before each event."""

    def shown(event: Note | Preparation) -> None:
        while notes:
            show(Note(notes.pop(0)))
        show(event)

    return shown  # type: ignore[return-value]  # run_cells has these two kinds of events only
