"""What earlier versions wrote is still read: a bundle, events, and a run that was stopped.

tests/files/earlier_run was trained by an earlier version, for 35 of 60 steps, on what `tiny_bundle.write_inputs` makes.
tests/files/earlier_run_expected.json has what that version answered, and how its run ended; its tags are the likeliest
valid ones and its scores the entities' probabilities, which that version did not have yet.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from metacross import AdaptiveTagger
from metacross.config_loading import load_config
from metacross.event_files import read_events
from metacross.events import Measurement, Preparation, Start
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.loop import run
from tests.helpers.tiny_bundle import write_inputs

FILES = Path(__file__).parent / "files"
RUN = FILES / "earlier_run"
EXPECTED: dict[str, Any] = json.loads((FILES / "earlier_run_expected.json").read_text(encoding="utf-8"))


def approximately(answer: Any) -> Any:
    """The same answer, with numbers that may differ by 1e-5."""
    match answer:
        case float():
            return pytest.approx(answer, abs=1e-5)
        case list():
            return [approximately(part) for part in answer]
        case dict():
            return {key: approximately(value) for key, value in answer.items()}
    return answer


def test_a_bundle_gives_the_same_answers() -> None:
    tagger = AdaptiveTagger.from_pretrained(RUN / "bundle")
    assert tagger(EXPECTED["texts"], explain=True) == approximately(EXPECTED["answers"])


def test_its_events_are_read() -> None:
    assert read_events(RUN / "progress.jsonl") == [
        Preparation("reading corpora", 0, 1),
        Preparation("reading corpora", 1, 1),
        Preparation("encoding source", 10, 24),
        Preparation("encoding source", 24, 24),
        Preparation("encoding dev", 0, 12),
        Preparation("encoding dev", 12, 12),
        Start(step=0, steps=60, workers=1),
        Measurement(step=30, plain=51.61290322580645, adapted=58.620689655172406),
    ]


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "runs" / "earlier"
    shutil.copytree(RUN, run_dir)
    monkeypatch.chdir(write_inputs(tmp_path))  # its configuration names corpora and encoder by relative paths
    learner = Learner.from_config(load_config([run_dir / "ray_config.yaml"], alone=True), device=torch.device("cpu"))
    progress = run(learner, run_dir).progress
    assert progress.step == 60
    assert progress.to_json()["history"] == approximately(EXPECTED["end"]["history"])
    tensors = load_file(checkpoint.paths(run_dir)[-1] / "state.safetensors")
    norms = {name: float(torch.linalg.vector_norm(tensors[f"theta.{name}"])) for name in EXPECTED["end"]["theta"]}
    # The loss does not depend on the biases of keys: a constant added to all scores of a query leaves attention as it
    # is. Their gradients are nothing but rounding, which AdamW makes as large as any other.
    keys = [layer.bias for name, layer in learner.model.fast_layers.layers.items() if name.endswith("key")]
    of_keys = {str(i) for i, p in enumerate(learner.model.theta()) if any(p is bias for bias in keys)}
    for name, norm in EXPECTED["end"]["theta"].items():
        assert norms[name] == pytest.approx(norm, rel=1e-3 if name in of_keys else 1e-6), name
    assert len(of_keys) == 2 and norms.keys() == EXPECTED["end"]["theta"].keys()
