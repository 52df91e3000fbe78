"""Encoding on a real local Ray: the same files as without it, and failures in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from metacross.errors import RunError
from metacross.events import Event, Note, Preparation
from metacross.indexing import parts
from metacross.indexing.build import prepare
from metacross.indexing.on_ray import encode_on_ray, prepare_on_ray
from metacross.indexing.parts import Encoded
from tests.helpers.local_ray import started_ray
from tests.helpers.tiny_bundle import tiny_config, write_inputs


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with started_ray(4):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("encoding"))


@pytest.mark.ray
def test_a_pool_writes_what_one_process_writes(local_ray: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 3)
    torch.set_num_threads(1)
    config = tiny_config(place)
    events: list[Event] = []
    facts = prepare_on_ray(config, place / "pool", actors=2, show=events.append)
    alone = prepare(config, place / "alone")

    assert Note("2 encoders, without GPU") in events
    encoding = [event for event in events if isinstance(event, Preparation) and event.what == "encoding source"]
    assert encoding[-1] == Preparation("encoding source", done=24, total=24, left=0)
    changing = ("seconds", "files")
    assert {k: v for k, v in facts.items() if k not in changing} == {
        k: v for k, v in alone.items() if k not in changing
    }
    found = [Encoded.read(place / name / "vectors", sentences=24) for name in ("pool", "alone")]
    assert [len(one.files) for one in found] == [8, 8]
    assert (found[0].owner_M == found[1].owner_M).all()
    every = np.arange(24)
    assert np.allclose(found[0].gather(every), found[1].gather(every), atol=1e-6)
    neighbours = [np.load(place / name / "neighbours.npy") for name in ("pool", "alone")]
    assert (neighbours[0] == neighbours[1]).all()


@pytest.mark.ray
def test_an_encoder_that_fails(local_ray: None, place: Path, tmp_path: Path) -> None:
    (tmp_path / "sentences").mkdir()
    (tmp_path / "vectors").mkdir()
    row = {"sentence": 0, "text": "Oslo", "starts": [0, 2], "ends": [4], "tags": ["O"], "place": "", "owner": 1}
    table = pa.Table.from_pylist([row], schema=parts.SENTENCES)
    pq.write_table(table, tmp_path / "sentences" / "part-000000.parquet")
    with pytest.raises(RunError, match=r"encoding failed: .*zip\(\) argument 2 is shorter"):
        encode_on_ray(
            tiny_config(place), tmp_path / "sentences", tmp_path / "vectors", 1, actors=1, show=lambda event: None
        )
