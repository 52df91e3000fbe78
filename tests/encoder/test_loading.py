"""Loading encoders: nothing of transformers' bars and notes is shown, and missing weights are errors."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM

from metacross.encoder.loading import load_classifier
from metacross.encoder.quiet import quiet_transformers
from metacross.errors import UserError
from tests.helpers.tiny import CONFIGS
from tests.helpers.tiny_bundle import write_encoder

TAGS = ("O", "B-PER", "I-PER")
OURS = {"HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM"}  # that tests run with
LOAD = """
import sys
from transformers.utils import logging
{before}
level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()

from metacross import AdaptiveTagger
tagger = AdaptiveTagger.from_pretrained(sys.argv[1])
tagger("Anna Berg lives in Berlin. " * 200)

from metacross.encoder.loading import load_classifier
load_classifier(sys.argv[2], ["O", "B-PER"], seed=0)  # makes a new head, which transformers reports

assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)
"""
SAVE = """
import sys
from pathlib import Path
from tests.helpers.tiny_bundle import train_bundle

train_bundle(Path(sys.argv[1]), "train.name=saved", "train.steps=1")
"""


def run_python(code: str, *arguments: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """Runs a user's script, without the variables that keep transformers quiet in tests."""
    environment = {key: value for key, value in os.environ.items() if key not in OURS}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment | {"PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("before", ["", "logging.set_verbosity_info()", "logging.disable_progress_bar()"])
def test_a_script_that_loads_a_tagger_shows_nothing(
    before: str, tiny_bundle: Path, tiny_folder: Path, root: Path
) -> None:
    done = run_python(LOAD.format(before=before), tiny_bundle, tiny_folder / "encoder", root=root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_writing_a_bundle_shows_nothing(tiny_folder: Path, root: Path) -> None:
    done = run_python(SAVE, tiny_folder, root=root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_users_settings_come_back_after_an_error() -> None:
    logger = logging.getLogger("transformers")
    level = logger.level

    def hook(factory: object, args: object, settings: object) -> object:
        raise AssertionError("no bar is to be made")

    before = transformers.utils.logging.set_tqdm_hook(hook)
    try:
        logger.setLevel(logging.DEBUG)
        with pytest.raises(ZeroDivisionError), quiet_transformers(), quiet_transformers():
            assert logger.level == logging.ERROR
            assert list(transformers.utils.logging.tqdm([1, 2], desc="Loading weights")) == [1, 2]
            raise ZeroDivisionError
        assert logger.level == logging.DEBUG
        assert transformers.utils.logging.set_tqdm_hook(hook) is hook
    finally:
        transformers.utils.logging.set_tqdm_hook(before)
        logger.setLevel(level)


@pytest.mark.parametrize("kind", [AutoModel, AutoModelForMaskedLM])
@pytest.mark.parametrize("family", CONFIGS)
def test_an_encoder_without_a_tag_head_gets_one(family: str, kind: type[AutoModel], tmp_path: Path) -> None:
    model = kind.from_config(CONFIGS[family])
    model.save_pretrained(tmp_path)
    found = load_classifier(tmp_path, TAGS, seed=0).base_model.state_dict()
    expected = model.base_model.state_dict()
    assert found.keys() <= expected.keys()  # some have a pooler, which tags do without
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_missing_weights_of_the_encoder_are_an_error(tmp_path: Path) -> None:
    """transformers would draw them at random and only write a note."""
    folder = write_encoder(tmp_path / "encoder")
    weights = load_file(folder / "model.safetensors")
    lost = "encoder.layer.1.output.dense.bias"
    save_file({key: tensor for key, tensor in weights.items() if key != lost}, folder / "model.safetensors")
    with pytest.raises(UserError, match=rf"encoder: 1 of the encoder's weights are missing .*\(bert\.{lost}\)"):
        load_classifier(folder, TAGS, seed=0)


def test_weights_of_another_shape_are_an_error_but_in_the_head(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    load_classifier(folder, TAGS, seed=0).save_pretrained(tmp_path / "tagger")
    assert load_classifier(tmp_path / "tagger", ["O"], seed=0).num_labels == 1

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}), encoding="utf-8")
    with pytest.raises(UserError, match=r"9 of the encoder's weights .* another shape .*, \.\.\.\)"):
        load_classifier(folder, TAGS, seed=0)
