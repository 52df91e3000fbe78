"""What all tests share: a quiet, offline environment, and fixtures."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports ray, transformers or tokenizers, which read these once.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # test files run side by side, one to a core
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    # As `metacross serve` and the files in cluster/ set it: see `serve.ray_internals.BY_GRPC`.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": "268435456",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",  # a dead worker is noticed after this long instead of 2 s
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)

# The same examples on every run, and no time limit for one example: machines are shared.
settings.register_profile("metacross", deadline=None, derandomize=True)
settings.load_profile("metacross")

ROOT = Path(__file__).parent.parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root directory."""
    return ROOT


@pytest.fixture(scope="session")
def samples() -> Path:
    """The directory of the small corpus."""
    return ROOT / "samples"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL database, see `postgres_database`."""
    from tests.helpers.postgres import postgres_database

    with postgres_database() as address:
        yield address


@pytest.fixture(scope="session")
def embedded_dir() -> Path:
    """The embedded encoder as a Hugging Face directory (written into the cache by the first call)."""
    from metacross.encoder.embedded import embedded_encoder

    return Path(embedded_encoder())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder and corpora, as `tiny_config` takes them; not to be changed."""
    from tests.helpers.tiny_bundle import write_inputs

    return write_inputs(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_folder: Path) -> Path:
    """A trained tiny bundle; not to be changed."""
    from tests.helpers.tiny_bundle import train_bundle

    return train_bundle(tiny_folder)


@pytest.fixture(scope="session")
def adopted_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle when it has adopted a text; not to be changed."""
    from tests.helpers.adoption import adopt_text

    return adopt_text(tiny_bundle, tmp_path_factory.mktemp("adoption"))
