"""One cell, run from its start, or from where it was interrupted, to its end. No Ray."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch

from metacross.adoption.adopt import adopt
from metacross.config import Config
from metacross.config_loading import FILE_NAME, load_config
from metacross.corpora.from_config import read_source
from metacross.events import Event, Preparation, Show
from metacross.reproduction.cells import DONE_FILE, Adoption, Average, Cell, Evaluation, Training, folder_of
from metacross.reproduction.evaluation import evaluate
from metacross.reproduction.few_shot import read_sample, write_sample
from metacross.storage.files import write_file, write_json
from metacross.sweeps.space import changed_config, overrides
from metacross.training import checkpoint, loop
from metacross.training.bundle_average import average_bundles
from metacross.training.event_log import EventLog, Stopped
from metacross.training.learner import Learner

RESULT_FILE = "result.json"  # of an evaluation cell
SAMPLE_FILE = "shots.jsonl"  # of a training or an adoption: the labelled target sentences
STOP_FILE = "STOP"  # in the comparison's directory: whoever creates it stops all cells


def run_cell(cell: Cell, out: Path, *, device: torch.device) -> bool:
    """Runs a cell, or goes on with it; returns whether it is done, or else was stopped.

    Args:
        cell: what is to be done; the cells that it needs are done.
        out: the comparison's directory.
        device: where models run.

    Raises:
        UserError, RunError: the cell cannot be done.
    """
    folder = folder_of(out, cell.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "cell.json", {"label": cell.label, "inputs": cell.inputs})
    began = time.monotonic()
    log = EventLog(folder, stop=out / STOP_FILE)
    try:
        match cell.job:
            case Training():
                if not _train(cell.job, out, folder, device, log):
                    return False
            case Average(bundles=bundles):
                show = _stoppable(log, out)
                average_bundles(
                    [_bundle(out, one) for one in bundles], folder / "bundle", device=str(device), show=show
                )
            case Adoption():
                _adopt(cell.job, out, folder, device, log)
            case Evaluation():

                def tick(done: int, total: int) -> None:
                    log(Preparation("tagging", done, total))

                bundle = _bundle(out, cell.job.bundle)
                write_json(folder / RESULT_FILE, evaluate(cell.job, bundle, device=device, tick=tick))
    except Stopped:
        return False
    write_json(folder / DONE_FILE, {"label": cell.label, "seconds": time.monotonic() - began})
    shutil.rmtree(folder / checkpoint.FOLDER, ignore_errors=True)  # of a training that needs them no more
    return True


def _train(job: Training, out: Path, folder: Path, device: torch.device, log: EventLog) -> bool:
    """Trains until the end, or until someone stops it; returns whether it came to its end."""
    config = _training_config(job, out, folder)
    write_file(folder / FILE_NAME, config.to_yaml())
    learner = Learner.from_config(config, device=device, report=log)
    return not loop.run(learner, folder, should_stop=(out / STOP_FILE).exists).stopped


def _adopt(job: Adoption, out: Path, folder: Path, device: torch.device, log: EventLog) -> None:
    """Adopts text and labelled sentences; goes on from what an interrupted call left in the cell's directory.

    Raises:
        Stopped: someone stopped it. The steps since the last checkpoint of a training are lost.
    """
    bundle, examples = _bundle(out, job.bundle), {}
    if job.sample:
        path = folder / SAMPLE_FILE
        write_sample(path, read_sample(job.sample, load_config([bundle / FILE_NAME], alone=True).data))
        examples[job.sample.language] = str(path)
    adopt(
        bundle,
        job.texts,
        examples=examples,
        out=folder / "bundle",
        teachers=[_bundle(out, teacher) for teacher in job.teachers],
        distilled=job.distillation,
        overrides=overrides(job.settings),
        device=str(device),
        show=_stoppable(log, out),
    )


def _stoppable(log: EventLog, out: Path) -> Show:
    """A `Show` that writes events into a log, and raises Stopped if someone wants to stop."""

    def show(event: Event) -> None:
        log(event)
        if (out / STOP_FILE).exists():
            raise Stopped

    return show


def _bundle(out: Path, cell: str) -> Path:
    return folder_of(out, cell) / "bundle"


def _training_config(job: Training, out: Path, folder: Path) -> Config:
    """The cell's configuration with the files that stand in the comparison's directory."""
    settings: dict[str, object] = {"train.storage_path": str(folder.parent), "train.name": folder.name}
    if job.start:
        settings["model.encoder"] = str(_bundle(out, job.start))
    if job.sample:
        data = job.config.data
        sources = [data.source] if isinstance(data.source, str) else data.source
        path = folder / SAMPLE_FILE
        others = len(read_source(job.config, lambda oddity: None))
        write_sample(path, read_sample(job.sample, data), others=others, share=job.share)
        settings["data.source"] = [*sources, str(path)]
    return changed_config(job.config, settings, place=str(folder), source="comparison")
