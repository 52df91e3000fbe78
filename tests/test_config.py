"""The sections and settings of a configuration, and what follows from them."""

import re
from pathlib import Path

import pytest
import yaml

from metacross.config import Config, dotted
from metacross.config_loading import load_config
from metacross.errors import UserError


def test_dotted_lists_the_files_keys_in_its_order(root: Path):
    shipped = yaml.safe_load((root / "ray_config.yaml").read_text(encoding="utf-8"))
    names = [f"{section}.{key}" for section, keys in shipped.items() for key in keys]
    assert list(dotted(load_config())) == names
    assert dotted(load_config())["train.lr"] == shipped["train"]["lr"]


def test_code_holds_no_defaults():
    sections = [field.annotation for field in Config.model_fields.values()]
    assert all(field.is_required() for part in [Config, *sections] for field in part.model_fields.values())


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_config().train.steps = 1  # type: ignore[misc]


def test_vectors_come_from_the_trunk_or_a_layer() -> None:
    assert load_config(None, ["model.frozen_layers=6"]).pooled_layer == 6
    assert load_config(None, ["model.frozen_layers=6", "retrieval.layer=9"]).pooled_layer == 9


def test_workers_are_a_number_or_a_range() -> None:
    train = [load_config(None, [f"train.workers={value}"]).train for value in ("3", "[2, 8]")]
    assert [one.worker_range() for one in train] == [(3, 3), (2, 8)]
    for wrong in ("[4, 2]", "[2]", "[1, 2, 3]", "[0, 2]"):
        with pytest.raises(UserError, match=re.escape(f"train.workers is {wrong}")):
            load_config(None, [f"train.workers={wrong}"])
