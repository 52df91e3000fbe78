"""The demo's own directory, which begins anew and touches nothing else, and what it prints of answers."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from metacross.tagging.answers import TaggedEntity
from metacross.tagging.tagger import AdaptiveTagger


@pytest.fixture(scope="module")
def demo(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", root / "samples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def test_an_earlier_demo_makes_way_and_all_else_stays(demo: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    demo.clear(folder)  # the first
    write(*(folder / name / "bundle" / "manifest.json" for name in ("base", "metacross", "mine")))
    (folder / "bundle").symlink_to(Path("metacross", "bundle"))
    assert (folder / "bundle" / "manifest.json").exists()
    demo.clear(folder)
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_half_a_demo_makes_way(demo: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "metacross" / "checkpoints" / ".step-3.tmp" / "model.safetensors")
    (tmp_path / "bundle").symlink_to(Path("metacross", "bundle"))  # leads nowhere
    demo.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["ray_config.yaml", "bundle/manifest.json"])
def test_a_run_of_the_users_own_is_left_alone(demo: ModuleType, tmp_path: Path, file: str) -> None:
    write(tmp_path / file, tmp_path / "base" / "ray_config.yaml")
    with pytest.raises(SystemExit, match="is a run of yours"):
        demo.clear(tmp_path)
    assert (tmp_path / file).exists()
    assert (tmp_path / "base" / "ray_config.yaml").exists()


def test_answers_are_printed_with_their_entities_and_support(demo: ModuleType, tiny_bundle: Path) -> None:
    answers = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu").tag_texts(demo.SENTENCES, explain=True)
    console = Console(record=True, width=200)
    demo.print_answers(console, answers)
    similarities = re.findall(r"^   -?\d\.\d{3}  ", console.export_text(), re.MULTILINE)
    assert len(similarities) == sum(len(answer.support()) for answer in answers) > 0
    robles = TaggedEntity(6, 12, "Robles", "PER")
    assert demo.coloured("Elena Robles viajó", [robles]).plain == "Elena Robles PER viajó"
